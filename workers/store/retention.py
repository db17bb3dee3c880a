"""Removing what is over and old enough, in small transactions, while everybody else works on.

Never removed: records, people, and whatever a unique key still needs: the stages told of a record
that isn't closed. The last attempt stays too, because a restored database is known by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import NotificationState
from workers.store.engine import Database
from workers.store.quarantine import REMEMBERED
from workers.store.tables import (
    attempts,
    audit,
    dead_letters,
    events,
    inbox,
    metadata,
    notifications,
    occurrences,
    records,
    redeliveries,
    runs,
)
from workers.store.webhook_tables import webhook_tellings

S = NotificationState
OVER = (S.ACCEPTED, S.DELIVERED, S.FAILED, S.SUPPRESSED, S.CANCELLED)
BATCH = 500
"""Rows removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Ages:
    """How long each is kept."""

    messages: timedelta
    inbox: timedelta
    events: timedelta
    runs: timedelta
    audit: timedelta
    quarantine: timedelta
    redeliveries: timedelta = REMEMBERED
    """Counts of messages that were given out again and never ended: of use no longer than this."""
    webhooks: timedelta = timedelta(days=30)
    """What endpoints were told, or couldn't be told."""


class Retention:
    """Statements that remove. Instants are aware UTC and business time."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def prune(
        self,
        ages: Ages,
        now: datetime,
        *,
        dry_run: bool = False,
        progress: Callable[[str, int], None] | None = None,
    ) -> dict[str, int]:
        """Removes what is older and returns how much of each there was; on a dry run only counts.

        `progress` is told what is being removed and how many are gone.
        """
        found: dict[str, int] = {}
        for one in fields(ages):
            name, before = one.name, now - getattr(ages, one.name)
            if dry_run:
                found[name] = await self._count(name, before, now)
                continue
            found[name] = 0
            while gone := await self._batch(name, before, now):
                found[name] += gone
                if progress is not None:
                    progress(name, found[name])
        return found

    async def _count(self, name: str, before: datetime, now: datetime) -> int:
        table, condition = _old(name, before, now)
        async with self.database.read() as connection:
            found = await connection.execute(
                select(func.count()).select_from(table).where(condition)
            )
            return int(found.scalar_one())

    async def _batch(self, name: str, before: datetime, now: datetime) -> int:
        table, condition = _old(name, before, now)
        async with self.database.write() as connection:
            chosen = await connection.execute(_first(table, condition))
            ids = list(chosen.scalars())
            if ids and table is notifications:
                await _forget_messages(connection, ids)
            if ids:
                await connection.execute(delete(table).where(_key(table).in_(ids)))
            return len(ids)


def _key(table: Table) -> Column[Any]:
    (key,) = table.primary_key.columns
    return key


def _first(table: Table, condition: ColumnElement[bool]) -> Select[Any]:
    """The first ids; what somebody holds just now is left for the next time."""
    key = _key(table)
    chosen = select(key).where(condition).order_by(key).limit(BATCH)
    return chosen.with_for_update(skip_locked=True, of=table)


def _old(name: str, before: datetime, now: datetime) -> tuple[Table, ColumnElement[bool]]:
    """What is pruned under a name, and the condition of its age."""
    if name == "messages":
        return notifications, _over(before, now)
    if name == "runs":
        newest = select(func.max(runs.c.id)).group_by(runs.c.kind, runs.c.trigger)
        # What it planned is gone: nothing refers to it.
        gone = and_(runs.c.planned == runs.c.pruned, runs.c.finished_at.is_not(None))
        return runs, and_(runs.c.started_at < before, gone, runs.c.id.not_in(newest))
    table, at = {
        "inbox": (inbox, inbox.c.kept_at),
        "events": (events, events.c.received_at),
        "audit": (audit, audit.c.at),
        "quarantine": (dead_letters, dead_letters.c.received_at),
        "redeliveries": (redeliveries, redeliveries.c.changed_at),
        "webhooks": (webhook_tellings, webhook_tellings.c.at),
    }[name]
    return table, at < before


def _over(before: datetime, now: datetime) -> ColumnElement[bool]:
    needed = exists().where(
        occurrences.c.notification_id == notifications.c.id,
        records.c.id == occurrences.c.record_id,
        # Once it is closed for as long, it isn't opened again.
        or_(records.c.state != "closed", records.c.changed_at >= before),
    )
    newest = select(attempts.c.notification_id).order_by(attempts.c.id.desc()).limit(1)
    return and_(
        notifications.c.state.in_(OVER),
        notifications.c.changed_at < before,
        notifications.c.link_until < now,
        not_(needed),
        notifications.c.id.not_in(newest),
    )


async def _forget_messages(connection: AsyncConnection, ids: list[int]) -> None:
    """Takes away what belongs to notifications, and notes it with the runs that planned them."""
    planned = (
        select(notifications.c.run_id, func.count().label("count"))
        .where(notifications.c.id.in_(ids), notifications.c.run_id.is_not(None))
        .group_by(notifications.c.run_id)
    )
    for row in list(await connection.execute(planned)):
        await connection.execute(
            update(runs)
            .where(runs.c.id == row.run_id)
            .values(pruned=runs.c.pruned + row._mapping["count"])
        )
    for table in metadata.sorted_tables:
        for column in table.columns:
            if any(key.column is notifications.c.id for key in column.foreign_keys):
                await connection.execute(delete(table).where(column.in_(ids)))
