"""What PostgreSQL says when it can't just now is told from a statement that is wrong."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from workers.store.engine import Database
from workers.store.faults import is_away


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """An empty one of PostgreSQL."""
    found = Database.connected(postgres_url)
    yield found
    await found.close()


async def asked(database: Database, *statements: str) -> DBAPIError | None:
    """What came of these statements, in one transaction."""
    try:
        async with database.write() as connection:
            for one in statements:
                await connection.execute(text(one))
    except DBAPIError as error:
        return error
    return None


async def test_a_server_without_a_connection_left_is_away(
    database: Database, postgres_url: str
) -> None:
    role, password = f"guest_{secrets.token_hex(4)}", secrets.token_hex(8)
    assert not await asked(
        database, f"CREATE ROLE {role} LOGIN PASSWORD '{password}' CONNECTION LIMIT 0"
    )
    url = make_url(postgres_url).set(username=role, password=password)
    guest = Database.connected(url.render_as_string(hide_password=False))
    try:
        said = await asked(guest, "SELECT 1")
    finally:
        await guest.close()
        await asked(database, f"DROP ROLE {role}")

    assert said is not None
    assert is_away(said)


async def test_a_server_that_throws_its_users_out_is_away(database: Database) -> None:
    said = await asked(database, "SELECT pg_terminate_backend(pg_backend_pid())")

    assert said is not None
    assert is_away(said)


async def test_a_server_that_may_only_be_read_is_away(database: Database) -> None:
    said = await asked(database, "SET TRANSACTION READ ONLY", "CREATE TABLE sheet (cell text)")

    assert said is not None
    assert is_away(said)


async def test_a_statement_that_is_wrong_or_took_too_long_isnt_a_database_away(
    database: Database,
) -> None:
    wrong = await asked(database, "SELECT nothing FROM nowhere")
    long = await asked(database, "SET LOCAL statement_timeout = 20", "SELECT pg_sleep(5)")

    assert wrong is not None
    assert not is_away(wrong)
    assert long is not None
    assert not is_away(long)
