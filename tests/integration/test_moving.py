"""A database is moved whole or not at all, both ways, and the old one sends no more."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.acceptance.shell import ROOT, Shell
from tests.fakes.clock import FakeClock
from tests.product import contact, inbox, opened, planned, statement, states
from workers.errors import StateError
from workers.moving import move_database
from workers.restore import Gate
from workers.settings import Scheduler, State
from workers.store import Store
from workers.store.guard import HOME, REFUSAL
from workers.store.tables import meta, metadata, notifications

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
NONE = lambda *_: None  # noqa: E731
UNTIED = {"scheduler": Scheduler(clock_tolerance_s=0)}
DIES = """
import asyncio, os, signal, sys
from workers.core import utc_now
from workers.moving import move_database

def progress(table: str, done: int, total: int) -> None:
    if table == "attempts":
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(move_database(sys.argv[1], sys.argv[2], utc_now, progress))
"""


@pytest.fixture
def target(postgres_url: str) -> str:
    """An empty database of PostgreSQL, as an operator names it."""
    return postgres_url.replace("+asyncpg", "")


async def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but what is true of one place only."""
    store = await Store.open(url, migrate=False)
    found: dict[str, list[tuple[Any, ...]]] = {}
    try:
        async with store.database.read() as connection:
            for table in metadata.sorted_tables:
                chosen = select(table).order_by(*table.primary_key.columns)
                if table is meta:
                    chosen = chosen.where(meta.c.key.not_in([HOME, REFUSAL]))
                found[table.name] = [tuple(row) for row in await connection.execute(chosen)]
    finally:
        await store.close()
    return found


@asynccontextmanager
async def filled(tmp_path: Path, clock: FakeClock) -> AsyncIterator[str]:
    """A SQLite database in which one message was sent and another waits."""
    url = f"sqlite:///{tmp_path}/source.db"
    async with opened(url, clock) as app:
        await planned(app, contact(), statement())
        await app.delivery.drain()
        await planned(app, contact("C2", partner="P2"), statement("S2", partner="P2"))
    yield url


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_the_demos_database_goes_to_postgresql_and_back_row_by_row(
    tmp_path: Path, target: str
) -> None:
    shell = Shell(tmp_path)
    assert shell("demo", "--once", "--folder", "demo").code == 0
    first = f"sqlite:///{tmp_path}/demo/demo.db"
    last = f"sqlite:///{tmp_path}/last.db"
    before = asyncio.run(content(first))
    assert len(before["notifications"]) > 200

    there = shell("move-database", "--to", target, DATABASE_URL=first)
    assert (there.code, there.err) == (0, "")
    assert "The ledger adds up" in there.out
    assert asyncio.run(content(target)) == before

    back = shell("move-database", "--to", last, DATABASE_URL=target)
    assert (back.code, back.err) == (0, "")
    assert asyncio.run(content(last)) == before


async def test_what_was_moved_there_and_back_is_the_same_row_by_row(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    last = f"sqlite:///{tmp_path}/last.db"
    async with filled(tmp_path, clock) as source:
        before = await content(source)
        await move_database(source, target, clock, NONE)
        assert await content(target) == before
        await move_database(target, last, clock, NONE)

    assert await content(last) == before


async def test_what_was_moved_goes_on_where_it_stood(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    async with filled(tmp_path, clock) as source:
        copied = await move_database(source, target, clock, NONE)

    assert copied["notifications"] == 2
    async with opened(target, clock, **UNTIED, state=State(file=tmp_path / "marks")) as app:
        assert await Gate(app.store, app.settings, clock).look() == ""
        await planned(app, contact("C3", partner="P3"), statement("S3", partner="P3"))
        await app.delivery.drain()
        assert set((await states(app)).values()) == {"accepted"}
        assert await inbox(app) == [f"c{n}@example.com" for n in (1, 2, 3)]


async def test_the_database_that_was_moved_sends_no_more(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    async with filled(tmp_path, clock) as source:
        await move_database(source, target, clock, NONE)
        async with opened(source, clock, **UNTIED, state=State(file=tmp_path / "marks")) as app:
            why = await Gate(app.store, app.settings, clock).look()

    assert "this database was moved to postgresql://" in why
    assert "resume-after-restore" in why
    with pytest.raises(StateError, match="was moved"):
        await move_database(source, f"sqlite:///{tmp_path}/more.db", clock, NONE)


async def test_a_target_that_isnt_empty_is_refused_and_stays_as_it_is(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    async with opened(target, clock) as app:
        await app.intake.take([contact("C9", partner="P9")])
    before = await content(target)
    async with filled(tmp_path, clock) as source:
        with pytest.raises(StateError, match="target isn't empty: its table contacts has 1 rows"):
            await move_database(source, target, clock, NONE)

    assert await content(target) == before


async def test_after_a_failure_the_target_is_empty_and_the_source_goes_on(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    async with filled(tmp_path, clock) as source:
        store = await Store.open(source)
        async with store.database.write() as connection:
            # SQLite keeps what is too long for the column; PostgreSQL doesn't.
            await connection.execute(update(notifications).values(name="x" * 900))
        await store.close()
        with pytest.raises(StateError, match="table notifications: the target refuses"):
            await move_database(source, target, clock, NONE)
        store = await Store.open(source)
        async with store.database.write() as connection:
            await connection.execute(update(notifications).values(name="x"))
        await store.close()
        assert (await move_database(source, target, clock, NONE))["notifications"] == 2


async def test_a_killed_move_leaves_the_target_empty_and_may_be_made_again(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    async with filled(tmp_path, clock) as source:
        dying = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", DIES, source, target), cwd=ROOT
        )
        assert await dying.wait() == -signal.SIGKILL
        async with opened(source, clock, **UNTIED, state=State(file=tmp_path / "marks")) as app:
            gate = Gate(app.store, app.settings, clock)
            assert "this database is being moved to" in await gate.look()
        for _ in range(50):  # PostgreSQL notices a dead client when it next reads from it
            try:
                copied = await move_database(source, target, clock, NONE)
                break
            except StateError:
                await asyncio.sleep(0.2)

    assert copied["notifications"] == 2


async def test_a_source_that_is_being_sent_from_isnt_moved(
    tmp_path: Path, target: str, clock: FakeClock
) -> None:
    async with filled(tmp_path, clock) as source:
        store = await Store.open(source)
        async with store.database.write() as connection:
            await connection.execute(update(notifications).values(state="sending"))
        with pytest.raises(StateError, match="messages are being sent: stop every worker"):
            await move_database(source, target, clock, NONE)
        assert await store.database.remembered(REFUSAL) is None
        await store.close()


def test_an_address_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    wrong = shell("move-database", "--to", "mysql://here")
    same = shell("move-database", "--to", "sqlite:///duewatch.db")

    assert (wrong.code, same.code) == (2, 2)
    assert "must begin with sqlite:/// or postgresql://" in wrong.err
    assert "name another one" in same.err
