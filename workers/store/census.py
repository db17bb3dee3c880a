"""What is due next and what was told, counted whole: for whoever drives the clock by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, literal, select, union_all

from workers.model import NotificationState
from workers.store.engine import Database
from workers.store.tables import notifications, occurrences, records


@dataclass(frozen=True, slots=True)
class Soonest:
    """When something is to be done next: by kind of record, and for what is planned to be sent."""

    due: dict[str, datetime]
    send: datetime | None


class Census:
    """Statements over all records and messages; each reads a whole table or index."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def soonest(self) -> Soonest:
        """The first instant at which each kind has a record due, and at which a message may go."""
        due = (
            select(records.c.kind, func.min(records.c.next_due_at))
            .where(records.c.state == "open", records.c.next_due_at.is_not(None))
            .group_by(records.c.kind)
        )
        send = select(literal(""), func.min(notifications.c.not_before)).where(
            notifications.c.state == NotificationState.PENDING
        )
        async with self.database.read() as connection:
            rows = await connection.execute(union_all(due, send))
            found: dict[str, datetime] = {row[0]: row[1] for row in rows if row[1] is not None}
        return Soonest(found, found.pop("", None))

    async def told(self) -> list[Row[Any]]:
        """Every line of a message that was accepted: its record, and what became of it.

        Columns: kind, ref, ladder, stage, channel, contact; accepted_at, address, in_digest.
        """
        statement = (
            select(
                records.c.kind,
                records.c.ref,
                occurrences.c.ladder,
                occurrences.c.stage,
                occurrences.c.channel,
                occurrences.c.contact,
                notifications.c.accepted_at,
                notifications.c.address,
                notifications.c.digest_key.is_not(None).label("in_digest"),
            )
            .join(notifications, notifications.c.id == occurrences.c.notification_id)
            .join(records, records.c.id == occurrences.c.record_id)
            .where(occurrences.c.dropped.is_(None), notifications.c.accepted_at.is_not(None))
        )
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def dropped(self) -> int:
        """How many lines were taken out of their messages because they had become moot."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(func.count())
                .select_from(occurrences)
                .where(occurrences.c.dropped.is_not(None))
            )
            return int(found.scalar_one())
