"""Incentives: a bill has to be checked and applied for, and a paid one wants its invoice.

Opens:      the bill is made public; a paid bill opens again when its invoice list is there
Closes:     applied for, invoiced, lapsed, cancelled, or a payment bills it; a total of nothing or
            less has nothing to invoice
Deadline:   only before it is applied for. Staff and activity incentives lapse 14 and 40 working
            days after generation; the others are confirmed by the system when publication ends
Tells:      finance, at the end the administrator too
Undated:    a ladder of its own from generation; a paid bill has one from its list
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    BEIJING,
    Amount,
    Column,
    Currency,
    Instant,
    OptionalDay,
    OptionalInstant,
    OptionalLine,
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
    Sample,
    Stage,
    State,
    Tell,
    data_of,
    end_of_day,
    stage,
)
from schedules.rules._bills import AROUND_THE_DEADLINE, WITHOUT_A_DEADLINE, Bill
from schedules.rules._samples import sample_of


class Programme(StrEnum):
    """What the money is for; it decides what an incentive not applied for comes to."""

    OPP_INCENTIVE = "OPP_INCENTIVE"
    INCENTIVE = "INCENTIVE"
    FH = "FH"
    ACTIVITY = "ACTIVITY"


class Status(StrEnum):
    """Where an incentive stands. PAID still wants an invoice: its list comes after the money."""

    REVIEWING = "REVIEWING"
    PENDING = "PENDING"
    APPLIED = "APPLIED"
    PAID = "PAID"
    INVOICED = "INVOICED"
    LAPSED = "LAPSED"
    CANCELLED = "CANCELLED"


class IncentiveData(RecordData):
    """One bill of an incentive. `publication_ends_on` is the last day (Beijing) of publication.

    `total_incl_tax` is the sum of its payment requests, negative where earlier incentives are
    taken back. `list_available_at` is when the invoice list of a paid bill can be fetched.
    """

    ref: Annotated[Ref, Column("账单ID", "激励账单ID", "incentive_id")]
    programme: Annotated[
        Programme,
        choice(
            Programme,
            OPP_INCENTIVE="云商店机会点专项激励|机会点激励|机会点专项激励",
            INCENTIVE="激励|伙伴激励",
            FH="专职人员激励|专职人员激励(FH)|专职人员激励（FH）",
            ACTIVITY="活动激励|活动",
        ),
        Column("激励类型"),
    ]
    period: Annotated[OptionalLine, Column("账期", "对账期次")] = None
    generated_at: Annotated[Instant, Column("生成时间", "账单生成时间")]
    publication_ends_on: Annotated[OptionalDay, Column("公示截止日", "公示截止日期")] = None
    total_incl_tax: Annotated[Amount, Column("申付单合计申付金额", "合计申付金额", "含税金额")]
    currency: Annotated[Currency, Column("币种", "结算币种")] = "CNY"
    status: Annotated[
        Status,
        choice(
            Status,
            REVIEWING="激励审核中|预估",
            PENDING="激励公示待确认|公示待确认|待核对|待申付",
            APPLIED="已申付|已提交申请|申请处理中",
            PAID="已支付",
            INVOICED="已开票",
            LAPSED="激励失效|已失效",
            CANCELLED="已作废|已取消",
        ),
        Column("状态", "激励状态", "账单状态"),
    ] = Status.PENDING
    list_available_at: Annotated[OptionalInstant, Column("开票清单生成时间")] = None


class Incentive(Bill):
    """An incentive waits to be applied for, or for its invoice."""

    kind = "incentive"
    title: ClassVar[Mapping[str, str]] = {"en": "Incentive", "zh-CN": "激励"}
    Data = IncentiveData
    cadence = Cadence(
        stages=(
            *AROUND_THE_DEADLINE,
            *WITHOUT_A_DEADLINE,
            stage("list", "opened + 1 working day", Tell("finance", ("mail", "sms"), "list")),
            stage(
                "list+5",
                "opened + 5 working days, then every 5 working days",
                Tell("finance", message="list"),
                Tell("administrator", message="list"),
            ),
        )
    )

    def opened_at(self, data: IncentiveData) -> datetime:
        """When it was generated; for a paid one when its invoice list could be fetched."""
        if data.status is Status.PAID:
            return data.list_available_at or data.generated_at
        return data.generated_at

    def ladder(self, data: IncentiveData) -> str:
        """The list is a climb of its own, and so is a publication whose end is moved."""
        if data.status is Status.PAID:
            return "list"
        ends_on = data.publication_ends_on
        return "1" if ends_on is None else ends_on.isoformat()

    def deadline(self, data: IncentiveData, calendar: WorkingCalendar) -> Deadline:
        """Counted for what lapses, given for the rest; none once it has been applied for."""
        if data.status is not Status.PENDING:
            return Deadline(None)
        counted = self.counted(data.programme, data.generated_at, Effect.FORFEIT, calendar)
        if counted is not None:
            return counted
        if data.publication_ends_on is None:
            return Deadline(None)
        return Deadline(end_of_day(data.publication_ends_on, self.zone), Effect.AUTO_CONFIRM)

    def assess(self, data: IncentiveData, lines: Sequence[Any]) -> Assessment:
        """Open while it is the partner's turn: to apply, and to invoice what has been paid."""
        if data.total_incl_tax <= 0:
            return Assessment(
                State.CLOSED, f"nothing to invoice: the total is {data.total_incl_tax}"
            )
        if data.status is Status.REVIEWING:
            return Assessment(State.WAITING, "it is under review and can't be applied for yet")
        if data.status is Status.PENDING:
            return Assessment(State.OPEN, "it waits to be checked and applied for")
        if data.status is not Status.PAID:
            return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")
        if data.list_available_at is None:
            return Assessment(State.WAITING, "it is paid, but its invoice list isn't there yet")
        return Assessment(State.OPEN, "its invoice list is there: the invoice is to be issued")

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Days around the deadline, days from generation without one, the list once it is paid."""
        paid = data_of(record, IncentiveData).status is Status.PAID
        if stage.name.startswith("list"):
            return None if paid else "it isn't paid yet, and the list comes after that"
        if stage.when.anchor == "opened" and paid:
            return "it is paid, and its invoice list is told of instead"
        if stage.when.anchor == "opened" and record.deadline.at is not None:
            return "the incentive has a deadline, and the days before it are told instead"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the programme, the period, the total and whether the deadline is provisional."""
        data = data_of(record, IncentiveData)
        return {
            **super().view(record),
            "provisional": record.deadline.provisional,
            "programme": data.programme.value,
            "period": data.period,
            "generated_at": data.generated_at,
            "total_incl_tax": data.total_incl_tax,
            "currency": data.currency,
            "status": data.status.value,
            "list_available_at": data.list_available_at,
        }

    def amount(self, record: Record) -> tuple[Decimal, str]:
        """The total to be applied for or invoiced, tax included."""
        data = data_of(record, IncentiveData)
        return data.total_incl_tax, data.currency

    def samples(self, now: datetime) -> Sequence[Sample]:
        """One that lapses, one of each other fate, one without a date, one paid with its list."""
        today = now.astimezone(BEIJING).date()
        day = timedelta(days=1)
        listed = (now - 2 * day).isoformat()
        return (
            _sample("JL202609-0031", "FH", now - 17 * day, None, "86400.00", period="2026-Q3"),
            _sample("JL202610-0108", "INCENTIVE", now - 6 * day, today + 6 * day, "12860.40"),
            _sample("JL202610-0112", "OPP_INCENTIVE", now - 22 * day, None, "45000.00", listed),
            _sample("INC-2026-10-07", "ACTIVITY", now - 54 * day, None, "7200.00", english=True),
            _sample("JL202610-0120", "OPP_INCENTIVE", now - 5 * day, None, "3150.75"),
        )


def _sample(
    ref: str,
    programme: str,
    generated_at: datetime,
    publication_ends_on: date | None,
    total: str,
    list_available_at: str | None = None,
    english: bool = False,
    period: str = "2026-10",
) -> Sample:
    data = {
        "programme": programme,
        "period": period,
        "generated_at": generated_at.isoformat(),
        "publication_ends_on": publication_ends_on and publication_ends_on.isoformat(),
        "total_incl_tax": total,
        "currency": "USD" if english else "CNY",
        "status": "已支付" if list_available_at else "PENDING" if english else "待申付",
        "list_available_at": list_available_at,
    }
    return sample_of(ref, english, "incentives", data, "finance")
