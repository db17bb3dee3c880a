"""Counting: what stands where, what waits for somebody, and the proof that the ledger adds up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, exists, false, func, not_, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import NotificationState, Outcome
from workers.store.engine import Database
from workers.store.faults import is_cancelled
from workers.store.tables import (
    attempts,
    notifications,
    occurrences,
    pauses,
    provider_states,
    receipts,
    records,
    runs,
)

S = NotificationState
UNPAID = "put off: sms.money_a_day is spent"
"""The reason of an SMS that waits for the next day's money."""
NEWEST = 1_000_000
"""How many of the newest notifications a proof in bounded time looks at, beside all open ones."""
LIMIT_S = 30.0
GRACE = timedelta(seconds=60)
"""How much later than its rule's scan a due record may be planned before it counts as forgotten."""
_STATES = select(notifications.c.state, func.count()).group_by(notifications.c.state)


class Checked(NamedTuple):
    """One equation: how many break it (None: not counted in time), and what to look at then."""

    what: str
    exceptions: int | None
    look_at: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What `prove` found. `states` is None where it couldn't be counted in time.

    `after` is the id after which notifications that are over were looked at; 0 means all.
    """

    checks: Sequence[Checked]
    states: Mapping[str, int] | None
    after: int

    @property
    def broken(self) -> bool:
        """Whether an equation doesn't hold."""
        return any(one.exceptions for one in self.checks)

    @property
    def unfinished(self) -> bool:
        """Whether something couldn't be counted in time."""
        return any(one.exceptions is None for one in self.checks)


class _Equation(NamedTuple):
    what: str
    statement: Select[Any]
    look_at: str


class _Window(NamedTuple):
    """Of what is over: notifications after this id, runs that began after this instant."""

    notification: int = 0
    run: datetime | None = None


class Ledger:
    """Statements that only count."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def counts(self) -> dict[tuple[str, str, str], int]:
        """Notifications by (kind, channel, state)."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(
                    notifications.c.kind,
                    notifications.c.channel,
                    notifications.c.state,
                    func.count(),
                ).group_by(notifications.c.kind, notifications.c.channel, notifications.c.state)
            )
            return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def oldest_pending(self, now: datetime) -> datetime | None:
        """Since when the oldest notification that may be sent has been waiting."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(notifications.c.not_before)
                .where(notifications.c.state == S.PENDING, notifications.c.not_before <= now)
                .order_by(notifications.c.not_before)
                .limit(1)
            )
            row = found.first()
            return None if row is None else row[0]

    async def verify(self) -> list[tuple[str, int, str]]:
        """The ledger's equations: (what, how many break it, what to look at). All must be 0."""
        async with self.database.snapshot() as connection:
            found = await exceptions(connection)
        look_at = {one.what: one.look_at for one in _equations(_Window())}
        return [(what, count, look_at[what]) for what, count in found]

    async def prove(
        self,
        now: datetime,
        periods: Mapping[str, timedelta],
        *,
        newest: int | None = NEWEST,
        limit_s: float = LIMIT_S,
    ) -> Proof:
        """All that `verify` looks at and what is overdue, on a live system and in bounded time.

        One snapshot, so that nobody at work makes a false alarm. Of what is over, the `newest`
        notifications are looked at (None: all); of what is open, everything. A check that takes
        longer than `limit_s` is given up. `periods` has how often each rule that is on is scanned;
        `now` is business time.
        """
        async with self.database.snapshot() as connection:
            window = await self._window(connection, newest)
            checks = [*_equations(window), await _unplanned(connection, now, periods)]
            found = [
                Checked(
                    one.what, await self._within(limit_s, connection, one.statement), one.look_at
                )
                for one in checks
            ]
            states = await self._within(limit_s, connection, _STATES, rows=True)
        return Proof(found, states, window.notification)

    async def _window(self, connection: AsyncConnection, newest: int | None) -> _Window:
        if newest is None:
            return _Window()
        last = (await connection.execute(select(func.max(notifications.c.id)))).scalar() or 0
        edge = (
            await connection.execute(
                select(notifications.c.id, notifications.c.created_at)
                .where(notifications.c.id <= last - newest)
                .order_by(notifications.c.id.desc())
                .limit(1)
            )
        ).first()
        if edge is None:
            return _Window()
        # A run that began before the edge may have planned on both sides of it.
        return _Window(edge.id, edge.created_at + timedelta(days=1))

    async def _within(
        self,
        limit_s: float,
        connection: AsyncConnection,
        statement: Select[Any],
        *,
        rows: bool = False,
    ) -> Any:
        """What a statement counts, or None where it isn't done in time."""
        try:
            async with _time_limit(connection, limit_s):
                done = await connection.execute(statement)
                return {row[0]: row[1] for row in done} if rows else int(done.scalar_one())
        except DBAPIError as error:
            if not is_cancelled(error):
                raise
            return None

    async def needs_a_person(self) -> dict[str, int]:
        """How many things wait for somebody: held records, parked, failed and unknown messages."""
        async with self.database.read() as connection:

            async def number(statement: Select[Any]) -> int:
                return int((await connection.execute(statement)).scalar_one())

            def having(state: NotificationState) -> Select[Any]:
                return (
                    select(func.count())
                    .select_from(notifications)
                    .where(notifications.c.state == state)
                )

            held = select(func.count()).select_from(records).where(records.c.state == "held")
            unknown = select(func.count()).select_from(notifications).where(last_outcome_unknown())
            alone = (
                select(func.count())
                .select_from(provider_states)
                .where(provider_states.c.state != "closed")
            )
            unpaid = having(S.PENDING).where(notifications.c.reason == UNPAID)
            return {
                "held records": await number(held),
                "parked": await number(having(S.PARKED)),
                "failed": await number(having(S.FAILED)),
                "unknown": await number(unknown),
                "providers left alone": await number(alone),
                "unpaid SMS": await number(unpaid),
            }


