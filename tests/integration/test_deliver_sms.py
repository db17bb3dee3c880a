"""SMS: lost answers, limits to a number, countries and quiet hours; both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.twilio_server import DROP as CUT
from tests.fakes.twilio_server import TwilioServer
from tests.product import (
    NOW,
    contact,
    inbox,
    opened,
    outcomes,
    planned,
    reasons,
    statement,
    states,
)
from workers.model import NotificationState

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def twilio(server: TwilioServer, **more: Any) -> dict[str, Any]:
    table = {"base_url": server.url, "account_sid": "AC0123", "auth_token": "tok-secret"}
    return {
        "sms": {"providers": ["twilio"], **more},
        "providers": {"twilio": {**table, "sender": "+15005550006"}},
    }


def mobile(ref: str = "C1", number: str = "+8613800138001", **more: Any) -> Any:
    return contact(ref, mobile=number, mail=None, channels="sms", **more)


async def test_an_sms_whose_answer_was_lost_is_parked_for_a_person(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        TwilioServer(script=[CUT]) as server,
        opened(database_url, clock, **twilio(server)) as app,
    ):
        await planned(app, mobile(), statement())
        await app.delivery.drain()
        clock.advance(DAY / 4)
        await app.delivery.drain()
        (row,) = await app.store.operations.notifications(state="unknown")

        assert row.state == "parked"
        assert row.reason.startswith("unknown outcome: ")
        assert len(server.requests) == 1


async def test_an_sms_that_a_person_releases_is_sent_again(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        TwilioServer(script=[CUT]) as server,
        opened(database_url, clock, **twilio(server)) as app,
    ):
        await planned(app, mobile(), statement())
        await app.delivery.drain()
        (row,) = await app.store.operations.notifications(state="unknown")
        await app.store.operations.move(
            row.uid, NotificationState.PENDING, "ops", "release", "not received", clock()
        )
        await app.delivery.drain()

        assert await outcomes(app) == ["unknown", "accepted"]
        assert len(server.requests) == 2


async def test_a_number_gets_two_sms_a_minute(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock, delivery={"concurrency": 1}) as app:
        people = [mobile(f"C{number}", partner=f"P{number}") for number in range(5)]
        things = [statement(f"S{number}", partner=f"P{number}") for number in range(5)]
        await planned(app, *people, *things)
        seen = []
        for _ in range(3):
            await app.delivery.drain()
            seen.append(len(await inbox(app)))
            clock.advance(MINUTE + MINUTE / 60)

        assert seen == [2, 4, 5]


async def test_a_number_gets_so_many_sms_a_day(database_url: str, clock: FakeClock) -> None:
    settings = {"per_number_a_day": 3, "quiet_hours": "none"}
    async with opened(database_url, clock, sms=settings) as app:
        people = [mobile(f"C{number}", partner=f"P{number}") for number in range(5)]
        things = [statement(f"S{n}", partner=f"P{n}") for n in range(5)]
        await planned(app, *people, *things)
        for _ in range(10):
            await app.delivery.drain()
            clock.advance(2 * MINUTE)
        today = len(await inbox(app))
        clock.advance(DAY)
        await app.delivery.drain()

        assert today == 3
        assert len(await inbox(app)) == 5


async def test_numbers_of_other_countries_fail_and_name_the_setting(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, mobile("C1", "+4915123456789"), mobile("C2"), statement())
        await app.delivery.drain()

        assert await states(app) == {"+4915123456789": "failed", "+8613800138001": "accepted"}
        assert (await reasons(app))["+4915123456789"] == (
            "numbers of DE aren't allowed: add it to sms.countries"
        )


async def test_an_sms_that_quiet_hours_catch_up_with_waits_for_their_end(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(NOW + 11 * HOUR + 55 * MINUTE)
    async with opened(database_url, clock) as app:
        await planned(app, mobile(), statement())
        clock.set(NOW + 12 * HOUR + 5 * MINUTE)
        await app.delivery.drain()
        (row,) = await app.store.operations.notifications()
        clock.set(NOW + 23 * HOUR)
        await app.delivery.drain()

        assert (row.state, row.not_before) == ("pending", NOW + 23 * HOUR)
        assert await states(app) == {"+8613800138001": "accepted"}
