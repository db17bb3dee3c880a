"""Several schedulers, of which the one that scans stands still in the middle of a page."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from functools import partial

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.faults.f2_killed_scans import judge_plan, unplanned
from tests.faults.suite.wire import Wire, rows_written
from tests.faults.suite.world import Process, World

PAGE = 500
STOP_AT = 0.25
"""Of all that is to be planned, by whoever scans."""
LATE_S = 60.0
PAUSED_S = 15.0
"""At least; longer than until the next firing, so that another takes that."""
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = 'duewatch' AND state = 'idle in transaction'"
)


class Pauser:
    """Stops the first scheduler that has written so many rows; one of all."""

    def __init__(self, rows: int) -> None:
        self.paused: Process | None = None
        self._rows = rows
        self.done = asyncio.Event()

    def wire(self, world: World, scheduler: list[Process]) -> Wire:
        """A wire for a scheduler, which is put into the list once it is started."""

        async def hear(said: bytes) -> None:
            rows = rows_written(said)
            self._rows -= rows
            if self._rows <= 0 and self.paused is None and rows:
                self.paused = scheduler[0]
                self.paused.signal(signal.SIGSTOP)
                self.done.set()

        return Wire(world.postgres.port, hear)


async def run(trial: Trial, count: int) -> None:
    async with trial.world(broker="") as world, AsyncExitStack() as stack:
        expected = await world.load(trial.n, sms_share=0.5, plan=False)
        pauser = Pauser(2 * int(trial.n * STOP_AT))
        starting = []
        for _ in range(count):
            mine: list[Process] = []
            wire = await stack.enter_async_context(pauser.wire(world, mine))
            url = world.postgres.url(port=wire.port)
            mine += await world.start("scheduler", DATABASE_URL=url)
            starting += mine
        async with asyncio.timeout(120):
            await pauser.done.wait()
        begun = time.monotonic()
        await asyncio.sleep(0.5)
        held = int((await world.query(IN_TRANSACTION))[0][0])
        before = await unplanned(world)
        async with asyncio.timeout(120):
            # What it holds is left to it; all else must be planned while it stands still.
            while await unplanned(world) > PAGE:  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.2)
        others = time.monotonic() - begun
        await asyncio.sleep(max(0.0, PAUSED_S - others))
        left = await unplanned(world)
        assert pauser.paused is not None
        pauser.paused.signal(signal.SIGCONT)
        async with asyncio.timeout(120):
            while await unplanned(world):  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        ended = [code for one in starting for _, code in one.exits]
        await world.stop()
        await judge_plan(trial, world, expected)
        trial.note("unplanned when it stopped", before)
        trial.note("planned by the others in", f"{others:.1f} s")
        trial.note("left to it", left)
        trial.require("it was stopped within a page", held > 0 and before > PAGE, (held, before))
        trial.require(f"all but its page was planned ≤ {LATE_S:g} s", others <= LATE_S, others)
        trial.require("no more than a page waited for it", 0 < left <= PAGE, left)
        trial.require("no scheduler ended", not ended, ended)


FAULTS = [
    Fault(
        id=f"F20-{count}",
        injected=f"{count} schedulers start at once; the one that scans is stopped within a page "
        f"of {PAGE}, for {PAUSED_S:g} s or more, and goes on",
        expected="the next firing is another's; what the stopped one holds is left to it",
        passes=f"planned exactly, missing 0, double 0; all but one page ≤ {LATE_S:g} s while one "
        "stands still",
        full=10_000,
        short=0,
        run=partial(run, count=count),
    )
    for count in (2, 5)
]
