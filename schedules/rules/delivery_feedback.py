"""Delivery feedback: a registered project's delivery has to be reported, with evidence.

Opens:      the project is registered; evidence that is sent back starts a new ladder
Closes:     the customer has accepted, or the project was ended; paused while it is reviewed
Deadline:   the end of the planned day (Beijing), while no feedback was given. Then it is overdue:
            nothing happens by itself, and it is called to mind every five working days
Tells:      the project's lead (else all of delivery); overdue or long sent back the administrator
Undated:    a ladder of its own from the registration; what was sent back has one from then
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    BEIJING,
    Column,
    Instant,
    Line,
    OptionalDay,
    OptionalInstant,
    OptionalLine,
    OptionalRef,
    Ref,
    choice,
)
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    Effect,
    Link,
    Plain,
    Record,
    RecordData,
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    data_of,
    end_of_day,
    stage,
)
from schedules.rules._samples import sample_of


class Status(StrEnum):
    """Where a project's delivery stands. EVIDENCE: it was drawn, and must be proved by files."""

    REGISTERED = "REGISTERED"
    EVIDENCE = "EVIDENCE"
    REJECTED = "REJECTED"
    REVIEWING = "REVIEWING"
    ACCEPTED = "ACCEPTED"
    ENDED = "ENDED"


_DELIVERING = frozenset({Status.REGISTERED, Status.EVIDENCE})


class DeliveryFeedbackData(RecordData):
    """One registered project. `planned_on` is the day (of Beijing) on which it is to be accepted.

    `lead` is the ref of the contact who leads it; without one the partner's delivery are told.
    """

    noun: ClassVar[str] = "a delivery's feedback"
    ref: Annotated[Ref, Column("项目编号", "项目ID", "编号", "project_id")]
    project_name: Annotated[Line, Column("项目名称")]
    customer_name: Annotated[OptionalLine, Column("客户名称", "客户")] = None
    registered_at: Annotated[Instant, Column("登记时间")]
    planned_on: Annotated[OptionalDay, Column("计划验收日期", "计划交付日期")] = None
    lead: Annotated[OptionalRef, Column("项目经理ID", "负责人ID")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            REGISTERED="已登记|交付中",
            EVIDENCE="交付材料提交|待提交材料",
            REJECTED="驳回|已驳回",
            REVIEWING="评价中|审核中",
            ACCEPTED="已验收|已评价",
            ENDED="已终止|已中止",
        ),
        Column("状态", "项目状态"),
    ] = Status.REGISTERED
    rejected_at: Annotated[OptionalInstant, Column("驳回时间")] = None
    rejected_count: Annotated[int, Field(ge=0, lt=10_000), Column("驳回次数")] = 0
    reject_reason: Annotated[OptionalLine, Column("驳回原因")] = None


_LEAD = Tell("lead")
_LEAD_SMS = Tell("lead", ("mail", "sms"))


