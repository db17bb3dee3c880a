"""What ops people list, pause, suppress and repair."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.errors import InputError, StateError, UnknownThingError
from workers.model import MOVES, NotificationState
from workers.store.aftermath import add_suppression
from workers.store.engine import insert
from workers.store.ledger import Ledger, last_outcome_unknown
from workers.store.records import chunks
from workers.store.tables import (
    attempts,
    audit,
    events,
    inbox,
    notifications,
    occurrences,
    pauses,
    receipts,
    records,
    runs,
    suppressions,
)

S = NotificationState
DIVERTED_FROM = frozenset({S.FAILED, S.SUPPRESSED, S.PARKED, S.ACCEPTED, S.DELIVERED})
"""States from which a person may have a notification sent to another address."""
UNKNOWN = "unknown"
"""A filter, not a state: the last attempt's outcome isn't known."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One notification with all that belongs to it."""

    row: Row[Any]
    lines: Sequence[Row[Any]]
    attempts: Sequence[Row[Any]]
    receipts: Sequence[Row[Any]]


class Operations(Ledger):
    """Statements for people; whatever changes something writes the audit in its transaction."""

    async def note(
        self,
        connection: AsyncConnection,
        by: str,
        action: str,
        target: str,
        reason: str,
        now: datetime,
    ) -> None:
        """Appends to the audit log."""
        await connection.execute(
            insert(connection, audit).values(
                at=now, by=by, action=action, target=target, reason=reason
            )
        )

    # --- notifications --------------------------------------------------------------------

    async def notifications(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        channel: str | None = None,
        address: str | None = None,
        contact: str | None = None,
        text: str | None = None,
        record_id: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Row[Any]]:
        """Notifications, newest first; `before` is the last id seen. `state` may be "unknown".

        `text` is part of the recipient's name or address.
        It was planned from `since` up to, not including, `until`.
        """
        statement: Select[Any] = select(
            notifications,
            select(func.count())
            .select_from(occurrences)
            .where(
                occurrences.c.notification_id == notifications.c.id,
                occurrences.c.dropped.is_(None),
            )
            .scalar_subquery()
            .label("line_count"),
        )
        if state == UNKNOWN:
            statement = statement.where(last_outcome_unknown())
        elif state is not None:
            statement = statement.where(notifications.c.state == state)
        for column, value in (
            (notifications.c.kind, kind),
            (notifications.c.channel, channel),
            (notifications.c.address, address),
            (notifications.c.contact, contact),
        ):
            if value is not None:
                statement = statement.where(column == value)
        if text is not None:
            who = (notifications.c.name, notifications.c.address)
            statement = statement.where(or_(*(c.icontains(text, autoescape=True) for c in who)))
        if since is not None:
            statement = statement.where(notifications.c.created_at >= since)
        if until is not None:
            statement = statement.where(notifications.c.created_at < until)
        if before is not None:
            statement = statement.where(notifications.c.id < before)
        if record_id is not None:
            statement = statement.where(
                exists().where(
                    occurrences.c.notification_id == notifications.c.id,
                    occurrences.c.record_id == record_id,
                )
            )
        async with self.database.read() as connection:
            return list(
                await connection.execute(statement.order_by(notifications.c.id.desc()).limit(limit))
            )

    async def whole(self, uid: str) -> Whole:
        """One notification by its id or uid (or the uid's first 8 characters at least).

        Raises UnknownThingError, or InputError when the beginning fits several.
        """
        fits = notifications.c.uid == uid
        if uid.isdigit() and len(uid) < 12:
            fits = notifications.c.id == int(uid)
        elif 8 <= len(uid) < 32:
            fits = notifications.c.uid.startswith(uid, autoescape=True)
        async with self.database.read() as connection:
            rows = list(await connection.execute(select(notifications).where(fits).limit(2)))
            if not rows:
                raise UnknownThingError(f"there is no notification {uid}: see duewatch list")
            if len(rows) > 1:
                raise InputError(f"several notifications begin with {uid}: give more of it")
            row = rows[0]

            async def of(table: Any, order: Any) -> list[Row[Any]]:
                return list(
                    await connection.execute(
                        select(table).where(table.c.notification_id == row.id).order_by(order)
                    )
                )

            lines = await connection.execute(
                select(
                    occurrences,
                    records.c.ref,
                    records.c.kind,
                    records.c.state.label("record_state"),
                )
                .join(records, records.c.id == occurrences.c.record_id)
                .where(occurrences.c.notification_id == row.id)
                .order_by(occurrences.c.id)
            )
            return Whole(
                row,
                list(lines),
                await of(attempts, attempts.c.number),
                await of(receipts, receipts.c.id),
            )

    async def history(self, record_id: int) -> list[Row[Any]]:
        """What a record's people were told: each occurrence with its notification's end."""
        last = (
            select(attempts.c.reply)
            .where(
                attempts.c.notification_id == notifications.c.id,
                attempts.c.number == notifications.c.attempt_count,
            )
            .scalar_subquery()
        )
        statement = (
            select(
                occurrences.c.stage,
                occurrences.c.channel,
                occurrences.c.contact,
                occurrences.c.ladder,
                occurrences.c.dropped,
                notifications.c.uid,
                notifications.c.state,
                notifications.c.reason,
                notifications.c.created_at,
                notifications.c.accepted_at,
                notifications.c.not_before,
                last.label("reply"),
            )
            .join(notifications, notifications.c.id == occurrences.c.notification_id)
            .where(occurrences.c.record_id == record_id)
            .order_by(occurrences.c.id)
        )
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def move(
        self,
        uid: str,
        to: NotificationState,
        by: str,
        action: str,
        reason: str,
        now: datetime,
        not_before: datetime | None = None,
    ) -> Row[Any]:
        """An operator's move: retry and release to pending, cancel to cancelled, undo back.

        Raises UnknownThingError, and StateError when the move isn't legal from where it stands.
        """
        found = (await self.whole(uid)).row
        async with self.database.write() as connection:
            row = (
                await connection.execute(
                    select(notifications).where(notifications.c.id == found.id).with_for_update()
                )
            ).one()
            if to not in MOVES[S(row.state)] or row.state == S.SENDING:
                raise StateError(
                    f"notification {row.uid[:8]} is {row.state}: it can't be moved to {to}"
                )
            await connection.execute(
                update(notifications)
                .where(notifications.c.id == row.id)
                .values(
                    state=to,
                    reason="" if to is S.PENDING else reason,
                    not_before=not_before or now,
                    lease_until=None,
                    # A worker that claimed it a moment ago must not begin.
                    fence=notifications.c.fence + 1,
                    changed_at=now,
                )
            )
            await self.note(connection, by, action, f"notification {row.uid}", reason, now)
            return row

    async def divert(self, uid: str, address: str, by: str, reason: str, now: datetime) -> Row[Any]:
        """Has a notification sent, or sent again, to another address; returns it as it was.

        Raises UnknownThingError, and StateError while it may still go to the first one.
        """
        found = (await self.whole(uid)).row
        async with self.database.write() as connection:
            row = (
                await connection.execute(
                    select(notifications).where(notifications.c.id == found.id).with_for_update()
                )
            ).one()
            if S(row.state) not in DIVERTED_FROM:
                raise StateError(
                    f"notification {row.uid[:8]} is {row.state}: it can be sent elsewhere once it "
                    f"is {', '.join(sorted(DIVERTED_FROM))}"
                )
            await connection.execute(
                update(notifications)
                .where(notifications.c.id == row.id)
                .values(
                    state=S.PENDING,
                    address=address,
                    diverted=True,
                    reason="",
                    not_before=now,
                    lease_until=None,
                    fence=notifications.c.fence + 1,
                    # A late report on the first one says nothing of this one.
                    reference=None,
                    accepted_at=None,
                    avoid=None,
                    changed_at=now,
                )
            )
            await self.note(connection, by, "resend", f"notification {row.uid}", reason, now)
            return row

    async def kept(self, limit: int = 200, before: int | None = None) -> list[Row[Any]]:
        """What the local inbox keeps, newest first, without the sources."""
        columns = [column for column in inbox.c if column.name != "source"]
        statement = select(*columns).order_by(inbox.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(inbox.c.id < before)
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def kept_one(self, uid: str) -> Row[Any]:
        """One message of the local inbox. Raises UnknownThingError."""
        async with self.database.read() as connection:
            found = await connection.execute(select(inbox).where(inbox.c.uid == uid))
            row = found.first()
        if row is None:
            raise UnknownThingError(f"the inbox keeps no message {uid}")
        return row

    async def keep(
        self, uid: str, channel: str, recipient: str, subject: str, source: bytes, now: datetime
    ) -> None:
        """Puts a message into the local inbox; the same uid twice is kept once."""
        async with self.database.write() as connection:
            await connection.execute(
                insert(connection, inbox)
                .values(
                    uid=uid,
                    channel=channel,
                    recipient=recipient,
                    subject=subject,
                    source=source,
                    kept_at=now,
                )
                .on_conflict_do_nothing()
            )

    async def kept_count(self) -> dict[str, int]:
        """How many messages the local inbox keeps, by channel."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(inbox.c.channel, func.count()).group_by(inbox.c.channel)
            )
            return {row[0]: row[1] for row in rows}

    # --- rules, records, suppressions -----------------------------------------------------

    async def pause(self, kind: str, by: str, reason: str, now: datetime) -> None:
        """Stops scans and sends of a rule. Raises StateError when it is paused already."""
        async with self.database.write() as connection:
            done = await connection.execute(
                insert(connection, pauses)
                .values(kind=kind, reason=reason, by=by, created_at=now)
                .on_conflict_do_nothing()
                .returning(pauses.c.kind)
            )
            if done.first() is None:
                raise StateError(f"rule {kind} is paused already")
            await self.note(connection, by, "pause", f"rule {kind}", reason, now)

    async def resume(self, kind: str, by: str, reason: str, now: datetime) -> None:
        """Lets a rule go on. Raises StateError when it isn't paused."""
        async with self.database.write() as connection:
            done = await connection.execute(delete(pauses).where(pauses.c.kind == kind))
            if done.rowcount == 0:
                raise StateError(f"rule {kind} isn't paused")
            await self.note(connection, by, "resume", f"rule {kind}", reason, now)

    async def paused(self) -> dict[str, Row[Any]]:
        """The paused rules, with why, by whom and since when."""
        async with self.database.read() as connection:
            return {row.kind: row for row in await connection.execute(select(pauses))}

    async def last_runs(self) -> dict[str, Row[Any]]:
        """The latest run of each rule."""
        newest = select(func.max(runs.c.id)).group_by(runs.c.kind)
        async with self.database.read() as connection:
            rows = await connection.execute(select(runs).where(runs.c.id.in_(newest)))
            return {row.kind: row for row in rows}

    async def run(self, run_id: int) -> Row[Any]:
        """One run. Raises UnknownThingError."""
        async with self.database.read() as connection:
            row = (await connection.execute(select(runs).where(runs.c.id == run_id))).first()
        if row is None:
            raise UnknownThingError(f"there is no run {run_id}")
        return row

    async def suppress(
        self, channel: str, address: str, kind: str, reason: str, by: str, now: datetime
    ) -> bool:
        """Stops writing to an address (`add_suppression`), with a line in the audit."""
        async with self.database.write() as connection:
            made = await add_suppression(connection, channel, address, kind, reason, by, now)
            if made:
                await self.note(connection, by, "suppress", f"{channel} address", reason, now)
            return made

    async def lift(
        self,
        channel: str,
        address: str,
        by: str,
        reason: str,
        now: datetime,
        kind: str | None = None,
    ) -> int:
        """Lets an address be written to again, of one kind or of all; returns how many ended."""
        statement = delete(suppressions).where(
            suppressions.c.channel == channel, suppressions.c.address == address
        )
        if kind is not None:
            statement = statement.where(suppressions.c.kind == kind)
        async with self.database.write() as connection:
            done = await connection.execute(statement)
            if done.rowcount:
                await self.note(connection, by, "lift", f"{channel} address", reason, now)
            return done.rowcount

    async def suppressions(self, limit: int = 1000) -> list[Row[Any]]:
        """Who isn't written to, and why, newest first."""
        async with self.database.read() as connection:
            return list(
                await connection.execute(
                    select(suppressions).order_by(suppressions.c.id.desc()).limit(limit)
                )
            )

    async def suppressed(self, channel: str, address: str, kind: str) -> str:
        """Why an address isn't written to by a rule; "" where it is."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(suppressions.c.reason).where(
                    suppressions.c.channel == channel,
                    suppressions.c.address == address,
                    suppressions.c.kind.in_(["*", kind]),
                )
            )
            return str(found.scalar() or "")

    async def unsubscribed(self, kind: str) -> frozenset[tuple[str, str]]:
        """(channel, address) pairs that don't want this kind any more."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(suppressions.c.channel, suppressions.c.address).where(
                    suppressions.c.kind == kind
                )
            )
            return frozenset((row[0], row[1]) for row in rows)

    async def change_record(
        self, record_id: int, by: str, action: str, reason: str, now: datetime, **values: Any
    ) -> None:
        """An operator's change of one record; a send that began before it looks again."""
        async with self.database.write() as connection:
            await connection.execute(
                update(records)
                .where(records.c.id == record_id)
                .values(**values, revision=records.c.revision + 1, changed_at=now)
            )
            await self.note(connection, by, action, f"record {record_id}", reason, now)

    async def audit(self, limit: int = 100) -> list[Row[Any]]:
        """What ops people did, newest first."""
        async with self.database.read() as connection:
            return list(
                await connection.execute(select(audit).order_by(audit.c.id.desc()).limit(limit))
            )

    # --- events ---------------------------------------------------------------------------

    async def events_taken(
        self, connection: AsyncConnection, keys: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], Row[Any]]:
        """Which of these (source, id) were taken already, each with its row."""
        found: dict[tuple[str, str], Row[Any]] = {}
        by_source: dict[str, list[str]] = {}
        for source, event_id in keys:
            by_source.setdefault(source, []).append(event_id)
        for source, ids in by_source.items():
            for part in chunks(ids):
                rows = await connection.execute(
                    select(events).where(events.c.source == source, events.c.event_id.in_(part))
                )
                found.update({(row.source, row.event_id): row for row in rows})
        return found

    async def remember_events(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Records that events were taken, in the transaction of their effect.

        `ref` is that of the record which one brought, None for people.
        """
        if rows:
            # In one order, so that two who send the same never wait in a ring.
            ordered = sorted(rows, key=lambda row: (row["source"], row["event_id"]))
            await connection.execute(insert(connection, events), ordered)
