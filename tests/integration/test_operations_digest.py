"""A month's figures are counted from what is stored, once, and told; on both databases."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schedules.people import CustomerData, SpendData
from tests.fakes.clock import FakeClock
from tests.product import contact, inbox, opened, partner, record, statement, states
from workers.app import App
from workers.errors import InputError
from workers.intake import Incoming
from workers.operations_digest import KIND, digest_ref, gather, make, make_due, partners_of

BEIJING = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)


def beijing(month: int, day: int, hour: int = 9, *, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=BEIJING).astimezone(UTC)


def customer(ref: str, since: str, **more: Any) -> Incoming:
    data = {"ref": ref, "partner": "P1", "associated_on": since, **more}
    return Incoming(CustomerData.model_validate(data))


def spend(customer: str, month: str, cash: str, other: str = "0", **more: Any) -> Incoming:
    data = {
        "customer": customer,
        "partner": "P1",
        "month": month,
        "cash": cash,
        "other": other,
        **more,
    }
    return Incoming(SpendData.model_validate(data))


def supervisor(ref: str = "boss", **more: Any) -> Incoming:
    return contact(ref, "supervisor", **more)


async def kept(app: App) -> list[str]:
    return [row.ref for row in await app.store.records.search(kind=KIND)]


async def reminded_in_october(app: App, clock: FakeClock) -> None:
    """Three statements reminded of on 22 October: one closed in two days, one in nine, one open."""
    clock.set(beijing(10, 22))
    await app.intake.take([contact(), *(_due(f"S{number}") for number in (1, 2, 3))])
    await app.scan.run("statement")
    await app.delivery.drain()
    clock.set(beijing(10, 24))
    await app.intake.take([_due("S1", status="CONFIRMED", updated_at=beijing(10, 24))])
    clock.set(beijing(10, 31))
    await app.intake.take([_due("S2", status="CONFIRMED", updated_at=beijing(10, 31))])


def _due(ref: str, **more: Any) -> Incoming:
    """A statement whose stage two working days before the end falls on Thursday 22 October."""
    given = {"generated_at": beijing(10, 12), "confirm_by": "2026-10-26", **more}
    return statement(ref, **given)


async def test_customers_are_counted_by_year_type_and_month(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(beijing(11, 2))
    async with opened(database_url, clock) as app:
        await app.intake.take(
            [
                customer("C1", "2024-03-01", association_type="顾问销售"),
                customer("C2", "2025-12-31 23:59", association_type="2"),
                # came at the stroke of a new year in Beijing, and left in October
                customer("C3", "2026-01-01 00:00", left_on="2026-10-05"),
                customer("C4", "2026-10-31 23:00", association_type="RESALE"),
                customer("C5", "2026-11-01 00:00"),
                customer("X1", "2024-03-01", partner="P2"),
            ]
        )
        found = await gather(app, "P1", "2026-10", clock())

    assert (found.customers, found.joined, found.left) == (3, 1, 1)
    assert [(one.period, one.customers, one.joined, one.left) for one in found.years] == [
        ("2024", 1, 1, 0),
        ("2025", 2, 1, 0),
        ("2026-10", 3, 2, 1),
    ]
    assert [(one.type, one.customers) for one in found.types] == [("RESALE", 2), ("REFERRAL", 1)]
    assert [one.customers for one in found.months][-3:] == [3, 3, 3]
    assert len(found.months) == 12


async def test_cash_is_told_from_other_spend_and_currencies_are_not_mixed(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(beijing(11, 2))
    async with opened(database_url, clock) as app:
        await app.intake.take(
            [
                customer("C1", "2026-08-01"),
                customer("C2", "2026-08-01"),
                spend("C1", "2026-10", "100.10", "20"),
                spend("C1", "2026-10", "7", currency="USD"),
                spend("C2", "2026-10", "0", "300"),
                spend("C2", "2026-09", "50.05"),
                spend("C1", "2025-10", "999"),  # thirteen months ago
                spend("C9", "2026-10", "999", partner="P2"),
            ]
        )
        found = await gather(app, "P1", "2026-10", clock())

    assert [(one.month, one.with_cash) for one in found.months][-2:] == [
        ("2026-09", 1),
        ("2026-10", 1),
    ]
    assert [(one.currency, one.month, one.cash, one.other) for one in found.spends] == [
        ("CNY", "2026-09", Decimal("50.05"), Decimal("0.00")),
        ("CNY", "2026-10", Decimal("100.10"), Decimal("320.00")),
        ("USD", "2026-10", Decimal("7.00"), Decimal("0.00")),
    ]
    assert found.months[0].month == "2026-08"


async def test_what_reminders_led_to_is_counted_by_rule_and_stage(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await reminded_in_october(app, clock)
        early = await gather(app, "P1", "2026-10", beijing(10, 25))
        found = await gather(app, "P1", "2026-10", beijing(11, 2))
        other = await gather(app, "P2", "2026-10", beijing(11, 2))

    (stage,) = found.stages
    assert (stage.kind, stage.stage, stage.told) == ("statement", "T-2", 3)
    # nine days after the reminder is too late to have been led to by it
    assert (stage.closed, stage.early, stage.median_days) == (1, 0, Decimal("2.0"))
    assert (found.mails, found.sms) == (1, 0)
    # after three days nothing can be said of what is still open
    assert [(one.closed, one.early) for one in early.stages] == [(1, 1)]
    assert other.stages == ()


async def test_a_month_that_lies_ahead_is_refused(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        with pytest.raises(InputError, match="2026-12 hasn't begun: choose one up to 2026-11"):
            await gather(app, "P1", "2026-12", clock())


async def test_last_months_digest_is_made_on_the_first_working_morning(
    database_url: str, clock: FakeClock
) -> None:
    # 1 to 7 October 2026 are days off, so that the first working day is Thursday the 8th
    async with opened(database_url, clock) as app:
        clock.set(beijing(9, 30))
        await app.intake.take([customer("C1", "2026-03-01"), partner("P2")])
        made = []
        for day, hour in ((1, 9), (7, 12), (8, 7), (8, 8), (8, 9), (9, 9)):
            made.append(await make_due(app, clock.set(beijing(10, day, hour))))

        assert made == [0, 0, 0, 1, 0, 0]
        assert await kept(app) == ["P1:2026-09"]


async def test_after_a_long_downtime_no_old_digest_is_made(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([customer("C1", "2026-03-01")])

        assert await make_due(app, beijing(10, 28, 8)) == 0
        assert await make_due(app, beijing(10, 27)) == 1


async def test_two_schedulers_make_and_tell_a_digest_once(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(beijing(11, 2))
    async with opened(database_url, clock) as app:
        await app.intake.take([supervisor(), customer("C1", "2026-03-01")])
        await asyncio.gather(make_due(app, clock()), make_due(app, clock() + timedelta(seconds=1)))
        await app.scan.run(KIND)
        await make_due(app, clock.advance(timedelta(hours=1)))
        await app.scan.run(KIND)
        await app.delivery.drain()

        assert await kept(app) == ["P1:2026-10"]
        assert await inbox(app) == ["boss@example.com"]


async def test_a_partner_that_was_only_reminded_has_a_digest_too(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await reminded_in_october(app, clock)

        assert await partners_of(app, "2026-10") == ["P1"]
        assert await partners_of(app, "2026-11") == []
        assert await make_due(app, clock.set(beijing(11, 2))) == 1


async def test_a_digest_is_no_reminder_and_brings_no_digest_of_its_own(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(beijing(11, 2))
    async with opened(database_url, clock) as app:
        await app.intake.take([supervisor(partner="P2"), customer("C1", "2026-03-01")])
        await app.intake.take([_made("P2")])
        await app.scan.run(KIND)
        await app.delivery.drain()
        found = await gather(app, "P2", "2026-11", clock() + DAY)

        assert await inbox(app) == ["boss@example.com"]
        assert (found.mails, found.stages) == (0, ())
        assert await partners_of(app, "2026-11") == ["P1"]


def _made(partner: str) -> Incoming:
    data = {"ref": digest_ref(partner, "2026-10"), "partner": partner, "month": "2026-10"}
    return record(KIND, {**data, "made_at": beijing(11, 2)})


async def test_what_is_made_on_demand_is_told_again_and_the_full_month_still_comes(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(beijing(10, 20))
    async with opened(database_url, clock) as app:
        await app.intake.take([supervisor(), customer("C1", "2026-03-01")])
        for edition in ("20261020T010000Z", "20261020T020000Z"):
            await make(app, await gather(app, "P1", "2026-10", clock(), edition))
            await app.scan.run(KIND)
            await app.delivery.drain()
            clock.advance(timedelta(hours=1))

        assert len(await inbox(app)) == 2
        assert await make_due(app, clock.set(beijing(11, 2))) == 1
        await app.scan.run(KIND)
        await app.delivery.drain()
        assert len(await inbox(app)) == 3


async def test_a_rule_that_is_switched_off_makes_nothing(
    database_url: str, clock: FakeClock
) -> None:
    off = {KIND: {"enabled": False}}
    async with opened(database_url, clock, rules=off) as app:
        await app.intake.take([customer("C1", "2026-03-01")])

        assert await make_due(app, beijing(11, 2)) == 0


async def test_the_mail_is_sent_even_to_a_partner_without_any_customers(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await reminded_in_october(app, clock)
        await app.intake.take([supervisor()])
        await make_due(app, clock.set(beijing(11, 2)))
        await app.scan.run(KIND)
        await app.delivery.drain()

        assert (await states(app))["boss@example.com"] == "accepted"


async def test_the_mail_shows_its_charts_and_hands_out_the_workbook(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(beijing(11, 2))
    async with opened(database_url, clock) as app:
        people = [supervisor(language="zh-CN"), customer("C1", "2026-03-01")]
        await app.intake.take([*people, spend("C1", "2026-10", "88.80")])
        await make_due(app, clock())
        await app.scan.run(KIND)
        await app.delivery.drain()
        (row,) = await app.store.operations.kept(limit=10)
        whole = await app.store.operations.kept_one(row.uid)
        mail = email.message_from_bytes(whole.source, policy=email.policy.default)
    parts = list(mail.walk())
    page = next(part for part in parts if part.get_content_type() == "text/html").get_content()
    shown = {str(part["Content-ID"]).strip("<>") for part in parts if part["Content-ID"]}

    assert shown == set(re.findall(r'src="cid:([^"]+)"', page))
    assert len(shown) == 8
    assert [part.get_filename() for part in mail.iter_attachments()] == ["运营月报_P1_2026-10.xlsx"]


def test_a_partner_with_a_very_long_ref_has_a_ref_that_fits() -> None:
    long = "P" * 64

    assert digest_ref("P-1001", "2026-10") == "P-1001:2026-10"
    assert len(digest_ref(long, "2026-10")) <= 64
    assert digest_ref(long, "2026-10") != digest_ref(long[:-1] + "Q", "2026-10")
