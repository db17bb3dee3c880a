"""Runs: one firing of a rule's scan each, with its counts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.store.engine import Database, insert
from workers.store.tables import runs


class Runs:
    """Statements on runs."""

    database: Database

    async def start_run(
        self, kind: str, fire_at: datetime, trigger: str, now: datetime, missed: int = 0
    ) -> int | None:
        """Records a firing; None when a clock's firing for this time is there already."""
        async with self.database.write() as connection:
            statement = insert(connection, runs).values(
                kind=kind, fire_at=fire_at, trigger=trigger, started_at=now, missed=missed
            )
            done = await connection.execute(statement.on_conflict_do_nothing().returning(runs.c.id))
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
