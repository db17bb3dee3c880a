"""Paces and money that all workers share: so much a second, a minute, a domain and a day."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import SmtpServer
from tests.fakes.twilio_server import TwilioServer
from tests.product import another, contact, opened, planned, reasons, smtp, statement, states
from workers.app import App
from workers.store.limits import MINUTE, Pace
from workers.store.tables import expenses, paces

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


async def due(app: App, *addresses: str) -> None:
    """A mail to each of these addresses is due."""
    people = [
        contact(f"C{one}", partner=f"P{number}", mail=one) for number, one in enumerate(addresses)
    ]
    things = [statement(f"S{number}", partner=f"P{number}") for number in range(len(addresses))]
    await planned(app, *people, *things)


async def due_sms(app: App, count: int) -> None:
    """So many SMS are due, each to a number of its own."""
    people = [
        contact(f"C{n}", partner=f"P{n}", mail=None, channels="sms", mobile=f"+86138001380{n:02}")
        for n in range(count)
    ]
    await planned(app, *people, *(statement(f"S{n}", partner=f"P{n}") for n in range(count)))


async def a_day_later(app: App) -> None:
    """The database's day can't be moved, so what was spent today is forgotten."""
    async with app.store.database.write() as connection:
        await connection.execute(delete(expenses))


async def all_paid_back(app: App) -> None:
    """Fills every bucket."""
    now = await app.store.database.clock()
    async with app.store.database.write() as connection:
        await connection.execute(
            update(paces).values(free_at=now - DAY, slow_until=None, slowed_to=None)
        )


def paid(server: TwilioServer, most: str) -> dict[str, Any]:
    """A gateway whose SMS cost 0.05 a part, and at most so much a day."""
    return {
        "sms": {
            "providers": ["twilio"],
            "quiet_hours": "none",
            "price_per_part": "0.05",
            "money_a_day": most,
        },
        "providers": {
            "twilio": {
                "base_url": server.url,
                "account_sid": "AC0123",
                "auth_token": "tok-secret",
                "sender": "+15005550006",
            }
        },
    }


async def parts_of_one(app: App) -> int:
    """How many parts the SMS of these tests has."""
    spent = await app.delivery.purse.spent_today()
    return int(spent / app.settings.sms.price_per_part)


# --- providers --------------------------------------------------------------------------------


async def test_workers_share_a_providers_pace_of_a_second(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer() as server,
        opened(database_url, clock, **smtp(server.port, per_second=10)) as app,
    ):
        await due(app, *(f"c{n}@example.com" for n in range(40)))
        began = time.monotonic()
        stopping = asyncio.Event()
        workers = [asyncio.create_task(another(app).run(stopping)) for _ in range(3)]
        while len(server.messages) < 40:
            clock.advance(timedelta(seconds=0.05))
            await asyncio.sleep(0.05)
        took = time.monotonic() - began
        stopping.set()
        await asyncio.gather(*workers)

        # Ten at once, and the other thirty at ten a second.
        assert 2.9 <= took < 20
        assert len(server.messages) == 40


async def test_what_a_minutes_pace_doesnt_allow_stays_pending(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer() as server,
        opened(database_url, clock, **smtp(server.port, per_minute=20)) as app,
    ):
        await due(app, *(f"c{n}@example.com" for n in range(30)))
        began = time.monotonic()
        sends = [asyncio.create_task(another(app).drain()) for _ in range(2)]
        async with asyncio.timeout(60):
            while len(server.messages) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # what goes beyond the pace goes at once
        (shown, _) = await app.delivery.provider_states()
        sent, took = len(server.messages), time.monotonic() - began
        await all_paid_back(app)
        await asyncio.wait_for(asyncio.gather(*sends), 60)
        clock.advance(MINUTE)
        await app.delivery.drain()

        # A bucket of twenty fills by one every three seconds.
        assert 20 <= sent <= 20 + took / 3
        assert shown.used in ({"minute": (19, 20)}, {"minute": (20, 20)})
        assert Counter((await states(app)).values()) == {"accepted": 30}


async def test_buckets_give_no_more_than_they_hold_however_many_take_at_once(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        one, other = Pace("domain|a", 50, MINUTE), Pace("domain|b", 30, MINUTE)

        async def take() -> int:
            async with app.store.database.write() as connection:
                given = await app.store.limits.take(connection, {other: 7, one: 7})
                return given[one.name].granted

        granted = await asyncio.gather(*(take() for _ in range(12)))
        free = await app.store.limits.free([one, other])

        # A token that the bucket got back in the meantime may be among them.
        assert 50 <= sum(granted) <= 52
        assert free[other.name].granted <= 1
        assert free[other.name].wait > timedelta(0)


# --- domains ----------------------------------------------------------------------------------


async def test_a_domain_gets_so_many_mails_a_minute_and_others_go_on(
    database_url: str, clock: FakeClock
) -> None:
    settings = smtp(1)
    async with SmtpServer() as server:
        settings = smtp(server.port)
        settings["mail"]["per_domain_per_minute"] = 3
        async with opened(database_url, clock, **settings) as app:
            await due(app, *(f"c{n}@example.com" for n in range(6)), "a@other.example")
            await asyncio.gather(*(another(app).drain() for _ in range(2)))
            first = await states(app)
            why = set((await reasons(app)).values()) - {""}
            rows = await app.store.operations.notifications(state="pending")
            waits = sorted((row.not_before - clock()).total_seconds() for row in rows)
            await all_paid_back(app)
            clock.advance(10 * MINUTE)
            await app.delivery.drain()

            assert Counter(first.values()) == {"accepted": 4, "pending": 3}
            assert first["a@other.example"] == "accepted"
            assert why == {"put off: example.com takes no more just now"}
            assert waits[0] > 15
            assert Counter((await states(app)).values()) == {"accepted": 7}


async def test_a_domain_that_asks_for_less_is_slowed_down_by_itself(
    database_url: str, clock: FakeClock
) -> None:
    replies = {"RCPT": ["451 4.7.28 too many messages, rate limited"]}
    async with (
        SmtpServer(replies=replies) as server,
        opened(database_url, clock, **smtp(server.port, connections=1)) as app,
    ):
        await due(app, "first@example.com")
        await app.delivery.drain()
        await due(app, *(f"c{n}@example.com" for n in range(5)), "a@other.example")
        await app.delivery.drain()
        async with app.store.database.read() as connection:
            found = await connection.execute(
                select(paces.c.slowed_to).where(paces.c.name == "domain|example.com")
            )
            slowed_to = found.scalar_one()
        (shown, _) = await app.delivery.provider_states()
        after = await states(app)

        assert slowed_to == 30
        assert after["a@other.example"] == "accepted"
        assert Counter(after.values()) == {"accepted": 2, "pending": 5}
        assert shown.state == "closed"


async def test_paces_that_are_full_for_a_day_are_forgotten(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        async with app.store.database.write() as connection:
            pace = Pace("domain|old.example", 5, MINUTE)
            await app.store.limits.take(connection, {pace: 1})
            await app.store.limits.take(connection, {Pace("domain|new.example", 5, MINUTE): 1})
            await connection.execute(
                update(paces)
                .where(paces.c.name == pace.name)
                .values(free_at=await app.store.database.clock() - 2 * DAY)
            )
        await app.store.limits.forget_old()
        async with app.store.database.read() as connection:
            kept = list((await connection.execute(select(paces.c.name))).scalars())

        assert kept == ["domain|new.example"]


# --- money ------------------------------------------------------------------------------------


async def test_sms_beyond_the_days_money_wait_for_the_next_day_and_somebody_sees_it(
    database_url: str, clock: FakeClock
) -> None:
    async with TwilioServer() as server:
        async with opened(database_url, clock, **paid(server, "100")) as app:
            await due_sms(app, 1)
            await app.delivery.drain()
            parts = await parts_of_one(app)
            await a_day_later(app)
        cap = str(3 * parts * app.settings.sms.price_per_part)
        async with opened(database_url, clock, **paid(server, cap)) as app:
            people = [
                contact(
                    f"D{n}",
                    partner=f"Q{n}",
                    mail=None,
                    channels="sms",
                    mobile=f"+86138001390{n:02}",
                )
                for n in range(8)
            ]
            await planned(app, *people, *(statement(f"T{n}", partner=f"Q{n}") for n in range(8)))
            await asyncio.gather(*(another(app).drain() for _ in range(3)))
            sent = len(server.requests) - 1
            needs = await app.store.operations.needs_a_person()
            rows = await app.store.operations.notifications(state="pending")
            waits = {row.not_before - clock() for row in rows}
            spent = await app.delivery.purse.spent_today()

            assert sent == 3
            assert needs["unpaid SMS"] == 5
            assert {row.reason for row in rows} == {"put off: sms.money_a_day is spent"}
            assert all(timedelta(0) < wait <= DAY for wait in waits)
            assert str(spent) == str(app.settings.sms.money_a_day)
            await a_day_later(app)
            clock.advance(DAY)
            await app.delivery.drain()
            assert len(server.requests) - 1 == 6


async def test_money_of_an_sms_that_nobody_took_is_given_back(
    database_url: str, clock: FakeClock
) -> None:
    refused: Any = (400, {"code": 21606, "message": "the sender can't send"}, {})
    never: Any = (400, {"code": 30008, "message": "refused"}, {})
    async with (
        TwilioServer(script=[refused, never]) as server,
        opened(database_url, clock, **paid(server, "100")) as app,
    ):
        await due_sms(app, 2)
        await app.delivery.drain()

        assert len(server.requests) == 2
        assert await app.delivery.purse.spent_today() == 0