class DeliveryFeedback(Rule):
    """A project's delivery isn't reported yet, or its evidence was sent back."""

    kind = "delivery_feedback"
    title: ClassVar[Mapping[str, str]] = {"en": "Delivery feedback", "zh-CN": "交付反馈"}
    Data = DeliveryFeedbackData
    named_roles: ClassVar[Mapping[str, str]] = {"lead": "delivery"}
    cadence = Cadence(
        stages=(
            stage("T-3", "due - 3 working days", _LEAD),
            stage("T-0", "due - 0 working days", _LEAD_SMS, urgent=True),
            stage(
                "overdue",
                "due + 1 working day, then every 5 working days",
                Tell("lead", message="overdue"),
                Tell("administrator", message="overdue"),
                after_deadline=True,
            ),
            stage("+10", "opened + 10 working days, then every 10 working days", _LEAD),
            stage(
                "rejected",
                "opened + 1 working day",
                Tell("lead", ("mail", "sms"), "rejected"),
            ),
            stage(
                "rejected+3",
                "opened + 3 working days, then every 5 working days",
                Tell("lead", message="rejected"),
                Tell("administrator", message="rejected"),
            ),
        )
    )

    def opened_at(self, data: DeliveryFeedbackData) -> datetime:
        """When it was registered, or when its evidence was sent back, where that is known."""
        if data.status is Status.REJECTED and data.rejected_at is not None:
            return data.rejected_at
        return data.registered_at

    def deadline(self, data: DeliveryFeedbackData, calendar: WorkingCalendar) -> Deadline:
        """The end of the planned day while no feedback was given; else none."""
        if data.planned_on is None or data.status not in _DELIVERING:
            return Deadline(None)
        return Deadline(end_of_day(data.planned_on, self.zone), Effect.OVERDUE)

    def assess(self, data: DeliveryFeedbackData, lines: Sequence[Any]) -> Assessment:
        """Open while it is the partner's turn; paused while the vendor or customer reviews it."""
        if data.status in _DELIVERING:
            return Assessment(State.OPEN, "its delivery isn't reported yet")
        if data.status is Status.REJECTED:
            return Assessment(
                State.OPEN, "its evidence was sent back: mend it and hand it in again"
            )
        if data.status is Status.REVIEWING:
            return Assessment(State.PAUSED, "its evidence is being reviewed")
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def links(self, data: DeliveryFeedbackData) -> Sequence[Link]:
        """The project's registration, which is done once its delivery is reported on."""
        return (Link("project_registration", data.ref),)

    def ladder(self, data: DeliveryFeedbackData) -> str:
        """A new planned day and each return of the evidence start a new climb."""
        if data.status is Status.REJECTED:
            # Exports may lack the count; the instant tells one return from the next as well.
            at = data.rejected_at
            when = "" if at is None else f":{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
            return f"rejected-{data.rejected_count}{when}"
        return data.planned_on.isoformat() if data.planned_on is not None else "1"

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Days around the planned day, else a ladder of days; what was sent back has its own."""
        sent_back = data_of(record, DeliveryFeedbackData).status is Status.REJECTED
        if stage.name.startswith("rejected"):
            return None if sent_back else "no evidence was sent back"
        if sent_back:
            return "the evidence was sent back, and that is told instead"
        if stage.when.anchor == "opened" and record.deadline.at is not None:
            return "the project has a planned day, and the days around it are told instead"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the project, its customer, and why and when its evidence was sent back."""
        data = data_of(record, DeliveryFeedbackData)
        return {
            **super().view(record),
            "project_name": data.project_name,
            "customer_name": data.customer_name,
            "registered_at": data.registered_at,
            "status": data.status.value,
            "rejected_at": data.rejected_at,
            "rejected_count": data.rejected_count,
            "reject_reason": data.reject_reason,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Due soon, due in English with evidence, sent back in both languages, and undated."""
        today, days = now.astimezone(BEIJING).date(), timedelta(days=1)
        return (
            _sample(
                "XM-2026-0142",
                "星岸制造云上 ERP 迁移",
                now - 40 * days,
                planned_on=today + 3 * days,
                customer_name="星岸示例制造有限公司",
            ),
            _sample(
                "PRJ-2026-0031",
                "Warehouse data platform",
                now - 55 * days,
                english=True,
                planned_on=today + days,
                customer_name="Northwind Traders GmbH",
                status="EVIDENCE",
            ),
            _sample(
                "XM-2026-0117",
                "云岭医院影像归档",
                now - 70 * days,
                customer_name="云岭示例医院",
                status="已驳回",
                rejected_at=(now - 2 * days).isoformat(),
                rejected_count=1,
                reject_reason="验收报告缺少客户盖章",
            ),
            _sample(
                "PRJ-2026-0027",
                "Branch office migration",
                now - 80 * days,
                english=True,
                status="REJECTED",
                rejected_at=(now - 4 * days).isoformat(),
                rejected_count=2,
                reject_reason="The signature page is missing",
            ),
            _sample("XM-2026-0158", "园区一卡通改造", now - 15 * days),
        )


def _sample(
    ref: str,
    project: str,
    registered_at: datetime,
    english: bool = False,
    planned_on: date | None = None,
    **extra: Any,
) -> Sample:
    data = {
        "project_name": project,
        "registered_at": registered_at.isoformat(),
        "planned_on": None if planned_on is None else planned_on.isoformat(),
        "lead": "C-6",
        "status": "REGISTERED" if english else "已登记",
        **extra,
    }
    return sample_of(ref, english, "projects", data, "project")
