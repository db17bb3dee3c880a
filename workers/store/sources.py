"""Statements on sources: who syncs one now, how far it was read, what it brought, its runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.store.aftermath import database_now
from workers.store.engine import Database, insert
from workers.store.records import chunks
from workers.store.source_tables import source_records, source_runs, source_totals, sources
from workers.store.tables import Instant, records

RUNS_KEPT = 500
"""Runs of one source that are listed; older ones go with each new one."""


class SourceStore:
    """Everything that is kept of sources. Instants are business time, but for the lease."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- runs -----------------------------------------------------------------------------

    async def start_run(
        self, source: str, fire_at: datetime, trigger: str, now: datetime, missed: int = 0
    ) -> int | None:
        """Records a firing; None when a clock's firing for this time is there already."""
        async with self.database.write() as connection:
            statement = insert(connection, source_runs).values(
                source=source,
                fire_at=fire_at,
                trigger=trigger,
                started_at=now,
                missed=missed,
                detail="",
                counts={},
            )
            done = await connection.execute(
                statement.on_conflict_do_nothing().returning(source_runs.c.id)
            )
            found = done.scalar()
            return None if found is None else int(found)

    async def finish_run(
        self,
        run_id: int,
        outcome: str,
        now: datetime,
        detail: str = "",
        counts: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Says how a run ended, and forgets the oldest beyond RUNS_KEPT."""
        async with self.database.write() as connection:
            done = await connection.execute(
                update(source_runs)
                .where(source_runs.c.id == run_id)
                .values(outcome=outcome, finished_at=now, detail=detail, counts=counts or {})
                .returning(source_runs.c.source)
            )
            source = str(done.scalar_one())
            await _count(connection, source, outcome, 1)
            mine = source_runs.c.source == source
            oldest = (
                select(source_runs.c.id)
                .where(mine)
                .order_by(source_runs.c.id.desc())
                .offset(RUNS_KEPT)
                .limit(1)
            )
            await connection.execute(
                delete(source_runs).where(mine, source_runs.c.id <= oldest.scalar_subquery())
            )

    async def last_firing(self, source: str) -> datetime | None:
        """The latest fire time of a source's clock runs."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(source_runs.c.fire_at)
                .where(source_runs.c.source == source, source_runs.c.trigger == "clock")
                .order_by(source_runs.c.fire_at.desc())
                .limit(1)
            )
            value: datetime | None = found.scalar()
            return value

    async def runs(self, source: str, limit: int) -> list[Row[Any]]:
        """A source's runs, newest first."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(source_runs)
                .where(source_runs.c.source == source)
                .order_by(source_runs.c.id.desc())
                .limit(limit)
            )
            return list(rows)

    async def last_runs(self) -> dict[str, Row[Any]]:
        """Each source's last run."""
        newest = select(func.max(source_runs.c.id)).group_by(source_runs.c.source)
        async with self.database.read() as connection:
            rows = await connection.execute(select(source_runs).where(source_runs.c.id.in_(newest)))
            return {row.source: row for row in rows}

    async def totals(self) -> dict[tuple[str, str], int]:
        """How many syncs ended how, ever, by (source, outcome)."""
        async with self.database.read() as connection:
            rows = await connection.execute(select(source_totals))
            return {(one["source"], one["outcome"]): int(one["count"]) for one in rows.mappings()}

    async def last_good(self) -> dict[str, datetime]:
        """When each source was last read to its end, though some of its rows may be refused."""
        ended = func.max(source_runs.c.finished_at, type_=Instant())
        good = source_runs.c.outcome.in_(["done", "refused"])
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(source_runs.c.source, ended).where(good).group_by(source_runs.c.source)
            )
            return {row[0]: row[1] for row in rows}

    # --- who is at it, and how far it was read --------------------------------------------

    async def claim(self, source: str, holder: str, lease: timedelta, now: datetime) -> bool:
        """Takes a source for `holder`; False while another has it.

        What a dead process left is taken over once its lease is over, and its runs are lost.
        """
        async with self.database.write() as connection:
            await connection.execute(
                insert(connection, sources)
                .values(name=source, fingerprint="", state={}, changed_at=now)
                .on_conflict_do_nothing()
            )
            free = or_(
                sources.c.lease_until.is_(None),
                sources.c.lease_until < database_now(self.database),
            )
            done = await connection.execute(
                update(sources)
                .where(sources.c.name == source, free)
                .values(holder=holder, lease_until=database_now(self.database, lease))
            )
            return bool(done.rowcount)

    async def end_lost_runs(self, source: str, run_id: int, now: datetime) -> None:
        """Says of runs before this one that never ended that they are lost."""
        async with self.database.write() as connection:
            done = await connection.execute(
                update(source_runs)
                .where(
                    source_runs.c.source == source,
                    source_runs.c.id < run_id,
                    source_runs.c.outcome.is_(None),
                )
                .values(outcome="lost", finished_at=now, detail="its process ended in the midst")
            )
            if done.rowcount:
                await _count(connection, source, "lost", done.rowcount)

    async def renew(self, source: str, holder: str, lease: timedelta) -> bool:
        """Extends a lease; False when it was lost."""
        async with self.database.write() as connection:
            done = await connection.execute(
                update(sources)
                .where(sources.c.name == source, sources.c.holder == holder)
                .values(lease_until=database_now(self.database, lease))
            )
            return bool(done.rowcount)

    async def release(self, source: str, holder: str) -> None:
        """Gives a source back."""
        async with self.database.write() as connection:
            await connection.execute(
                update(sources)
                .where(sources.c.name == source, sources.c.holder == holder)
                .values(holder=None, lease_until=None)
            )

    async def state(self, source: str, fingerprint: str) -> dict[str, Any]:
        """What a source remembers; nothing where its settings were others then."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(sources.c.state).where(
                    sources.c.name == source, sources.c.fingerprint == fingerprint
                )
            )
            return dict(found.scalar() or {})

    async def save_state(
        self, source: str, fingerprint: str, state: Mapping[str, Any], now: datetime
    ) -> None:
        """Keeps what a source remembers."""
        async with self.database.write() as connection:
            await connection.execute(
                update(sources)
                .where(sources.c.name == source)
                .values(fingerprint=fingerprint, state=dict(state), changed_at=now)
            )

    # --- what it brought ------------------------------------------------------------------

    async def add(
        self, connection: AsyncConnection, source: str, kind: str, refs: Collection[str]
    ) -> None:
        """Notes that a source brings these records."""
        rows = [{"source": source, "kind": kind, "ref": ref} for ref in sorted(refs)]
        for part in chunks(rows):
            await connection.execute(
                insert(connection, source_records).values(list(part)).on_conflict_do_nothing()
            )

    async def gone(self, source: str, kind: str) -> set[str]:
        """The refs of a kind that a source brought and that are gone."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(source_records.c.ref).where(
                    source_records.c.source == source,
                    source_records.c.kind == kind,
                    source_records.c.gone_at.is_not(None),
                )
            )
            return set(rows.scalars())

    async def states(
        self, connection: AsyncConnection, kind: str, refs: Collection[str]
    ) -> dict[str, str]:
        """The states of these records, by ref. Locks nothing."""
        found: dict[str, str] = {}
        for part in chunks(refs):
            rows = await connection.execute(
                select(records.c.ref, records.c.state).where(
                    records.c.kind == kind, records.c.ref.in_(list(part))
                )
            )
            found.update({row.ref: row.state for row in rows})
        return found

    async def unclosed(self, kind: str, after: int, limit: int) -> list[Row[Any]]:
        """(id, data) of a kind's records that aren't closed, by id above `after`."""
        statement: Select[Any] = (
            select(records.c.id, records.c.data)
            .where(records.c.kind == kind, records.c.state != "closed", records.c.id > after)
            .order_by(records.c.id)
            .limit(limit)
        )
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def brought(self, source: str, kind: str) -> set[str]:
        """The refs of a kind that a source brought and that aren't gone."""
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(source_records.c.ref).where(
                    source_records.c.source == source,
                    source_records.c.kind == kind,
                    source_records.c.gone_at.is_(None),
                )
            )
            return set(rows.scalars())

    async def mark(
        self, source: str, kind: str, refs: Sequence[str], gone_at: datetime | None
    ) -> None:
        """Says since when these are gone, or that they are back."""
        async with self.database.write() as connection:
            for part in chunks(refs):
                await connection.execute(
                    update(source_records)
                    .where(
                        and_(
                            source_records.c.source == source,
                            source_records.c.kind == kind,
                            source_records.c.ref.in_(list(part)),
                        )
                    )
                    .values(gone_at=gone_at)
                )


async def _count(connection: AsyncConnection, source: str, outcome: str, more: int) -> None:
    statement = insert(connection, source_totals).values(source=source, outcome=outcome, count=more)
    total = source_totals.c["count"] + statement.excluded["count"]
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["source", "outcome"], set_={"count": total})
    )
