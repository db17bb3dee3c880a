"""What stands where, for whoever watches: grouped counts, each over one index where there is one.

A reading costs in proportion to what is stored, so whoever asks keeps it for a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, case, exists, func, literal, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import NotificationState, Outcome
from workers.store.engine import Database
from workers.store.sources import SourceStore
from workers.store.tables import (
    attempts,
    dead_letters,
    notifications,
    pauses,
    records,
    runs,
    suppressions,
)
from workers.store.webhooks import Standing, WebhookStore

S = NotificationState
Lane = tuple[str, bool]
"""Channel, and whether it is urgent."""
MISSED_WITHIN = timedelta(days=1)
"""Firings that were missed are counted as long; then they are history."""


@dataclass(slots=True)
class Reading:
    """What the database said. Lanes are (channel, urgent); ages are seconds."""

    notifications: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    depth: Counter[tuple[str, bool, str]] = field(default_factory=Counter)
    """By lane and what it waits for: a `worker`, a `time`, or a paused `rule`."""
    oldest: dict[Lane, float] = field(default_factory=dict)
    """How long the oldest that waits for a worker has waited."""
    needs: dict[str, int] = field(default_factory=dict)
    quarantine: Counter[str] = field(default_factory=Counter)
    """Producers' messages that couldn't be taken, by the door they came in by."""
    suppressions: Counter[tuple[str, str]] = field(default_factory=Counter)
    webhooks: Mapping[str, Standing] = field(default_factory=dict)
    """How each endpoint stands."""
    syncs: Mapping[str, Row[Any]] = field(default_factory=dict)
    """Each source's last sync."""
    synced: dict[str, datetime] = field(default_factory=dict)
    """When each source was last read to its end."""
    sync_totals: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many syncs ended how, by (source, outcome)."""
    paused: set[str] = field(default_factory=set)
    fired: dict[str, datetime] = field(default_factory=dict)
    """When the clock last fired each rule."""
    missed: dict[str, int] = field(default_factory=dict)


class Gauges:
    """Reads everything in one snapshot of the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._webhooks = WebhookStore(database)
        self._sources = SourceStore(database)

    async def read(self, kinds: Collection[str], now: datetime) -> Reading:
        """Counts all; `kinds` are the rules whose firings are wanted."""
        reading = Reading()
        async with self.database.read() as connection:
            await self._paused(connection, reading)
            await self._messages(connection, reading, now)
            await self._records(connection, reading)
            await self._needs(connection, reading)
            await self._firings(connection, reading, kinds, now)
        reading.webhooks = await self._webhooks.standing()
        reading.syncs = await self._sources.last_runs()
        reading.synced = await self._sources.last_good()
        reading.sync_totals = await self._sources.totals()
        return reading

    async def fired(self, kinds: Collection[str], now: datetime) -> Reading:
        """Only what is paused and when each rule was fired: a look into an index for each."""
        reading = Reading()
        async with self.database.read() as connection:
            await self._paused(connection, reading)
            await self._firings(connection, reading, kinds, now)
        return reading

    async def _paused(self, connection: AsyncConnection, reading: Reading) -> None:
        reading.paused = set((await connection.execute(select(pauses.c.kind))).scalars())

    async def _messages(self, connection: AsyncConnection, reading: Reading, now: datetime) -> None:
        n = notifications.c
        rows = await connection.execute(
            select(n.kind, n.channel, n.state, func.count()).group_by(n.kind, n.channel, n.state)
        )
        reading.notifications.update({(row[0], row[1], row[2]): row[3] for row in rows})
        due = n.not_before <= now
        lanes = await connection.execute(
            select(
                n.channel,
                n.urgent,
                n.kind,
                func.count().label("all"),
                func.count(case((due, 1))).label("due"),
                func.min(n.not_before).label("oldest"),
            )
            .where(n.state == S.PENDING)
            .group_by(n.channel, n.urgent, n.kind)
        )
        for row in lanes:
            self._lane(reading, row, now)

    @staticmethod
    def _lane(reading: Reading, row: Row[Any], now: datetime) -> None:
        lane = (str(row.channel), bool(row.urgent))
        waits_for = "rule" if row.kind in reading.paused else "worker"
        reading.depth[*lane, waits_for] += row.due
        reading.depth[*lane, "time"] += row.all - row.due
        if waits_for == "worker" and row.due:
            waited = (now - row.oldest).total_seconds()
            reading.oldest[lane] = max(waited, reading.oldest.get(lane, 0.0))

    async def _records(self, connection: AsyncConnection, reading: Reading) -> None:
        r, s = records.c, suppressions.c
        counted = await connection.execute(
            select(r.kind, r.state, func.count()).group_by(r.kind, r.state)
        )
        reading.records.update({(row[0], row[1]): row[2] for row in counted})
        stopped = await connection.execute(
            select(s.channel, s.kind, func.count()).group_by(s.channel, s.kind)
        )
        reading.suppressions.update({(row[0], row[1]): row[2] for row in stopped})

    async def _needs(self, connection: AsyncConnection, reading: Reading) -> None:
        by_state: Counter[str] = Counter()
        for (_, _, state), count in reading.notifications.items():
            by_state[state] += count
        reading.needs = {
            "held_records": sum(n for (_, state), n in reading.records.items() if state == "held"),
            "parked": by_state[S.PARKED],
            "failed": by_state[S.FAILED],
            "unknown": await self._number(connection, _unknown()),
        }
        d = dead_letters.c
        by_door = await connection.execute(select(d.door, func.count()).group_by(d.door))
        reading.quarantine.update({row[0]: row[1] for row in by_door})
        reading.needs["quarantine"] = reading.quarantine.total()

    @staticmethod
    async def _number(connection: AsyncConnection, statement: Select[Any]) -> int:
        return int((await connection.execute(statement)).scalar_one())

    async def _firings(
        self, connection: AsyncConnection, reading: Reading, kinds: Collection[str], now: datetime
    ) -> None:
        if not kinds:
            return
        clock = runs.c.trigger == "clock"
        last = [
            select(literal(kind), func.max(runs.c.fire_at)).where(clock, runs.c.kind == kind)
            for kind in sorted(kinds)
        ]
        rows = await connection.execute(union_all(*last))
        reading.fired = {row[0]: row[1] for row in rows if row[1] is not None}
        missed = await connection.execute(
            select(runs.c.kind, func.sum(runs.c.missed))
            .where(clock, runs.c.kind.in_(sorted(kinds)), runs.c.fire_at > now - MISSED_WITHIN)
            .group_by(runs.c.kind)
        )
        reading.missed = dict.fromkeys(reading.fired, 0) | {row[0]: int(row[1]) for row in missed}


def _unknown() -> Select[Any]:
    """How many messages' last outcome nobody knows."""
    n, last = notifications.c, attempts.c
    return (
        select(func.count())
        .select_from(notifications)
        .where(
            or_(n.state == S.PARKED, and_(n.state == S.PENDING, n.attempt_count > 0)),
            exists().where(
                last.notification_id == n.id,
                last.number == n.attempt_count,
                last.outcome == Outcome.UNKNOWN,
            ),
        )
    )
