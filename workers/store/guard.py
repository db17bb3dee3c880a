"""What tells a restored or copied database from one that went on: marks, identity, refusal.

A database that was restored from an old backup doesn't know what was sent since. Three things give
it away: a copy by `duewatch backup` says so of itself; a dump that was read into another place has
another identity; and who kept the number of the last attempt outside knows of a higher one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, exists, func, not_, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import NotificationState, Outcome
from workers.store.engine import Database, insert
from workers.store.faults import is_not_granted
from workers.store.records import chunks
from workers.store.tables import attempts, audit, meta, notifications, occurrences, records

S = NotificationState
REFUSAL, HOME, COPY, EPOCH = "refusal", "home", "copy", "epoch"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is sent. `lost_at`: until when sends may have gone out that the database forgot.

    Instants are aware UTC; `sends` are those attempts that are known of and missing.
    """

    why: str
    noticed_at: datetime
    lost_at: datetime | None = None
    sends: int = 0

    def to_json(self) -> str:
        """As it is kept."""
        lost = self.lost_at.isoformat() if self.lost_at else None
        return json.dumps(
            {"why": self.why, "at": self.noticed_at.isoformat(), "lost": lost, "sends": self.sends}
        )

    @classmethod
    def from_json(cls, content: str) -> Refusal:
        """As it was kept."""
        kept = json.loads(content)
        lost = datetime.fromisoformat(kept["lost"]) if kept["lost"] else None
        return cls(kept["why"], datetime.fromisoformat(kept["at"]), lost, int(kept["sends"]))


@dataclass(frozen=True, slots=True)
class Standing:
    """A database as it stands: its epoch, the last attempt there is, and what it says of itself.

    `copied` is when it was written as a copy, or None; `home` where it was at home.
    """

    epoch: str
    sends: int
    last_at: datetime | None
    home: str | None
    copied: str | None
    refusal: Refusal | None
    clock: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages that would be sent: of one rule, channel and state."""

    kind: str
    channel: str
    state: str
    before: int
    """How many were planned while the lost database was sending, so in the backup."""
    since: int


def may_be_claimed() -> ColumnElement[bool]:
    """The condition that the database isn't one whose sends are refused: for every claim."""
    return not_(exists().where(meta.c.key == REFUSAL))


