"""The schema that migrations make is the one the code means, however many make it at once."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, opened, statement, states
from workers.errors import SettingsError, UnavailableError
from workers.model import NotificationState as S
from workers.model import Outcome
from workers.store import Store
from workers.store.attempts import Beginning, Finished
from workers.store.engine import newest_version
from workers.store.tables import Instant, metadata

ROOT = Path(__file__).parents[2]
MIGRATE = """
import asyncio, sys
from workers.store import Store

async def main() -> None:
    store = await Store.open(sys.argv[1])
    print(await store.database.meta("link_key"))
    await store.close()

asyncio.run(main())
"""


async def test_the_migrated_schema_is_what_the_tables_say(bare_database_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    store = await Store.open(bare_database_url)
    try:
        async with store.database.read() as connection:
            assert await connection.run_sync(differences) == []
        assert await store.database.schema_version() == newest_version()
    finally:
        await store.close()


async def test_several_processes_may_migrate_at_once(bare_database_url: str) -> None:
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MIGRATE, bare_database_url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    said = [await process.communicate() for process in started]

    assert [(process.returncode, err) for process, (_, err) in zip(started, said, strict=True)] == [
        (0, b"")
    ] * 3
    assert len({out for out, _ in said}) == 1


async def test_without_migration_an_empty_database_is_refused_with_the_remedy(
    bare_database_url: str,
) -> None:
    with pytest.raises(SettingsError, match="duewatch migrate"):
        await Store.open(bare_database_url, migrate=False)


async def test_a_database_that_isnt_there_is_named_without_its_password() -> None:
    with pytest.raises(UnavailableError, match="database_url: can't use") as caught:
        await Store.open("postgresql://ops:secret-word@127.0.0.1:1/none")
    assert "secret-word" not in str(caught.value)


def test_an_instant_without_a_zone_is_refused() -> None:
    from sqlalchemy.dialects import sqlite

    with pytest.raises(ValueError, match="naive instant"):
        Instant().process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001


async def test_instants_come_back_to_the_microsecond(database_url: str, clock: FakeClock) -> None:
    odd = datetime(2026, 10, 25, 1, 30, 0, 123456, tzinfo=UTC)
    async with opened(database_url, clock) as app:
        await app.intake.take([statement(generated_at=odd)])
        (row,) = await app.store.records.find("S1")

        assert row.opened_at == odd
        assert row.opened_at.utcoffset() == timedelta(0)


async def test_a_provider_whose_words_no_database_takes_keeps_nobody_waiting(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement()])
        await app.scan.run("statement")
        lease = timedelta(seconds=60)
        (claimed,) = await app.store.outbox.claim(NOW, 1, lease)
        (row,) = await app.store.records.find("S1")
        async with app.store.database.write() as connection:
            one = Beginning(claimed, "inbox", {row.id: row.revision})
            await app.store.outbox.begin(connection, [one], lease, NOW)
        words, reference = "taken\0 \udce9 ", "\0\udce9" + "x" * 500
        done = Finished(claimed, Outcome.ACCEPTED, S.ACCEPTED, words, reference=reference)
        refused = await app.store.outbox.finish([done], NOW)

        assert refused == 0
        assert await states(app) == {"c1@example.com": "accepted"}


async def test_a_finish_under_an_old_fence_is_refused(database_url: str, clock: FakeClock) -> None:
    lapsed = timedelta(seconds=-1)
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement()])
        await app.scan.run("statement")
        (claimed,) = await app.store.outbox.claim(NOW, 1, lapsed)
        (row,) = await app.store.records.find("S1")
        async with app.store.database.write() as connection:
            one = Beginning(claimed, "inbox", {row.id: row.revision})
            await app.store.outbox.begin(connection, [one], lapsed, NOW)
        swept = await app.store.outbox.sweep({"inbox"}, 10, NOW)
        late = Finished(claimed, Outcome.ACCEPTED, S.ACCEPTED, "late")
        refused = await app.store.outbox.finish([late], NOW)

        assert swept == (1, 0)
        assert refused == 1
        assert await states(app) == {"c1@example.com": "pending"}
