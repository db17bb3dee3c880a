"""Workers stand still for longer than a lease and then go on, as a laptop or a frozen VM does."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import World

WORKERS = 4
PAUSES = 4
LEASE_S, SHORT_LEASE_S = 15.0, 3.0
LONGER_S = 3.0
"""Than a lease; so long the worker also has to speak up again before the next is paused."""
CONCURRENCY = 10
ANSWERS = (
    {"verb": "RCPT", "do": "usual", "after_s": 0.05},
    {"verb": ".", "do": "usual", "after_s": 0.1},
    {"verb": "SMS", "do": "usual", "after_s": 0.1},
)
REFUSED = "outcomes refused by the fence"


async def run(trial: Trial) -> None:
    lease_s = SHORT_LEASE_S if trial.short else LEASE_S
    pauses = 2 if trial.short else PAUSES
    batch = {"batch": 20, "poll_s": 0.5} if trial.short else {}
    async with trial.world(settings={"delivery": {"lease_s": lease_s, **batch}}) as world:
        await world.load(trial.n, sms_share=0.5)
        await world.far_side.script(*ANSWERS)
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        for worker in workers:
            await world.ready(worker)
        meanwhile = 0
        for number in range(pauses):
            await world.far_side.has_kept(trial.n * (number + 0.5) / pauses * 0.6)
            paused = workers[number % len(workers)]
            paused.signal(signal.SIGSTOP)
            world.kills.append(time.time())
            before = await world.far_side.kept()
            await asyncio.sleep(lease_s + LONGER_S)
            meanwhile += await world.far_side.kept() - before
            paused.signal(signal.SIGCONT)
            await asyncio.sleep(LONGER_S)
        settled = await world.settled(timeout_s=300)
        ended = [code for one in workers for _, code in one.exits]
        refused = sum(_refused(world, worker.name) for worker in workers)
        await world.stop()
        found = await trial.judge(world)
        recovery = trial.result.recovery_s
        trial.note("pauses", f"{pauses} of {lease_s + LONGER_S:g} s")
        trial.note("late outcomes refused", refused)
        trial.note("sent meanwhile", meanwhile)
        trial.note("copies", found.extra)
        trial.note("parked", found["STOPPED"])
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("something was in flight", found["UNKNOWN"] > 0, found["UNKNOWN"])
        most = CONCURRENCY * pauses
        trial.require("unknown ≤ W a pause", found["UNKNOWN"] <= most, found["UNKNOWN"])
        trial.require("who was paused spoke too late", refused > 0, refused)
        trial.require("the others went on", meanwhile > 0, meanwhile)
        trial.require("no worker ended", not ended, ended)
        trial.require("taken over ≤ 20 s", 0 < recovery <= 20, recovery)


def _refused(world: World, name: str) -> int:
    return sum(line["count"] for line in world.logs(name) if line.get("event") == REFUSED)


FAULTS = [
    Fault(
        id="F5",
        injected=f"SIGSTOP of one of {WORKERS} workers for {LEASE_S + LONGER_S:g} s, longer than "
        f"its lease, then SIGCONT; {PAUSES} times",
        expected="the others take over; what it says too late is refused by the fence, and what it "
        "had only claimed it doesn't begin",
        passes="mail: copies ≤ unknown; SMS: no copies; unknown ≤ 10 a pause; what comes too late "
        "is refused; taken over ≤ 20 s",
        full=8_000,
        short=300,
        run=run,
    ),
]
