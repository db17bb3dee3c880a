"""Long work begun from a page: how far it is, whether it is to end, what it left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, select, update

from workers.errors import UnknownThingError
from workers.store.console_tables import jobs
from workers.store.engine import Database, insert

KEPT = timedelta(days=7)
"""How long a job and its file are kept after its beginning."""
TRIED_KEPT = timedelta(minutes=15)
"""How long a file that was imported on trial is kept, to be taken in."""
_LIGHT = [column for column in jobs.c if column.name not in {"file", "changed"}]


class JobStore:
    """Statements on jobs. Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def begin(
        self, uid: str, kind: str, about: Mapping[str, Any], by: str, now: datetime
    ) -> None:
        """Notes a job, and forgets those that began longer than KEPT ago."""
        async with self.database.write() as connection:
            await connection.execute(delete(jobs).where(jobs.c.began_at < now - KEPT))
            await connection.execute(
                update(jobs)
                .where(jobs.c.kind == "import", jobs.c.ended_at < now - TRIED_KEPT)
                .values(file=None)
            )
            await connection.execute(
                insert(connection, jobs).values(
                    uid=uid,
                    kind=kind,
                    about=dict(about),
                    by=by,
                    state="running",
                    detail="",
                    counts={},
                    changed=[],
                    began_at=now,
                    said_at=now,
                )
            )

    async def say(
        self, uid: str, done: int, total: int | None, counts: Mapping[str, int], now: datetime
    ) -> bool:
        """Says how far a job is; returns whether somebody wishes it to end."""
        async with self.database.write() as connection:
            found = await connection.execute(
                update(jobs)
                .where(jobs.c.uid == uid)
                .values(done=done, total=total, counts=dict(counts), said_at=now)
                .returning(jobs.c.wished_end)
            )
            return bool(found.scalar())

    async def end(
        self,
        uid: str,
        state: str,
        now: datetime,
        *,
        detail: str = "",
        counts: Mapping[str, int],
        done: int,
        changed: Sequence[Sequence[str]] = (),
        file: tuple[str, bytes] | None = None,
    ) -> None:
        """Says how a job ended: done, failed or ended."""
        name, content = file if file is not None else (None, None)
        async with self.database.write() as connection:
            await connection.execute(
                update(jobs)
                .where(jobs.c.uid == uid)
                .values(
                    state=state,
                    detail=detail,
                    counts=dict(counts),
                    done=done,
                    changed=[list(one) for one in changed],
                    file_name=name,
                    file=content,
                    said_at=now,
                    ended_at=now,
                )
            )

    async def wish_end(self, uid: str) -> None:
        """Has a job end where it is; whoever does it looks now and then."""
        async with self.database.write() as connection:
            await connection.execute(
                update(jobs)
                .where(jobs.c.uid == uid, jobs.c.state == "running")
                .values(wished_end=True)
            )

    async def let_go(self, uid: str) -> None:
        """Forgets a job's file."""
        async with self.database.write() as connection:
            await connection.execute(update(jobs).where(jobs.c.uid == uid).values(file=None))

    async def undone(self, uid: str) -> None:
        """Forgets what a job changed: it was undone."""
        async with self.database.write() as connection:
            await connection.execute(update(jobs).where(jobs.c.uid == uid).values(changed=[]))

    async def one(self, uid: str, *, whole: bool = False) -> Row[Any]:
        """One job; `whole` with its file and what it changed. Raises UnknownThingError."""
        columns = list(jobs.c) if whole else _LIGHT
        async with self.database.read() as connection:
            row = (await connection.execute(select(*columns).where(jobs.c.uid == uid))).first()
        if row is None:
            raise UnknownThingError("there is no such job: they are kept for a week")
        return row

    async def newest(self, limit: int, before: int | None = None) -> list[Row[Any]]:
        """Jobs, newest first, without their files; `before` is the last id seen."""
        statement = select(*_LIGHT).order_by(jobs.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(jobs.c.id < before)
        async with self.database.read() as connection:
            return list(await connection.execute(statement))
