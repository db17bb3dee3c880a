"""Runs, notifications, occurrences and attempts: from planned to finished, without loss or repeats.

The row is the message. A worker claims rows under a lease with a fence, and commits the attempt
before the first byte leaves; a stale holder's writes are refused by the fence. Leases are
compared by the database's clock only; `now` is business time and comes from the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import MOVES, NotificationState, Outcome
from workers.providers import Report
from workers.store.engine import Database, insert
from workers.store.records import chunks
from workers.store.tables import (
    Instant,
    attempts,
    notifications,
    occurrences,
    pauses,
    receipts,
    records,
    runs,
    suppressions,
)

S = NotificationState


@dataclass(frozen=True, slots=True)
class Claimed:
    """A notification in our hands, and the fence that proves it."""

    row: Row[Any]
    fence: int

    @property
    def id(self) -> int:
        """The notification's id."""
        return int(self.row.id)


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of one attempt, to be recorded. `again_at` (business time) only when deferred."""

    claimed: Claimed
    outcome: Outcome
    state: NotificationState
    reply: str
    reason: str = ""
    reference: str | None = None
    again_at: datetime | None = None
    address_is_bad: bool = False


class Outbox:
    """The ledger. Methods that take a connection join its transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def _db_now(self, plus: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        """The database's own clock, plus a span."""
        seconds = plus.total_seconds()
        if self.database.dialect == "sqlite":
            form = "%Y-%m-%dT%H:%M:%f000Z"
            return literal_column(f"strftime('{form}', 'now', '{seconds:+.3f} seconds')", Instant)
        return literal_column(f"(clock_timestamp() + interval '{seconds:.3f} seconds')", Instant)

    # --- runs -----------------------------------------------------------------------------

    async def start_run(
        self, kind: str, fire_at: datetime, trigger: str, now: datetime, missed: int = 0
    ) -> int | None:
        """Records a firing; None when a clock's firing for this time is there already."""
        async with self.database.write() as connection:
            statement = insert(connection, runs).values(
                kind=kind, fire_at=fire_at, trigger=trigger, started_at=now, missed=missed
            )
            done = await connection.execute(
                statement.on_conflict_do_nothing().returning(runs.c.id)
            )
            found = done.scalar()
            return None if found is None else int(found)

    async def last_firing(self, kind: str) -> datetime | None:
        """The latest fire time of a rule's clock runs."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(func.max(runs.c.fire_at)).where(
                    runs.c.kind == kind, runs.c.trigger == "clock"
                )
            )
            value = found.scalar()
            return value if isinstance(value, datetime) or value is None else None

    async def count_run(
        self, connection: AsyncConnection, run_id: int, looked_at: int, planned: int, held: int
    ) -> None:
        """Adds a batch's counts to its run, in the batch's own transaction."""
        await connection.execute(
            update(runs)
            .where(runs.c.id == run_id)
            .values(
                looked_at=runs.c.looked_at + looked_at,
                planned=runs.c.planned + planned,
                held=runs.c.held + held,
            )
        )

    async def finish_run(self, run_id: int, now: datetime) -> None:
        """Marks a run as done."""
        async with self.database.write() as connection:
            await connection.execute(
                update(runs).where(runs.c.id == run_id).values(finished_at=now)
            )

    # --- plan -----------------------------------------------------------------------------

    async def plan(
        self,
        connection: AsyncConnection,
        notification: Mapping[str, Any],
        lines: Sequence[Mapping[str, Any]],
    ) -> bool:
        """Writes one notification with its occurrences; false when all of them are told already.

        A stage that another scan told in the meantime is left out by the unique key.
        """
        made = await connection.execute(
            insert(connection, notifications).values(**notification).returning(notifications.c.id)
        )
        notification_id = made.scalar_one()
        done = await connection.execute(
            insert(connection, occurrences)
            .values([{**line, "notification_id": notification_id} for line in lines])
            .on_conflict_do_nothing()
            .returning(occurrences.c.id)
        )
        if done.fetchall():
            return True
        await connection.execute(
            notifications.delete().where(notifications.c.id == notification_id)
        )
        return False

    # --- claim ----------------------------------------------------------------------------

    async def claim(
        self, now: datetime, limit: int, lease: timedelta, channel: str | None = None
    ) -> list[Claimed]:
        """Takes up to `limit` pending notifications, urgent and oldest first, under a lease.

        Left alone: what another worker holds, what isn't to be sent yet, and paused rules.
        """
        wanted = [
            notifications.c.state == S.PENDING,
            notifications.c.not_before <= now,
            or_(
                notifications.c.lease_until.is_(None),
                notifications.c.lease_until < self._db_now(),
            ),
            not_(exists().where(pauses.c.kind == notifications.c.kind)),
        ]
        if channel is not None:
            wanted.append(notifications.c.channel == channel)
        chosen = (
            select(notifications.c.id)
            .where(*wanted)
            .order_by(notifications.c.urgent.desc(), notifications.c.not_before)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self.database.write() as connection:
            rows = await connection.execute(
                update(notifications)
                .where(notifications.c.id.in_(chosen))
                .values(
                    lease_until=self._db_now(lease),
                    fence=notifications.c.fence + 1,
                )
                .returning(*notifications.c)
            )
            claimed = [Claimed(row, int(row.fence)) for row in rows]
        return sorted(claimed, key=lambda one: (not one.row.urgent, one.row.not_before))

    async def waiting(self, now: datetime) -> bool:
        """Whether anything is to be claimed: a cheap look that takes no write lock."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(notifications.c.id)
                .where(notifications.c.state == S.PENDING, notifications.c.not_before <= now)
                .limit(1)
            )
            return found.first() is not None

    async def renew(self, held: Collection[Claimed], lease: timedelta) -> None:
        """Extends the leases of what is still in our hands, by the fence."""
        statement = (
            update(notifications)
            .where(
                notifications.c.id == bindparam("b_id"),
                notifications.c.fence == bindparam("b_fence"),
                notifications.c.state.in_([S.PENDING, S.SENDING]),
            )
            .values(lease_until=self._db_now(lease))
        )
        async with self.database.write() as connection:
            for part in chunks(held):
                await connection.execute(
                    statement, [{"b_id": one.id, "b_fence": one.fence} for one in part]
                )

    async def lines_of(
        self, connection: AsyncConnection, ids: Collection[int]
    ) -> dict[int, list[Row[Any]]]:
        """The occurrences of these notifications that weren't dropped, by notification."""
        found: dict[int, list[Row[Any]]] = {}
        for part in chunks(ids):
            rows = await connection.execute(
                select(occurrences)
                .where(occurrences.c.notification_id.in_(part), occurrences.c.dropped.is_(None))
                .order_by(occurrences.c.id)
            )
            for row in rows:
                found.setdefault(row.notification_id, []).append(row)
        return found

    async def suppressed(
        self, connection: AsyncConnection, addresses: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str, str], str]:
        """Why these (channel, address) pairs aren't written to: (channel, address, kind) -> reason."""
        found: dict[tuple[str, str, str], str] = {}
        for part in chunks({address for _, address in addresses}):
            rows = await connection.execute(
                select(suppressions).where(suppressions.c.address.in_(part))
            )
            found.update({(row.channel, row.address, row.kind): row.reason for row in rows})
        return found

    async def sent_since(
        self, connection: AsyncConnection, channel: str, address: str, since: datetime
    ) -> int:
        """How many messages the address was sent, or is being sent, by the channel since then."""
        found = await connection.execute(
            select(func.count())
            .select_from(notifications)
            .where(
                notifications.c.channel == channel,
                notifications.c.address == address,
                or_(
                    notifications.c.accepted_at >= since,
                    and_(
                        notifications.c.state == S.SENDING, notifications.c.changed_at >= since
                    ),
                ),
            )
        )
        return int(found.scalar_one())

    # --- begin ----------------------------------------------------------------------------

    async def drop(
        self, connection: AsyncConnection, dropped: Mapping[int, str], now: datetime
    ) -> None:
        """Takes moot lines (occurrence id -> why) out of their notifications.

        Their records are looked at again, so that a stage that was only put off is told later.
        """
        for occurrence_id, why in dropped.items():
            await connection.execute(
                update(occurrences).where(occurrences.c.id == occurrence_id).values(dropped=why)
            )
        for part in chunks(list(dropped)):
            mine = select(occurrences.c.record_id).where(occurrences.c.id.in_(part))
            await connection.execute(
                update(records)
                .where(records.c.id.in_(mine), records.c.state == "open")
                .values(next_due_at=now)
            )

    async def settle(
        self,
        connection: AsyncConnection,
        claimed: Claimed,
        state: NotificationState,
        reason: str,
        now: datetime,
    ) -> bool:
        """Moves a claimed, pending notification to an end or to parked, without an attempt."""
        _check(S.PENDING, state)
        return await self._fenced(
            connection, claimed, S.PENDING, state=state, reason=reason, changed_at=now
        )

    async def put_off(
        self, connection: AsyncConnection, claimed: Claimed, until: datetime, why: str
    ) -> bool:
        """Gives a claimed notification back, not to be sent before `until`."""
        return await self._fenced(connection, claimed, S.PENDING, not_before=until, reason=why)

    async def begin(
        self,
        connection: AsyncConnection,
        claimed: Claimed,
        provider: str,
        revisions: Mapping[int, int],
        lease: timedelta,
        now: datetime,
    ) -> bool:
        """Commits to sending: the attempt is written before the first byte leaves.

        False when the lease was lost, or one of the records (id -> revision as rendered) changed
        in the meantime: then look again. The lease begins anew, so that no sweep takes for dead
        what begins late.
        """
        fresh = await connection.execute(
            select(records.c.id, records.c.revision)
            .where(records.c.id.in_(list(revisions)))
            .with_for_update(read=True)
        )
        if {row.id: row.revision for row in fresh} != dict(revisions):
            return False
        number = claimed.row.attempt_count + 1
        ours = await self._fenced(
            connection,
            claimed,
            S.PENDING,
            lease_until=self._db_now(lease),
            state=S.SENDING,
            attempt_count=number,
            provider=provider,
            reason="",
            changed_at=now,
        )
        if ours:
            await connection.execute(
                insert(connection, attempts).values(
                    notification_id=claimed.id,
                    number=number,
                    fence=claimed.fence,
                    provider=provider,
                    began_at=now,
                )
            )
        return ours

    async def _fenced(
        self,
        connection: AsyncConnection,
        claimed: Claimed,
        expected: NotificationState,
        **values: Any,
    ) -> bool:
        values.setdefault("lease_until", None)
        done = await connection.execute(
            update(notifications)
            .where(
                notifications.c.id == claimed.id,
                notifications.c.fence == claimed.fence,
                notifications.c.state == expected,
            )
            .values(**values)
        )
        return done.rowcount == 1

    # --- finish ---------------------------------------------------------------------------

    async def finish(self, finished: Sequence[Finished], now: datetime) -> int:
        """Records what came of attempts; returns how many were refused by the fence."""
        refused = 0
        async with self.database.write() as connection:
            for one in finished:
                refused += not await self._finish(connection, one, now)
        return refused

    async def _finish(self, connection: AsyncConnection, one: Finished, now: datetime) -> bool:
        _check(S.SENDING, one.state)
        reply = _plain(one.reply)
        values: dict[str, Any] = {
            "state": one.state,
            "reason": _plain(one.reason),
            "changed_at": now,
        }
        if one.state is S.ACCEPTED:
            values |= {"accepted_at": now, "reference": _plain(one.reference or "")[:200] or None}
        if one.again_at is not None:
            values["not_before"] = one.again_at
        if not await self._fenced(connection, one.claimed, S.SENDING, **values):
            return False
        await connection.execute(
            update(attempts)
            .where(
                attempts.c.notification_id == one.claimed.id,
                attempts.c.fence == one.claimed.fence,
                attempts.c.ended_at.is_(None),
            )
            .values(ended_at=now, outcome=one.outcome, reply=reply[:500])
        )
        if one.address_is_bad:
            row = one.claimed.row
            await self.suppress(
                connection, row.channel, row.address, "*", f"refused: {reply[:200]}", "provider", now
            )
        return True

    async def suppress(
        self,
        connection: AsyncConnection,
        channel: str,
        address: str,
        kind: str,
        reason: str,
        by: str,
        now: datetime,
    ) -> bool:
        """Stops writing to an address; false when it was stopped already."""
        done = await connection.execute(
            insert(connection, suppressions)
            .values(
                channel=channel, address=address, kind=kind, reason=reason, by=by, created_at=now
            )
            .on_conflict_do_nothing()
            .returning(suppressions.c.id)
        )
        return done.first() is not None

    # --- sweep and receipts ---------------------------------------------------------------

    async def sweep(self, repeatable: Collection[str], now: datetime) -> tuple[int, int]:
        """Settles what dead workers left in flight; returns (to be sent again, parked).

        Their outcome is unknown. `repeatable` providers get the message again with the same id;
        for others it is parked until a receipt or a person says more.
        """
        again = notifications.c.provider.in_(list(repeatable))
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
                            else_="unknown outcome: the worker ended while it was being handed over",
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

    async def receive(self, provider: str, report: Report, now: datetime) -> bool:
        """Records a provider's later word; false when no notification fits it.

        The same report twice changes nothing. `delivered` counts once all parts are.
        """
        async with self.database.write() as connection:
            row = await self._reported(connection, provider, report)
            if row is None:
                return False
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
            await self.suppress(
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


def _plain(text: str) -> str:
    """What both databases take as text: a provider's word mustn't keep others from being written."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _check(before: NotificationState, after: NotificationState) -> None:
    if after not in MOVES[before]:
        raise ValueError(f"a notification can't move from {before} to {after}")


