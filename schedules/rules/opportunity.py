"""Shared opportunities: the vendor passes one on, and the partner has three working days.

Opens:      the vendor shares it
Closes:     accepted, declined with a reason, or withdrawn
Deadline:   the end of the third working day after it was shared (Beijing). Then it is declined by
            the system; one that the vendor reports as such ended no later than that was known
Tells:      its owner, or else the sales; on the last working day and once it is declined the
            supervisor too
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Column,
    Currency,
    Instant,
    Line,
    OptionalAmount,
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
from schedules.rules._samples import SALES_TEAM, customer, iso, sample_of

WORKING_DAYS = 3
"""Within how many working days a shared opportunity is to be accepted or declined."""


class Status(StrEnum):
    """Where a shared opportunity stands. AUTO_DECLINED: nobody answered in time."""

    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    AUTO_DECLINED = "AUTO_DECLINED"
    CANCELLED = "CANCELLED"


class OpportunityData(RecordData):
    """One opportunity (机会点) that the vendor shares. `owner` is the ref of a contact.

    `expected_amount` is what the vendor thinks it is worth, in `currency`.
    """

    ref: Annotated[Ref, Column("机会点ID", "机会点编号", "编号", "opportunity_id")]
    name: Annotated[Line, Column("机会点名称", "名称")]
    customer_name: Annotated[OptionalLine, Column("客户名称", "客户")] = None
    shared_at: Annotated[Instant, Column("共享时间", "分享时间")]
    owner: Annotated[OptionalRef, Column("负责人ID", "客户经理ID")] = None
    expected_amount: Annotated[OptionalAmount, Column("预计金额")] = None
    currency: Annotated[Currency, Column("币种")] = "CNY"
    status: Annotated[
        Status,
        choice(
            Status,
            PENDING="待接受",
            ACCEPTED="已接受",
            DECLINED="已拒绝",
            AUTO_DECLINED="系统自动拒绝|已自动拒绝",
            CANCELLED="已取消",
        ),
        Column("状态", "机会点状态"),
    ] = Status.PENDING
    decline_reason: Annotated[OptionalLine, Column("拒绝原因")] = None


# `or_else` names the role itself: the administrator isn't told in a missing supervisor's place.
_SUPERVISOR = Tell("supervisor", or_else="supervisor")


class Opportunity(Rule):
    """A shared opportunity waits to be accepted or declined."""

    kind = "opportunity"
    title: ClassVar[Mapping[str, str]] = {"en": "Shared opportunity", "zh-CN": "机会点"}
    Data = OpportunityData
    named_roles: ClassVar[Mapping[str, str]] = {"owner": "sales"}
    cadence = Cadence(
        stages=(
            stage("T-2", "due - 2 working days", Tell("owner", ("mail", "sms"))),
            stage(
                "T-0",
                "due - 0 working days",
                Tell("owner", ("mail", "sms")),
                _SUPERVISOR,
                urgent=True,
                required=True,
            ),
            # The morning after: at midnight, when it is declined, a mail helps nobody.
            stage(
                "declined",
                "due + 1 working day",
                Tell("owner", message="declined"),
                Tell("supervisor", message="declined", or_else="supervisor"),
                after_deadline=True,
            ),
        )
    )

    def opened_at(self, data: OpportunityData) -> datetime:
        """When it was shared."""
        return data.shared_at

    def deadline(self, data: OpportunityData, calendar: WorkingCalendar) -> Deadline:
        """The end of the third working day; for one declined by the system when that was known."""
        last = calendar.after(data.shared_at.astimezone(self.zone).date(), WORKING_DAYS)
        at = end_of_day(last.day, self.zone)
        if data.status is Status.AUTO_DECLINED and data.updated_at is not None:
            at = min(at, data.updated_at)
        return Deadline(at, Effect.DECLINED, last.provisional)

    def assess(self, data: OpportunityData, lines: Sequence[Any]) -> Assessment:
        """Open until it is answered; one declined by the system is told of once more."""
        if data.status is Status.PENDING:
            return Assessment(State.OPEN, "it waits to be accepted or declined")
        if data.status is Status.AUTO_DECLINED:
            return Assessment(State.OPEN, "the system declined it: nobody answered", last_word=True)
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def applies(self, stage: Stage, record: Record) -> str | None:
        """What the system has declined can't be accepted any more: only that is told."""
        if (
            data_of(record, OpportunityData).status is Status.AUTO_DECLINED
            and not stage.after_deadline
        ):
            return "the system has declined it already"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds name, customer, what it may be worth, and whether the deadline is provisional."""
        data = data_of(record, OpportunityData)
        return {
            **super().view(record),
            "provisional": record.deadline.provisional,
            "name": data.name,
            "customer_name": data.customer_name,
            "shared_at": data.shared_at,
            "expected_amount": data.expected_amount,
            "currency": data.currency,
            "status": data.status.value,
        }

    def amount(self, record: Record) -> tuple[Decimal, str] | None:
        """The expected amount, where the vendor gives one."""
        data = data_of(record, OpportunityData)
        return None if data.expected_amount is None else (data.expected_amount, data.currency)

    def samples(self, now: datetime) -> Sequence[Sample]:
        """One just shared, one in English, one without an amount, one declined by the system."""
        day, hour = timedelta(days=1), timedelta(hours=1)
        return (
            _sample("JHD-20261123-018", "ERP 系统上云项目", now - day, "680000.00"),
            _sample("OPP-2026-1187", "Data lake for fleet telemetry", now - 2 * hour, "125000.00"),
            _sample("JHD-20261124-003", "门店视频监控上云", now - hour, None),
            _sample(
                "JHD-20261116-009",
                "灾备演练与同城双活",
                now - 8 * day,
                "96000.00",
                status="系统自动拒绝",
                updated_at=iso(now - hour),
            ),
        )


def _sample(ref: str, name: str, shared_at: datetime, amount: str | None, **extra: str) -> Sample:
    english = name.isascii()
    data = {
        "name": name,
        "customer_name": customer(english),
        "shared_at": iso(shared_at),
        "owner": "C-2",
        "expected_amount": amount,
        "currency": "USD" if english else "CNY",
        "status": "PENDING" if english else "待接受",
        **extra,
    }
    return sample_of(ref, english, "opportunities", data, *SALES_TEAM)
