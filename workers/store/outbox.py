"""Runs, notifications, occurrences and attempts: from planned to finished, without loss or repeats.

The row is the message. A worker claims rows under a lease with a fence, and commits the attempt
before the first byte leaves; a stale holder's writes are refused by the fence. Leases are
compared by the database's clock only; `now` is business time and comes from the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    and_,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import NotificationState, Outcome
from workers.store.attempts import Attempts, Claimed
from workers.store.engine import insert
from workers.store.lanes import Lanes
from workers.store.records import chunks
from workers.store.runs import Runs
from workers.store.tables import (
    attempts,
    notifications,
    occurrences,
    suppressions,
)

S = NotificationState


Sift = Callable[[AsyncConnection, Sequence[Claimed]], Awaitable[Mapping[int, tuple[datetime, str]]]]
"""Says which of the claimed must wait: id -> (until, in business time, and why)."""


class Outbox(Runs, Attempts):
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

    async def plan_all(
        self,
        connection: AsyncConnection,
        drafts: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
    ) -> int:
        """Writes many notifications, each with its occurrences; returns how many it made.

        As `plan` for each, in a few statements for all that go into no digest.
        """
        made = 0
        alone = []
        for notification, lines in drafts:
            if notification["digest_key"] is None:
                alone.append((notification, lines))
            else:
                made += await self.plan(connection, notification, lines)
        if not alone:
            return made
        written = await connection.execute(
            insert(connection, notifications).returning(notifications.c.uid, notifications.c.id),
            [notification for notification, _ in alone],
        )
        ids: dict[str, int] = {row.uid: row.id for row in written}
        told = await connection.execute(
            insert(connection, occurrences)
            .on_conflict_do_nothing()
            .returning(occurrences.c.notification_id),
            [
                {**line, "notification_id": ids[notification["uid"]]}
                for notification, lines in alone
                for line in lines
            ],
        )
        empty = set(ids.values()) - set(told.scalars())
        for part in chunks(empty):
            await connection.execute(notifications.delete().where(notifications.c.id.in_(part)))
        return made + len(ids) - len(empty)

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
                await self.put_off(connection, claimed, waits)
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
