"""Copies of a whole database: SQLite's online backup, and a move between SQLite and PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, insert, make_url, select, text, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.errors import InputError, StateError
from workers.model import NotificationState
from workers.store.engine import COMPATIBLE_FROM, Database
from workers.store.guard import COPY, EPOCH, HOME, REFUSAL
from workers.store.ledger import exceptions
from workers.store.tables import meta, metadata, notifications

PAGES = 2_000
"""Pages copied at a time: between them others may write."""
BATCH_ROWS = 1_000
LARGE = {"inbox": 20, "dead_letters": 50}
"""Rows at a time of tables whose rows may be large, so that memory stays bounded."""
OF_THE_PLACE = (HOME, COPY, REFUSAL)
"""What is true of one place only and doesn't move along."""
MADE_BY_MIGRATING = {"link_key", EPOCH, COMPATIBLE_FROM, *OF_THE_PLACE}

Progress = Callable[[str, int, int], None]


def back_up(url: str, file: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Copies a SQLite database to a new file while others go on writing.

    The copy says of itself that it is one, so that a daemon on it asks before it sends. `progress`
    is told how many pages are done, of how many. Raises InputError for another database, and for
    a file that is there already or can't be written.
    """
    place = make_url(url)
    if place.get_backend_name() != "sqlite" or not place.database:
        raise InputError("duewatch backup copies SQLite files: for PostgreSQL use pg_dump")
    if file.exists():
        raise InputError(f"{file} is there already: name another file")
    partial = file.with_name(f"{file.name}.part")
    try:
        with (
            closing(sqlite3.connect(f"file:{place.database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial)) as target,
        ):
            source.backup(
                target,
                pages=PAGES,
                progress=lambda _, left, total: progress(total - left, total) if progress else None,
            )
            target.execute("PRAGMA journal_mode=DELETE")
            said = target.execute("PRAGMA quick_check").fetchone()[0]
            if said != "ok":
                raise InputError(f"{place.database} is damaged: {said}: restore an older backup")
            at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            target.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (COPY, at))
            target.commit()
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"{place.database} can't be copied to {file}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


@asynccontextmanager
async def held_still(source: Database) -> AsyncIterator[AsyncConnection]:
    """A snapshot of a whole database into which nobody writes meanwhile; it may be written last."""
    if source.dialect == "sqlite":
        async with source.write() as connection:
            yield connection
        return
    names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
    async with source.engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            # Before the first SELECT: the snapshot is taken after the locks.
            await connection.execute(text(f"LOCK TABLE {names} IN SHARE MODE"))
            yield connection


async def refuse_unless_empty(target: Database) -> None:
    """Raises StateError naming the first table that isn't empty."""
    async with target.read() as connection:
        for table in metadata.sorted_tables:
            known = table.c.key.not_in(MADE_BY_MIGRATING) if table is meta else None
            statement = select(func.count()).select_from(table)
            count = (
                await connection.execute(statement if known is None else statement.where(known))
            ).scalar_one()
            if count:
                raise StateError(
                    f"the target isn't empty: its table {table.name} has {count} rows: "
                    "name an empty database"
                )


async def refuse_while_sending(source: AsyncConnection) -> None:
    """Raises StateError while messages are being sent."""
    found = await source.execute(
        select(func.count())
        .select_from(notifications)
        .where(notifications.c.state == NotificationState.SENDING)
    )
    if count := found.scalar_one():
        raise StateError(
            f"{count} messages are being sent: stop every worker; what a dead one left is settled "
            "by duewatch deliver"
        )


async def copy_all(
    source: AsyncConnection, target: AsyncConnection, progress: Progress
) -> dict[str, int]:
    """Copies every table, ids kept, into the target's transaction, and proves that it is whole.

    Returns the rows by table. Raises StateError when the target's counts or ledger differ: roll
    back then.
    """
    copied: dict[str, int] = {}
    await target.execute(meta.delete().where(meta.c.key.in_(MADE_BY_MIGRATING)))
    for table in metadata.sorted_tables:
        total = await _count(source, table)
        copied[table.name] = await _copy(table, source, target, total, progress)
        there = await _count(target, table)
        if not copied[table.name] == total == there:
            raise StateError(
                f"table {table.name}: {total} rows there, {copied[table.name]} read, {there} "
                "written: nothing was moved"
            )
    await _go_on_counting(target)
    broken = [f"{what}: {count}" for what, count in await exceptions(target) if count]
    if broken:
        raise StateError(f"the copied ledger doesn't add up ({'; '.join(broken)}): nothing moved")
    return copied


async def _copy(
    table: Table,
    source: AsyncConnection,
    target: AsyncConnection,
    total: int,
    progress: Progress,
) -> int:
    keys = list(table.primary_key.columns)
    size = LARGE.get(table.name, BATCH_ROWS)
    page = _kept(table).order_by(*keys).limit(size)
    done = 0
    last: tuple[Any, ...] | None = None
    while True:
        after = page if last is None else page.where(tuple_(*keys) > tuple_(*last))
        rows = list(await source.execute(after))
        if not rows:
            return done
        try:
            await target.execute(insert(table), [dict(row._mapping) for row in rows])
        except DBAPIError as error:
            first = ", ".join(str(rows[0]._mapping[key]) for key in keys)
            cause = str(error.orig or error).splitlines()[0]
            raise StateError(
                f"table {table.name}: the target refuses one of {len(rows)} rows from {first} on: "
                f"{cause}: mend it in the source and try again; nothing was moved"
            ) from None
        done += len(rows)
        last = tuple(rows[-1]._mapping[key] for key in keys)
        progress(table.name, done, total)


def _kept(table: Table) -> Any:
    """A table's rows that are copied."""
    chosen = select(table)
    return chosen.where(table.c.key.not_in(OF_THE_PLACE)) if table is meta else chosen


async def _count(connection: AsyncConnection, table: Table) -> int:
    found = await connection.execute(select(func.count()).select_from(_kept(table).subquery()))
    return int(found.scalar_one())


async def _go_on_counting(target: AsyncConnection) -> None:
    """PostgreSQL's sequences go on after the highest id; SQLite looks for itself."""
    if target.dialect.name == "sqlite":
        return
    for table in metadata.sorted_tables:
        if "id" not in table.primary_key.columns:
            continue
        await target.execute(
            select(
                func.setval(
                    func.pg_get_serial_sequence(table.name, "id"),
                    select(func.coalesce(func.max(table.c.id), 0) + 1).scalar_subquery(),
                    False,
                )
            )
        )