def last_outcome_unknown() -> Any:
    """The condition that nobody knows what came of a notification's last attempt."""
    last = attempts.alias("last")
    return and_(
        or_(notifications.c.state == S.PARKED, notifications.c.state == S.PENDING),
        exists().where(
            last.c.notification_id == notifications.c.id,
            last.c.number == notifications.c.attempt_count,
            last.c.outcome == Outcome.UNKNOWN,
        ),
    )


async def exceptions(connection: AsyncConnection) -> list[tuple[str, int]]:
    """Every equation and how many break it, over all there is, as the transaction sees it."""
    return [
        (one.what, int((await connection.execute(one.statement)).scalar_one()))
        for one in _equations(_Window())
    ]


def _equations(window: _Window) -> list[_Equation]:
    """What must be 0, each as a count."""
    after = notifications.c.id > window.notification
    counted = (
        select(notifications.c.run_id, func.count().label("there"))
        .where(after, notifications.c.run_id.is_not(None))
        .group_by(notifications.c.run_id)
        .subquery()
    )
    there = func.coalesce(counted.c.there, 0)
    off = (
        select(func.count())
        .select_from(runs.outerjoin(counted, counted.c.run_id == runs.c.id))
        .where(there + runs.c.pruned != runs.c.planned)
    )
    if window.run is not None:
        off = off.where(runs.c.started_at > window.run)
    stages = (
        occurrences.c.record_id,
        occurrences.c.ladder,
        occurrences.c.stage,
        occurrences.c.channel,
        occurrences.c.contact,
    )
    twice = (
        select(occurrences.c.record_id)
        .where(occurrences.c.dropped.is_(None), occurrences.c.notification_id > window.notification)
        .group_by(*stages)
        .having(func.count() > 1)
        .subquery()
    )
    number = select(func.count()).select_from(notifications)
    accepted = and_(
        attempts.c.notification_id == notifications.c.id, attempts.c.outcome == Outcome.ACCEPTED
    )
    reported = exists().where(receipts.c.notification_id == notifications.c.id)
    under_way = exists().where(
        attempts.c.notification_id == notifications.c.id, attempts.c.ended_at.is_(None)
    )
    says_something = exists().where(
        occurrences.c.notification_id == notifications.c.id, occurrences.c.dropped.is_(None)
    )
    return [
        _Equation(
            "every notification is in one of the eight states",
            number.where(after, notifications.c.state.not_in([state.value for state in S])),
            "duewatch list",
        ),
        _Equation(
            "every run planned as many notifications as there are of it",
            off,
            "a run's count and its notifications differ",
        ),
        _Equation(
            "every stage is told at most once per record, contact and channel",
            select(func.count()).select_from(twice),
            "the unique key is missing: duewatch migrate",
        ),
        _Equation(
            "everything accepted has an accepted attempt with its reply, or a receipt",
            number.where(
                after,
                notifications.c.state.in_([S.ACCEPTED, S.DELIVERED]),
                not_(exists().where(accepted, attempts.c.reply != "")),
                not_(reported),
            ),
            "duewatch list --state accepted",
        ),
        _Equation(
            "nothing cancelled or suppressed was accepted, but for what was sent elsewhere too",
            number.where(
                after,
                notifications.c.diverted.is_(False),
                notifications.c.state.in_([S.CANCELLED, S.SUPPRESSED]),
                exists().where(accepted),
            ),
            "duewatch list --state cancelled",
        ),
        _Equation(
            "everything being sent has an open attempt",
            number.where(notifications.c.state == S.SENDING, not_(under_way)),
            "duewatch list --state sending",
        ),
        _Equation(
            "nothing but what is being sent has an open attempt",
            number.where(after, notifications.c.state != S.SENDING, under_way),
            "duewatch list",
        ),
        _Equation(
            "everything waiting to be sent still says something",
            number.where(notifications.c.state == S.PENDING, not_(says_something)),
            "duewatch list --state pending",
        ),
    ]


async def _unplanned(
    connection: AsyncConnection, now: datetime, periods: Mapping[str, timedelta]
) -> _Equation:
    """Records that a scan should have looked at a minute ago, of rules that are on."""
    paused = {row[0] for row in await connection.execute(select(pauses.c.kind))}
    late = [
        and_(records.c.kind == kind, records.c.next_due_at < now - every - GRACE)
        for kind, every in periods.items()
        if kind not in paused
    ]
    return _Equation(
        "nothing is due and unplanned a minute after its rule's scan",
        select(func.count())
        .select_from(records)
        .where(records.c.state == "open", records.c.next_due_at.is_not(None), or_(false(), *late)),
        "duewatch rules: does a scheduler run, and is its clock right?",
    )


@asynccontextmanager
async def _time_limit(connection: AsyncConnection, limit_s: float) -> AsyncIterator[None]:
    """Ends a statement that takes longer, so that a proof ends whatever the size."""
    if connection.dialect.name != "sqlite":
        async with connection.begin_nested():
            await connection.execute(text(f"SET LOCAL statement_timeout = {int(limit_s * 1000)}"))
            yield
        return
    raw: Any = (await connection.get_raw_connection()).driver_connection
    end = time.monotonic() + limit_s
    await raw.set_progress_handler(lambda: int(time.monotonic() > end), 10_000)
    try:
        yield
    finally:
        await raw.set_progress_handler(None, 0)
