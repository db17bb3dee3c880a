"""Runs, notifications, occurrences and attempts: from planned to finished, without loss or repeats.

The row is the message. A worker claims rows under a lease with a fence, and commits the attempt
before the first byte leaves; a stale holder's writes are refused by the fence. Leases are
compared by the database's clock only; `now` is business time and comes from the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    and_,
    bindparam,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import MOVES, NotificationState, Outcome
from workers.store.aftermath import Aftermath, add_suppression, plain
from workers.store.engine import insert
from workers.store.lanes import Lanes
from workers.store.records import chunks
from workers.store.runs import Runs
from workers.store.tables import (
    attempts,
    notifications,
    occurrences,
    records,
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
    """What came of one attempt, to be recorded. `again_at` (business time) only when deferred.

    `avoid` names the provider that was in trouble with it: it is tried last.
    """

    claimed: Claimed
    outcome: Outcome
    state: NotificationState
    reply: str
    reason: str = ""
    reference: str | None = None
    again_at: datetime | None = None
    address_is_bad: bool = False
    avoid: str | None = None


Sift = Callable[[AsyncConnection, Sequence[Claimed]], Awaitable[Mapping[int, tuple[datetime, str]]]]
"""Says which of the claimed must wait: id -> (until, in business time, and why)."""
Also = Callable[[AsyncConnection], Awaitable[None]]


class Outbox(Runs, Aftermath):
    """The ledger. Methods that take a connection join its transaction."""

    _turn = 0

    # --- plan -----------------------------------------------------------------------------

    async def plan(
        self,
        connection: AsyncConnection,
        notification: Mapping[str, Any],
        lines: Sequence[Mapping[str, Any]],
    ) -> bool:
        """Writes one notification with its occurrences; false when it made none.

        A stage that another scan told in the meantime is left out by the unique key. Where
        `digest_key` names a digest that is still to be sent, the lines go into that; one that has
        gone already is followed by another.
        """
        statement = insert(connection, notifications).values(**notification)
        made = await connection.execute(
            statement.on_conflict_do_nothing(index_elements=["digest_key"]).returning(
                notifications.c.id
            )
        )
        notification_id = made.scalar()
        if notification_id is None:
            there = await self._open_digest(connection, notification)
            if there is not None:
                await self._add_lines(connection, there, lines)
                return False
            return await self.plan(connection, {**notification, "digest_key": None}, lines)
        if await self._add_lines(connection, notification_id, lines):
            return True
        await connection.execute(
            notifications.delete().where(notifications.c.id == notification_id)
        )
        return False

    async def _open_digest(
        self, connection: AsyncConnection, notification: Mapping[str, Any]
    ) -> int | None:
        """The digest that lines may still be added to, locked; its links live as long as theirs."""
        found = await connection.execute(
            select(notifications.c.id)
            .where(
                notifications.c.digest_key == notification["digest_key"],
                notifications.c.state == S.PENDING,
                or_(
                    notifications.c.lease_until.is_(None),
                    notifications.c.lease_until < self._db_now(),
                ),
            )
            .with_for_update()
        )
        notification_id: int | None = found.scalar()
        if notification_id is not None:
            until = notification["link_until"]
            await connection.execute(
                update(notifications)
                .where(notifications.c.id == notification_id, notifications.c.link_until < until)
                .values(link_until=until)
            )
        return notification_id

    async def _add_lines(
        self, connection: AsyncConnection, notification_id: int, lines: Sequence[Mapping[str, Any]]
    ) -> bool:
        done = await connection.execute(
            insert(connection, occurrences)
            .values([{**line, "notification_id": notification_id} for line in lines])
            .on_conflict_do_nothing()
            .returning(occurrences.c.id)
        )
        return bool(done.fetchall())

    # --- claim ----------------------------------------------------------------------------

    async def claim(
        self,
        now: datetime,
        limit: int,
        lease: timedelta,
        channel: str | None = None,
        sift: Sift | None = None,
        known: Collection[str] | None = None,
    ) -> list[Claimed]:
        """Takes up to `limit` pending notifications under a lease: urgent ones first, then each
        rule its share, oldest first.

        Left alone: what another worker holds, what isn't to be sent yet, paused rules, kinds that
        aren't `known` (None: all are), and everything while sends are refused. `sift` says in the
        same transaction which of them must wait after all.
        """
        claimed: list[Claimed] = []
        async with self.database.write() as connection:
            for one in (channel,) if channel is not None else ("mail", "sms"):
                self._turn += 1
                lanes = Lanes(connection, self._db_now(), now, one, self._turn, known)
                ids = await lanes.next(limit - len(claimed))
                claimed += await self._take(connection, ids, lease)
            if sift is not None and claimed:
                waits = await sift(connection, claimed)
                await self.put_off_all(connection, claimed, waits)
                claimed = [one for one in claimed if one.id not in waits]
        return claimed

    async def _take(
        self, connection: AsyncConnection, ids: Sequence[int], lease: timedelta
    ) -> list[Claimed]:
        if not ids:
            return []
        rows = await connection.execute(
            update(notifications)
            .where(notifications.c.id.in_(ids))
            .values(lease_until=self._db_now(lease), fence=notifications.c.fence + 1)
            .returning(*notifications.c)
        )
        found = {row.id: Claimed(row, int(row.fence)) for row in rows}
        return [found[one] for one in ids]

    async def waiting(self, now: datetime, known: Collection[str] | None = None) -> list[str]:
        """The channels in which anything is to be claimed: a look that takes no write lock."""
        async with self.database.read() as connection:
            return [
                channel
                for channel in ("mail", "sms")
                if await Lanes(connection, self._db_now(), now, channel, known=known).any()
            ]

    async def unknown_last(self, connection: AsyncConnection, ids: Collection[int]) -> set[int]:
        """Which of these notifications had a last attempt of unknown outcome."""
        found = await connection.execute(
            select(notifications.c.id)
            .join(
                attempts,
                and_(
                    attempts.c.notification_id == notifications.c.id,
                    attempts.c.number == notifications.c.attempt_count,
                ),
            )
            .where(notifications.c.id.in_(ids), attempts.c.outcome == Outcome.UNKNOWN)
        )
        return set(found.scalars())

    async def renew(self, held: Collection[Claimed], lease: timedelta) -> None:
        """Extends the leases of what is still in our hands, by the fence."""
        if not held:
            return
        async with self.database.write() as connection:
            for part in chunks(held):
                fences = {one.id: one.fence for one in part}
                # What is being begun or finished just now is left to whoever does that: waiting for
                # some while others are locked already would be a deadlock with them.
                found = await connection.execute(
                    select(notifications.c.id, notifications.c.fence)
                    .where(
                        notifications.c.id.in_(fences),
                        notifications.c.state.in_([S.PENDING, S.SENDING]),
                    )
                    .with_for_update(skip_locked=True)
                )
                mine = [row.id for row in found if row.fence == fences[row.id]]
                await connection.execute(
                    update(notifications)
                    .where(notifications.c.id.in_(mine))
                    .values(lease_until=self._db_now(lease))
                )

    async def lines_of(
        self, connection: AsyncConnection, ids: Collection[int]
    ) -> dict[int, list[Row[Any]]]:
        """The occurrences of these notifications that weren't dropped, by notification."""
        found: dict[int, list[Row[Any]]] = {}
        for part in chunks(ids):
            rows = await connection.execute(
                select(occurrences)
                .where(occurrences.c.notification_id.in_(part))
                .order_by(occurrences.c.id)
            )
            for row in rows:
                # Asked for in SQL, PostgreSQL would read all of the partial index that says so,
                # wherever statistics are behind a sudden backlog.
                if row.dropped is None:
                    found.setdefault(row.notification_id, []).append(row)
        return found

    async def suppressed(
        self, connection: AsyncConnection, addresses: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str, str], str]:
        """Why these addresses aren't written to: (channel, address, kind) -> reason."""
        found: dict[tuple[str, str, str], str] = {}
        for part in chunks({address for _, address in addresses}):
            rows = await connection.execute(
                select(suppressions).where(suppressions.c.address.in_(part))
            )
            found.update({(row.channel, row.address, row.kind): row.reason for row in rows})
        return found

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

    async def put_off_all(
        self,
        connection: AsyncConnection,
        claimed: Collection[Claimed],
        waits: Mapping[int, tuple[datetime, str]],
    ) -> None:
        """Gives back those of the claimed that wait: id -> (until, why)."""
        writes = [
            {"one": one.id, "held": one.fence, "until": waits[one.id][0], "why": waits[one.id][1]}
            for one in claimed
            if one.id in waits
        ]
        if not writes:
            return
        await connection.execute(
            update(notifications)
            .where(
                notifications.c.id == bindparam("one"),
                notifications.c.fence == bindparam("held"),
                notifications.c.state == S.PENDING,
            )
            .values(
                lease_until=None,
                not_before=bindparam("until", type_=notifications.c.not_before.type),
                reason=bindparam("why"),
            ),
            writes,
        )

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

    async def finish(
        self, finished: Sequence[Finished], now: datetime, also: Also | None = None
    ) -> int:
        """Records what came of attempts; returns how many were refused by the fence.

        `also` writes what follows from them, in the same transaction.
        """
        refused = 0
        async with self.database.write() as connection:
            for one in finished:
                refused += not await self._finish(connection, one, now)
            if also is not None:
                await also(connection)
        return refused

    async def _finish(self, connection: AsyncConnection, one: Finished, now: datetime) -> bool:
        _check(S.SENDING, one.state)
        reply = plain(one.reply)
        values: dict[str, Any] = {
            "state": one.state,
            "reason": plain(one.reason),
            "changed_at": now,
            "avoid": one.avoid,
        }
        if one.state is S.ACCEPTED:
            values |= {"accepted_at": now, "reference": plain(one.reference or "")[:200] or None}
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
            await add_suppression(
                connection,
                row.channel,
                row.address,
                "*",
                f"refused: {reply[:200]}",
                "provider",
                now,
            )
        return True


def _check(before: NotificationState, after: NotificationState) -> None:
    if after not in MOVES[before]:
        raise ValueError(f"a notification can't move from {before} to {after}")
