"""Paces, money and what a number got, shared by all workers: how much may go out now.

Paces and money go by the database's clock. A pace is a bucket of so many tokens that fills evenly.
It is kept as one instant: when all that was taken will have been paid back. Workers take tokens in
the transaction of a claim, for all of its messages at once; a bucket's row is locked for no longer
than that commit takes.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, bindparam, case, delete, func, literal, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedules.fields import BEIJING
from workers.model import NotificationState, Outcome
from workers.store.aftermath import database_now
from workers.store.engine import Database, insert
from workers.store.tables import Instant, attempts, expenses, notifications, paces

S = NotificationState
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SLOWED_FROM = 60
"""The pace a minute that a domain's first plea for less halves."""
SLOWED_FOR = timedelta(minutes=10)
ONE_PLEA = timedelta(seconds=10)
"""Refusals within this time of each other are one plea."""
KEPT = timedelta(days=1)
MILLIONTHS = 1_000_000
LOCKS, BUCKETS = 740213, 1024
"""The class of the advisory locks on PostgreSQL that numbers share, and how many there are."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `count` within `span`; 0 is no limit, unless the place itself asked for less."""

    name: str
    count: int
    span: timedelta


@dataclass(frozen=True, slots=True)
class Taken:
    """What a bucket gave: tokens, and how long until the next one beyond them, and its interval."""

    granted: int
    wait: timedelta = timedelta(0)
    interval: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Reserved:
    """Money was reserved for `number` messages on a `day` of Beijing, which ends in `left`."""

    number: int
    day: str
    left: timedelta


