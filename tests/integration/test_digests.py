"""A person who wishes one mail a day gets one, of all rules; what is urgent comes at once."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

from tests.fakes.clock import FakeClock
from tests.product import (
    NOW,
    contact,
    inbox,
    invitation,
    line,
    opened,
    payment,
    record,
    statement,
)
from workers.app import App
from workers.outlook import foretell

HALF_PAST = NOW + timedelta(minutes=30)
DAY = timedelta(days=1)


def task(ref: str = "T1", due_on: str = "2026-11-27", **more: Any) -> Any:
    data = {
        "ref": ref,
        "partner": "P1",
        "name": "Renewal",
        "task_type": "LEAD",
        "customer_name": "Northwind",
        "assigned_at": NOW - 10 * DAY,
        "due_on": due_on,
        "status": "PENDING",
        **more,
    }
    return record("sales_task", data)


async def scan_all(app: App) -> None:
    for kind in app.registry.enabled():
        await app.scan.run(kind)


async def mails(app: App) -> list[tuple[str, str]]:
    found = []
    for kept in reversed(await app.store.operations.kept()):
        source = (await app.store.operations.kept_one(kept.uid)).source
        parsed = message_from_bytes(source, policy=policy.default)
        body = parsed.get_body(("plain",))
        assert body is not None
        found.append((kept.subject, body.get_content()))
    return found


async def test_all_rules_of_a_morning_come_in_one_mail_by_deadline(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        one = contact("C1", "administrator", digest="daily")
        things = [statement(), payment(), line(), task(), statement("S2", confirm_by="2026-12-01")]
        await app.intake.take([one, *things])
        await scan_all(app)
        await app.delivery.drain()
        assert await inbox(app) == [], "it waits for the digest"

        clock.set(HALF_PAST)
        await app.delivery.drain()
        [(subject, text)] = await mails(app)
        assert "4 things wait for you" in subject
        places = [text.index(ref) for ref in ("S1", "T1", "S2", "F1")]
        assert places == sorted(places)
        [row] = await app.store.operations.notifications()
        assert (row.kind, row.message, row.line_count) == ("digest", "daily", 4)


async def test_what_is_urgent_comes_at_once_and_by_itself(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        one = contact(digest="daily", channels="mail sms", mobile="+8613800138000")
        last_day = statement("S9", confirm_by="2026-11-24")
        await app.intake.take([one, statement(), last_day])
        await scan_all(app)
        await app.delivery.drain()
        kinds = [row.kind for row in await app.store.operations.notifications()]
        assert sorted(await inbox(app)) == ["+8613800138000", "c1@example.com"]
        assert kinds.count("digest") == 1

        clock.set(HALF_PAST)
        await app.delivery.drain()
        assert sorted(await inbox(app)) == ["+8613800138000", "c1@example.com", "c1@example.com"]


async def test_what_would_come_too_late_does_not_wait_for_the_digest(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(NOW + timedelta(hours=2))
    async with opened(database_url, clock) as app:
        soon = NOW + timedelta(hours=20)  # before half past nine tomorrow
        await app.intake.take(
            [
                contact("C1", "sales", digest="daily"),
                invitation(sent_at=soon - timedelta(days=7)),
                task(due_on="2026-12-30"),
            ]
        )
        await scan_all(app)
        await app.delivery.drain()
        assert await inbox(app) == ["i1@customer.example", "c1@example.com"] or await inbox(
            app
        ) == ["c1@example.com", "i1@customer.example"]


async def test_a_digest_loses_what_is_moot_and_an_empty_one_is_cancelled(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        people = [
            contact("C1", digest="daily"),
            contact("C2", "sales", digest="daily"),
        ]
        await app.intake.take([*people, statement(), payment(), line(), task()])
        await scan_all(app)
        await app.intake.take([statement(status="CONFIRMED"), task(status="DONE")])
        clock.set(HALF_PAST)
        await app.delivery.drain()
        rows = {row.contact: row for row in await app.store.operations.notifications()}
        assert (rows["C1"].state, rows["C1"].line_count) == ("accepted", 1)
        assert rows["C2"].state == "cancelled"


async def test_a_paused_rule_s_lines_leave_the_digest_and_come_when_it_is_resumed(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(digest="daily"), statement(), payment(), line()])
        await scan_all(app)
        await app.store.operations.pause("payment", "ops", "wrong list", clock())
        clock.set(HALF_PAST)
        await app.delivery.drain()
        [(_, text)] = await mails(app)
        without_links = re.sub(r"https?://\S+", "", text)  # a token may hold any letters
        assert "S1" in without_links
        assert "F1" not in without_links

        await app.store.operations.resume("payment", "ops", "", clock())
        await app.scan.run("payment")
        clock.set(HALF_PAST + DAY)
        await app.delivery.drain()
        assert "F1" in (await mails(app))[1][1]


async def test_scans_at_the_same_time_make_one_digest(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        one = contact("C1", "administrator", digest="daily")
        await app.intake.take([one, statement(), payment(), line(), task()])
        await asyncio.gather(*(app.scan.run(kind) for kind in app.registry.enabled()))
        [row] = await app.store.operations.notifications()
        assert row.line_count == 3


async def test_what_comes_after_the_digest_has_gone_comes_with_the_next(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(digest="daily"), statement()])
        await scan_all(app)
        clock.set(HALF_PAST)
        await app.delivery.drain()
        clock.advance(timedelta(minutes=1))
        await app.intake.take([statement("S2", confirm_by="2026-12-01"), payment(), line()])
        await scan_all(app)
        await app.delivery.drain()
        assert len(await inbox(app)) == 1
        clock.set(HALF_PAST + DAY)
        await app.delivery.drain()
        assert len(await inbox(app)) == 2


async def test_the_forecast_shows_the_digests_that_are_sent(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take(
            [contact("C1", "administrator", digest="daily"), statement(), payment(), line(), task()]
        )
        foretold = await foretell(app.store, app.registry, NOW, 4)
        for _ in range(4 * 48):
            for kind in ("statement", "payment", "sales_task"):
                await app.scan.run(kind)
            await app.delivery.drain()
            clock.advance(timedelta(minutes=30))
        rows = await app.store.operations.notifications(limit=500)
        sent = {(row.kind, row.message, row.accepted_at) for row in rows}
        assert {(one.kind, one.message, one.at) for one in foretold} == sent
        assert any(one.kind == "digest" for one in foretold)
