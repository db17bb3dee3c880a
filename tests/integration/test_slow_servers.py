"""One slow server holds no more than its share of the places, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import SmtpServer
from tests.fakes.twilio_server import TwilioServer
from tests.integration.test_provider_trouble import due, due_sms, gateways, relays
from tests.product import contact, opened, statement, states
from workers.app import App

pytestmark = pytest.mark.slow


class Tarpit(SmtpServer):
    """Answers RCPT for a domain ("" is any) only when it is let go, and counts who waits."""

    def __init__(self, domain: str) -> None:
        super().__init__()
        self.domain, self.stalled, self.go = domain, 0, asyncio.Event()

    async def _answer(self, session: Any, verb: str, usual: str) -> str:
        if verb == "RCPT" and self.lines[-1].lower().endswith(f"{self.domain}>"):
            self.stalled += 1
            await self.go.wait()
        return await super()._answer(session, verb, usual)


async def until(app: App, addresses: Sequence[str]) -> None:
    """Waits until these are accepted."""
    async with asyncio.timeout(30):
        while True:
            stand = await states(app)
            if all(stand[one] == "accepted" for one in addresses):
                return
            await asyncio.sleep(0.1)


async def test_a_slow_relay_holds_its_share_of_the_places_and_sms_go_on(
    database_url: str, clock: FakeClock
) -> None:
    async with Tarpit("") as slow, TwilioServer() as quick:
        settings = relays(slow.port, slow.port, connections=8)
        settings["mail"]["providers"] = ["first"]
        sms = gateways(quick, quick)
        settings["sms"] = {**sms["sms"], "providers": ["gateway"]}
        settings["providers"]["gateway"] = sms["providers"]["first"]
        settings["delivery"] = {"concurrency": 4, "poll_s": 0.2}
        async with opened(database_url, clock, **settings) as app:
            await due(app, *range(20))
            stopping = asyncio.Event()
            running = asyncio.create_task(app.delivery.run(stopping))
            await asyncio.sleep(0.5)
            await due_sms(app, *range(50, 70))
            await until(app, [f"+86138001380{n}" for n in range(50, 70)])
            held = slow.stalled
            stopping.set()
            slow.go.set()
            await running

            assert held == 2


async def test_a_slow_domain_holds_its_share_of_the_places_and_others_go_on(
    database_url: str, clock: FakeClock
) -> None:
    async with Tarpit("slow.example") as relay:
        settings = relays(relay.port, relay.port, connections=8)
        settings["mail"]["providers"] = ["first"]
        settings["delivery"] = {"concurrency": 4, "poll_s": 0.2, "batch": 10}
        async with opened(database_url, clock, **settings) as app:
            for n in range(40):
                await app.intake.take(
                    [contact(f"C{n}", partner=f"P{n}", mail=f"c{n}@slow.example")]
                )
            await app.intake.take([statement(f"S{n}", partner=f"P{n}") for n in range(40)])
            await app.scan.run("statement")
            stopping = asyncio.Event()
            running = asyncio.create_task(app.delivery.run(stopping))
            await asyncio.sleep(0.5)
            await due(app, *range(50, 70))
            await until(app, [f"c{n}@example.com" for n in range(50, 70)])
            held = relay.stalled
            stopping.set()
            relay.go.set()
            await running

            assert held == 2
