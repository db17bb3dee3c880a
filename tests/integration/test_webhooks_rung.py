"""Endpoints hear at once of what their own process wrote down, signed as the standard says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from standardwebhooks import Webhook

from tests.fakes.clock import FakeClock
from tests.fakes.webhook_receiver import SECRET, Receiver
from tests.integration.test_webhooks import mailed, sending
from workers.webhooks.teller import Teller


async def test_what_this_process_wrote_down_is_told_without_waiting_for_the_next_look(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver() as receiver,
        sending(database_url, clock, erp=receiver.settings()) as (app, idle),
    ):
        await idle.drain()
        endpoints, stopping = app.settings.webhooks, asyncio.Event()
        # Between two looks there is longer than the test may take.
        tells = Teller(app.store, endpoints, "", app.clock, poll_s=600)
        app.delivery.on_recorded = tells.ring
        running = asyncio.create_task(tells.run(stopping))
        await asyncio.sleep(0.2)
        await mailed(app, 7)
        for _ in range(1000):
            if len(receiver.got) == 2:
                break
            await asyncio.sleep(0.01)
        stopping.set()
        await running

        assert [got.event["data"]["records"][0]["ref"] for got in receiver.got] == ["S1", "S7"]


async def test_it_is_signed_as_the_standards_own_library_signs(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver() as receiver,
        sending(database_url, clock, erp=receiver.settings()) as (_, tells),
    ):
        await tells.drain()
        (got,) = receiver.got
        at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)

        assert got.headers["webhook-signature"] == Webhook(SECRET).sign(
            got.uid, at, got.body.decode()
        )
