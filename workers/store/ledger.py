"""Counting: what stands where, what waits for somebody, and the proof that the ledger adds up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, exists, func, not_, or_, select

from workers.model import NotificationState, Outcome
from workers.store.engine import Database
from workers.store.tables import attempts, notifications, occurrences, receipts, records, runs

S = NotificationState


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
        checks: list[tuple[str, Select[Any], str]] = [
            (
                "every notification is in one of the eight states",
                select(func.count())
                .select_from(notifications)
                .where(notifications.c.state.not_in([state.value for state in S])),
                "duewatch list",
            ),
            (
                "every run planned as many notifications as there are of it",
                select(func.count()).select_from(
                    select(runs.c.id)
                    .outerjoin(notifications, notifications.c.run_id == runs.c.id)
                    .group_by(runs.c.id, runs.c.planned)
                    .having(func.count(notifications.c.id) != runs.c.planned)
                    .subquery()
                ),
                "a run's count and its notifications differ",
            ),
            (
                "every stage is told at most once per record, contact and channel",
                select(func.count()).select_from(
                    select(occurrences.c.record_id)
                    .where(occurrences.c.dropped.is_(None))
                    .group_by(
                        occurrences.c.record_id,
                        occurrences.c.ladder,
                        occurrences.c.stage,
                        occurrences.c.channel,
                        occurrences.c.contact,
                    )
                    .having(func.count() > 1)
                    .subquery()
                ),
                "the unique key is missing: duewatch migrate",
            ),
            (
                "everything accepted has an accepted attempt or a receipt",
                select(func.count())
                .select_from(notifications)
                .where(
                    notifications.c.state.in_([S.ACCEPTED, S.DELIVERED]),
                    not_(
                        exists().where(
                            attempts.c.notification_id == notifications.c.id,
                            attempts.c.outcome == Outcome.ACCEPTED,
                        )
                    ),
                    not_(exists().where(receipts.c.notification_id == notifications.c.id)),
                ),
                "duewatch list --state accepted",
            ),
            (
                "nothing pending, cancelled or suppressed counts as accepted",
                select(func.count())
                .select_from(notifications)
                .where(
                    notifications.c.state.in_([S.CANCELLED, S.SUPPRESSED]),
                    exists().where(
                        attempts.c.notification_id == notifications.c.id,
                        attempts.c.outcome == Outcome.ACCEPTED,
                    ),
                ),
                "duewatch list --state cancelled",
            ),
            (
                "everything being sent has an open attempt",
                select(func.count())
                .select_from(notifications)
                .where(
                    notifications.c.state == S.SENDING,
                    not_(
                        exists().where(
                            attempts.c.notification_id == notifications.c.id,
                            attempts.c.ended_at.is_(None),
                        )
                    ),
                ),
                "duewatch list --state sending",
            ),
            (
                "everything waiting to be sent still says something",
                select(func.count())
                .select_from(notifications)
                .where(
                    notifications.c.state == S.PENDING,
                    not_(
                        exists().where(
                            occurrences.c.notification_id == notifications.c.id,
                            occurrences.c.dropped.is_(None),
                        )
                    ),
                ),
                "duewatch list --state pending",
            ),
        ]
        async with self.database.read() as connection:
            return [
                (what, int((await connection.execute(statement)).scalar_one()), where)
                for what, statement, where in checks
            ]

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
            return {
                "held records": await number(held),
                "parked": await number(having(S.PARKED)),
                "failed": await number(having(S.FAILED)),
                "unknown": await number(unknown),
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
