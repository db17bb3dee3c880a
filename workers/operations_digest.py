"""The operations digest: a partner's month is counted, kept as a record, and told by its rule.

What is counted stays in the record, so that a mail sent later, the page behind its link and its
workbook say the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

import structlog

from schedules.fields import BEIJING
from schedules.people import CustomerData, SpendData
from schedules.rule import Cadence
from schedules.rules._operations import (
    UNKNOWN,
    MonthCount,
    MonthSpend,
    OperationsDigestData,
    StageCount,
    TypeCount,
    YearCount,
)
from schedules.rules.operations_digest import FRESH, month_before, months_up_to
from workers.core import Core
from workers.errors import InputError
from workers.intake import Incoming
from workers.store.figures import FigureStore, Reminded

if TYPE_CHECKING:
    from workers.app import App

log = structlog.get_logger("operations_digest")

KIND = "operations_digest"
WITHIN_DAYS = 7
"""A record closed within so many days of a reminder counts as led to by it."""
MONTHS, YEARS = 12, 8
"""So many months and years are shown, the latest."""
BEGINS = time(8)
"""From this time of a month's first working day (Beijing) the month before is told."""
_MAX_REF = 64


async def gather(
    core: Core, partner: str, month: str, now: datetime, edition: str = "1"
) -> OperationsDigestData:
    """The figures of a partner's month (`2026-10`, Beijing), as they stand at `now` (aware UTC).

    A month that isn't over is counted as far as it has come. `edition` is "1" for what is made by
    itself; what is made on demand has one of its own, and is told again. Raises InputError for a
    month that lies ahead.
    """
    since, until = month_bounds(month)
    if since > now:
        raise InputError(f"month {month} hasn't begun: choose one up to {_month_of(now)}")
    store = FigureStore(core.store.database)
    months = months_up_to(month, MONTHS)
    people = await store.customers(partner)
    spends = await store.spends(partner, months[0], month)
    reminded = await store.reminded(partner, since, until, but=KIND)
    sent = await store.sent(partner, since, until, but=KIND)
    at = min(until, now)
    return OperationsDigestData(
        ref=digest_ref(partner, month),
        partner=partner,
        month=month,
        made_at=now,
        edition=edition,
        within_days=WITHIN_DAYS,
        customers=_count(people, at),
        joined=_between(since, until, (one.associated_on for one in people)),
        left=_between(since, until, (one.left_on for one in people)),
        mails=sent.get("mail", 0),
        sms=sent.get("sms", 0),
        years=tuple(_years(people, month, at)),
        types=tuple(_types(people, at)),
        months=tuple(_months(people, spends, months, at)),
        spends=tuple(_spends(spends, months)),
        stages=tuple(_stages(reminded, core.registry.cadences, now)),
    )


async def make_due(app: App, now: datetime) -> int:
    """Makes last month's digests that are due and aren't there yet; returns how many.

    They are due from 08:00 (Beijing) of a month's first working day, for every partner that has
    customers or was reminded of something; after 20 days they are too old to be made. Whoever
    calls this again, or at the same time, makes nothing twice.
    """
    today = now.astimezone(BEIJING).date()
    first = app.registry.calendar.after(today.replace(day=1), 0).day
    begins = datetime.combine(first, BEGINS, BEIJING)
    if KIND not in app.registry.enabled() or not begins <= now < begins + FRESH:
        return 0
    month = month_before(now)
    made = 0
    for partner in await missing_partners(app, month):
        await make(app, await gather(app, partner, month, now))
        made += 1
    if made:
        log.info("made", month=month, count=made)
    return made


async def missing_partners(core: Core, month: str) -> list[str]:
    """The partners that have something to be told of a month, and no digest of it yet."""
    store = FigureStore(core.store.database)
    partners = await partners_of(core, month)
    refs = {digest_ref(partner, month): partner for partner in partners}
    # one that was made on demand before the month was over isn't the month's
    present = await store.present(KIND, list(refs), month_bounds(month)[1])
    return [partner for ref, partner in refs.items() if ref not in present]


async def partners_of(core: Core, month: str) -> list[str]:
    """The partners that have customers, or were reminded of something in the month."""
    return await FigureStore(core.store.database).partners(*month_bounds(month), but=KIND)


async def make(app: App, digest: OperationsDigestData) -> None:
    """Keeps a digest as a record, for scan and delivery to tell of."""
    await app.intake.take([Incoming(digest, KIND)])


def digest_ref(partner: str, month: str) -> str:
    """`P-1001:2026-10`; a partner's ref that is too long for it is shortened to a hash."""
    ref = f"{partner}:{month}"
    if len(ref) <= _MAX_REF:
        return ref
    return f"{hashlib.sha256(partner.encode()).hexdigest()[:32]}:{month}"


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """The first instant of a month at Beijing, and the first after it."""
    first = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=BEIJING)
    return first, (first + timedelta(days=32)).replace(day=1)


