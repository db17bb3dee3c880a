"""The outlook: what is foretold is what is sent, and everything that isn't is explained."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from time import thread_time
from typing import Any

import pytest

from schedules.planner import Verdict
from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, invitation, line, opened, partner, payment, statement
from workers.app import App
from workers.errors import UnknownThingError
from workers.outlook import explain, foretell

HOURLY: dict[str, Any] = {
    "rules": {kind: {"scan_every_s": 3600} for kind in ("invitation", "payment", "statement")}
}
PEOPLE = [
    partner(),
    contact("C1", "finance", mobile="13800138000", channels="mail,sms"),
    contact("C2", "sales"),
    contact("C3", "administrator"),
]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database file of the test's own."""
    return f"sqlite:///{tmp_path / 'outlook.db'}"


async def sent_by_scans(app: App, clock: FakeClock, days: int) -> list[tuple[Any, ...]]:
    """What hourly scans plan in so many days, and for how many records."""
    for _ in range(days * 24):
        for kind in ("invitation", "payment", "statement"):
            await app.scan.run(kind, trigger="clock", fire_at=clock())
        clock.advance(timedelta(hours=1))
    rows = await app.store.operations.notifications(limit=1000)
    return sorted(
        (row.created_at, row.kind, row.channel, row.message, row.contact, row.line_count)
        for row in rows
    )


async def test_what_is_foretold_is_what_the_scans_plan(url: str, clock: FakeClock) -> None:
    async with opened(url, clock, **HOURLY) as app:
        await app.intake.take(
            [*PEOPLE, statement("S1"), statement("S2"), invitation(), line(), payment()]
        )
        told = await foretell(app.store, app.registry, NOW, 6)
        foretold = sorted(
            (one.at, one.kind, one.channel, one.message, one.contact, len(one.refs)) for one in told
        )

        assert {one.kind for one in told} == {"invitation", "payment", "statement"}
        assert foretold == await sent_by_scans(app, clock, 6)


async def test_two_records_for_one_person_are_foretold_as_one_message(
    url: str, clock: FakeClock
) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement("S1"), statement("S2")])
        told = await foretell(app.store, app.registry, NOW, 1, "statement")

        assert [(one.channel, one.contact, sorted(one.refs)) for one in told] == [
            ("mail", "C1", ["S1", "S2"]),
            ("sms", "C1", ["S1", "S2"]),
        ]


async def test_the_foretold_day_is_that_of_beijing(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        # It ends on the 26th at 17:00 UTC, when it is the 27th in Beijing.
        ends = NOW + timedelta(hours=64)
        await app.intake.take([*PEOPLE, invitation(sent_at=ends - timedelta(days=7))])
        told = await foretell(app.store, app.registry, NOW, 3, "invitation")

        (expired,) = [one for one in told if one.stages == {"expired"}]
        assert (expired.at, expired.at.date()) == (ends, date(2026, 11, 26))
        assert expired.day == date(2026, 11, 27)


async def test_what_was_told_already_is_not_foretold(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement()])
        await app.scan.run("statement")

        assert await foretell(app.store, app.registry, NOW, 1, "statement") == []


async def test_a_closed_record_is_not_foretold(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement(status="CONFIRMED")])

        assert await foretell(app.store, app.registry, NOW, 30) == []


async def test_looking_ahead_changes_nothing(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement(), invitation()])
        before = await app.store.records.search()
        await foretell(app.store, app.registry, NOW, 30)
        await explain(app.store, app.registry, "S1", None, NOW + timedelta(days=9))

        assert await app.store.records.search() == before
        assert await app.store.operations.notifications() == []


async def test_a_kind_without_a_rule_is_refused_by_name(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        with pytest.raises(UnknownThingError, match=r"'rebate'.*invitation.*payment.*statement"):
            await foretell(app.store, app.registry, NOW, 1, "rebate")


async def test_a_told_stage_is_explained_by_its_notification(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement()])
        await app.scan.run("statement")
        await app.delivery.drain()
        told = await explain(app.store, app.registry, "S1", None, clock())

        steps = [step for step in told.steps if step.verdict is Verdict.TOLD]
        assert {(step.stage, step.channel) for step in steps} == {("T-2", "mail"), ("T-2", "sms")}
        assert {(row.state, row.reply) for row in told.told.values()} == {
            ("accepted", "kept in the local inbox")
        }
        assert told.next_due_at is not None


async def test_a_stage_that_another_overtook_is_explained_as_such(
    url: str, clock: FakeClock
) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement()])
        told = await explain(app.store, app.registry, "S1", None, NOW)

        overtaken = [step for step in told.steps if step.verdict is Verdict.OVERTAKEN]
        assert {step.stage for step in overtaken} == {"T-5"}
        assert all(step.why for step in overtaken)


async def test_a_masked_number_is_explained_with_its_remedy(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        masked = contact("C1", "finance", mobile="138****8000", channels="mail,sms")
        await app.intake.take([partner(), masked, statement()])
        told = await explain(app.store, app.registry, "S1", None, NOW)

        by_sms = [step for step in told.steps if step.stage == "T-2" and step.channel == "sms"]
        assert [step.verdict for step in by_sms] == [Verdict.UNREACHABLE]
        assert by_sms[0].why == "contact C1 has a masked sms address: import the full one"


async def test_a_line_that_was_dropped_stays_in_the_history_and_is_not_told(
    url: str, clock: FakeClock
) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([*PEOPLE, statement()])
        await app.scan.run("statement")
        await app.intake.take([statement(status="CONFIRMED")])
        await app.delivery.drain()
        told = await explain(app.store, app.registry, "S1", None, clock())

        assert told.told == {}
        assert {row.state for row in told.history} == {"cancelled"}
        assert all("closed" in row.dropped for row in told.history)
        assert {step.verdict for step in told.steps} <= {Verdict.OFF, Verdict.UNREACHABLE}
        assert told.next_due_at is None


async def test_others_have_their_turn_while_a_forecast_is_reckoned(
    url: str, clock: FakeClock
) -> None:
    async with opened(url, clock) as app:
        await app.intake.take([contact(), *(statement(f"S{number}") for number in range(400))])
        longest, before = 0.0, thread_time()
        reckoning = asyncio.create_task(foretell(app.store, app.registry, NOW, 30))
        while not reckoning.done():
            await asyncio.sleep(0)
            longest, before = max(longest, thread_time() - before), thread_time()

    assert len((await reckoning)[0].refs) == 400
    assert longest < 0.25
