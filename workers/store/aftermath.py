"""What comes after a send: the sweep of what dead workers left, and receipts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers import traces
from workers.errors import UnavailableError
from workers.model import NotificationState, Outcome
from workers.providers import Report
from workers.store.engine import Database, insert
from workers.store.records import chunks
from workers.store.tables import Instant, attempts, notifications, receipts, suppressions

S = NotificationState


def database_now(database: Database, plus: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The database's own clock, plus a span."""
    seconds = plus.total_seconds()
    if database.dialect == "sqlite":
        form = "%Y-%m-%dT%H:%M:%f000Z"
        return literal_column(f"strftime('{form}', 'now', '{seconds:+.3f} seconds')", Instant)
    return literal_column(f"(clock_timestamp() + interval '{seconds:.3f} seconds')", Instant)


class Aftermath:
    """Statements on what is in flight or was accepted."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def _db_now(self, plus: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        return database_now(self.database, plus)

    async def sweep(
        self, repeatable: Collection[str], max_attempts: int, now: datetime
    ) -> tuple[int, int]:
        """Settles what dead workers left in flight; returns (to be sent again, parked).

        Their outcome is unknown. `repeatable` providers get the message again with the same id;
        for others, and for what has had `max_attempts`, it is parked until a receipt or a person
        says more.
        """
        again = and_(
            notifications.c.provider.in_(list(repeatable)),
            notifications.c.attempt_count < max_attempts,
        )
        async with self.database.write() as connection:
            rows = list(
                await connection.execute(
                    update(notifications)
                    .where(
                        notifications.c.state == S.SENDING,
                        notifications.c.lease_until < self._db_now(),
                    )
                    .values(
                        state=case((again, S.PENDING.value), else_=S.PARKED.value),
                        reason=case(
                            (again, ""),
                            else_="unknown outcome: the worker ended during the hand-over",
                        ),
                        lease_until=None,
                        fence=notifications.c.fence + 1,
                        changed_at=now,
                    )
                    .returning(notifications.c.id, notifications.c.state)
                )
            )
            for part in chunks([row.id for row in rows]):
                await connection.execute(
                    update(attempts)
                    .where(attempts.c.notification_id.in_(part), attempts.c.ended_at.is_(None))
                    .values(
                        ended_at=now,
                        outcome=Outcome.UNKNOWN,
                        reply="the worker ended before the reply came",
                    )
                )
        parked = sum(row.state == S.PARKED for row in rows)
        return len(rows) - parked, parked

    async def hold(self, connection: AsyncConnection, ids: Collection[int]) -> None:
        """Keeps everybody else from stopping what is written to these addresses, until the
        transaction's end; who has stopped it before that is waited for, and seen.

        Raises UnavailableError on a database that is older than it was: nothing may be begun there.
        """
        await connection.execute(_held(notifications.c.id.in_(ids)))
        if least := self.database.had_attempt:
            found = await connection.execute(
                select(attempts.c.id).where(attempts.c.id >= least).limit(1)
            )
            if found.first() is None:
                raise UnavailableError("the database is older than it was: nothing is begun")

    async def still_sending(self, fences: Mapping[int, int], lease: timedelta) -> set[int]:
        """Which of these (id -> fence) are in flight by this fence; their leases begin anew."""
        async with self.database.write() as connection:
            # Locked by id alone: a commit that is still under way is waited for.
            rows = await connection.execute(
                select(notifications.c.id, notifications.c.fence, notifications.c.state)
                .where(notifications.c.id.in_(fences))
                .order_by(notifications.c.id)
                .with_for_update()
            )
            found = {
                row.id for row in rows if row.state == S.SENDING and row.fence == fences[row.id]
            }
            await connection.execute(
                update(notifications)
                .where(notifications.c.id.in_(found))
                .values(lease_until=self._db_now(lease))
            )
        return found

    async def receive(self, provider: str, report: Report, now: datetime) -> bool:
        """Records a provider's later word; false when no notification fits it.

        The same report twice changes nothing. `delivered` counts once all parts are.
        """
        async with self.database.write() as connection:
            row = await self._reported(connection, provider, report)
            if row is None:
                return False
            with traces.span(
                "receipt",
                parent=row.traceparent,
                provider=provider,
                notification=row.uid,
                status=report.status,
            ):
                return await self._receive(connection, row, report, now)

    async def _receive(
        self, connection: AsyncConnection, row: Row[Any], report: Report, now: datetime
    ) -> bool:
        done = await connection.execute(
            insert(connection, receipts)
            .values(
                notification_id=row.id,
                status=report.status,
                detail=report.detail[:200],
                part=report.part,
                parts=report.parts,
                at=report.at or now,
            )
            .on_conflict_do_nothing()
            .returning(receipts.c.id)
        )
        if done.first() is not None:
            await self._apply(connection, row, report, now)
        return True

    async def _reported(
        self, connection: AsyncConnection, provider: str, report: Report
    ) -> Row[Any] | None:
        fits = and_(
            notifications.c.provider == provider,
            notifications.c.reference == report.reference,
        )
        if report.uid:
            fits = notifications.c.uid == report.uid
        found = await connection.execute(select(notifications).where(fits).with_for_update())
        return found.first()

    async def _apply(
        self, connection: AsyncConnection, row: Row[Any], report: Report, now: datetime
    ) -> None:
        state: NotificationState | None = None
        if report.status == "delivered":
            parts = await connection.execute(
                select(func.count(func.distinct(receipts.c.part))).where(
                    receipts.c.notification_id == row.id, receipts.c.status == "delivered"
                )
            )
            state = S.DELIVERED if parts.scalar_one() >= report.parts else None
        elif report.status in {"bounced", "complained"}:
            state = S.FAILED
        if report.address_is_bad or report.status == "complained":
            await add_suppression(
                connection, row.channel, row.address, "*", report.detail[:200], "receipt", now
            )
        # A parked message of unknown outcome is settled by the first report on it.
        settled = {S.ACCEPTED, S.DELIVERED, S.PARKED, S.SENDING}
        if state is not None and S(row.state) in settled and row.state != state:
            await connection.execute(
                update(notifications)
                .where(notifications.c.id == row.id)
                .values(
                    state=state,
                    reason="" if state is S.DELIVERED else report.detail[:200],
                    accepted_at=func.coalesce(notifications.c.accepted_at, now),
                    lease_until=None,
                    fence=notifications.c.fence + 1,
                    changed_at=now,
                )
            )
            # The report may be quicker than the reply to the hand-over.
            await connection.execute(
                update(attempts)
                .where(attempts.c.notification_id == row.id, attempts.c.ended_at.is_(None))
                .values(ended_at=now, outcome=Outcome.ACCEPTED, reply="reported before the reply")
            )


async def add_suppression(
    connection: AsyncConnection,
    channel: str,
    address: str,
    kind: str,
    reason: str,
    by: str,
    now: datetime,
) -> bool:
    """Stops writing to an address; false when it was stopped already.

    `kind` is a rule's, or "*" for everything. What is being committed to just now is waited for, so
    that by the order of commits nothing follows this one.
    """
    done = await connection.execute(
        insert(connection, suppressions)
        .values(channel=channel, address=address, kind=kind, reason=reason, by=by, created_at=now)
        .on_conflict_do_nothing()
        .returning(suppressions.c.id)
    )
    if done.first() is None:
        return False
    mine = and_(
        notifications.c.channel == channel,
        notifications.c.address == address,
        notifications.c.state == S.PENDING,
    )
    await connection.execute(_held(mine))
    return True


def _held(which: ColumnElement[bool]) -> Select[Any]:
    """Reads ids and keeps the rows until the transaction's end, on PostgreSQL; SQLite has one
    writer anyway. By id, so that two who hold the same don't wait for each other.
    """
    return (
        select(notifications.c.id)
        .where(which)
        .order_by(notifications.c.id)
        .with_for_update(key_share=True)
    )


def plain(text: str) -> str:
    """What both databases take as text: a reply mustn't keep others from being written."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
