"""What a number gets in a minute and a day, however many workers send at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.fakes.clock import FakeClock
from tests.fakes.twilio_server import DROP as CUT
from tests.fakes.twilio_server import TwilioServer
from tests.product import NOW, another, contact, opened, planned, statement
from workers.app import App
from workers.numbers import A_MINUTE
from workers.store.tables import attempts

pytestmark = pytest.mark.slow

MINUTE = timedelta(minutes=1)
WORKERS = 5


def gateway(server: TwilioServer, **sms: Any) -> dict[str, Any]:
    """Settings of a worker that hands over one SMS at a time, at any hour."""
    table = {"base_url": server.url, "account_sid": "AC0123", "auth_token": "tok-secret"}
    return {
        "sms": {"providers": ["twilio"], "quiet_hours": "none", **sms},
        "providers": {"twilio": {**table, "sender": "+15005550006"}},
        "delivery": {"concurrency": 2, "batch": 2},
    }


async def due(app: App, numbers: int, to_each: int) -> None:
    """So many SMS are due to each number, each to somebody else there."""
    people, things = [], []
    for n in range(numbers * to_each):
        mobile = f"+861380013800{n % numbers}"
        people.append(contact(f"C{n}", partner=f"P{n}", mail=None, channels="sms", mobile=mobile))
        things.append(statement(f"S{n}", partner=f"P{n}"))
    await planned(app, *people, *things)


def got(server: TwilioServer) -> Counter[str]:
    """How many SMS each number was sent."""
    return Counter(one["To"] for one in server.requests)


async def all_at_once(app: App) -> None:
    """Several workers send what is due at the same time."""
    await asyncio.gather(*(another(app).drain() for _ in range(WORKERS)))


async def test_workers_that_send_at_once_never_give_a_number_more_than_two_a_minute(
    database_url: str, clock: FakeClock
) -> None:
    async with TwilioServer() as server, opened(database_url, clock, **gateway(server)) as app:
        await due(app, numbers=3, to_each=10)
        seen = []
        for _ in range(3):
            before = got(server)
            await all_at_once(app)
            seen.append(got(server) - before)
            clock.advance(MINUTE + timedelta(seconds=1))

        assert [set(one.values()) for one in seen] == [{A_MINUTE}] * 3
        assert [len(one) for one in seen] == [3] * 3
        waits = await app.store.operations.notifications(state="pending")
        assert {one.reason for one in waits} == {"put off: two SMS a minute to a number"}


async def test_workers_that_send_at_once_never_give_a_number_more_than_its_day_allows(
    database_url: str, clock: FakeClock
) -> None:
    settings = {"per_number_a_day": 5}
    async with (
        TwilioServer() as server,
        opened(database_url, clock, **gateway(server, **settings)) as app,
    ):
        await due(app, numbers=2, to_each=10)
        for _ in range(6):
            await all_at_once(app)
            clock.advance(2 * MINUTE)

        assert set(got(server).values()) == {5}


async def test_an_sms_under_way_and_one_without_an_answer_count(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        TwilioServer(script=[CUT]) as server,
        opened(database_url, clock, **gateway(server)) as app,
    ):
        await due(app, numbers=1, to_each=4)
        await app.delivery.drain()
        sent = got(server)
        clock.advance(MINUTE * 5)
        async with app.store.database.write() as connection:
            # One of them hangs with its gateway since it began.
            await connection.execute(
                update(attempts).where(attempts.c.id == 1).values(ended_at=None, outcome=None)
            )
            found = await app.store.limits.sms_to(
                connection, ["+8613800138000", "+8613800138001"], clock() - MINUTE, NOW
            )

        assert sent.total() == A_MINUTE
        assert found == {"+8613800138000": (1, A_MINUTE), "+8613800138001": (0, 0)}
        async with app.store.database.write() as connection:
            await connection.execute(
                update(attempts).where(attempts.c.id == 1).values(ended_at=NOW, outcome="unknown")
            )
