"""SQLite in the caller's own thread, for throw-away databases that nothing else uses.

The usual driver hands every call to a thread and back, which is most of what a small statement
costs. Here a statement holds up the event loop while it runs: right for a simulation in memory,
wrong for a server. What is here takes the place of an `aiosqlite` connection under SQLAlchemy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite


class _Cursor:
    """A cursor whose coroutines never wait."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    async def __aenter__(self) -> _Cursor:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        self._cursor.execute(sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> _Cursor:
        self._cursor.executemany(sql, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid


class _Jobs:
    """Does at once what SQLAlchemy puts into the queue of a driver's thread."""

    def put_nowait(self, job: tuple[Any, Callable[[], Any]]) -> None:
        future, work = job
        future.set_result(work())


class _Connection:
    """A connection whose coroutines never wait; awaited once to be there, as the driver's is."""

    def __init__(self, database: str) -> None:
        self._conn: sqlite3.Connection = sqlite3.connect(database, check_same_thread=False)
        self._connection: sqlite3.Connection | None = self._conn
        self._tx = _Jobs()

    def __await__(self) -> Generator[Any, None, _Connection]:
        return self._there().__await__()

    async def _there(self) -> _Connection:
        return self

    def cursor(self) -> _Cursor:
        return _Cursor(self._conn.cursor())

    async def commit(self) -> None:
        self._conn.commit()

    async def rollback(self) -> None:
        self._conn.rollback()

    async def close(self) -> None:
        self._connection = None
        self._conn.close()

    async def create_function(self, *args: Any, **more: Any) -> None:
        self._conn.create_function(*args, **more)

    def stop(self) -> None:
        self._connection = None
        self._conn.close()

    @property
    def isolation_level(self) -> str | None:
        return self._conn.isolation_level


@contextmanager
def in_this_thread(database: Path) -> Iterator[None]:
    """Connections that are made to this SQLite file meanwhile are of this kind."""

    def connect(_: Any, __: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        if arguments and Path(arguments[0]) == database:
            options["async_creator_fn"] = lambda *_, **__: _Connection(str(database))

    event.listen(SQLiteDialect_aiosqlite, "do_connect", connect)
    try:
        yield
    finally:
        event.remove(SQLiteDialect_aiosqlite, "do_connect", connect)
