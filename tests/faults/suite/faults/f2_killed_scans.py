"""Scans are killed in the middle of a page and between two pages, while others scan the same."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import pairwise

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.population import NUMBER_BASE, Expected
from tests.faults.suite.wire import Wire, rows_written
from tests.faults.suite.world import AWAY, Process, World

SCHEDULERS, SCANS = 2, 3
COMMITTED = b"COMMIT\x00"
"""How PostgreSQL says that a transaction is durable."""
IN_A_PAGE, AFTER_ONE = 1 / 1500, 1 / 2
"""Chances of being killed, by row and by page; a page of 500 records is 1,000 rows."""
LATE_S = 60.0
TICK_S = 10.0
PLANNED = "SELECT address, count(*) AS times FROM notifications GROUP BY address"
TOLD = """
    SELECT record_id, count(*) AS times FROM occurrences
    GROUP BY record_id, ladder, stage, channel, contact HAVING count(*) > 1
"""
FIRED = (
    "SELECT fire_at, missed FROM runs WHERE kind = 'statement' AND trigger = 'clock' "
    "ORDER BY fire_at"
)


class Killer:
    """Kills a process that scans behind a wire, by what PostgreSQL answers it."""

    def __init__(self, trial: Trial, world: World) -> None:
        self.within = self.between = 0
        self.chances = True
        self._rng, self._world = trial.rng, world
        self._written = 0
        self._victim: Process | None = None
        self.wire = Wire(world.postgres.port, self._hear)

    async def start(self, role: str) -> None:
        """Starts the process; as `scan` it scans everything once and is started again."""
        url = self._world.postgres.url(port=self.wire.port)
        (self._victim,) = await self._world.start(role, DATABASE_URL=url)

    async def _hear(self, said: bytes) -> None:
        if self._victim is None or not self.chances:
            return
        rows = rows_written(said)
        self._written += rows
        if self._rng.random() > (1 - IN_A_PAGE) ** rows:
            self.within += self._world.kill(self._victim)
            self._written = 0
        elif COMMITTED in said:
            of_a_page, self._written = self._written > 2, 0
            if of_a_page and self._rng.random() < AFTER_ONE:
                self.between += self._world.kill(self._victim)


async def run(trial: Trial) -> None:
    async with trial.world(broker="") as world, AsyncExitStack() as stack:
        expected = await world.load(trial.n, sms_share=0.5, plan=False)
        roles = ("scheduler",) * SCHEDULERS + ("scan",) * SCANS
        killers = [Killer(trial, world) for _ in roles]
        for killer, role in zip(killers, roles, strict=True):
            await stack.enter_async_context(killer.wire)
            await killer.start(role)
        begun = time.monotonic()
        async with asyncio.timeout(300):
            while await unplanned(world) > trial.n * 0.05:  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.1)
        for killer in killers:
            killer.chances = False
        spared = time.monotonic()
        async with asyncio.timeout(120):
            while await unplanned(world):  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.1)
        late = time.monotonic() - spared
        await world.stop()
        within = sum(killer.within for killer in killers)
        between = sum(killer.between for killer in killers)
        await judge_plan(trial, world, expected)
        trial.note("kills within a page", within)
        trial.note("kills after one", between)
        trial.note("planned in", f"{spared - begun + late:.0f} s")
        trial.note("after the last kill", f"{late:.1f} s")
        trial.require("killed within a page", within >= 15, within)
        trial.require("killed between pages", between >= 5, between)
        trial.require(f"the rest is planned ≤ {LATE_S:g} s", late <= LATE_S, late)


async def judge_plan(trial: Trial, world: World, expected: list[Expected]) -> None:
    """Whether exactly what is wanted was planned, once, by firings that are all accounted for."""
    planned = {digits(row["address"]): row["times"] for row in await world.query(PLANNED)}
    wanted = {one.key[1:]: one.must_send for one in expected}
    missing = [key for key, must in wanted.items() if must and key not in planned]
    moot = [key for key in planned if not wanted.get(key)]
    double = sum(times - 1 for times in planned.values()) + len(await world.query(TOLD))
    fired = [(row["fire_at"], row["missed"]) for row in await world.query(FIRED)]
    proof = await world.command("verify")
    count = trial.result.counts
    count["LOSS"] += len(missing)
    count["DUP"] += double
    count["WRONG"] += len(moot)
    trial.note("firings", len(fired))
    trial.require("missing 0", not missing, missing[:5])
    trial.require("double 0", not double, double)
    trial.require("nothing moot was planned", not moot, moot[:5])
    trial.require("each firing once, all accounted for", in_order(fired), fired[:9])
    trial.require("the ledger adds up", proof.code == 0, proof.out[-1500:])


async def unplanned(world: World) -> int:
    """How many statements are due and not planned yet; 1 while the database is away."""
    due = (
        "SELECT count(*) FROM records WHERE kind = 'statement' AND state = 'open' "
        "AND next_due_at <= now()"
    )
    try:
        return int((await world.query(due))[0][0])
    except AWAY:
        return 1


def digits(address: str) -> str:
    """The number in a key, of a mail address or a mobile number."""
    if address.startswith("+"):
        return f"{int(address.removeprefix('+86')) - NUMBER_BASE:07d}"
    return address.partition("@")[0][1:]


def in_order(fired: list[tuple[datetime, int]]) -> bool:
    """Whether each fire time is there once, and those left out were said by the next."""
    return all(
        missed == round((at - before).total_seconds() / TICK_S) - 1
        for (before, _), (at, missed) in pairwise(fired)
    )


FAULTS = [
    Fault(
        id="F2",
        injected=f"{SCHEDULERS} schedulers and {SCANS} scans by hand at the same records, each "
        "killed by chance: within a page of 500 when a row is written, and when a page is durable",
        expected="a page is planned whole or not at all; the next scan goes on from what is due",
        passes=f"missing 0, double 0; the rest is planned ≤ {LATE_S:g} s after the last kill; each "
        "fire time once, and what was left out is said",
        full=10_000,
        short=0,
        run=run,
    ),
]
