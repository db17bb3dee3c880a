"""A provider in trouble is left alone, the next takes over, and the first comes back by a probe."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from sqlalchemy import select, update

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import DROP, SmtpServer
from tests.fakes.twilio_server import DROP as CUT
from tests.fakes.twilio_server import TwilioServer
from tests.product import another, contact, opened, outcomes, planned, statement, states
from workers.app import App
from workers.carriers import LOOK_EVERY_S
from workers.deliver import Delivery
from workers.providers.inbox import Inbox
from workers.store.breakers import BreakerRules, Turn
from workers.store.tables import attempts, provider_states

pytestmark = pytest.mark.slow

DOWN = "421 4.3.2 down for maintenance"
MINUTE = timedelta(minutes=1)


def relays(first: int, second: int, **more: Any) -> dict[str, Any]:
    """Two relays on this machine, the second for when the first is in trouble."""
    common = {"type": "smtp", "host": "127.0.0.1", "tls": "none", "timeout_s": 10}
    return {
        "mail": {"providers": ["first", "second"], "sender": "desk@example.com"},
        "providers": {
            "first": {**common, "port": first, **more},
            "second": {**common, "port": second},
        },
        "delivery": {"breaker_failures": 3, "breaker_open_s": 60},
    }


def gateways(first: TwilioServer, second: TwilioServer) -> dict[str, Any]:
    """Two SMS gateways."""
    common = {"type": "twilio", "account_sid": "AC0123", "auth_token": "tok-secret"}
    return {
        "sms": {"providers": ["first", "second"], "quiet_hours": "none"},
        "providers": {
            "first": {**common, "base_url": first.url, "sender": "+15005550006"},
            "second": {**common, "base_url": second.url, "sender": "+15005550006"},
        },
    }


async def due(app: App, *numbers: int, **more: Any) -> None:
    """A mail to each of these people is due."""
    people = [contact(f"C{n}", partner=f"P{n}", **more) for n in numbers]
    await planned(app, *people, *(statement(f"S{n}", partner=f"P{n}") for n in numbers))


async def due_sms(app: App, *numbers: int) -> None:
    """An SMS to each of these people is due."""
    people = [
        contact(f"C{n}", partner=f"P{n}", mail=None, channels="sms", mobile=f"+86138001380{n:02}")
        for n in numbers
    ]
    await planned(app, *people, *(statement(f"S{n}", partner=f"P{n}") for n in numbers))


async def its_time(app: App) -> None:
    """Lets the time pass that the first provider is left alone."""
    now = await app.store.database.clock()
    async with app.store.database.write() as connection:
        await connection.execute(
            update(provider_states)
            .where(provider_states.c.open_until.is_not(None))
            .values(open_until=now)
        )
    await asyncio.sleep(LOOK_EVERY_S)


async def state_of(app: App, name: str) -> str:
    (shown,) = [one for one in await app.delivery.provider_states() if one.name == name]
    return shown.state


async def tries(app: App) -> list[tuple[str, str]]:
    """All attempts in order: by which provider, and what came of them."""
    async with app.store.database.read() as connection:
        rows = await connection.execute(
            select(attempts.c.provider, attempts.c.outcome).order_by(attempts.c.id)
        )
        return [(row.provider, row.outcome) for row in rows]


async def test_the_next_takes_over_at_once_and_the_first_comes_back_by_one_probe(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={"CONNECT": [DOWN] * 99}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, *range(12))
        await app.delivery.drain()
        at_once = len(second.messages)
        opened_state = await state_of(app, "first")
        refused = first.connections
        await due(app, 20, 21)
        await app.delivery.drain()
        left_alone = first.connections - refused
        first.replies["CONNECT"].clear()
        await its_time(app)
        await due(app, *range(30, 34))
        await app.delivery.drain()
        probed = len(first.messages)
        closed_state = await state_of(app, "first")
        await due(app, *range(40, 44))
        await app.delivery.drain()

        assert at_once == 12, "those that the first refused were handed on"
        assert (opened_state, closed_state) == ("open", "closed")
        assert left_alone == 0
        assert probed == 1
        assert len(first.messages) == 5
        assert len(second.messages) == 12 + 2 + 3
        assert set((await states(app)).values()) == {"accepted"}


async def test_a_single_message_goes_by_the_next_without_waiting(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={"CONNECT": [DOWN]}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, 1)
        await app.delivery.drain()

        assert await tries(app) == [("first", "deferred"), ("second", "accepted")]
        assert await state_of(app, "first") == "closed"


async def test_a_message_that_both_refuse_waits_its_time(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={"CONNECT": [DOWN]}) as first,
        SmtpServer(replies={"CONNECT": [DOWN]}) as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, 1)
        await app.delivery.drain()
        assert await outcomes(app) == ["deferred"] * 2
        clock.advance(3 * MINUTE)
        await app.delivery.drain()

        assert await outcomes(app) == ["deferred", "deferred", "accepted"]


@pytest.mark.parametrize(
    "reply", ["550 5.1.1 no such user", "451 4.2.1 mailbox full", "451 4.3.0 later"]
)
async def test_one_bad_address_never_opens_a_provider(
    reply: str, database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={"RCPT": [reply] * 9}) as first,
        SmtpServer(replies={"RCPT": [reply] * 9}) as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, 1)
        for _ in range(6):
            await app.delivery.drain()
            clock.advance(timedelta(hours=3))

        assert await state_of(app, "first") == "closed"
        assert await state_of(app, "second") == "closed"


async def test_many_refused_recipients_say_nothing_against_the_provider(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={"RCPT": ["451 4.7.1 greylisted"] * 30}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, *range(30))
        await app.delivery.drain()

        assert await state_of(app, "first") == "closed"
        assert second.messages == [], "who greylists one relay would greylist the other"
        assert await outcomes(app) == ["deferred"] * 30


async def test_a_refused_login_opens_a_provider_at_once(
    database_url: str, clock: FakeClock
) -> None:
    login = {"username": "desk", "password": "wrong"}
    async with (
        SmtpServer(users={"desk": "right"}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port, **login)) as app,
    ):
        await due(app, 1)
        await app.delivery.drain()
        (shown, _, _) = await app.delivery.provider_states()

        assert (shown.name, shown.state) == ("first", "open")
        assert "check username, password" in shown.why
        assert len(second.messages) == 1


async def test_failures_among_successes_open_it_by_their_rate(
    database_url: str, clock: FakeClock
) -> None:
    replies = {"MAIL": ["451 4.3.0 out of order", "250 2.1.0 ok"] * 40}
    settings = relays(1, 2)
    async with SmtpServer(replies=replies) as first, SmtpServer() as second:
        settings = relays(first.port, second.port, connections=1)
        settings["delivery"] |= {"concurrency": 2}
        async with opened(database_url, clock, **settings) as app:
            await due(app, *range(40))
            await app.delivery.drain()

            assert await state_of(app, "first") == "open"
            assert set((await states(app)).values()) == {"accepted"}


async def test_of_many_workers_one_sends_the_probe(database_url: str, clock: FakeClock) -> None:
    async with (
        SmtpServer(replies={"CONNECT": [DOWN] * 99}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, *range(6))
        await app.delivery.drain()
        await its_time(app)
        before = first.connections
        await due(app, *range(10, 40))
        await asyncio.gather(*(another(app).drain() for _ in range(4)))

        assert first.connections - before == 1
        assert await state_of(app, "first") == "open"
        assert set((await states(app)).values()) == {"accepted"}


async def test_a_probe_whose_worker_died_is_taken_by_another_when_its_lease_ends(
    database_url: str, clock: FakeClock
) -> None:
    settings = relays(1, 2)
    async with opened(database_url, clock, **settings) as app:
        breakers, lease = app.store.breakers, timedelta(seconds=1)
        async with app.store.database.write() as connection:
            rules = BreakerRules(1, 1.0, 0.01, 0.01)
            await breakers.note(connection, [Turn("first", 1, "down")], rules)
        await its_time(app)

        assert await breakers.take_probe("first", lease)
        for _ in range(3):
            await asyncio.sleep(0.6)
            await breakers.renew_probes({"first"}, lease)
            assert not await breakers.take_probe("first", lease)
        await asyncio.sleep(1.1)
        assert (await breakers.states())["first"].may_probe
        assert await breakers.take_probe("first", lease)


async def test_a_probe_that_fails_leaves_it_alone_for_longer(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={"CONNECT": [DOWN] * 99}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        spans = []
        for round_ in range(3):
            await due(app, *range(round_ * 10, round_ * 10 + 6))
            await app.delivery.drain()
            state = (await app.store.breakers.states())["first"]
            now = await app.store.database.clock()
            assert state.until is not None
            spans.append((state.until - now).total_seconds())
            await its_time(app)

        assert spans[0] <= 60 < spans[1] <= 120 < spans[2] <= 240


async def test_without_another_provider_messages_wait_and_lose_no_attempt(
    database_url: str, clock: FakeClock
) -> None:
    async with SmtpServer(replies={"CONNECT": [DOWN] * 3}) as only:
        settings = relays(only.port, only.port)
        settings["mail"]["providers"] = ["first"]
        settings["delivery"] |= {"concurrency": 2}
        async with opened(database_url, clock, **settings) as app:
            await due(app, *range(20))
            await app.delivery.drain()
            tried = len(await outcomes(app))
            await its_time(app)
            await app.delivery.drain()
            clock.advance(3 * MINUTE)
            await app.delivery.drain()

            assert tried <= 12, "it was left alone before all had failed"
            assert set((await states(app)).values()) == {"accepted"}
            assert len(only.messages) == 20


async def test_a_provider_opened_by_hand_stays_so_until_a_person_closes_it(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer() as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        for state, numbers in (("open", (1, 2)), ("closed", (3, 4))):
            async with app.store.database.write() as connection:
                await app.store.breakers.by_hand(connection, "first", state, "moving", "ops")
            await its_time(app)
            await due(app, *numbers)
            await app.delivery.drain()

        assert [len(one.messages) for one in (first, second)] == [2, 2]


# --- unknown outcomes -------------------------------------------------------------------------


async def test_an_sms_of_unknown_outcome_isnt_handed_to_another_gateway(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        TwilioServer(script=[CUT]) as first,
        TwilioServer() as second,
        opened(database_url, clock, **gateways(first, second)) as app,
    ):
        await due_sms(app, 1)
        for _ in range(3):
            await app.delivery.drain()
            clock.advance(timedelta(hours=1))
        (row,) = await app.store.operations.notifications(state="unknown")

        assert (row.state, row.provider) == ("parked", "first")
        assert (len(first.requests), second.requests) == (1, [])


async def test_an_sms_that_a_gateway_refused_is_handed_to_the_next(
    database_url: str, clock: FakeClock
) -> None:
    busy: Any = (503, {"message": "down"}, {})
    async with (
        TwilioServer(script=[busy]) as first,
        TwilioServer() as second,
        opened(database_url, clock, **gateways(first, second)) as app,
    ):
        await due_sms(app, 1)
        await app.delivery.drain()

        assert await tries(app) == [("first", "deferred"), ("second", "accepted")]


async def test_a_mail_of_unknown_outcome_may_go_by_the_next_with_its_message_id(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={".": [DROP]}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        await due(app, 1)
        await app.delivery.drain()
        async with app.store.database.write() as connection:
            await app.store.breakers.by_hand(connection, "first", "open", "broken", "ops")
        clock.advance(2 * MINUTE)
        await app.delivery.drain()

        ids = [
            re.findall(rb"(?im)^message-id: *(\S+)", one.content)
            for one in (*first.messages, *second.messages)
        ]
        assert await tries(app) == [("first", "unknown"), ("second", "accepted")]
        assert len(ids) == 2
        assert ids[0] == ids[1] != []


class Unrepeatable(Inbox):
    """A carrier of mail whose lost answers can't be answered by a repeat."""

    name: ClassVar[str] = "unrepeatable"
    repeat_is_safe: ClassVar[bool] = False


