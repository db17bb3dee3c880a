"""A worker that is killed is replaced in time, with the settings as they come."""

# ruff: noqa: ASYNC110 - of another process one can only look whether it has got there
from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import HANG, SmtpServer
from tests.faults.test_crashes import MESSAGES, copies, number, plan, until, worker
from tests.product import another, opened, smtp
from workers.store.tables import notifications

pytestmark = pytest.mark.slow


@pytest.mark.timeout(180)
@pytest.mark.parametrize("verb", ["MAIL", "."])
async def test_a_killed_workers_messages_go_out_within_twenty_seconds_by_default(
    verb: str, database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={verb: [HANG] * 4}) as server,
        opened(database_url, clock, **smtp(server.port)) as app,
    ):
        await plan(app)
        async with worker("defaults", database_url, server.port) as process:
            await until(lambda: server.replies[verb] == [])
            stopping = asyncio.Event()
            survivor = asyncio.create_task(another(app).run(stopping))
            await asyncio.sleep(1)
            process.kill()
            await process.wait()
            died_at = time.monotonic()
        async with asyncio.timeout(60):
            while await number(app, notifications.c.state.in_(["pending", "sending"])):
                await asyncio.sleep(0.1)
        took = time.monotonic() - died_at
        stopping.set()
        await survivor
        print(f"killed at {verb} ({app.store.database.dialect}): all sent after {took:.1f} s")

        assert took <= 20
        assert len(copies(server)) == MESSAGES
