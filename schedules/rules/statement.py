"""Statements: a partner has to confirm what the system reckoned.

Opens:      the statement is generated
Closes:     confirmed, or in a later state, or a payment bills it; while it is disputed nobody is
            nagged
Deadline:   the end of the confirm-by day (Beijing). What happens then depends on the statement:
            incentives are confirmed by the system, those of staff and activities lapse (14 and 40
            working days after generation), EI procurement and KooGallery settlements wait
Tells:      finance, at the end the administrator too
Undated:    a ladder of its own from generation; a settlement that waits is called to mind again
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
    Flag,
    Instant,
    OptionalDay,
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


class StatementKind(StrEnum):
    """What is reckoned; it decides what an unconfirmed statement comes to."""

    INCENTIVE = "INCENTIVE"
    OPP_INCENTIVE = "OPP_INCENTIVE"
    FH = "FH"
    ACTIVITY = "ACTIVITY"
    EI_PROCUREMENT = "EI_PROCUREMENT"
    KOOGALLERY = "KOOGALLERY"


class Status(StrEnum):
    """Where a statement stands. From CONFIRMED on there is nothing left to do for the partner."""

    ESTIMATED = "ESTIMATED"
    PENDING = "PENDING"
    DISPUTED = "DISPUTED"
    CONFIRMED = "CONFIRMED"
    PAYING = "PAYING"
    PAID = "PAID"
    LAPSED = "LAPSED"
    CANCELLED = "CANCELLED"


EFFECTS: Mapping[StatementKind, Effect] = {
    StatementKind.INCENTIVE: Effect.AUTO_CONFIRM,
    StatementKind.OPP_INCENTIVE: Effect.AUTO_CONFIRM,
    StatementKind.FH: Effect.FORFEIT,
    StatementKind.ACTIVITY: Effect.FORFEIT,
    StatementKind.EI_PROCUREMENT: Effect.BLOCK,
    StatementKind.KOOGALLERY: Effect.BLOCK,
}
"""What happens to an unconfirmed statement at its deadline."""


class StatementData(RecordData):
    """One statement (对账单). `confirm_by` is the last day (of Beijing) on which to confirm it.

    `feedback_open` says that the partner has asked about it and waits for the answer.
    """

    ref: Annotated[Ref, Column("账单ID", "对账单号", "对账单ID", "账单编号", "statement_id")]
    statement_kind: Annotated[
        StatementKind,
        choice(
            StatementKind,
            INCENTIVE="激励|激励对账|伙伴激励",
            OPP_INCENTIVE="机会点激励|云商店机会点专项激励",
            FH="专职人员激励|专职人员激励(FH)|专职人员激励（FH）",
            ACTIVITY="活动激励|活动",
            EI_PROCUREMENT="采购介入类|EI采购介入类",
            KOOGALLERY="云商店|云商店分账|云商店商品分账",
        ),
        Column("对账单类型", "账单类型", "激励类型"),
    ]
    period: Annotated[OptionalLine, Column("账期", "对账期次")] = None
    generated_at: Annotated[Instant, Column("生成时间", "账单生成时间", "出账时间")]
    confirm_by: Annotated[
        OptionalDay, Column("公示截止日", "确认截止日", "确认截止日期", "截止日期")
    ] = None
    amount_incl_tax: Annotated[Amount, Column("含税金额", "账单金额", "金额", "激励金额")]
    currency: Annotated[Currency, Column("币种", "结算币种")] = "CNY"
    status: Annotated[
        Status,
        choice(
            Status,
            ESTIMATED="预估|激励审核中|审核中",
            PENDING="待确认|激励公示待确认|公示待确认|待核对",
            DISPUTED="有异议|问题反馈|问题反馈中|争议中",
            CONFIRMED="已确认|已核对|系统自动确认",
            PAYING="发放中|结算中|分账结算|分账结算中",
            PAID="发放成功|已发放|已结算|已支付",
            LAPSED="激励失效|已失效|失效",
            CANCELLED="已作废|已取消|作废",
        ),
        Column("状态", "对账状态", "账单状态"),
    ] = Status.PENDING
    feedback_open: Annotated[Flag, Column("问题反馈中", "问题反馈")] = False
    settlement_entity: Annotated[OptionalLine, Column("签约主体", "结算主体")] = None


class Statement(Bill):
    """A statement waits for its confirmation."""

    kind = "statement"
    title: ClassVar[Mapping[str, str]] = {"en": "Statement", "zh-CN": "对账单"}
    Data = StatementData
    cadence = Cadence(
        stages=(
            *AROUND_THE_DEADLINE,
            stage(
                "waiting",
                "due + 5 working days, then every 5 working days",
                Tell("finance", message="ended"),
                Tell("administrator", message="ended"),
                after_deadline=True,
            ),
            stage("+1", "opened + 1 working day", Tell("finance")),
            *WITHOUT_A_DEADLINE,
        )
    )

    def opened_at(self, data: StatementData) -> datetime:
        """When it was generated."""
        return data.generated_at

    def ladder(self, data: StatementData) -> str:
        """A confirm-by date that is moved starts a new climb: the new date is told of in time."""
        return data.confirm_by.isoformat() if data.confirm_by is not None else "1"

    def deadline(self, data: StatementData, calendar: WorkingCalendar) -> Deadline:
        """The end of the confirm-by day, given or counted; None where neither is known."""
        effect = EFFECTS[data.statement_kind]
        if data.confirm_by is not None:
            return Deadline(end_of_day(data.confirm_by, self.zone), effect)
        counted = self.counted(data.statement_kind, data.generated_at, effect, calendar)
        return counted or Deadline(None, effect)

    def assess(self, data: StatementData, lines: Sequence[Any]) -> Assessment:
        """Open while it waits for the partner; paused while the partner waits for an answer."""
        if data.status is Status.ESTIMATED:
            return Assessment(State.WAITING, "it is estimated and can't be confirmed yet")
        if data.status not in {Status.PENDING, Status.DISPUTED}:
            return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")
        if data.status is Status.DISPUTED or data.feedback_open:
            return Assessment(State.PAUSED, "the partner's question about it isn't answered yet")
        return Assessment(State.OPEN, "it waits to be confirmed")

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Days around the deadline for dated statements, a ladder of days for the others."""
        dated = record.deadline.at is not None
        if dated and stage.when.anchor == "opened":
            return "the statement has a deadline, and the days before it are told instead"
        if stage.name == "waiting" and record.deadline.effect != Effect.BLOCK:
            return "nothing waits once the deadline has passed"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the kind, the period, the amount and whether the deadline is provisional."""
        data = data_of(record, StatementData)
        return {
            **super().view(record),
            "provisional": record.deadline.provisional,
            "statement_kind": data.statement_kind.value,
            "period": data.period,
            "generated_at": data.generated_at,
            "amount_incl_tax": data.amount_incl_tax,
            "currency": data.currency,
            "status": data.status.value,
            "settlement_entity": data.settlement_entity,
        }

    def amount(self, record: Record) -> tuple[Decimal, str]:
        """The amount to be confirmed, tax included."""
        data = data_of(record, StatementData)
        return data.amount_incl_tax, data.currency

    def samples(self, now: datetime) -> Sequence[Sample]:
        """One for each outcome, one without a date, and two in English."""
        today = now.astimezone(BEIJING).date()
        days = timedelta(days=1)
        return (
            _sample("DZ202610-0001", "INCENTIVE", now - 5 * days, today + 7 * days, "128640.55"),
            _sample("DZ202610-0002", "FH", now - 17 * days, None, "53000.00"),
            _sample("DZ202610-0003", "EI_PROCUREMENT", now - 9 * days, today + 2 * days, "860.10"),
            _sample("ST-2026-10-44", "KOOGALLERY", now - days, None, "-1204.00", english=True),
            _sample("DZ202610-0004", "ACTIVITY", now - 54 * days, None, "9999.99"),
            _sample(
                "ST-2026-10-45",
                "INCENTIVE",
                now - 5 * days,
                today + 3 * days,
                "8420.00",
                english=True,
            ),
        )


def _sample(
    ref: str,
    kind: str,
    generated_at: datetime,
    confirm_by: date | None,
    amount: str,
    english: bool = False,
) -> Sample:
    data = {
        "statement_kind": kind,
        "period": "2026-10",
        "generated_at": generated_at.isoformat(),
        "confirm_by": None if confirm_by is None else confirm_by.isoformat(),
        "amount_incl_tax": amount,
        "currency": "USD" if english else "CNY",
        "status": "PENDING" if english else "待确认",
    }
    return sample_of(ref, english, "statements", data, "finance")
