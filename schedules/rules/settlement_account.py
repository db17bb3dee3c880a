"""Settlement accounts: money waits because the partner's own account isn't authenticated.

Opens:      the business information isn't authenticated, and an approved payment or a statement
            to be confirmed is there; made from those, nobody sends it
Closes:     the partner is authenticated, or nothing waits for the account any more
Deadline:   none: nothing ends by itself, nothing is paid either
Tells:      finance and the administrator, at once; then again while it lasts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field

from schedules.calendar import WorkingCalendar
from schedules.fields import Column, Instant, Ref, Refs
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    Partner,
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

MAX_NAMED = 20
"""So many payments, and so many statements, are named; the counts are of all."""


class SettlementAccountData(RecordData):
    """What waits for a partner's settlement account; `ref` is the partner's own.

    `payments` and `statements` are the first of them in order, at most 20 each. `since` is when
    something began to wait.
    """

    ref: Annotated[Ref, Column("伙伴ID", "合作伙伴ID")]
    partner: Annotated[Ref, Column("合作伙伴", "伙伴编号")]
    since: Annotated[Instant, Column("开始时间")]
    payments: Annotated[Refs, Column("申付单号")] = ()
    statements: Annotated[Refs, Column("对账单号")] = ()
    payment_count: Annotated[int, Field(ge=0), Column("申付单数量")] = 0
    statement_count: Annotated[int, Field(ge=0), Column("对账单数量")] = 0


_FINANCE = Tell("finance")
_ADMINISTRATOR = Tell("administrator")


class SettlementAccount(Rule):
    """Money waits until the partner's settlement account is authenticated."""

    kind = "settlement_account"
    title: ClassVar[Mapping[str, str]] = {"en": "Settlement account", "zh-CN": "结算账户认证"}
    Data = SettlementAccountData
    derives_from = ("payment", "statement")
    made_here = True
    cadence = Cadence(
        stages=(
            stage(
                "first",
                "opened",
                Tell("finance", ("mail", "sms")),
                _ADMINISTRATOR,
                urgent=True,
                required=True,
            ),
            stage(
                "+3",
                "opened + 3 working days, then every 5 working days",
                _FINANCE,
                _ADMINISTRATOR,
            ),
        )
    )

    def may_derive(self, partner: Partner) -> bool:
        """Only where authentication is known to be missing: an unknown one is no reproach."""
        return partner.account_authenticated is False

    def derive(
        self,
        partner: Partner,
        watched: Sequence[Related],
        present: SettlementAccountData | None,
        now: datetime,
    ) -> SettlementAccountData | None:
        """A held payment waits for the account as an open one does."""
        if not self.may_derive(partner):
            return None
        payments = _refs(watched, "payment", {State.OPEN, State.HELD})
        statements = _refs(watched, "statement", {State.OPEN})
        if not payments and not statements:
            return None
        return SettlementAccountData(
            ref=partner.ref,
            partner=partner.ref,
            since=now if present is None else present.since,
            payments=tuple(payments[:MAX_NAMED]),
            statements=tuple(statements[:MAX_NAMED]),
            payment_count=len(payments),
            statement_count=len(statements),
        )

    def opened_at(self, data: SettlementAccountData) -> datetime:
        """When something began to wait."""
        return data.since

    def deadline(self, data: SettlementAccountData, calendar: WorkingCalendar) -> Deadline:
        """None: it lasts until somebody sees to it."""
        return Deadline(None)

    def ladder(self, data: SettlementAccountData) -> str:
        """Each time anew from when something began to wait."""
        return data.since.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")

    def assess(self, data: SettlementAccountData, lines: Sequence[Any]) -> Assessment:
        """Open as long as it is there at all."""
        return Assessment(State.OPEN, "the settlement account isn't authenticated, and money waits")

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds what waits: refs of payments and statements, and how many there are."""
        data = data_of(record, SettlementAccountData)
        return {
            **super().view(record),
            "since": data.since,
            "payments": list(data.payments),
            "statements": list(data.statements),
            "payment_count": data.payment_count,
            "statement_count": data.statement_count,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Payments and a statement, a statement alone, and in English one payment alone."""
        day = timedelta(days=1)
        return (
            _sample(
                "P-1001", now, ("SFD20261100017", "SFD20261100023"), ("DZ202610-0001",), day=day
            ),
            _sample("P-1002", now, (), ("DZ202610-0077",), day=4 * day),
            _sample("P-2001", now, ("PAY-2026-1107",), (), day=9 * day, english=True),
        )


def _refs(watched: Sequence[Related], kind: str, states: set[State]) -> list[str]:
    return sorted(one.ref for one in watched if one.kind == kind and one.state in states)


def _sample(
    partner: str,
    now: datetime,
    payments: tuple[str, ...],
    statements: tuple[str, ...],
    *,
    day: timedelta,
    english: bool = False,
) -> Sample:
    data = {
        "partner": partner,
        "since": (now - day).isoformat(),
        "payments": ",".join(payments),
        "statements": ",".join(statements),
        "payment_count": len(payments),
        "statement_count": len(statements),
    }
    of = {"account_authenticated": "否"}
    if partner == "P-1002":
        of["name"] = "远山数据示例有限公司"
    return sample_of(partner, english, None, data, "finance", partner=of)
