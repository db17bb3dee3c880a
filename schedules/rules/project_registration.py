"""Projects to register: a sold solution's project waits for its project manager to be named.

Opens:      the project appears, to be registered
Closes:     it is registered or cancelled, or its delivery is already reported on
Deadline:   none is published: a ladder of its own, in working days since it appeared
Tells:      the delivery lead, from the tenth working day the administrator too
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import Column, Instant, Line, OptionalLine, Ref, choice
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    Plain,
    Record,
    RecordData,
    Related,
    Rule,
    Sample,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._samples import sample_of


class Status(StrEnum):
    """Where a project's registration stands."""

    PENDING = "PENDING"
    REGISTERED = "REGISTERED"
    CANCELLED = "CANCELLED"


class ProjectRegistrationData(RecordData):
    """One project of the delivery review (项目交付评价) that is to be registered."""

    noun: ClassVar[str] = "a project to register"
    ref: Annotated[Ref, Column("项目编号", "项目ID", "编号", "project_id")]
    project_name: Annotated[Line, Column("项目名称")]
    customer_name: Annotated[OptionalLine, Column("客户名称", "客户")] = None
    solution: Annotated[OptionalLine, Column("解决方案", "方案名称")] = None
    appeared_at: Annotated[Instant, Column("生成时间", "待登记时间")]
    status: Annotated[
        Status,
        choice(Status, PENDING="待登记", REGISTERED="已登记", CANCELLED="已取消|已关闭"),
        Column("状态", "项目状态"),
    ] = Status.PENDING


_DELIVERY = Tell("delivery")


class ProjectRegistration(Rule):
    """A project hasn't been registered yet."""

    kind = "project_registration"
    title: ClassVar[Mapping[str, str]] = {"en": "Project to register", "zh-CN": "项目登记"}
    Data = ProjectRegistrationData
    cadence = Cadence(
        stages=(
            stage("+3", "opened + 3 working days", _DELIVERY),
            stage("+5", "opened + 5 working days", Tell("delivery", ("mail", "sms"))),
            stage(
                "+10",
                "opened + 10 working days, then every 5 working days",
                _DELIVERY,
                Tell("administrator", message="escalation"),
            ),
        )
    )

    def opened_at(self, data: ProjectRegistrationData) -> datetime:
        """When the project appeared."""
        return data.appeared_at

    def deadline(self, data: ProjectRegistrationData, calendar: WorkingCalendar) -> Deadline:
        """None: nothing ends by itself."""
        return Deadline(None)

    def assess(self, data: ProjectRegistrationData, lines: Sequence[Any]) -> Assessment:
        """Open until it is registered or cancelled."""
        if data.status is Status.PENDING:
            return Assessment(State.OPEN, "it waits to be registered")
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def in_light_of(
        self, data: Any, related: Sequence[Related], assessment: Assessment, deadline: Deadline
    ) -> tuple[Assessment, Deadline]:
        """A project whose delivery is reported on has been registered, whatever its own file says.

        Exports of the two pages come at different times.
        """
        if assessment.state is State.OPEN and any(r.kind == "delivery_feedback" for r in related):
            return Assessment(State.CLOSED, "its delivery is reported on already"), deadline
        return assessment, deadline

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the project, its customer and solution, and since when it waits."""
        data = data_of(record, ProjectRegistrationData)
        return {
            **super().view(record),
            "project_name": data.project_name,
            "customer_name": data.customer_name,
            "solution": data.solution,
            "appeared_at": data.appeared_at,
            "status": data.status.value,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """A few days, a week and two weeks old, one in English, one with its name only."""
        days = timedelta(days=1)
        return (
            _sample(
                "XM-2026-0187",
                "星岸制造云上 ERP 迁移",
                now - 7 * days,
                customer_name="星岸示例制造有限公司",
                solution="制造业 ERP 上云基线方案",
            ),
            _sample(
                "PRJ-2026-0042",
                "Warehouse data platform",
                now - 8 * days,
                english=True,
                customer_name="Northwind Traders GmbH",
                solution="Retail data platform baseline",
            ),
            _sample("XM-2026-0191", "园区一卡通改造", now - 5 * days),
            _sample(
                "XM-2026-0165",
                "云岭医院影像归档",
                now - 16 * days,
                customer_name="云岭示例医院",
            ),
        )


def _sample(
    ref: str, project: str, appeared_at: datetime, english: bool = False, **extra: Any
) -> Sample:
    data = {
        "project_name": project,
        "appeared_at": appeared_at.isoformat(),
        "status": "PENDING" if english else "待登记",
        **extra,
    }
    return sample_of(ref, english, "projects", data, "delivery")
