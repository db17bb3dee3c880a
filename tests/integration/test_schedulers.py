"""Any number of schedulers, killed, paused, with wrong clocks: each fire time is fired once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from schedules.clock import fire_time
from tests.acceptance.shell import COMMAND, ROOT, Shell
from tests.fakes.clock import FakeClock
from tests.product import contact, opened, statement
from workers.core import utc_now
from workers.daemon import fire
from workers.settings import RuleSettings, Scheduler
from workers.store import Store
from workers.store.tables import notifications, runs

pytestmark = pytest.mark.slow

EVERY = timedelta(seconds=10)
CATCH_UP_S = 60.0
UNTIED: dict[str, Any] = {
    "scheduler": Scheduler(clock_tolerance_s=0),
    "rules": {"statement": RuleSettings(scan_every_s=10)},
}


async def firings(store: Store) -> list[tuple[datetime, int]]:
    """(fire time, missed) of each of the statements' clock runs, in order."""
    async with store.database.read() as connection:
        rows = await connection.execute(
            select(runs.c.fire_at, runs.c.missed)
            .where(runs.c.kind == "statement", runs.c.trigger == "clock")
            .order_by(runs.c.fire_at)
        )
        return [(row.fire_at, row.missed) for row in rows]


def unaccounted(found: list[tuple[datetime, int]]) -> list[tuple[datetime, int, int]]:
    """Fire times before which another number were left out than the run says: none should be."""
    return [
        (at, missed, left_out)
        for (before, _), (at, missed) in pairwise(found)
        if missed != (left_out := round((at - before) / EVERY) - 1)
    ]


async def test_five_schedulers_with_clocks_of_their_own_fire_each_time_once(
    database_url: str, clock: FakeClock
) -> None:
    """Each is up to three seconds off, falls out for a while now and then, and races the others."""
    chance = random.Random(20261124)
    offsets = [timedelta(seconds=chance.uniform(-3, 3)) for _ in range(5)]
    clocks = [FakeClock(clock.now() + offset) for offset in offsets]
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(opened(database_url, one, **UNTIED)) for one in clocks
        ]
        await apps[0].intake.take([contact(), statement()])
        away = [0] * 5
        for tick in range(1, 61):
            for n, one in enumerate(clocks):
                one.set(clock.now() + tick * EVERY + timedelta(seconds=4) + offsets[n])
                away[n] = chance.randint(1, 8) if not away[n] and chance.random() < 0.2 else away[n]
            if 30 <= tick < 37:
                continue  # all of them are down
            working = [app for n, app in enumerate(apps) if not away[n]]
            away = [max(0, rest - 1) for rest in away]
            chance.shuffle(working)
            await asyncio.gather(
                *(fire(app, "statement", fire_time(app.clock(), EVERY)) for app in working)
            )
        found = await firings(apps[0].store)
        rows = await apps[0].store.operations.notifications(limit=10)

    assert len({at for at, _ in found}) == len(found)
    assert unaccounted(found) == []
    assert sum(missed for _, missed in found) >= 7
    assert len(found) + sum(missed for _, missed in found) == 60
    assert len(rows) == 1


async def test_after_a_downtime_one_firing_catches_up_and_says_how_many_it_missed(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock, **UNTIED) as app:
        await fire(app, "statement", fire_time(clock(), EVERY))
        clock.advance(timedelta(hours=1))
        await app.intake.take([contact(), statement()])
        with capture_logs() as said:
            await fire(app, "statement", fire_time(clock(), EVERY))
            await fire(app, "statement", fire_time(clock(), EVERY))
        found = await firings(app.store)

    assert [missed for _, missed in found] == [0, 359]
    (caught_up,) = [one for one in said if one["event"] == "caught up"]
    assert (caught_up["missed"], caught_up["planned"]) == (359, 1)


async def test_a_scheduler_that_stood_still_before_it_fired_counts_no_fire_time_twice(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock, **UNTIED) as app:
        began = fire_time(clock(), EVERY)
        await fire(app, "statement", began)
        clock.advance(5 * EVERY)
        for ticks in (3, 5, 4):
            await fire(app, "statement", began + ticks * EVERY)
        found = await firings(app.store)

    assert found == [(began, 0), (began + 3 * EVERY, 2), (began + 5 * EVERY, 1)]


