"""The figures of a partner's month, as they are kept and as charts."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from schedules.fields import Amount, Currency, Instant, Line, Ref
from schedules.figures import Chart, Figures, Series, Total
from schedules.people import Data
from schedules.rule import Record, RecordData

Count = Annotated[int, Field(ge=0)]
Month = Annotated[str, Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")]
Period = Annotated[str, Field(pattern=r"^20\d\d(-(0[1-9]|1[0-2]))?$")]
MAX_CURRENCIES = 3
"""So many currencies have a chart of their own, those with the most months first."""
UNKNOWN = "UNKNOWN"
"""Stands for the association type of a customer whose type nobody gave."""


class YearCount(Data):
    """Customers at a year's end, and how many came in it. `period` is `2025`, or `2026-10` for a
    year that is counted up to the end of that month.
    """

    period: Period
    customers: Count
    joined: Count
    left: Count = 0


class TypeCount(Data):
    """Customers of one association type at the month's end."""

    type: Line
    customers: Count


class MonthCount(Data):
    """Customers at a month's end, and how many of them spent cash in it."""

    month: Month
    customers: Count
    with_cash: Count


class MonthSpend(Data):
    """What all customers spent in a month in one currency."""

    month: Month
    currency: Currency = "CNY"
    cash: Amount
    other: Amount


class StageCount(Data):
    """Records that were reminded at one stage in the month, and what it led to.

    `closed` of them were acted on within the digest's days after the stage's first reminder;
    `early` are still open, and those days weren't over when the digest was made. `median_days` is
    from that reminder to the closing, over `closed`.
    """

    kind: Line
    stage: Line
    told: Count
    closed: Count
    early: Count = 0
    median_days: Decimal | None = None


class OperationsDigestData(RecordData):
    """A partner's month in figures; months and days are Beijing's.

    `customers`, `joined`, `left` are of the month's end and of the month; `mails` and `sms` are the
    messages sent in it. Another `edition` of a month's figures is told anew.
    """

    ref: Ref
    month: Month
    made_at: Instant
    edition: Line = "1"
    within_days: Annotated[int, Field(ge=1, le=90)] = 7
    customers: Count = 0
    joined: Count = 0
    left: Count = 0
    mails: Count = 0
    sms: Count = 0
    years: tuple[YearCount, ...] = ()
    types: tuple[TypeCount, ...] = ()
    months: tuple[MonthCount, ...] = ()
    spends: tuple[MonthSpend, ...] = ()
    stages: tuple[StageCount, ...] = ()

    @property
    def told(self) -> int:
        """Stages of records that were reminded of."""
        return sum(stage.told for stage in self.stages)

    @property
    def closed(self) -> int:
        """How many of `told` were acted on in time."""
        return sum(stage.closed for stage in self.stages)

    @property
    def early(self) -> int:
        """How many of `told` it is too early to judge."""
        return sum(stage.early for stage in self.stages)

    @property
    def with_cash(self) -> int:
        """Customers that spent cash in the month."""
        return next((one.with_cash for one in self.months if one.month == self.month), 0)

    def spent(self) -> list[MonthSpend]:
        """What was spent in the month, by currency."""
        return [one for one in self.spends if one.month == self.month]


def figures_of(data: OperationsDigestData, record: Record) -> Figures:
    """The digest as charts and single figures; a chart without anything in it is left out."""
    charts = (_years(data), _types(data), _months(data), *_spends(data), _stages(data))
    spent = [
        Total(name, getattr(one, name), one.currency)
        for one in data.spent()
        for name in ("cash", "other")
    ]
    return Figures(
        name="operations_digest",
        owner=record.partner.name or data.partner,
        owner_ref=data.partner,
        month=data.month,
        within_days=data.within_days,
        totals=(
            Total("customers", data.customers),
            Total("joined", data.joined),
            Total("left", data.left),
            Total("with_cash", data.with_cash),
            *spent,
            Total("mails", data.mails),
            Total("sms", data.sms),
            Total("told", data.told),
            Total("closed", data.closed),
            Total("early", data.early),
        ),
        charts=tuple(chart for chart in charts if not chart.empty),
    )


def _years(data: OperationsDigestData) -> Chart:
    years = data.years
    return Chart(
        "customers_by_year",
        "columns",
        "year",
        tuple(one.period for one in years),
        (Series("customers", tuple(one.customers for one in years)),),
        extra=(
            Series("joined", tuple(one.joined for one in years)),
            Series("left", tuple(one.left for one in years)),
        ),
    )


def _types(data: OperationsDigestData) -> Chart:
    return Chart(
        "customers_by_type",
        "bars",
        "word",
        tuple(one.type for one in data.types),
        (Series("customers", tuple(one.customers for one in data.types)),),
    )


def _months(data: OperationsDigestData) -> Chart:
    months = data.months
    return Chart(
        "customers_with_cash",
        "columns",
        "month",
        tuple(one.month for one in months),
        (Series("with_cash", tuple(one.with_cash for one in months)),),
        extra=(Series("customers", tuple(one.customers for one in months)),),
    )


def _spends(data: OperationsDigestData) -> list[Chart]:
    found: dict[str, list[MonthSpend]] = {}
    for one in data.spends:
        found.setdefault(one.currency, []).append(one)
    most = sorted(found, key=lambda currency: (-len(found[currency]), currency))
    months = [one.month for one in data.months]
    return [_spend(currency, months, found[currency]) for currency in most[:MAX_CURRENCIES]]


def _spend(currency: str, months: Sequence[str], spends: Sequence[MonthSpend]) -> Chart:
    by_month = {one.month: one for one in spends}
    zero = Decimal("0.00")

    def values(name: str) -> tuple[Decimal, ...]:
        return tuple(
            getattr(by_month[month], name) if month in by_month else zero for month in months
        )

    return Chart(
        "spend",
        "stacked",
        "month",
        tuple(months),
        (Series("cash", values("cash")), Series("other", values("other"))),
        currency=currency,
    )


def _stages(data: OperationsDigestData) -> Chart:
    stages = data.stages
    return Chart(
        "reminders",
        "outcomes",
        "stage",
        tuple(f"{one.kind}|{one.stage}" for one in stages),
        (
            Series("closed", tuple(one.closed for one in stages)),
            Series("open", tuple(one.told - one.closed - one.early for one in stages)),
            Series("early", tuple(one.early for one in stages)),
        ),
        extra=(Series("median_days", tuple(one.median_days for one in stages)),),
    )
