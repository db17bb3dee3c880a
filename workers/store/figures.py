"""What is counted for a partner's month: customers, spend, and what was sent and led to what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, distinct, func, select, union

from schedules.people import CustomerData, SpendData
from workers.model import NotificationState
from workers.store.engine import Database
from workers.store.records import chunks
from workers.store.tables import customers, notifications, occurrences, records, spends

_SENT = (NotificationState.ACCEPTED.value, NotificationState.DELIVERED.value)


@dataclass(frozen=True, slots=True)
class Reminded:
    """One stage of one record that was told: when first, and when the record was done with."""

    kind: str
    stage: str
    at: datetime
    closed_at: datetime | None


class FigureStore:
    """Statements that only read; each is one transaction. Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def customers(self, partner: str) -> list[CustomerData]:
        """All that ever were customers of the partner, by ref."""
        statement = select(customers.c.data).where(customers.c.partner == partner)
        async with self.database.read() as connection:
            found = await connection.execute(statement.order_by(customers.c.ref))
            return [CustomerData.model_validate(data) for data in found.scalars()]

    async def spends(self, partner: str, first: str, last: str) -> list[SpendData]:
        """What the partner's customers spent in the months `first` to `last` (`2026-10`)."""
        month = spends.c.data["month"].as_string()
        statement = select(spends.c.data).where(
            spends.c.partner == partner, month >= first, month <= last
        )
        async with self.database.read() as connection:
            found = await connection.execute(statement.order_by(spends.c.ref))
            return [SpendData.model_validate(data) for data in found.scalars()]

    async def reminded(
        self, partner: str, since: datetime, until: datetime, *, but: str
    ) -> list[Reminded]:
        """The stages of the partner's records told from `since` on and before `until`.

        A stage told to several people or by two channels counts once, from the first. Records of
        the kind `but` are left out.
        """
        first = func.min(notifications.c.accepted_at)
        statement = (
            _sent(select(records.c.kind, occurrences.c.stage, first, records.c.closed_at))
            .where(_within(since, until), records.c.partner == partner, records.c.kind != but)
            .group_by(
                records.c.id,
                records.c.kind,
                records.c.closed_at,
                occurrences.c.ladder,
                occurrences.c.stage,
            )
        )
        async with self.database.read() as connection:
            return [Reminded(*row) for row in await connection.execute(statement)]

    async def sent(
        self, partner: str, since: datetime, until: datetime, *, but: str
    ) -> Mapping[str, int]:
        """How many messages on the partner's records were sent, by channel."""
        statement = (
            _sent(select(notifications.c.channel, func.count(distinct(notifications.c.id))))
            .where(_within(since, until), records.c.partner == partner, records.c.kind != but)
            .group_by(notifications.c.channel)
        )
        async with self.database.read() as connection:
            return {row[0]: row[1] for row in await connection.execute(statement)}

    async def partners(self, since: datetime, until: datetime, *, but: str) -> list[str]:
        """The partners that have customers, or records told of in the time, by ref."""
        told = _sent(select(records.c.partner)).where(_within(since, until), records.c.kind != but)
        async with self.database.read() as connection:
            found = await connection.execute(union(select(customers.c.partner), told))
            return sorted(found.scalars())

    async def present(self, kind: str, refs: Collection[str], since: datetime) -> set[str]:
        """Which of these records of a kind are there already, opened from `since` on."""
        found: set[str] = set()
        async with self.database.read() as connection:
            for part in chunks(refs):
                rows = await connection.execute(
                    select(records.c.ref).where(
                        records.c.kind == kind,
                        records.c.ref.in_(part),
                        records.c.opened_at >= since,
                    )
                )
                found.update(rows.scalars())
        return found


def _sent(statement: Select[Any]) -> Select[Any]:
    return statement.select_from(
        occurrences.join(records, records.c.id == occurrences.c.record_id).join(
            notifications, notifications.c.id == occurrences.c.notification_id
        )
    ).where(occurrences.c.dropped.is_(None), notifications.c.state.in_(_SENT))


def _within(since: datetime, until: datetime) -> ColumnElement[bool]:
    return and_(notifications.c.accepted_at >= since, notifications.c.accepted_at < until)
