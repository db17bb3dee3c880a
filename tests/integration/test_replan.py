"""A changed cadence or calendar counts for what is watched already; on both databases."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, inbox, opened, record, statement

DAY = timedelta(days=1)
EARLIER: dict[str, Any] = {
    "statement": {
        "stages": {"T-9": {"when": "due - 9 working days", "tell": [{"role": "finance"}]}}
    }
}


async def test_a_stage_that_is_added_is_told_of_what_is_there(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement(confirm_by="2026-12-04")])
        await app.scan.run("statement")
        assert await app.store.operations.notifications() == []
    async with opened(database_url, clock, rules=EARLIER) as app:
        dry = await app.scan.dry_run("statement")
        assert [step.stage for draft in dry.drafts for _, step in draft.items] == ["T-9"]
        await app.scan.run("statement")
        await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com"]
        again = await app.scan.run("statement")
        assert again is not None
        assert again.looked_at == 0, "it is planned anew once"


async def test_announced_working_days_move_the_deadlines_that_count_them(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    shared = NOW + 36 * DAY  # 30 December: the third working day lies in a year to be announced
    opportunity = record(
        "opportunity",
        {
            "ref": "H1",
            "partner": "P1",
            "name": "ERP",
            "shared_at": shared,
            "status": "PENDING",
        },
    )
    clock.set(shared)
    async with opened(database_url, clock) as app:
        await app.intake.take([contact("C1", "sales"), opportunity])
        await app.scan.run("opportunity")
        [before] = await app.store.records.search()
    (tmp_path / "2027.toml").write_text(
        'source = "test"\noff = [[2027-01-01, 2027-01-01], [2027-01-04, 2027-01-04]]\n'
        "working = []\n"
    )
    async with opened(database_url, clock, calendar={"folder": tmp_path}) as app:
        await app.scan.run("opportunity")
        [after] = await app.store.records.search()
        assert after.due_at == before.due_at + 2 * DAY
