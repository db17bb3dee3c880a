"""What the tests of the whole product share: one database of their own, of both kinds."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from workers.store import Store

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


async def _migrate(url: str) -> None:
    await (await Store.open(url)).close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite with today's schema, to be copied."""
    path = tmp_path_factory.mktemp("schema") / "duewatch.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    assert not path.with_name(f"{path.name}-wal").exists()
    return path


@pytest.fixture(scope="session")
def migrated_database(postgres_server: postgres.Server) -> str:
    """The name of a database of PostgreSQL with today's schema, to be copied."""
    name = f"schema_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    postgres_server.create(name)
    asyncio.run(_migrate(_as_written(postgres_server.url(name))))
    return name


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with today's schema and nothing in it: of SQLite, then of PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "duewatch.db"
        shutil.copyfile(request.getfixturevalue("migrated_file"), path)
        yield f"sqlite:///{path}"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    name = postgres.new_name()
    server.create(name, request.getfixturevalue("migrated_database"))
    yield _as_written(server.url(name))
    server.drop(name)


@pytest.fixture(params=KINDS)
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that has no schema yet: of SQLite, then of PostgreSQL."""
    if request.param == "postgres":
        return _as_written(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'duewatch.db'}"


def _as_written(url: str) -> str:
    """As operators write it: without a driver, which the product chooses."""
    return url.replace("+asyncpg", "", 1)
