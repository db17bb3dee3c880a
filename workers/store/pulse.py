"""What went out lately, for whoever looks at it: attempts by hour or day, and why some failed.

Each looks at the newest rows alone, so that it costs the same however much is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, String, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import NotificationState
from workers.store.engine import Database
from workers.store.tables import attempts, notifications

LOOKED_AT = 50_000
"""The newest rows that are looked at."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Attempts of one hour (UTC) by outcome and channel. `outcome` is "" while it is under way."""

    hour: datetime
    outcome: str
    channel: str
    count: int


class Pulse:
    """Statements that only read."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def sent(self, since: datetime) -> tuple[list[Sent], datetime | None]:
        """Attempts since then by hour, and from when on they are all there.

        The second is None where all are; else the instant of the oldest that was looked at.
        """
        newest = (
            select(attempts.c.notification_id, attempts.c.began_at, attempts.c.outcome)
            .order_by(attempts.c.id.desc())
            .limit(LOOKED_AT)
            .subquery()
        )
        async with self.database.read() as connection:
            hour = _hour(connection, newest.c.began_at)
            rows = await connection.execute(
                select(hour, newest.c.outcome, notifications.c.channel, func.count())
                .join(notifications, notifications.c.id == newest.c.notification_id)
                .where(newest.c.began_at >= since)
                .group_by(hour, newest.c.outcome, notifications.c.channel)
            )
            found = [
                Sent(datetime.fromisoformat(f"{row[0]}:00:00+00:00"), row[1] or "", row[2], row[3])
                for row in rows
            ]
            count, oldest = (
                await connection.execute(select(func.count(), func.min(newest.c.began_at)))
            ).one()
        cut = count >= LOOKED_AT and oldest is not None and oldest > since
        return sorted(found, key=lambda one: one.hour), oldest if cut else None

    async def failures(self, since: datetime, limit: int) -> list[Row[Any]]:
        """(reason, state, count, last) of what failed or was parked since, the commonest first."""
        bad = (NotificationState.FAILED.value, NotificationState.PARKED.value)
        newest = (
            select(notifications.c.reason, notifications.c.state, notifications.c.changed_at)
            .where(notifications.c.state.in_(bad))
            .order_by(notifications.c.id.desc())
            .limit(LOOKED_AT)
            .subquery()
        )
        statement = (
            select(
                newest.c.reason,
                newest.c.state,
                func.count().label("count"),
                func.max(newest.c.changed_at, type_=newest.c.changed_at.type).label("last"),
            )
            .where(newest.c.changed_at >= since)
            .group_by(newest.c.reason, newest.c.state)
            .order_by(func.count().desc(), newest.c.reason)
            .limit(limit)
        )
        async with self.database.read() as connection:
            return list(await connection.execute(statement))


def _hour(connection: AsyncConnection, column: ColumnElement[Any]) -> ColumnElement[str]:
    """The first 13 characters of an instant in UTC: 2026-11-24T01."""
    if connection.dialect.name == "sqlite":
        return func.substr(cast(column, String), 1, 13)
    return func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24')
