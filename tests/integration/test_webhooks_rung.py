"""Endpoints hear at once of what their own process wrote down, signed as the standard says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from standardwebhooks import Webhook

from tests.fakes.clock import FakeClock
from tests.fakes.webhook_receiver import SECRET, Receiver
from tests.integration.test_webhooks import mailed, sending
from tests.product import contact, opened, partner, planned, statement
from workers import by_hand
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
        app.store.webhooks.on_change(tells.ring)
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


async def test_what_a_person_changed_is_told_at_once_too(
    database_url: str, clock: FakeClock
) -> None:
    everything = {"states": ["cancelled"]}
    async with (
        Receiver() as receiver,
        sending(database_url, clock, 0, erp=receiver.settings(**everything)) as (app, _),
    ):
        tells = Teller(app.store, app.settings.webhooks, "", app.clock, poll_s=600)
        app.store.webhooks.on_change(tells.ring)
        stopping = asyncio.Event()
        running = asyncio.create_task(tells.run(stopping))
        await planned(app, partner(), contact(), statement())
        (row,) = await app.store.operations.notifications(limit=2)
        await by_hand.move(app, row.uid, "cancel", "ann", "not now")
        async with asyncio.timeout(10):
            while not receiver.got:  # noqa: ASYNC110 - it comes by a socket
                await asyncio.sleep(0.01)
        stopping.set()
        await running

        assert [got.event["data"]["state"] for got in receiver.got] == ["cancelled"]


async def test_a_worker_tells_at_once_what_a_web_server_beside_it_changed(
    redis_url: str, database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver() as receiver,
        sending(database_url, clock, 0, erp=receiver.settings()),
    ):
        settings = {"broker_url": redis_url, "webhooks": {"erp": receiver.settings()}}
        async with opened(database_url, clock, **settings) as worker:
            tells = Teller(worker.store, worker.settings.webhooks, "", clock, poll_s=600)
            worker.bell.listen(tells.ring)
            stopping = asyncio.Event()
            running = asyncio.create_task(tells.run(stopping))
            async with opened(database_url, clock, **settings) as web:
                web.store.webhooks.on_change(web.bell.ring)
                await mailed(web, 1)
                async with asyncio.timeout(20):
                    while not receiver.got:  # noqa: ASYNC110 - it comes by a socket
                        await asyncio.sleep(0.01)
            stopping.set()
            await running
            await worker.bell.stop()

        assert [got.event["data"]["state"] for got in receiver.got] == ["accepted"]


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
