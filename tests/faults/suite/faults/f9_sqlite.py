"""The one process on a SQLite file is killed, again and again."""

from __future__ import annotations

import asyncio

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.lite import LiteWorld
from tests.faults.suite.world import Process

KILLS, SHORT_KILLS = 15, 2
MEAN_S = 0.7
ANSWERS = (
    {"verb": ".", "do": "usual", "after_s": 0.05},
    {"verb": "SMS", "do": "usual", "after_s": 0.05},
)
DELIVERY = {"lease_s": 3, "poll_s": 0.5, "batch": 20}
CONCURRENCY = 10


async def run(trial: Trial) -> None:
    async with LiteWorld(trial, delivery=DELIVERY) as world:
        await world.load(trial.n, trial.rng, sms_share=0.5)
        await world.far_side.script(*ANSWERS)
        (process,) = await world.start("run")
        killing = world.meanwhile(_kill(trial, world, process))
        settled = await world.settled(timeout_s=300)
        killing.cancel()
        log = world.file.with_name(f"{world.file.name}-wal")
        logged = log.stat().st_size if log.exists() else 0
        await world.stop()
        found = await trial.judge(world)
        whole = await world.is_whole()
        kills = len(world.kills)
        trial.note("kills", kills)
        trial.note("copies", found.extra)
        trial.note("parked", found["STOPPED"])
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("the file is whole", whole, whole)
        trial.require("there was a write-ahead log", logged > 0, logged)
        least = SHORT_KILLS if trial.short else KILLS
        trial.require(f"killed {least} times under load", kills >= least, kills)
        trial.require("something was cut off", found["UNKNOWN"] > 0, found["UNKNOWN"])
        most = CONCURRENCY * kills
        trial.require("unknown ≤ W·k", found["UNKNOWN"] <= most, found["UNKNOWN"])


async def _kill(trial: Trial, world: LiteWorld, process: Process) -> None:
    kills = SHORT_KILLS if trial.short else KILLS
    for number in range(kills):
        # Only one that works is killed, so that each kill costs some and all together not all.
        await world.ready(process)
        await world.far_side.has_kept(trial.n * 0.7 * number / kills + 1)
        await asyncio.sleep(trial.rng.expovariate(1 / MEAN_S) if not trial.short else 0.1)
        world.kill(process)
        await asyncio.sleep(0.5)


FAULTS = [
    Fault(
        id="F9-sqlite",
        injected=f"SIGKILL of `duewatch run` on a SQLite file with its write-ahead log, {KILLS} "
        "times under load",
        expected="the log is read anew; what was in flight is unknown",
        passes="the file is whole; mail: copies ≤ unknown; SMS: no copies; unknown ≤ 10 a kill",
        full=3_000,
        short=100,
        run=run,
    ),
]