class Limits:
    """Statements on paces and expenses. Those that take a connection join its transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- paces ----------------------------------------------------------------------------

    async def free(self, wanted: Collection[Pace]) -> dict[str, Taken]:
        """What each bucket could give now; takes nothing and locks nothing."""
        if not wanted:
            return {}
        async with self.database.read() as connection:
            now, rows = await self._rows(connection, [one.name for one in wanted], lock=False)
        return {one.name: _of(one, rows.get(one.name), now, one.count)[0] for one in wanted}

    async def take(
        self, connection: AsyncConnection, wanted: Mapping[Pace, int]
    ) -> dict[str, Taken]:
        """Takes tokens, as many as there are of what is wanted."""
        if not wanted:
            return {}
        names = sorted(one.name for one in wanted)
        now, rows = await self._rows(connection, names, lock=True)
        missing = [name for name in names if name not in rows]
        if missing:
            await connection.execute(
                insert(connection, paces)
                .values([{"name": name, "free_at": now} for name in missing])
                .on_conflict_do_nothing()
            )
            now, rows = await self._rows(connection, names, lock=True)
        taken, writes = {}, []
        for one, number in sorted(wanted.items(), key=lambda item: item[0].name):
            taken[one.name], free_at = _of(one, rows.get(one.name), now, number)
            if taken[one.name].granted and free_at is not None:
                writes.append({"bucket": one.name, "at": free_at})
        if writes:
            await connection.execute(
                update(paces)
                .where(paces.c.name == bindparam("bucket"))
                .values(free_at=bindparam("at", type_=paces.c.free_at.type)),
                writes,
            )
        return taken

    async def _rows(
        self, connection: AsyncConnection, names: Sequence[str], *, lock: bool
    ) -> tuple[datetime, dict[str, Row[Any]]]:
        """The database's time, and the buckets that are there; locked in the order of names."""
        statement = select(paces).where(paces.c.name.in_(names)).order_by(paces.c.name)
        rows = await connection.execute(statement.with_for_update() if lock else statement)
        found = {row.name: row for row in rows}
        # Asked last: what was taken while we waited for a lock lies before it.
        now = (await connection.execute(select(database_now(self.database)))).scalar_one()
        return now, found

    async def slow_down(self, connection: AsyncConnection, names: Collection[str]) -> list[str]:
        """Halves the pace of places that asked for it, for a while; returns those it halved."""
        slowed = []
        for name in sorted(names):
            now, rows = await self._rows(connection, [name], lock=True)
            row = rows.get(name)
            present, until = SLOWED_FROM, now + SLOWED_FOR
            if row is not None and row.slow_until is not None and row.slow_until > now:
                if until - row.slow_until < ONE_PLEA:
                    continue
                present = row.slowed_to
            values = {"slowed_to": max(1, present // 2), "slow_until": until, "free_at": now}
            statement = insert(connection, paces).values(name=name, **values)
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_=values)
            )
            slowed.append(name)
        return slowed

    async def forget_old(self) -> None:
        """Removes buckets that have been full for a day."""
        before = database_now(self.database, -KEPT)
        async with self.database.write() as connection:
            await connection.execute(
                delete(paces).where(
                    paces.c.free_at < before,
                    or_(paces.c.slow_until.is_(None), paces.c.slow_until < before),
                )
            )

    # --- numbers --------------------------------------------------------------------------

    async def hold_numbers(self, connection: AsyncConnection, numbers: Collection[str]) -> None:
        """Lets one transaction at a time commit to SMS to these numbers, until its end.

        What it counts then holds: who waited for it sees what it wrote. SQLite has one writer
        anyway.
        """
        if connection.dialect.name == "sqlite" or not numbers:
            return
        buckets = sorted({zlib.crc32(number.encode()) % BUCKETS for number in numbers})
        ordered = "SELECT unnest(CAST(:buckets AS integer[])) AS bucket ORDER BY 1"
        await connection.execute(
            text(f"SELECT pg_advisory_xact_lock({LOCKS}, bucket) FROM ({ordered}) held"),  # noqa: S608
            {"buckets": buckets},
        )

    async def sms_to(
        self,
        connection: AsyncConnection,
        numbers: Collection[str],
        recent: datetime,
        early: datetime,
    ) -> dict[str, tuple[int, int]]:
        """How many SMS each number got since either instant (business time): `recent`, `early`.

        What is under way counts, and so does what had no answer: the number may have it.
        """
        # One that is under way may arrive at any moment.
        at = func.coalesce(attempts.c.ended_at, literal(recent, Instant))
        rows = await connection.execute(
            select(notifications.c.address, func.count(case((at >= recent, 1))), func.count())
            .join(attempts, attempts.c.notification_id == notifications.c.id)
            .where(
                notifications.c.channel == "sms",
                notifications.c.address.in_(numbers),
                # An attempt's end is a change: what lay still for longer needn't be looked at.
                or_(notifications.c.changed_at >= early, notifications.c.state == S.SENDING),
                or_(
                    attempts.c.outcome.is_(None),
                    attempts.c.outcome.in_([Outcome.ACCEPTED, Outcome.UNKNOWN]),
                ),
                at >= early,
            )
            .group_by(notifications.c.address)
        )
        return dict.fromkeys(numbers, (0, 0)) | {row[0]: (row[1], row[2]) for row in rows}

    # --- money ----------------------------------------------------------------------------

    async def spend(self, costs: Sequence[Decimal], most: Decimal, currency: str) -> Reserved:
        """Reserves the money of so many messages as today still allows, in order."""
        async with self.database.write() as connection:
            now = (await connection.execute(select(database_now(self.database)))).scalar_one()
            day, left = _day(now), _rest_of_day(now)
            await connection.execute(
                insert(connection, expenses)
                .values(day=day, currency=currency, spent=0)
                .on_conflict_do_nothing()
            )
            today = (expenses.c.day == day, expenses.c.currency == currency)
            found = await connection.execute(
                select(expenses.c.spent).where(*today).with_for_update()
            )
            spent, cap, number = int(found.scalar_one()), _millionths(most), 0
            for cost in costs:
                if spent + _millionths(cost) > cap:
                    break
                spent += _millionths(cost)
                number += 1
            if number:
                await connection.execute(update(expenses).where(*today).values(spent=spent))
            return Reserved(number, day, left)

    async def refund(
        self, connection: AsyncConnection, day: str, money: Decimal, currency: str
    ) -> None:
        """Gives back to a day what was reserved for messages that nobody took."""
        await connection.execute(
            update(expenses)
            .where(expenses.c.day == day, expenses.c.currency == currency)
            .values(spent=expenses.c.spent - _millionths(money))
        )

    async def spent_today(self, currency: str) -> Decimal:
        """What SMS have cost on this day of Beijing, with what is reserved for those in flight."""
        async with self.database.read() as connection:
            now = (await connection.execute(select(database_now(self.database)))).scalar_one()
            found = await connection.execute(
                select(expenses.c.spent).where(
                    expenses.c.day == _day(now), expenses.c.currency == currency
                )
            )
            return Decimal(found.scalar() or 0) / MILLIONTHS


def _of(
    pace: Pace, row: Row[Any] | None, now: datetime, number: int
) -> tuple[Taken, datetime | None]:
    """What a bucket gives of `number` tokens, and when it is full again after that."""
    count, span, burst = pace.count, pace.span, pace.count
    if row is not None and row.slow_until is not None and row.slow_until > now:
        count, span, burst = row.slowed_to, MINUTE, 1
    if not count:
        return Taken(number), None
    interval = span / count
    free_at = now if row is None else max(row.free_at, now)
    room = int((now + interval * burst - free_at) / interval + 1e-6)
    granted = max(0, min(number, room))
    after = free_at + interval * granted
    wait = max(timedelta(0), after + interval - (now + interval * burst))
    return Taken(granted, wait, interval), after


def _millionths(money: Decimal) -> int:
    return int((money * MILLIONTHS).to_integral_value())


def _day(now: datetime) -> str:
    return now.astimezone(BEIJING).date().isoformat()


def _rest_of_day(now: datetime) -> timedelta:
    here = now.astimezone(BEIJING)
    midnight = datetime.combine(here.date() + timedelta(days=1), time(), BEIJING)
    return midnight - here
