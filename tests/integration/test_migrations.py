"""A database of any earlier version, with rows in every table, is brought up to date whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from workers.store import Store
from workers.store.engine import MIGRATIONS, Database, newest_version
from workers.store.migrations.env import upgrade

VERSIONS = sorted(path.stem.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
ROWS = 3


async def an_old_one(url: str, version: str) -> Database:
    database = Database.connected(url)
    async with database.write() as connection:
        await connection.run_sync(lambda plain: upgrade(plain, version))
        await connection.run_sync(fill)
    return database


def tables(connection: Connection) -> list[sa.Table]:
    found = sa.MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def fill(connection: Connection) -> None:
    for table in tables(connection):
        for number in range(1, ROWS + 1):
            row = {column.name: value(column, number) for column in table.columns}
            connection.execute(table.insert().values(**row))


def value(column: sa.Column[Any], number: int) -> Any:
    text = isinstance(column.type, sa.String | sa.Text)
    if isinstance(column.type, sa.Integer | sa.BigInteger | sa.Numeric):
        return number
    instant = isinstance(column.type, sa.DateTime)
    names = ("_at", "_until", "_since", "_from")
    if instant or column.name.endswith(names) or column.name in {"at", "until", "not_before"}:
        moment = datetime(2026, 11, number, tzinfo=UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}" if text else moment
    if isinstance(column.type, sa.JSON) or column.name == "data":
        return {"ref": str(number)} if isinstance(column.type, sa.JSON) else '{"ref": "1"}'
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, sa.LargeBinary):
        return b"x"
    return f"{column.name[:3]}{number}"[: getattr(column.type, "length", None) or 200]


async def counts(database: Database) -> dict[str, int]:
    def count(connection: Connection) -> dict[str, int]:
        return {
            table.name: connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
            for table in tables(connection)
        }

    async with database.read() as connection:
        return await connection.run_sync(count)


@pytest.mark.parametrize("version", VERSIONS[:-1])
async def test_every_row_of_an_older_version_is_there_afterwards(
    bare_database_url: str, version: str
) -> None:
    old = await an_old_one(bare_database_url, version)
    before = await counts(old)
    await old.close()
    assert before["notifications"] == before["occurrences"] == ROWS

    store = await Store.open(bare_database_url)
    try:
        assert await store.database.schema_version() == newest_version()
        after = await counts(store.database)
        kept = {name: count for name, count in after.items() if name in before and name != "meta"}
        assert kept == {name: count for name, count in before.items() if name != "meta"}
        assert await store.operations.audit()
    finally:
        await store.close()
