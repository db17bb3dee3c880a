"""Quarantine: what producers sent by any door and couldn't be taken, with the reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.errors import UnknownThingError
from workers.store.engine import Database, insert
from workers.store.tables import audit, dead_letters, redeliveries

MAX_KEPT_BYTES = 64 * 1024
"""Of a message's body; of a longer one the beginning is kept, and how long it was."""
MAX_REASON = 2000
MOST_KEPT = 20_000
"""Rows of one door; beyond it the oldest give way, so that nobody fills the database."""
LOOKED_EVERY = 100
"""So many rows of a door are kept before its number is looked at again."""
BY_HTTP = "http "
"""How the door of what came by HTTP begins; the sender's name follows."""
_ANY = ("utf-8", "backslashreplace")
REMEMBERED = timedelta(days=7)
"""How long a message that was begun again and never ended is remembered."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that can't be taken. `door` is where it came in: a queue, or BY_HTTP and who sent
    it. `size` (bytes) is given where the body wasn't read.
    """

    door: str
    reason: str
    body: bytes
    size: int | None = None

    @property
    def hash(self) -> str:
        """Of the whole body; "" where it wasn't read."""
        return mark_of(self.body) if self.size is None else ""

    @property
    def mark(self) -> str:
        """What it is told from others by: door, reason and content."""
        return mark_of("\0".join((self.door, self.reason, self.hash, str(self.size))).encode(*_ANY))


