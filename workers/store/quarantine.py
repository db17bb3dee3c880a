"""Quarantine: what producers sent by any door and couldn't be taken, with the reason."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, select, update

from workers.errors import UnknownThingError
from workers.store.engine import Database, insert
from workers.store.tables import audit, dead_letters, redeliveries

MAX_KEPT_BYTES = 64 * 1024
"""Of a message's body; of a longer one the beginning is kept, and how long it was."""
MAX_REASON = 2000
BY_HTTP = "http "
"""How the door of what came by HTTP begins; the sender's name follows."""
REMEMBERED = timedelta(days=7)
"""How long a message that was begun again and never ended is remembered."""


class Quarantine:
    """Statements on what is in quarantine. The same message, come again, is one row."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def keep(self, door: str, reason: str, body: bytes, now: datetime) -> int:
        """Keeps a message that can't be taken, and returns its number. `door` is where it came in:
        a queue, or BY_HTTP and who sent it.
        """
        mark = mark_of(body)
        async with self.database.write() as connection:
            statement = insert(connection, dead_letters).values(
                door=_plain(door)[:80],
                mark=mark,
                received_at=now,
                times=1,
                reason=_plain(reason)[:MAX_REASON],
                body=kept_text(body),
                size=len(body),
            )
            done = await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["mark"],
                    set_={
                        "reason": statement.excluded.reason,
                        "received_at": statement.excluded.received_at,
                        "times": dead_letters.c.times + 1,
                    },
                ).returning(dead_letters.c.id)
            )
            await connection.execute(delete(redeliveries).where(redeliveries.c.mark == mark))
            return int(done.scalar_one())

    async def all(self, limit: int = 1000) -> list[Row[Any]]:
        """All of it, newest first."""
        newest = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        async with self.database.read() as connection:
            return list(await connection.execute(newest))

    async def one(self, letter_id: int) -> Row[Any]:
        """One message. Raises UnknownThingError."""
        wanted = select(dead_letters).where(dead_letters.c.id == letter_id)
        async with self.database.read() as connection:
            row = (await connection.execute(wanted)).first()
        if row is None:
            raise UnknownThingError(
                f"there is no message {letter_id} in quarantine: see duewatch quarantine"
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
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
