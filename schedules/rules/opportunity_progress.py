"""Opportunity progress: an accepted opportunity is worked on, and the vendor hears how it goes.

Opens:      it is accepted, and anew with each update
Closes:     delivered or ended; declined or withdrawn where the opportunity itself is watched too
Deadline:   none is published: the ladder counts working days from the last update
Tells:      its owner, or else the sales; from the second rung on the supervisor too
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Column,
    Instant,
    Line,
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
    Link,
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
from schedules.rules._samples import SALES_TEAM, customer, iso, sample_of
from schedules.rules.opportunity import OpportunityData
from schedules.rules.opportunity import Status as Shared

_NOT_OURS = frozenset({Shared.DECLINED, Shared.AUTO_DECLINED, Shared.CANCELLED})


class Status(StrEnum):
    """How far an accepted opportunity has come."""

    IN_PROGRESS = "IN_PROGRESS"
    DELIVERED = "DELIVERED"
    ENDED = "ENDED"


class OpportunityProgressData(RecordData):
    """The progress of one accepted opportunity, under the opportunity's own ref.

    `progress` is what was last reported, at `last_update_at`. `owner` is the ref of a contact.
    """

    noun: ClassVar[str] = "an opportunity's progress"
    ref: Annotated[Ref, Column("机会点ID", "机会点编号", "编号", "opportunity_id")]
    name: Annotated[Line, Column("机会点名称", "名称")]
    customer_name: Annotated[OptionalLine, Column("客户名称", "客户")] = None
    accepted_at: Annotated[Instant, Column("接受时间")]
    last_update_at: Annotated[OptionalInstant, Column("最近更新时间", "进展更新时间")] = None
    progress: Annotated[OptionalLine, Column("当前进展", "最新进展")] = None
    owner: Annotated[OptionalRef, Column("负责人ID", "客户经理ID")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            IN_PROGRESS="跟进中|进行中|交付中",
            DELIVERED="交付完成",
            ENDED="已终止",
        ),
        Column("状态", "进展状态"),
    ] = Status.IN_PROGRESS


_OWNER_SMS = Tell("owner", ("mail", "sms"))
_SUPERVISOR = Tell("supervisor", message="escalation")


class OpportunityProgress(Rule):
    """An accepted opportunity of which nothing has been heard for days."""

    kind = "opportunity_progress"
    title: ClassVar[Mapping[str, str]] = {"en": "Opportunity progress", "zh-CN": "机会点进展"}
    Data = OpportunityProgressData
    named_roles: ClassVar[Mapping[str, str]] = {"owner": "sales"}
    cadence = Cadence(
        stages=(
            stage("+7", "opened + 7 working days", Tell("owner")),
            stage("+10", "opened + 10 working days", _OWNER_SMS, _SUPERVISOR),
            stage(
                "+15",
                "opened + 15 working days, then every 5 working days",
                _OWNER_SMS,
                _SUPERVISOR,
            ),
        )
    )

    def opened_at(self, data: OpportunityProgressData) -> datetime:
        """When it was last updated, or accepted, whichever is later."""
        return max(data.accepted_at, data.last_update_at or data.accepted_at)

    def deadline(self, data: OpportunityProgressData, calendar: WorkingCalendar) -> Deadline:
        """None: the vendor publishes no interval."""
        return Deadline(None)

    def ladder(self, data: OpportunityProgressData) -> str:
        """Each update begins a new climb."""
        return f"{self.opened_at(data).astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def assess(self, data: OpportunityProgressData, lines: Sequence[Any]) -> Assessment:
        """Open while it is in progress."""
        if data.status is Status.IN_PROGRESS:
            return Assessment(State.OPEN, "its progress is to be reported")
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def links(self, data: OpportunityProgressData) -> Sequence[Link]:
        """The opportunity itself."""
        return (Link("opportunity", data.ref),)

    def in_light_of(
        self,
        data: OpportunityProgressData,
        related: Sequence[Related],
        assessment: Assessment,
        deadline: Deadline,
    ) -> tuple[Assessment, Deadline]:
        """Nothing is to be reported of an opportunity that isn't the partner's any more."""
        for one in related:
            if isinstance(one.data, OpportunityData) and one.data.status in _NOT_OURS:
                word = one.data.status.value.lower()
                return Assessment(State.CLOSED, f"opportunity {one.ref} is {word}"), deadline
        return assessment, deadline

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds name, customer, what was last reported and when (`quiet_since`)."""
        data = data_of(record, OpportunityProgressData)
        return {
            **super().view(record),
            "name": data.name,
            "customer_name": data.customer_name,
            "accepted_at": data.accepted_at,
            "last_update_at": data.last_update_at,
            "quiet_since": self.opened_at(data),
            "progress": data.progress,
            "status": data.status.value,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Quiet for a while, never updated (English), and for long without a customer's name."""
        day = timedelta(days=1)
        return (
            _sample(
                "JHD-20261012-004",
                "ERP 系统上云项目",
                now - 33 * day,
                last_update_at=iso(now - 11 * day),
                progress="方案已提交，等待客户评审",
            ),
            _sample("OPP-2026-0932", "Data lake for fleet telemetry", now - 15 * day),
            _sample(
                "JHD-20260928-021",
                "门店视频监控上云",
                now - 50 * day,
                customer_name=None,
                last_update_at=iso(now - 23 * day),
                progress="POC 测试通过，商务谈判中",
            ),
        )


def _sample(ref: str, name: str, accepted_at: datetime, **extra: str | None) -> Sample:
    english = name.isascii()
    data = {
        "name": name,
        "customer_name": customer(english),
        "accepted_at": iso(accepted_at),
        "owner": "C-2",
        "status": "IN_PROGRESS" if english else "跟进中",
        **extra,
    }
    return sample_of(ref, english, "opportunities", data, *SALES_TEAM)
