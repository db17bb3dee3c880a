"""Sources by schedule: each time once, however many schedulers, and late where it was missed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from schedules.clock import Cron
from tests.fakes.clock import FakeClock
from tests.product import NOW, opened
from workers.app import App
from workers.core import utc_now
from workers.daemon import serve
from workers.settings import Scheduler
from workers.store import Store
from workers.syncing import Syncing

MINUTE = timedelta(minutes=1)


def folder(tmp_path: Path, **more: Any) -> dict[str, Any]:
    (tmp_path / "in").mkdir(exist_ok=True)
    table = {"type": "files", "folder": str(tmp_path / "in"), "settle_s": 0, **more}
    return {"sources": {"drop": table}, "scheduler": Scheduler(clock_tolerance_s=0)}


async def runs(store: Store) -> list[tuple[str, int, str]]:
    """(trigger, missed, outcome), oldest first."""
    rows = await store.sources.runs("drop", 100)
    return [(row.trigger, row.missed, row.outcome) for row in reversed(rows)]


async def test_many_schedulers_sync_each_time_once(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    settings = folder(tmp_path, every_s=60)
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(opened(database_url, clock, **settings))
            for _ in range(4)
        ]
        syncings = [Syncing(app) for app in apps]
        for _ in range(5):
            (tmp_path / "in" / "partner.csv").write_text("ref,name\nP1,One\n", "utf-8")
            await asyncio.gather(*(one.fire("drop", clock()) for one in syncings))
            clock.advance(MINUTE)

        assert await runs(apps[0].store) == [("clock", 0, "done")] * 5
        assert len(list((tmp_path / "in" / "done").glob("*.csv"))) == 5


async def test_what_was_missed_is_caught_up_once_and_counted(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path, every_s=60)) as app:
        syncing = Syncing(app)
        await syncing.fire("drop", clock())
        clock.advance(10 * MINUTE)
        await syncing.fire("drop", clock())

        assert await runs(app.store) == [("clock", 0, "done"), ("clock", 9, "done")]


async def test_a_new_cron_waits_for_its_first_time_and_then_catches_up(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path, cron="0 2 * * *")) as app:
        syncing = Syncing(app)
        timing = syncing.one("drop").settings.schedule()
        assert isinstance(timing, Cron)
        first = timing.latest(clock())
        assert first is not None
        # Seven hours ago, before this source was there: that night's time isn't made up for.
        await syncing.fire("drop", first)
        assert await runs(app.store) == []

        clock.set(first + timedelta(days=1))
        await syncing.fire("drop", first + timedelta(days=1))
        clock.set(first + timedelta(days=4, hours=3))
        await syncing.fire("drop", first + timedelta(days=4))
        assert await runs(app.store) == [("clock", 0, "done"), ("clock", 2, "done")]


async def test_a_scheduler_with_a_wrong_clock_syncs_nothing_and_says_so(
    database_url: str, tmp_path: Path
) -> None:
    ahead = FakeClock(utc_now() + timedelta(hours=1))
    settings = folder(tmp_path, every_s=60) | {"scheduler": Scheduler(clock_tolerance_s=60)}
    async with opened(database_url, ahead, **settings) as app:
        with capture_logs() as logs:
            await Syncing(app).fire("drop", ahead())

        assert await runs(app.store) == []
        assert "set the clock" in logs[0]["why"]


async def test_a_source_that_fails_is_logged_and_the_scheduler_lives_on(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    settings = folder(tmp_path, every_s=60)
    (tmp_path / "in").rmdir()
    async with opened(database_url, clock, **settings) as app:
        await Syncing(app).fire("drop", NOW)
        assert await runs(app.store) == [("clock", 0, "failed")]


async def _served(app: App, until: asyncio.Event) -> None:
    await serve(app, ("scheduler",), until)


async def test_the_scheduler_role_takes_files_as_they_come(
    database_url: str, tmp_path: Path
) -> None:
    settings = folder(tmp_path, every_s=10)
    async with opened(database_url, utc_now, **settings) as app:
        stopping = asyncio.Event()
        (tmp_path / "in" / "partner.csv").write_text("ref,name\nP1,One\n", "utf-8")
        daemon = asyncio.create_task(_served(app, stopping))
        try:
            async with asyncio.timeout(20):
                while not await runs(app.store):  # noqa: ASYNC110 - it is another's event
                    await asyncio.sleep(0.1)
        finally:
            stopping.set()
            await daemon
        assert await runs(app.store) == [("clock", 0, "done")]
        assert len(list((tmp_path / "in").glob("done/*.csv"))) == 1