def _month_of(at: datetime) -> str:
    return f"{at.astimezone(BEIJING):%Y-%m}"


def _count(people: Iterable[CustomerData], at: datetime) -> int:
    """Who is a customer just before the instant."""
    return sum(_is_customer(one, at) for one in people)


def _is_customer(one: CustomerData, at: datetime) -> bool:
    return one.associated_on < at and (one.left_on is None or one.left_on >= at)


def _between(since: datetime, until: datetime, instants: Iterable[datetime | None]) -> int:
    return sum(at is not None and since <= at < until for at in instants)


def _years(people: Sequence[CustomerData], month: str, at: datetime) -> Iterable[YearCount]:
    """From the first customer's year on; a year that ends with the month is a whole one."""
    last = int(month[:4])
    if not people:
        return
    first = min(one.associated_on.astimezone(BEIJING).year for one in people)
    for year in range(max(first, last - YEARS + 1), last + 1):
        begins = datetime(year, 1, 1, tzinfo=BEIJING)
        ends = min(begins.replace(year=year + 1), at)
        whole = year < last or month.endswith("-12")
        yield YearCount(
            period=str(year) if whole else month,
            customers=_count(people, ends),
            joined=_between(begins, ends, (one.associated_on for one in people)),
            left=_between(begins, ends, (one.left_on for one in people)),
        )


def _types(people: Sequence[CustomerData], at: datetime) -> Iterable[TypeCount]:
    """Those with most customers first, and last those of whom it isn't known."""
    counts: dict[str, int] = {}
    for one in people:
        if _is_customer(one, at):
            name = one.association_type.value if one.association_type else UNKNOWN
            counts[name] = counts.get(name, 0) + 1
    for name in sorted(counts, key=lambda name: (name == UNKNOWN, -counts[name], name)):
        yield TypeCount(type=name, customers=counts[name])


def _months(
    people: Sequence[CustomerData],
    spends: Sequence[SpendData],
    months: Sequence[str],
    at: datetime,
) -> Iterable[MonthCount]:
    paid: dict[str, set[str]] = {}
    for one in spends:
        if one.cash > 0:
            paid.setdefault(one.month, set()).add(one.customer)
    counts = [
        MonthCount(
            month=month,
            customers=_count(people, min(month_bounds(month)[1], at)),
            with_cash=len(paid.get(month, ())),
        )
        for month in months
    ]
    yield from _from_the_first(counts)


def _from_the_first(counts: Sequence[MonthCount]) -> Sequence[MonthCount]:
    """Without the months before anything was there; the last three are always shown."""
    for index, one in enumerate(counts):
        if one.customers or one.with_cash:
            return counts[min(index, len(counts) - 3) :]
    return ()


def _spends(spends: Sequence[SpendData], months: Sequence[str]) -> Iterable[MonthSpend]:
    sums: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for one in spends:
        cash, other = sums.get((one.currency, one.month), (Decimal(0), Decimal(0)))
        sums[one.currency, one.month] = (cash + one.cash, other + one.other)
    for (currency, month), (cash, other) in sorted(sums.items()):
        if month in months:
            yield MonthSpend(month=month, currency=currency, cash=cash, other=other)


def _stages(reminded: Sequence[Reminded], cadences: Any, now: datetime) -> Iterable[StageCount]:
    """By kind, and in the order of its cadence; the repeats of a stage count with it."""
    found: dict[tuple[str, str], list[Reminded]] = {}
    for one in reminded:
        found.setdefault((one.kind, one.stage.partition("#")[0]), []).append(one)
    within = timedelta(days=WITHIN_DAYS)

    def place(key: tuple[str, str]) -> tuple[str, int, str]:
        cadence = cadences.get(key[0], Cadence(()))
        names = [stage.name for stage in cadence.stages]
        return key[0], names.index(key[1]) if key[1] in names else len(names), key[1]

    for kind, stage in sorted(found, key=place):
        rows = found[kind, stage]
        took = [
            (one.closed_at - one.at) / timedelta(days=1)
            for one in rows
            if one.closed_at is not None and timedelta() <= one.closed_at - one.at <= within
        ]
        early = sum(one.closed_at is None and one.at + within > now for one in rows)
        yield StageCount(
            kind=kind,
            stage=stage,
            told=len(rows),
            closed=len(took),
            early=early,
            median_days=_tenths(median(took)) if took else None,
        )


def _tenths(days: float) -> Decimal:
    return Decimal(days).quantize(Decimal("0.1"), ROUND_HALF_UP)
