"""The broker is killed and comes back, again and again; it only carries bells."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import World

WORKERS = 4
UP_S = 4.0
DOWN_S = 8.0
RATE_S = 5.0
"""Between what is counted as sent with the broker up, and without it, before it is killed."""


async def run(trial: Trial, broker: str) -> None:
    async with trial.world(broker=broker) as world:
        await world.load(trial.n)
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        await world.far_side.has_kept(trial.n * 0.05)
        with_broker, without = Rate(), Rate()
        begun = time.monotonic()
        kills = 0
        while await world.open_messages() and (not trial.short or kills < 1):
            await with_broker.over(world, UP_S / 4 if trial.short else UP_S)
            assert world.broker is not None
            await asyncio.to_thread(world.broker.kill)
            kills += 1
            await without.over(world, DOWN_S / 4 if trial.short else DOWN_S)
            await asyncio.to_thread(world.broker.start)
        settled = await world.settled(timeout_s=300)
        took = time.monotonic() - begun
        up = sum(not one.exits for one in workers)
        # New work after the broker's return: bells ring again, or polling finds it.
        normal = time.monotonic()
        await world.load(10, trial.rng)
        again = await world.settled(timeout_s=60)
        back = time.monotonic() - normal
        await world.stop()
        await trial.judge(world)
        trial.note("kills", kills)
        trial.note("rate", f"{with_broker} with, {without} without")
        trial.note("new work after", f"{back:.1f} s")
        trial.note("took", f"{took:.0f} s")
        trial.require("all was settled", settled and again, (settled, again))
        trial.require("the broker was killed", kills > 0, kills)
        trial.require("no worker ended", up == len(workers), f"{up} of {len(workers)}")
        trial.require("unknown 0", trial.result.counts["UNKNOWN"] == 0, "see the table")
        if not trial.short:
            share = without.a_second / (with_broker.a_second or 1)
            trial.require("≥ 50 % of the rate without a broker", share >= 0.5, f"{share:.2f}")
        trial.require("new work is sent in ≤ 60 s", back <= 60, back)


class Rate:
    """Messages a second, over several spans, as the far side counts them."""

    def __init__(self) -> None:
        self.kept, self.took_s = 0, 0.0

    async def over(self, world: World, span_s: float) -> None:
        """Counts for a while, or until nothing is left, which counts for nothing."""
        before, begun = await world.far_side.kept(), time.monotonic()
        await asyncio.sleep(span_s)
        kept, took_s = await world.far_side.kept() - before, time.monotonic() - begun
        if await world.open_messages():
            self.kept, self.took_s = self.kept + kept, self.took_s + took_s

    @property
    def a_second(self) -> float:
        """Messages a second."""
        return self.kept / self.took_s if self.took_s else 0.0

    def __str__(self) -> str:
        return f"{self.a_second:.0f}/s"


FAULTS = [
    Fault(
        id=f"F6-{broker}",
        injected=f"kill -9 of {name} for {DOWN_S:g} s every {UP_S + DOWN_S:g} s, until all is sent",
        expected="polling goes on; workers stay up; bells ring again afterwards",
        passes="no copies, nothing unknown; ≥ 50 % of the rate without the broker; new work sent "
        "≤ 60 s after its return",
        full=10_000,
        short=120,
        run=partial(run, broker=broker),
    )
    for broker, name in (("redis", "Redis"), ("rabbitmq", "RabbitMQ"))
]
