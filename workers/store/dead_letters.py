"""Dead letters: what came by the broker and couldn't be taken, with the reason."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, select, update

from workers.errors import UnknownThingError
from workers.store.engine import Database, insert
from workers.store.tables import audit, dead_letters, redeliveries

MAX_KEPT_BYTES = 64 * 1024
"""Of a dead letter's body; of a longer one the beginning is kept, and how long it was."""
MAX_REASON = 2000
REMEMBERED = timedelta(days=7)
"""How long a message that was begun again and never ended is remembered."""


class DeadLetters:
    """Statements about dead letters. The same message, come again, is one letter."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def keep(self, door: str, reason: str, body: bytes, now: datetime) -> None:
        """Keeps a message that can't be taken. `door` is where it came in, such as a queue."""
        mark = mark_of(body)
        async with self.database.write() as connection:
            statement = insert(connection, dead_letters).values(
                door=door[:80],
                mark=mark,
                received_at=now,
                times=1,
                reason=_plain(reason)[:MAX_REASON],
                body=kept_text(body),
                size=len(body),
            )
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["mark"],
                    set_={
                        "reason": statement.excluded.reason,
                        "received_at": statement.excluded.received_at,
                        "times": dead_letters.c.times + 1,
                    },
                )
            )
            await connection.execute(delete(redeliveries).where(redeliveries.c.mark == mark))

    async def all(self, limit: int = 1000) -> list[Row[Any]]:
        """Dead letters, newest first."""
        newest = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        async with self.database.read() as connection:
            return list(await connection.execute(newest))

    async def one(self, letter_id: int) -> Row[Any]:
        """One dead letter. Raises UnknownThingError."""
        wanted = select(dead_letters).where(dead_letters.c.id == letter_id)
        async with self.database.read() as connection:
            row = (await connection.execute(wanted)).first()
        if row is None:
            raise UnknownThingError(
                f"there is no dead letter {letter_id}: see duewatch dead-letters"
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
                    target=f"dead letter {letter_id} ({row.mark[:12]})",
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
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
