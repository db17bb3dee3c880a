"""The engine: two dialects, how a transaction begins, and bringing the schema up to date."""

from __future__ import annotations

import asyncio
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
from workers.store.tables import meta

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 10_000


class Database:
    """Connections and transactions. Opened once a process; closed at its end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        # SQLite has one writer: waiting here is fairer and quicker than its busy loop.
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True) -> Database:
        """Connects, and brings the schema up to date unless `migrate` is false.

        Raises UnavailableError when it can't be reached, SettingsError when its schema is another
        version.
        """
        database = cls(_engine(_async_url(url)))
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
        present, wanted = await self.schema_version(), newest_version()
        if present == wanted:
            return
        if present is not None and present > wanted:
            raise SettingsError(
                f"database_url: the schema is version {present}, newer than this program's "
                f"{wanted}: install the newer Duewatch"
            )
        if not migrate:
            raise SettingsError(
                f"database_url: the schema is version {present or 'none'}, this program wants "
                f"{wanted}: run duewatch migrate"
            )
        await self.migrate()

    async def migrate(self) -> str:
        """Brings the schema to the newest version, which it returns; several may do so at once."""
        from workers.store.migrations.env import upgrade  # Alembic: 100 ms, only when needed

        # One transaction: whoever finds the schema finds these values too.
        async with self._migrating() as connection:
            await connection.run_sync(upgrade)
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
