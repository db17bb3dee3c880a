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
            for n in range(20):
                await due_at(app, f"d{n}.example", n)
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


async def due_at(app: App, domain: str, *numbers: int) -> list[str]:
    """A mail to each of these people of a domain is due; returns their addresses."""
    addresses = [f"c{n}@{domain}" for n in numbers]
    people = [
        contact(f"C{n}", partner=f"P{n}", mail=mail)
        for n, mail in zip(numbers, addresses, strict=True)
    ]
    await app.intake.take(people)
    await app.intake.take([statement(f"S{n}", partner=f"P{n}") for n in numbers])
    await app.scan.run("statement")
    return addresses


def one_relay(server: SmtpServer) -> dict[str, Any]:
    """Settings of a worker with four places and one relay for all mail."""
    settings = relays(server.port, server.port, connections=8)
    settings["mail"]["providers"] = ["first"]
    settings["delivery"] = {"concurrency": 4, "poll_s": 0.2, "batch": 10}
    return settings


class Crowded(SmtpServer):
    """Takes half a second for each message and counts how many it has at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = self.most = 0

    async def _answer(self, session: Any, verb: str, usual: str) -> str:
        if verb == ".":
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.5)
            self.inside -= 1
        return await super()._answer(session, verb, usual)


async def test_a_quick_domain_has_every_place_while_nobody_else_waits(
    database_url: str, clock: FakeClock
) -> None:
    async with Crowded() as relay, opened(database_url, clock, **one_relay(relay)) as app:
        addresses = await due_at(app, "only.example", *range(16))
        stopping = asyncio.Event()
        running = asyncio.create_task(app.delivery.run(stopping))
        await until(app, addresses)
        stopping.set()
        await running

        assert relay.most == 4


async def test_a_domain_that_turns_slow_with_every_place_leaves_others_their_share(
    database_url: str, clock: FakeClock
) -> None:
    async with Tarpit("turns.example") as relay:
        relay.go.set()
        async with opened(database_url, clock, **one_relay(relay)) as app:
            stopping = asyncio.Event()
            running = asyncio.create_task(app.delivery.run(stopping))
            await until(app, await due_at(app, "turns.example", *range(8)))
            relay.go.clear()
            relay.stalled = 0
            await due_at(app, "turns.example", *range(20, 60))
            await asyncio.sleep(1)
            others = await due_at(app, "example.com", *range(60, 80))
            await until(app, others)
            held = relay.stalled
            stopping.set()
            relay.go.set()
            await running

            assert held == 4


async def test_a_domain_that_never_answers_doesnt_close_the_relay_for_the_others(
    database_url: str, clock: FakeClock
) -> None:
    async with Tarpit("never.example") as relay:
        settings = one_relay(relay)
        settings["delivery"] |= {"breaker_failures": 2, "breaker_open_s": 60, "concurrency": 8}
        settings["providers"]["first"]["timeout_s"] = 2
        async with opened(database_url, clock, **settings) as app:
            await due_at(app, "never.example", *range(12))
            stopping = asyncio.Event()
            running = asyncio.create_task(app.delivery.run(stopping))
            last = 100
            async with asyncio.timeout(60):
                while relay.stalled < 8:  # others get through all the time
                    last += 1
                    await due_at(app, "example.com", last)
                    app.delivery.ring()
                    await asyncio.sleep(0.1)
            shown = {one.name: one.state for one in await app.delivery.provider_states()}
            timed_out = relay.stalled
            await until(app, [f"c{n}@example.com" for n in range(101, last + 1)])
            stopping.set()
            relay.go.set()
            await running

            assert timed_out >= 4
            assert shown["first"] == "closed"


async def test_a_relay_that_answers_nobody_is_left_alone(
    database_url: str, clock: FakeClock
) -> None:
    async with Tarpit("") as relay:
        settings = one_relay(relay)
        settings["delivery"] |= {"breaker_failures": 2, "breaker_open_s": 60}
        settings["providers"]["first"]["timeout_s"] = 0.4
        async with opened(database_url, clock, **settings) as app:
            await due_at(app, "one.example", *range(4))
            await due_at(app, "two.example", *range(4, 8))
            stopping = asyncio.Event()
            running = asyncio.create_task(app.delivery.run(stopping))
            await asyncio.sleep(1.5)
            shown = {one.name: one.state for one in await app.delivery.provider_states()}
            stopping.set()
            relay.go.set()
            await running

            assert shown["first"] == "open"
