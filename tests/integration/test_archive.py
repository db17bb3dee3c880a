"""History by month on PostgreSQL: the SQL that docs/deploy.md gives to operators."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, line, opened, partner, payment, planned, statement

pytestmark = pytest.mark.slow

SQL = Path(__file__).parents[2] / "docs" / "deploy" / "postgresql" / "archive.sql"


@pytest.mark.postgres
async def test_a_months_messages_are_kept_whole_once_and_apart(
    postgres_url: str, clock: FakeClock
) -> None:
    url = postgres_url.replace("+asyncpg", "")
    async with opened(url, clock) as app:
        people = [partner(), contact(), contact("C2", role="administrator")]
        await planned(app, *people, line(), statement(), payment())
        await app.delivery.drain()
        clock.advance(timedelta(days=7))  # the first of December
        await app.scan.run("payment")
        waiting = await app.store.operations.notifications(limit=10)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(SQL.read_text("utf-8"))
            await connection.execute(SQL.read_text("utf-8"))  # as of a newer release
            november = await connection.fetchval("SELECT archive.keep($1)", NOW.date())
            again = await connection.fetchval("SELECT archive.keep($1)", NOW.date())
            december = await connection.fetchval("SELECT archive.keep($1)", clock().date())
            [kept] = await connection.fetch(
                "SELECT message ->> 'state', message #>> '{lines,0,record}',"
                " message #>> '{attempts,0,outcome}' FROM archive.messages_2026_11"
            )
            await connection.execute("DROP TABLE archive.messages_2026_11")
            left = await connection.fetchval("SELECT count(*) FROM archive.messages")
        finally:
            await connection.close()

    assert (november, again, december) == (1, 0, 0)
    assert tuple(kept) == ("accepted", "statement S1", "accepted")
    assert {row.state for row in waiting} == {"pending", "accepted"}
    assert left == 0
