"""The engine: two dialects, how a transaction begins, and bringing the schema up to date."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Table, event, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from workers.errors import SettingsError, UnavailableError
from workers.store.faults import is_deadlock, is_lock_timeout
from workers.store.tables import meta

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 10_000
COMPATIBLE_FROM = "compatible_from"
"""The oldest schema version whose programs may work on the schema as it stands."""
MIGRATION_LOCK_S = 5
"""How long a migration waits for a table on PostgreSQL, with everybody behind it, before it steps
aside and tries again."""
MIGRATION_TRIES = 24


class Database:
    """Connections and transactions. Opened once a process; closed at its end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        # SQLite has one writer: waiting here is fairer and quicker than its busy loop.
        self._writer = asyncio.Lock()
        self.had_attempt = 0
        """The number of an attempt that this process has seen in it; 0 for none. A database
        without it, or a later one, is an old one restored.
        """

    @classmethod
    def connected(cls, url: str) -> Database:
        """A database as it is, whatever its schema."""
        return cls(_engine(_async_url(url)))

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True) -> Database:
        """Connects, and brings the schema up to date unless `migrate` is false.

        Raises UnavailableError when it can't be reached, SettingsError when its schema is another
        version.
        """
        database = cls.connected(url)
        try:
            await database._bring_up_to_date(migrate)
        except (OSError, DBAPIError) as error:
            await database.close()
            cause = str(getattr(error, "orig", error) or error).splitlines()[0]
            raise UnavailableError(
                f"database_url: can't use {shown_url(url)}: {cause}: "
                "check that it runs and may be written"
            ) from None
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Gives back all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that may write: committed at the end, rolled back on any error."""
        if self.dialect != "sqlite":
            async with self.engine.begin() as connection:
                yield connection
            return
        async with self._writer, self.engine.connect() as connection:
            await connection.execution_options(write=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that only reads, and whose statements all see the same instant."""
        async with self.engine.connect() as connection:
            if self.dialect != "sqlite":  # there every transaction that reads is one
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that only reads: a snapshot that isn't held up by writers."""
        async with self.engine.connect() as connection:
            yield connection

    async def schema_version(self) -> str | None:
        """The schema's version as it stands in the database, or None when there is none yet."""
        async with self.read() as connection:
            try:
                return (
                    await connection.execute(text("SELECT version_num FROM alembic_version"))
                ).scalar()
            except (OperationalError, DBAPIError):
                return None

    async def _bring_up_to_date(self, migrate: bool) -> None:
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))
        present = await self.schema_version()
        if not await self._misfit(present):
            return
        if not migrate or (present is not None and present > newest_version()):
            raise SettingsError(f"database_url: {await self._misfit(present)}")
        await self.migrate()

    async def misfit(self) -> str:
        """Why this program can't work on the schema as it stands, with the remedy; "" if it can.

        A newer schema fits as long as its migrations only added what this program can do without
        (each migration's `compatible_from`), so that old and new versions run side by side.
        """
        return await self._misfit(await self.schema_version())

    async def _misfit(self, present: str | None) -> str:
        wanted = newest_version()
        if present == wanted:
            return ""
        if present is None or present < wanted:
            return (
                f"the schema is version {present or 'none'}, this program wants {wanted}: "
                "run duewatch migrate"
            )
        since = await self.remembered(COMPATIBLE_FROM)
        if since is not None and since <= wanted:
            return ""
        return (
            f"the schema is version {present}, newer than this program's {wanted}, and works with "
            f"programs of {since or present} and later: install the newer Duewatch"
        )

    async def migrate(self) -> str:
        """Brings the schema to the newest version, which it returns; several may do so at once.

        Workers may be at work meanwhile: where one holds a table, it steps aside and tries again.
        """
        for _ in range(MIGRATION_TRIES):
            try:
                return await self._migrate()
            except DBAPIError as error:
                if not (is_deadlock(error) or is_lock_timeout(error)):
                    raise
            await asyncio.sleep(0.5)
        return await self._migrate()

    async def _migrate(self) -> str:
        from workers.store.migrations.env import upgrade  # Alembic: 100 ms, only when needed

        # One transaction: whoever finds the schema finds these values too.
        async with self._migrating() as connection:
            await connection.run_sync(upgrade)
            since = insert(connection, meta).values(key=COMPATIBLE_FROM, value=compatible_from())
            await connection.execute(
                since.on_conflict_do_update(
                    index_elements=["key"], set_={"value": since.excluded.value}
                )
            )
            for key, value in (
                ("link_key", secrets.token_hex(32)),
                ("epoch", secrets.token_hex(8)),
            ):
                statement = insert(connection, meta).values(key=key, value=value)
                await connection.execute(statement.on_conflict_do_nothing())
        return newest_version()

    @asynccontextmanager
    async def _migrating(self) -> AsyncIterator[AsyncConnection]:
        async with self.write() as connection:
            if self.dialect == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(740211)"))
                await connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_S}s'"))
            yield connection

    async def clock(self) -> datetime:
        """The database's own time, as aware UTC."""
        sql = "SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')"
        if self.dialect != "sqlite":
            sql = "SELECT clock_timestamp()"
        async with self.read() as connection:
            found: Any = (await connection.execute(text(sql))).scalar_one()
        return found if isinstance(found, datetime) else datetime.fromisoformat(found)

    async def meta(self, key: str) -> str:
        """A value that the schema's first migration made."""
        found = await self.remembered(key)
        assert found is not None, f"{key} is made by the first migration"
        return found

    async def remembered(self, key: str) -> str | None:
        """A value by its key, at most 64 characters; None where there is none."""
        async with self.read() as connection:
            found = await connection.execute(select(meta.c.value).where(meta.c.key == key))
            return found.scalar()

    async def remember(self, key: str, value: str) -> None:
        """Keeps a value by its key."""
        async with self.write() as connection:
            statement = insert(connection, meta).values(key=key, value=value)
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["key"], set_={"value": statement.excluded.value}
                )
            )


def insert(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The dialect's own INSERT, for ON CONFLICT."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def shown_url(url: str) -> str:
    """The URL as it may be shown: without its password."""
    return make_url(url).render_as_string(hide_password=True)


def newest_version() -> str:
    """The version of the newest migration, from its file's name."""
    return max(path.stem.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def compatible_from() -> str:
    """The oldest schema version whose programs can work on the newest schema.

    Each migration says so of itself; one that doesn't say is taken to end what was before it.
    """
    said = []
    for path in (MIGRATIONS / "versions").glob("[0-9]*.py"):
        found = re.search(r'^compatible_from = "(\d+)"$', path.read_text("utf-8"), re.M)
        said.append(found[1] if found else path.stem.split("_")[0])
    return max(said)


def _async_url(url: str) -> URL:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(drivername="sqlite+aiosqlite")
    return parsed.set(drivername="postgresql+asyncpg")


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(url, pool_size=8, max_overflow=8)
        _prepare_sqlite(engine)
        return engine
    return create_async_engine(url, pool_size=8, max_overflow=8, pool_pre_ping=True)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: ours begin as writers or as readers.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            # FULL: what was acknowledged survives a power cut, not only a crash of the process.
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
