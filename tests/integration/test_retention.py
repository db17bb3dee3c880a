"""What is over and old goes; what a key, a person or the ledger still needs stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.acceptance.shell import Shell, load, told
from tests.fakes.clock import FakeClock
from tests.product import contact, opened, planned, statement
from workers.app import App
from workers.store.quarantine import Quarantine
from workers.store.retention import Ages, Retention
from workers.store.tables import metadata

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
NOTHING = dict.fromkeys([one.name for one in fields(Ages)], 0)
KEPT = Ages(*[100 * DAY] * 6)


@asynccontextmanager
async def old(url: str, clock: FakeClock) -> AsyncIterator[App]:
    """S1 was told and closed 200 days ago, S2 was told and is open still, S3 was told today."""
    async with opened(url, clock) as app:
        people = [contact(f"C{n}", partner=f"P{n}") for n in (1, 2, 3)]
        await planned(app, *people, statement("S1"), statement("S2", partner="P2"))
        await app.delivery.drain()
        now = clock.now()
        await app.store.operations.pause("statement", "ann", "a while", now)
        await app.store.operations.resume("statement", "ann", "over", now)
        (record,) = await app.store.records.find("S1")
        await app.store.operations.change_record(
            record.id, "ann", "close", "done", now, state="closed", next_due_at=None
        )
        # Far from its end: it stays open while the days go by.
        (record,) = await app.store.records.find("S2")
        await app.store.operations.change_record(
            record.id, "ann", "snooze", "x", now, next_due_at=now + 900 * DAY
        )
        clock.advance(200 * DAY)
        later = clock.now() + 2 * DAY
        fresh = statement(
            "S3", partner="P3", generated_at=clock.now() - 5 * DAY, confirm_by=later.date()
        )
        await planned(app, fresh)
        await app.delivery.drain()
        yield app


async def counts(app: App) -> dict[str, int]:
    """Rows by table, those that are pruned."""
    names = ("notifications", "attempts", "occurrences", "inbox", "audit", "runs", "records")
    async with app.store.database.read() as connection:
        return {
            name: (
                await connection.execute(select(func.count()).select_from(metadata.tables[name]))
            ).scalar_one()
            for name in names
        }


async def test_what_is_over_goes_and_what_is_needed_stays(
    database_url: str, clock: FakeClock
) -> None:
    async with old(database_url, clock) as app:
        retention = Retention(app.store.database)
        before = await counts(app)
        foretold = await retention.prune(KEPT, clock.now(), dry_run=True)
        assert await counts(app) == before
        removed = await retention.prune(KEPT, clock.now())

        assert foretold == NOTHING | {"messages": 1, "inbox": 2, "audit": 4}
        assert removed == foretold
        assert await counts(app) == {
            "notifications": 2,
            "attempts": 2,
            "occurrences": 2,
            "inbox": 1,
            "audit": 0,
            "runs": 2,
            "records": 3,
        }
        rows = await app.store.operations.notifications(limit=10)
        assert {row.address for row in rows} == {"c2@example.com", "c3@example.com"}


async def test_a_second_pruning_finds_nothing_and_the_ledger_adds_up(
    database_url: str, clock: FakeClock
) -> None:
    async with old(database_url, clock) as app:
        retention = Retention(app.store.database)
        await retention.prune(KEPT, clock.now())

        assert set((await retention.prune(KEPT, clock.now())).values()) == {0}
        verified = await app.store.operations.verify()
        assert {what: count for what, count, _ in verified if count} == {}


async def test_a_stage_told_of_an_open_record_is_not_told_again_after_pruning(
    database_url: str, clock: FakeClock
) -> None:
    async with old(database_url, clock) as app:
        (record,) = await app.store.records.find("S2")
        told_before = await app.store.operations.history(record.id)
        await Retention(app.store.database).prune(KEPT, clock.now())

        assert await app.store.operations.history(record.id) == told_before
        assert len(told_before) == 1


async def test_the_last_attempt_stays_because_a_restore_is_known_by_it(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await app.delivery.drain()
        (record,) = await app.store.records.find("S1")
        await app.store.operations.change_record(
            record.id, "ann", "close", "done", clock.now(), state="closed", next_due_at=None
        )
        clock.advance(500 * DAY)
        removed = await Retention(app.store.database).prune(KEPT, clock.now())

        assert removed["messages"] == 0
        assert (await counts(app))["attempts"] == 1


async def test_runs_go_once_all_that_they_planned_is_gone(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        for _ in range(3):
            await app.scan.run("statement", trigger="clock", fire_at=clock.now())
            clock.advance(timedelta(minutes=5))
        last = await app.store.outbox.last_firing("statement")
        clock.advance(200 * DAY)
        removed = await Retention(app.store.database).prune(KEPT, clock.now())

        assert removed["runs"] == 2
        assert await app.store.outbox.last_firing("statement") == last


async def test_dead_letters_go_when_they_are_old_and_what_came_again_lately_stays(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        letters = Quarantine(app.store.database)
        for body in (b"old", b"again"):
            await letters.keep("events", "it isn't JSON", body, clock.now())
        await letters.begin_again(b"never ended", clock.now())
        clock.advance(101 * DAY)
        await letters.keep("events", "it isn't JSON", b"again", clock.now())
        retention = Retention(app.store.database)
        foretold = await retention.prune(KEPT, clock.now(), dry_run=True)
        removed = await retention.prune(KEPT, clock.now())
        left = await letters.all()

        assert removed == foretold == NOTHING | {"quarantine": 1, "redeliveries": 1}
        assert [(one.body, one.times) for one in left] == [("again", 2)]


async def test_counts_of_messages_given_out_again_are_kept_for_a_week(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        letters, retention = Quarantine(app.store.database), Retention(app.store.database)
        await letters.begin_again(b"it", clock.now())
        clock.advance(6 * DAY)
        early = await retention.prune(KEPT, clock.now())
        again = await letters.begin_again(b"it", clock.now())
        clock.advance(8 * DAY)
        late = await retention.prune(KEPT, clock.now())

        assert (early["redeliveries"], again, late["redeliveries"]) == (0, 2, 1)


async def test_an_age_of_each_own_is_kept_to(database_url: str, clock: FakeClock) -> None:
    async with old(database_url, clock) as app:
        ages = replace(KEPT, inbox=300 * DAY, audit=300 * DAY)

        removed = await Retention(app.store.database).prune(ages, clock.now())

        assert (removed["messages"], removed["inbox"], removed["audit"]) == (1, 0, 0)


@pytest.mark.acceptance
def test_the_command_counts_first_and_refuses_ages_that_are_too_young(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    load(shell)
    shell("scan")
    shell("deliver")

    assert shell("prune", "--older-than", "40d", "--dry-run", "--json").json == {
        "dry_run": True,
        "removed": NOTHING,
    }
    assert "removed" in shell("prune").out
    for wrong in ("5d", "soon", "400"):
        refused = shell("prune", "--older-than", wrong)
        assert refused.code == 2
        assert "31 or more" in refused.err
    assert {one["state"] for one in told(shell)} == {"accepted"}
