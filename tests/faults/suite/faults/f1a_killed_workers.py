"""Workers die at any moment, all the time."""

from __future__ import annotations

import asyncio
import time

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import Process, World

WORKERS = 4
MEAN_S = 1.5
"""Between two kills, of all workers together."""
ANSWER_S = 0.05
"""How long the far side thinks about a content, and half of it about a recipient, so that a kill
finds messages in between."""
CONCURRENCY = 10
"""The default of `delivery.concurrency`."""


SHORT_KILLS = 3
QUICK = {"delivery": {"lease_s": 3, "poll_s": 0.5, "batch": 20}}
"""The short form doesn't wait for a lease of the default's length."""


async def run(trial: Trial) -> None:
    async with trial.world(settings=QUICK if trial.short else None) as world:
        await world.load(trial.n, sms_share=0.5)
        await world.far_side.script(
            {"verb": "RCPT", "do": "usual", "after_s": ANSWER_S / 2},
            {"verb": ".", "do": "usual", "after_s": ANSWER_S},
            {"verb": "SMS", "do": "usual", "after_s": ANSWER_S},
        )
        begun = time.monotonic()
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        kill = _kill_on_the_way if trial.short else _kill_at_random
        killer = world.meanwhile(kill(trial, world, workers))
        settled = await world.settled(timeout_s=900)
        killer.cancel()
        took = time.monotonic() - begun
        await world.stop()
        found = await trial.judge(world)
        kills = len(world.kills)
        trial.note("kills", kills)
        trial.note("copies", found.extra)
        trial.note("parked", found["STOPPED"])
        trial.note("rate", f"{trial.n / took:.0f}/s")
        trial.require("all was settled", settled, found["LEFT"])
        most = CONCURRENCY * kills
        trial.require("unknown ≤ W·k", found["UNKNOWN"] <= most, found["UNKNOWN"])
        trial.require("something was cut off", found["UNKNOWN"] > 0, found["UNKNOWN"])
        trial.require("recovery p99 ≤ 20 s", trial.result.recovery_s <= 20, trial.result.recovery_s)


async def _kill_at_random(trial: Trial, world: World, workers: list[Process]) -> None:
    while True:
        await asyncio.sleep(trial.rng.expovariate(1 / MEAN_S))
        world.kill(trial.rng.choice(workers))


async def _kill_on_the_way(trial: Trial, world: World, workers: list[Process]) -> None:
    """All at once, a few times, while messages are under way: chance might miss so few."""
    for number in range(1, SHORT_KILLS + 1):
        await world.far_side.has_kept(number * trial.n * 0.8 / SHORT_KILLS)
        for worker in workers:
            world.kill(worker)


FAULTS = [
    Fault(
        id="F1a",
        injected=f"SIGKILL of one of {WORKERS} workers at random, every {MEAN_S:g} s on average; "
        "half mail (sent again), half SMS (parked)",
        expected="the lease ends, another worker goes on; what was in flight is unknown",
        passes="mail: copies ≤ unknown; SMS: no copies; unknown ≤ 10 a kill; resumed ≤ 20 s (p99)",
        full=10_000,
        short=150,
        run=run,
    ),
]
