"""kill -9 at each point of a send and in the middle of a scan: nothing is lost, nothing is doubled
but what was in the gap between the content and its answer, and that under the same Message-ID.
"""

# ruff: noqa: ASYNC110 - of another process one can only look whether it has got there
from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, select

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import HANG, SmtpServer
from tests.product import NOW, contact, opened, smtp, statement
from workers.app import App
from workers.store.tables import attempts, notifications, occurrences

ROOT = Path(__file__).parents[2]
MESSAGES = 6
HANGING = 4
"""As many as a worker of these tests has connections."""
LEASE = {"lease_s": 2, "poll_s": 0.1}


@asynccontextmanager
async def worker(what: str, url: str, port: int = 1) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process; killed at the end at the latest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.worker", what, url, str(port)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.01)


async def number(app: App, *where: object, table: object = notifications) -> int:
    async with app.store.database.read() as connection:
        statement_ = select(func.count()).select_from(table).where(*where)  # type: ignore[arg-type]
        return int((await connection.execute(statement_)).scalar_one())


async def plan(app: App) -> None:
    people = [contact(f"C{n}", partner=f"P{n}") for n in range(MESSAGES)]
    things = [statement(f"S{n}", partner=f"P{n}") for n in range(MESSAGES)]
    await app.intake.take([*people, *things])
    await app.scan.run("statement")


async def finish(app: App, clock: FakeClock) -> None:
    """What another process does once the dead one's lease has ended."""
    async with asyncio.timeout(60):
        while await number(app, notifications.c.state.in_(["pending", "sending"])):
            await asyncio.sleep(0.2)
            clock.advance(timedelta(minutes=5))
            await app.delivery.drain()


def copies(server: SmtpServer) -> Counter[str]:
    return Counter(address for message in server.messages for address in message.recipients)


def message_ids(server: SmtpServer) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for message in server.messages:
        ids = re.findall(rb"(?im)^message-id: *(\S+)", message.content)
        found.setdefault(message.recipients[0], set()).update(ids)
    return found


async def unknowns(app: App) -> set[str]:
    """Whose message had an attempt of unknown outcome."""
    async with app.store.database.read() as connection:
        rows = await connection.execute(
            select(notifications.c.address)
            .join(attempts, attempts.c.notification_id == notifications.c.id)
            .where(attempts.c.outcome == "unknown")
        )
        return set(rows.scalars())


async def test_killed_after_the_claim_nothing_was_begun(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer() as server,
        opened(database_url, clock, **smtp(server.port), delivery=LEASE) as app,
    ):
        await plan(app)
        async with worker("stall", database_url, server.port) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"stalled\n"
            claimed = await number(app, notifications.c.fence == 1)
            process.kill()
            await process.wait()
        begun = await number(app, table=attempts)
        await finish(app, clock)

        assert (claimed, begun) == (MESSAGES, 0)
        assert set(copies(server).values()) == {1}
        assert len(copies(server)) == MESSAGES
        assert await unknowns(app) == set()


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_killed_before_the_content_went_out_each_comes_once(
    verb: str, database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={verb: [HANG] * HANGING}) as server,
        opened(database_url, clock, **smtp(server.port), delivery=LEASE) as app,
    ):
        await plan(app)
        async with worker("deliver", database_url, server.port) as process:
            await until(lambda: server.replies[verb] == [])
            process.kill()
            await process.wait()
        sending = await number(app, notifications.c.state == "sending")
        await finish(app, clock)

        # Those that wait for a connection may not have begun yet, or no longer be under a lease.
        assert HANGING <= sending <= MESSAGES
        assert set(copies(server).values()) == {1}
        assert len(copies(server)) == MESSAGES
        assert len(await unknowns(app)) == sending


async def test_killed_between_the_content_and_its_answer_only_those_come_twice(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={".": [HANG, HANG]}) as server,
        opened(database_url, clock, **smtp(server.port), delivery=LEASE) as app,
    ):
        await plan(app)
        async with worker("deliver", database_url, server.port) as process:
            await until(lambda: len(server.messages) == MESSAGES)
            async with asyncio.timeout(20):
                while await number(app, notifications.c.state == "accepted") < MESSAGES - 2:
                    await asyncio.sleep(0.02)
            process.kill()
            await process.wait()
        await finish(app, clock)

        twice = {address for address, count in copies(server).items() if count > 1}
        assert len(copies(server)) == MESSAGES
        assert max(copies(server).values()) == 2
        assert len(twice) == 2
        assert twice == await unknowns(app)
        assert all(len(ids) == 1 for ids in message_ids(server).values())


@asynccontextmanager
async def nothing_can_be_written(url: str) -> AsyncIterator[None]:
    """Holds the database's write lock, or on PostgreSQL the lock of each notification."""
    if url.startswith("sqlite"):
        held = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            held.execute("ROLLBACK")
            held.close()
        return
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM notifications FOR UPDATE")
            yield
    finally:
        await connection.close()


class Waiting(SmtpServer):
    """Answers the final dot only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.answered = 0

    async def _answer(self, session: object, verb: str, usual: str) -> str:
        if verb == ".":
            await self.go.wait()
            self.answered += 1
        return await super()._answer(session, verb, usual)  # type: ignore[arg-type]


async def test_killed_between_the_answer_and_its_record_only_those_come_twice(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Waiting() as server,
        opened(database_url, clock, **smtp(server.port), delivery=LEASE) as app,
    ):
        await plan(app)
        async with worker("deliver", database_url, server.port) as process:
            await until(lambda: len(server.messages) == 4)  # as many as there are connections
            async with nothing_can_be_written(database_url):
                server.go.set()
                await until(lambda: server.answered == MESSAGES)
                await asyncio.sleep(0.2)
                process.kill()
                await process.wait()
        await finish(app, clock)

        assert copies(server) == {f"c{n}@example.com": 2 for n in range(MESSAGES)}
        assert len(await unknowns(app)) == MESSAGES
        assert all(len(ids) == 1 for ids in message_ids(server).values())


async def test_killed_in_the_middle_of_a_scan_each_stage_is_planned_once(
    database_url: str, clock: FakeClock
) -> None:
    count = 2000
    async with opened(database_url, clock) as app:
        people = [contact(f"C{n}", partner=f"P{n}") for n in range(count // 5)]
        things = [statement(f"S{n}", partner=f"P{n % (count // 5)}") for n in range(count)]
        await app.intake.take([*people, *things])
        async with worker("scan", database_url) as process:
            async with asyncio.timeout(30):
                while not (before := await number(app, table=occurrences)):
                    await asyncio.sleep(0.005)
            process.kill()
            await process.wait()
        killed_at = await number(app, table=occurrences)
        await app.scan.run("statement")

        assert 0 < before <= killed_at < count
        assert await number(app, occurrences.c.dropped.is_(None), table=occurrences) == count
        assert await number(app) == count // 5
        assert clock() == NOW