class Quarantine:
    """Statements on what is in quarantine. The same refusal again is one row, counted."""

    def __init__(self, database: Database, most: int = MOST_KEPT) -> None:
        self.database = database
        self.most = most
        self._since_look: Counter[str] = Counter()

    async def keep(
        self, door: str, reason: str, body: bytes, now: datetime, size: int | None = None
    ) -> int:
        """Keeps one message (see Refused), and returns its number."""
        (number,) = await self.keep_all([Refused(door, reason, body, size)], now)
        return number

    async def keep_all(self, refused: Sequence[Refused], now: datetime) -> list[int]:
        """Keeps messages in one transaction, and returns the number of each."""
        marks = [one.mark for one in refused]
        times, by_mark = Counter(marks), dict(zip(marks, refused, strict=True))
        numbers: dict[str, int] = {}
        async with self.database.write() as connection:
            # In one order, so that two who keep the same don't wait for each other.
            for mark, one in sorted(by_mark.items()):
                statement = insert(connection, dead_letters).values(
                    door=_plain(one.door)[:80],
                    mark=mark,
                    hash=one.hash,
                    received_at=now,
                    times=times[mark],
                    reason=_plain(one.reason)[:MAX_REASON],
                    body=kept_text(one.body),
                    size=len(one.body) if one.size is None else one.size,
                )
                done = await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["mark"],
                        set_={
                            "received_at": statement.excluded.received_at,
                            "times": dead_letters.c.times + statement.excluded.times,
                        },
                    ).returning(dead_letters.c.id)
                )
                numbers[mark] = int(done.scalar_one())
                await connection.execute(
                    delete(redeliveries).where(redeliveries.c.mark == one.hash)
                )
            for door in {_plain(one.door)[:80] for one in refused}:
                await self._make_room(connection, door, len(refused))
        return [numbers[mark] for mark in marks]

    async def _make_room(self, connection: AsyncConnection, door: str, more: int) -> None:
        self._since_look[door] -= more
        if self._since_look[door] > 0:
            return
        self._since_look[door] = min(LOOKED_EVERY, self.most)
        mine = dead_letters.c.door == door
        newest = select(dead_letters.c.id).where(mine).order_by(dead_letters.c.id.desc())
        found = await connection.execute(newest.offset(self.most).limit(1))
        if (last := found.scalar()) is not None:
            await connection.execute(delete(dead_letters).where(mine, dead_letters.c.id <= last))

    async def all(self, limit: int = 1000) -> list[Row[Any]]:
        """All of it, newest first."""
        newest = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        async with self.database.read() as connection:
            return list(await connection.execute(newest))

    async def doors(self) -> dict[str, int]:
        """How many there are by the door they came in by."""
        counted = select(dead_letters.c.door, func.count()).group_by(dead_letters.c.door)
        async with self.database.read() as connection:
            rows = await connection.execute(counted.order_by(dead_letters.c.door))
            return {row[0]: row[1] for row in rows}

    async def newest(self) -> int:
        """The number of the newest one; 0 where there is none."""
        async with self.database.read() as connection:
            found = await connection.execute(select(func.max(dead_letters.c.id)))
            return int(found.scalar() or 0)

    async def numbers(self, door: str | None, until: int) -> list[int]:
        """The numbers of a door's, or all, up to `until`."""
        statement = select(dead_letters.c.id).where(dead_letters.c.id <= until)
        if door is not None:
            statement = statement.where(dead_letters.c.door == door)
        async with self.database.read() as connection:
            return list((await connection.execute(statement.order_by(dead_letters.c.id))).scalars())

    async def one(self, letter_id: int) -> Row[Any]:
        """One message. Raises UnknownThingError."""
        wanted = select(dead_letters).where(dead_letters.c.id == letter_id)
        async with self.database.read() as connection:
            row = (await connection.execute(wanted)).first()
        if row is None:
            raise UnknownThingError(
                f"there is no message {letter_id} in quarantine: see duewatch quarantine list"
            )
        return row

    async def refused_again(self, letter_id: int, reason: str) -> None:
        """Notes why a replayed letter couldn't be taken this time."""
        async with self.database.write() as connection:
            await connection.execute(
                update(dead_letters)
                .where(dead_letters.c.id == letter_id)
                .values(reason=_plain(reason)[:MAX_REASON])
            )

    async def remove(
        self, letter_id: int, by: str, action: str, reason: str, now: datetime
    ) -> None:
        """Takes a letter away, with a line in the audit. Raises UnknownThingError."""
        row = await self.one(letter_id)
        async with self.database.write() as connection:
            await connection.execute(delete(dead_letters).where(dead_letters.c.id == letter_id))
            await connection.execute(
                insert(connection, audit).values(
                    at=now,
                    by=by,
                    action=action,
                    target=f"quarantine {letter_id} ({row.mark[:12]})",
                    reason=reason,
                )
            )

    async def begin_again(self, body: bytes, now: datetime) -> int:
        """Counts the beginning of work on a message that was given out before: 1, 2, …

        Counted before the work, so that a message which ends the process is counted too.
        """
        async with self.database.write() as connection:
            await connection.execute(
                delete(redeliveries).where(redeliveries.c.changed_at < now - REMEMBERED)
            )
            statement = insert(connection, redeliveries).values(
                mark=mark_of(body), count=1, changed_at=now
            )
            counted = statement.on_conflict_do_update(
                index_elements=["mark"],
                set_={"count": redeliveries.c.count + 1, "changed_at": now},
            ).returning(redeliveries.c.count)
            return int((await connection.execute(counted)).scalar_one())

    async def ended(self, body: bytes) -> None:
        """Forgets the count of a message that was taken."""
        async with self.database.write() as connection:
            await connection.execute(
                delete(redeliveries).where(redeliveries.c.mark == mark_of(body))
            )


def mark_of(body: bytes) -> str:
    """What tells messages apart: SHA-256, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def kept_text(body: bytes) -> str:
    """The body as text, at most MAX_KEPT_BYTES; bytes that aren't UTF-8 as \\xNN, NUL as \\x00."""
    text = _plain(body[:MAX_KEPT_BYTES].decode("utf-8", "backslashreplace"))
    return text.encode()[:MAX_KEPT_BYTES].decode("utf-8", "ignore")


def _plain(text: str) -> str:
    """What both databases can keep: without NUL, without half characters."""
    return text.encode(*_ANY).decode().replace("\0", "\\x00")