@pytest.mark.parametrize("off_s", [-3600, -70, 70, 90_000])
async def test_a_scheduler_with_a_wrong_clock_fires_nothing_and_says_so(
    database_url: str, off_s: int
) -> None:
    settings = {"rules": UNTIED["rules"]}
    async with opened(database_url, utc_now, **settings) as app:
        theirs = await app.store.database.clock()
        wrong = FakeClock(theirs + timedelta(seconds=off_s))
        async with opened(database_url, wrong, **settings) as other:
            with capture_logs() as said:
                await fire(other, "statement", fire_time(wrong(), EVERY))
            assert await firings(app.store) == []
        await fire(app, "statement", fire_time(app.clock(), EVERY))
        assert len(await firings(app.store)) == 1

    (refused,) = [one for one in said if one["event"] == "not fired"]
    way = "ahead of" if off_s > 0 else "behind"
    assert way in refused["why"]
    assert "scheduler.clock_tolerance_s = 60" in refused["why"]


async def test_a_clock_that_is_off_by_less_is_not_complained_of(database_url: str) -> None:
    async with opened(database_url, utc_now, rules=UNTIED["rules"]) as app:
        theirs = await app.store.database.clock()
        for off_s in (-30, 30):
            near = FakeClock(theirs + timedelta(seconds=off_s))
            async with opened(database_url, near, rules=UNTIED["rules"]) as other:
                await fire(other, "statement", fire_time(near(), EVERY))

        assert len(await firings(app.store)) == 2


class Fleet:
    """Real scheduler processes that are killed, paused and started again."""

    def __init__(self, shell: Shell, count: int) -> None:
        self._shell = shell
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        for n in range(count):
            self.start(n)

    def start(self, n: int) -> None:
        """Starts one."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **self._shell.environ}
        with (self._shell.folder / "log").open("ab") as log:
            self._running[n] = subprocess.Popen(
                [*COMMAND, "scheduler"], cwd=self._shell.folder, env=environ, stdout=log, stderr=log
            )

    def kill(self, n: int) -> None:
        """Kills one."""
        gone = self._running.pop(n)
        gone.kill()
        gone.wait()

    def pause(self, n: int, seconds: float) -> None:
        """Stops one for a while."""
        self._running[n].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._running[n].send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kills all that are left."""
        for n in list(self._running):
            self.kill(n)


@pytest.mark.acceptance
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [1, 5])
def test_real_schedulers_that_are_killed_and_paused_fire_each_time_once(
    tmp_path: Path, postgres_url: str, count: int
) -> None:
    url = postgres_url.replace("+asyncpg", "")
    shell = Shell(tmp_path, {"DATABASE_URL": url})
    shell.write("duewatch.toml", "[rules.statement]\nscan_every_s = 10\n")
    head = "ref,partner,statement_kind,generated_at,confirm_by,amount_incl_tax\n"
    now = datetime.now(UTC)
    rows = "".join(
        f"S{n},P{n},INCENTIVE,{now - timedelta(days=20):%Y-%m-%d},"
        f"{(now + timedelta(days=3)).date()},1.00\n"
        for n in range(40)
    )
    people = "".join(f"P{n},C{n},finance,Ann,c{n}@example.com,mail\n" for n in range(40))
    shell.write("people.csv", "partner,ref,role,name,mail,channels\n" + people)
    shell.write("statements.csv", head + rows)
    assert shell("import", "people.csv", "statements.csv").code == 0
    chance = random.Random(count)
    end = time.monotonic() + 60
    fleet = Fleet(shell, count)
    try:
        # On a busy machine one may take longer to start than it lives.
        while time.monotonic() < end or not asyncio.run(_recorded(url))[0]:
            one = chance.randrange(count)
            if chance.random() < 0.5:
                fleet.kill(one)
                fleet.start(one)
            else:
                fleet.pause(one, chance.uniform(2, 12))
            time.sleep(chance.uniform(1, 4))
        # A downtime of all that leaves out at least one fire time, and one start after it.
        fleet.end()
        down = datetime.now(UTC)
        time.sleep(2 * EVERY.total_seconds())
        fleet.start(0)
        end = time.monotonic() + CATCH_UP_S
        while True:
            found, told = asyncio.run(_recorded(url))
            since = [missed for at, missed in found if at > down]
            if since and len(told) >= 40:
                break
            assert time.monotonic() < end, f"{len(since)} firings since {down}, {len(told)} told"
            time.sleep(0.5)
    finally:
        fleet.end()

    assert len({at for at, _ in found}) == len(found)
    assert unaccounted(found) == []
    assert since[0] >= 1
    assert sorted(told) == sorted(f"c{n}@example.com" for n in range(40))


async def _recorded(url: str) -> tuple[list[tuple[datetime, int]], list[str]]:
    store = await Store.open(url)
    try:
        async with store.database.read() as connection:
            rows = await connection.execute(select(notifications.c.address))
            return await firings(store), list(rows.scalars())
    finally:
        await store.close()
