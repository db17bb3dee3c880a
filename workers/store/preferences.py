"""What people chose: how reminders come to them, and which kinds aren't to come by which channel.

What is switched off is a suppression of that kind at that address, written by `recipient`. Other
suppressions (a bounce, a complaint, an operator's word) no choice of a person lifts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, and_, delete, false, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from schedules.people import Channel, Digest
from workers.model import DIGEST
from workers.store.aftermath import add_suppression
from workers.store.engine import Database, insert
from workers.store.faults import is_deadlock
from workers.store.records import RecordStore, chunks
from workers.store.tables import (
    audit,
    contacts,
    notifications,
    occurrences,
    preferences,
    records,
    suppressions,
)

RECIPIENT: Final = "recipient"
"""Who a person's own suppressions are by; also what an operator writes down in their name."""
DEADLOCKS = 3
"""How often a choice is tried again because another transaction had to go first."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One kind of reminder at one address of a channel."""

    channel: Channel
    address: str
    kind: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What one person wishes. `contact` is the ref that messages to them carry.

    `digest` is None where nothing is said of it; it counts only for who is in contacts. `why` is
    kept with what is switched off.
    """

    contact: str
    off: tuple[Switch, ...] = ()
    on: tuple[Switch, ...] = ()
    digest: Digest | None = None
    why: str = ""


class PreferenceStore:
    """Statements on what people chose."""

    def __init__(self, database: Database, known: RecordStore) -> None:
        self.database = database
        self._known = known

    # --- reading --------------------------------------------------------------------------

    async def person(self, ref: str) -> Row[Any] | None:
        """A contact's row with `chosen`, `chosen_by` and `chosen_at`, which are None by default."""
        statement = (
            select(
                contacts,
                preferences.c.digest.label("chosen"),
                preferences.c.by.label("chosen_by"),
                preferences.c.changed_at.label("chosen_at"),
            )
            .outerjoin(preferences, preferences.c.contact == contacts.c.ref)
            .where(contacts.c.ref == ref)
        )
        async with self.database.read() as connection:
            return (await connection.execute(statement)).first()

    async def digests(self, refs: Collection[str]) -> dict[str, str]:
        """How these contacts chose to be told; those who chose nothing are left out."""
        found: dict[str, str] = {}
        async with self.database.read() as connection:
            for part in chunks(refs):
                rows = await connection.execute(
                    select(preferences.c.contact, preferences.c.digest).where(
                        preferences.c.contact.in_(part)
                    )
                )
                found.update({row.contact: row.digest for row in rows})
        return found

    async def told(self, addresses: Collection[tuple[Channel, str]]) -> frozenset[str]:
        """The kinds that these addresses were ever told of, in a digest or by themselves."""
        mine = _at(addresses, notifications)
        alone = select(notifications.c.kind).where(mine, notifications.c.kind != DIGEST)
        together = (
            select(records.c.kind)
            .join(occurrences, occurrences.c.record_id == records.c.id)
            .join(notifications, notifications.c.id == occurrences.c.notification_id)
            .where(mine, notifications.c.kind == DIGEST)
        )
        async with self.database.read() as connection:
            return frozenset((await connection.execute(union(alone, together))).scalars())

    async def switched_off(self, addresses: Collection[tuple[Channel, str]]) -> list[Row[Any]]:
        """All suppressions of these addresses, whoever they are by; `*` stands for every kind."""
        statement = select(suppressions).where(_at(addresses, suppressions))
        async with self.database.read() as connection:
            return list(await connection.execute(statement.order_by(suppressions.c.id)))

    # --- choosing -------------------------------------------------------------------------

    async def choose(self, choice: Choice, by: str, now: datetime) -> list[str]:
        """Puts a choice in force in one transaction; returns what it changed, in words.

        Each change is a line of the audit, by `by`. The same choice twice changes nothing. What
        the people concerned are told of is then looked at again.
        """
        for _ in range(DEADLOCKS):
            try:
                return await self._choose(choice, by, now)
            except Exception as error:
                # A scan or a batch that holds the same records goes first.
                if not is_deadlock(error):
                    raise
        return await self._choose(choice, by, now)

    async def _choose(self, choice: Choice, by: str, now: datetime) -> list[str]:
        async with self.database.write() as connection:
            changes = []
            for one in choice.off:
                made = await add_suppression(
                    connection, one.channel, one.address, one.kind, choice.why, RECIPIENT, now
                )
                changes += [f"{one.kind} by {one.channel}: off"] if made else []
            for one in choice.on:
                if await self._lift(connection, one):
                    changes.append(f"{one.kind} by {one.channel}: on")
            if choice.digest is not None and await self._take(connection, choice, by, now):
                changes.append(f"digest: {choice.digest}")
            if changes:
                await self._note(connection, choice, changes, by, now)
                concerned = await self._partners(connection, choice)
                await self._known.look_again(connection, concerned, now)
            return changes

    async def _lift(self, connection: AsyncConnection, one: Switch) -> bool:
        done = await connection.execute(
            delete(suppressions).where(
                suppressions.c.channel == one.channel,
                suppressions.c.address == one.address,
                suppressions.c.kind == one.kind,
                suppressions.c.by == RECIPIENT,
            )
        )
        return bool(done.rowcount)

    async def _take(
        self, connection: AsyncConnection, choice: Choice, by: str, now: datetime
    ) -> bool:
        """Whether the digest that is chosen is another than the one in force; then it is kept."""
        found = await connection.execute(
            select(contacts.c.data, preferences.c.digest)
            .outerjoin(preferences, preferences.c.contact == contacts.c.ref)
            .where(contacts.c.ref == choice.contact)
        )
        row = found.first()
        if row is None or (row.digest or row.data.get("digest", Digest.EACH)) == choice.digest:
            return False
        statement = insert(connection, preferences).values(
            contact=choice.contact, digest=choice.digest, by=by, changed_at=now
        )
        new = statement.excluded
        done = await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["contact"],
                set_={"digest": new.digest, "by": new.by, "changed_at": new.changed_at},
                # Of two that choose the same at once, one changes it.
                where=preferences.c.digest != new.digest,
            ).returning(preferences.c.contact)
        )
        return done.first() is not None

    async def _note(
        self,
        connection: AsyncConnection,
        choice: Choice,
        changes: Collection[str],
        by: str,
        now: datetime,
    ) -> None:
        target = f"contact {choice.contact}"
        await connection.execute(
            insert(connection, audit),
            [
                {"at": now, "by": by, "action": "prefer", "target": target, "reason": change}
                for change in changes
            ],
        )

    async def _partners(self, connection: AsyncConnection, choice: Choice) -> set[str]:
        """The contact's partner, and those whose records the touched addresses were told of."""
        found = await connection.execute(
            select(contacts.c.partner).where(contacts.c.ref == choice.contact)
        )
        concerned = set(found.scalars())
        if addresses := {(one.channel, one.address) for one in (*choice.off, *choice.on)}:
            told = (
                select(records.c.partner)
                .distinct()
                .join(occurrences, occurrences.c.record_id == records.c.id)
                .join(notifications, notifications.c.id == occurrences.c.notification_id)
                .where(_at(addresses, notifications))
            )
            concerned.update((await connection.execute(told)).scalars())
        return concerned


def _at(addresses: Collection[tuple[Channel, str]], table: Any) -> Any:
    """The rows of one of these (channel, address) pairs: two at most, none where there are none."""
    return or_(
        false(),
        *(
            and_(table.c.channel == channel, table.c.address == address)
            for channel, address in sorted(addresses)
        ),
    )
