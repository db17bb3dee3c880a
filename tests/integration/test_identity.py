"""Where a PostgreSQL database is at home, asked while connections break and rights lack."""

from __future__ import annotations

import asyncio
import secrets
from random import Random

import pytest
from sqlalchemy import make_url, text

from tests.fakes.clock import FakeClock
from tests.product import opened
from workers.app import App
from workers.store import is_away
from workers.store.engine import Database
from workers.store.guard import Guard

pytestmark = pytest.mark.postgres
ROUNDS = 80


async def _ended_connections(app: App, chance: Random) -> None:
    await asyncio.sleep(chance.random() * 0.004)
    async with app.store.database.engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_a_connection_that_breaks_says_nothing_of_where_the_database_is(
    postgres_url: str, clock: FakeClock
) -> None:
    url = postgres_url.replace("+asyncpg", "", 1)
    chance = Random(1)
    async with opened(url, clock) as app:
        victim = Database.connected(url)
        guard = Guard(victim)
        home = await guard.identity()
        said: list[str | BaseException] = []
        for _ in range(ROUNDS):
            found, _ = await asyncio.gather(
                guard.identity(), _ended_connections(app, chance), return_exceptions=True
            )
            said.append(found)
        await victim.close()

        broken = [one for one in said if isinstance(one, BaseException)]
        assert {one for one in said if isinstance(one, str)} == {home}
        assert broken, "no connection broke while it was asked"
        assert all(is_away(one) for one in broken)


async def test_where_the_cluster_isnt_told_the_database_has_an_identity_all_the_same(
    postgres_url: str, clock: FakeClock
) -> None:
    url = postgres_url.replace("+asyncpg", "", 1)
    async with opened(url, clock) as app:
        whole = await Guard(app.store.database).identity()
        name = f"limited_{secrets.token_hex(4)}"
        async with app.store.database.write() as connection:
            await connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'made-up'"))
            await connection.execute(
                text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
            )
        limited = Database.connected(
            make_url(url).set(username=name, password="made-up").render_as_string(False)
        )
        try:
            assert await Guard(limited).identity() == "-." + whole.partition(".")[2]
        finally:
            await limited.close()
            async with app.store.database.write() as connection:
                await connection.execute(text(f"DROP ROLE {name}"))