async def test_a_mail_of_unknown_outcome_isnt_handed_to_one_that_cant_repeat(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={".": [DROP]}) as first,
        SmtpServer() as second,
        opened(database_url, clock, **relays(first.port, second.port)) as app,
    ):
        inbox = app.by_name["inbox"]
        mail = {
            "first": app.by_name["first"],
            "other": Unrepeatable(inbox.settings, inbox.context),
        }
        worker = Delivery(
            app.store,
            app.registry,
            app.renderer,
            {"mail": mail, "sms": app.providers["sms"]},
            app.links,
            app.settings,
            app.clock,
        )
        await due(app, 1)
        await worker.drain()
        for state in ("open", "closed"):
            async with app.store.database.write() as connection:
                await app.store.breakers.by_hand(connection, "first", state, "broken", "ops")
            clock.advance(5 * MINUTE)
            await worker.drain()

        assert await tries(app) == [("first", "unknown"), ("first", "accepted")]


# --- Retry-After ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_is_asked_of_a_gateway_before_its_retry_after(
    status: int, database_url: str, clock: FakeClock
) -> None:
    asks = (status, {"code": 20429, "message": "Too Many Requests"}, {"Retry-After": "1"})
    async with TwilioServer(script=[asks]) as only, TwilioServer() as other:
        settings = gateways(only, other)
        settings["sms"]["providers"] = ["first"]
        settings["delivery"] = {"concurrency": 1}
        async with opened(database_url, clock, **settings) as app:
            await due_sms(app, *range(5))
            await app.delivery.drain()
            await another(app).drain()
            early = len(only.requests)
            await asyncio.sleep(1.1)
            await app.delivery.drain()
            clock.advance(2 * MINUTE)
            await app.delivery.drain()

            assert early == 1
            assert set((await states(app)).values()) == {"accepted"}
            assert len(only.requests) == 6


async def test_a_probe_that_is_asked_to_wait_leaves_it_alone_for_no_longer(
    database_url: str, clock: FakeClock
) -> None:
    asks: tuple[Any, ...] = (503, {}, {"Retry-After": "1"})
    async with TwilioServer(script=[asks, asks]) as only, TwilioServer() as other:
        settings = gateways(only, other)
        settings["sms"]["providers"] = ["first"]
        settings["delivery"] = {"concurrency": 1, "breaker_open_s": 0.1}
        async with opened(database_url, clock, **settings) as app:
            await due_sms(app, *range(5))
            for _ in range(3):
                await app.delivery.drain()
                await asyncio.sleep(1.1)
            clock.advance(2 * MINUTE)
            await app.delivery.drain()

            assert set((await states(app)).values()) == {"accepted"}
            assert len(only.requests) == 7