class Guard:
    """Statements of the restore guard."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def standing(self) -> Standing:
        """How the database stands now; a handful of look-ups by key."""
        clock = await self.database.clock()
        async with self.database.read() as connection:
            keys = {REFUSAL, HOME, COPY, EPOCH}
            rows = await connection.execute(select(meta).where(meta.c.key.in_(keys)))
            said = {row.key: row.value for row in rows}
            last = (
                await connection.execute(
                    select(attempts.c.id, attempts.c.began_at)
                    .order_by(attempts.c.id.desc())
                    .limit(1)
                )
            ).first()
        return Standing(
            epoch=said.get(EPOCH, ""),
            sends=last.id if last else 0,
            last_at=last.began_at if last else None,
            home=said.get(HOME),
            copied=said.get(COPY),
            refusal=Refusal.from_json(said[REFUSAL]) if REFUSAL in said else None,
            clock=clock,
        )

    async def identity(self) -> str:
        """What a dump can't take along: PostgreSQL's cluster, database and table; "" on SQLite."""
        if self.database.dialect == "sqlite":
            return ""
        async with self.database.read() as connection:
            place = (
                await connection.execute(
                    text(
                        "SELECT (SELECT oid FROM pg_database WHERE datname = current_database()) "
                        "|| '.' || 'meta'::regclass::oid"
                    )
                )
            ).scalar_one()
        try:
            async with self.database.read() as connection:
                cluster = (
                    await connection.execute(
                        text("SELECT system_identifier FROM pg_control_system()")
                    )
                ).scalar_one()
        except DBAPIError as error:
            # A connection that broke says nothing of where the database is.
            if not is_not_granted(error):
                raise
            cluster = "-"  # some hosts don't grant it
        return f"{cluster}.{place}"

    async def settle_in(self, home: str) -> None:
        """Keeps where the database is at home, unless it says so already."""
        async with self.database.write() as connection:
            await connection.execute(
                insert(connection, meta).values(key=HOME, value=home).on_conflict_do_nothing()
            )

    async def refuse(self, refusal: Refusal) -> None:
        """Stops all sends, whoever asks for them; what was said first stays."""
        async with self.database.write() as connection:
            await connection.execute(
                insert(connection, meta)
                .values(key=REFUSAL, value=refusal.to_json())
                .on_conflict_do_nothing()
            )

    async def say(self, connection: AsyncConnection, refusal: Refusal) -> None:
        """Stops all sends in the caller's transaction, whatever was said before."""
        statement = insert(connection, meta).values(key=REFUSAL, value=refusal.to_json())
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["key"], set_={"value": statement.excluded.value}
            )
        )

    async def withdraw(self, beginning: str) -> None:
        """Lets everything be sent again that was stopped for a reason that begins so."""
        async with self.database.write() as connection:
            found = await connection.execute(select(meta.c.value).where(meta.c.key == REFUSAL))
            said = found.scalar()
            if said is not None and Refusal.from_json(said).why.startswith(beginning):
                await connection.execute(delete(meta).where(meta.c.key == REFUSAL))

    async def waiting(self, until: datetime) -> list[Waiting]:
        """What would be sent by rule, channel and state: how many planned by then, and since."""
        since = notifications.c.created_at > until
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(
                    notifications.c.kind,
                    notifications.c.channel,
                    notifications.c.state,
                    func.count(),
                    func.count().filter(since),
                )
                .where(notifications.c.state.in_([S.PENDING, S.SENDING]))
                .group_by(notifications.c.kind, notifications.c.channel, notifications.c.state)
                .order_by(notifications.c.kind, notifications.c.channel, notifications.c.state)
            )
            return [Waiting(row[0], row[1], row[2], row[3] - row[4], row[4]) for row in rows]

    async def unsent(self, after: int, limit: int) -> list[Row[Any]]:
        """Pending and sending notifications by id: id, state, kind, not_before, created_at."""
        columns = (
            notifications.c[name] for name in ("id", "state", "kind", "not_before", "created_at")
        )
        async with self.database.read() as connection:
            return list(
                await connection.execute(
                    select(*columns)
                    .where(
                        notifications.c.state.in_([S.PENDING, S.SENDING]),
                        notifications.c.id > after,
                    )
                    .order_by(notifications.c.id)
                    .limit(limit)
                )
            )

    async def lines(
        self, connection: AsyncConnection, ids: Collection[int]
    ) -> tuple[list[Row[Any]], list[Row[Any]]]:
        """(the lines of these notifications that weren't dropped, the records they speak of)."""
        lines: list[Row[Any]] = []
        for part in chunks(list(ids)):
            lines += await connection.execute(
                select(occurrences).where(
                    occurrences.c.notification_id.in_(part), occurrences.c.dropped.is_(None)
                )
            )
        found: list[Row[Any]] = []
        for part in chunks(sorted({line.record_id for line in lines})):
            found += await connection.execute(select(records).where(records.c.id.in_(part)))
        return lines, found

    async def cancel(self, ids: Collection[int], why: str, now: datetime) -> None:
        """Pending ones are cancelled; what was being sent is parked, its outcome unknown."""
        moves = ((S.PENDING, S.CANCELLED), (S.SENDING, S.PARKED))
        for part in chunks(list(ids)):
            async with self.database.write() as connection:
                await connection.execute(
                    update(attempts)
                    .where(attempts.c.notification_id.in_(part), attempts.c.ended_at.is_(None))
                    .values(ended_at=now, outcome=Outcome.UNKNOWN, reply=why)
                )
                for state, to in moves:
                    await connection.execute(
                        update(notifications)
                        .where(notifications.c.id.in_(part), notifications.c.state == state)
                        .values(
                            state=to,
                            reason=why,
                            lease_until=None,
                            fence=notifications.c.fence + 1,
                            changed_at=now,
                        )
                    )

    async def allow(self, epoch: str, home: str, by: str, reason: str, now: datetime) -> None:
        """Lets everything be sent again: a new epoch begins, and older marks count no more."""
        async with self.database.write() as connection:
            await connection.execute(delete(meta).where(meta.c.key.in_([REFUSAL, COPY])))
            for key, value in ((EPOCH, epoch), (HOME, home)):
                statement = insert(connection, meta).values(key=key, value=value)
                await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["key"], set_={"value": statement.excluded.value}
                    )
                )
            await connection.execute(
                insert(connection, audit).values(
                    at=now,
                    by=by[:80],
                    action="resume-after-restore",
                    target=f"epoch {epoch}",
                    reason=reason,
                )
            )
