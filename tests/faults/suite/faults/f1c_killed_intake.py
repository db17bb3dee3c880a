"""Workers die while producers' events lie in the broker's queue."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.faults.f21_poison import left, publish, statements
from tests.faults.suite.world import Process, World

WORKERS = 3
KILLS, SHORT_KILLS = 15, 3
BACK_S = 60.0


async def run(trial: Trial, broker: str) -> None:
    kills = SHORT_KILLS if trial.short else KILLS
    async with trial.world(broker=broker) as world:
        events = statements(world, trial)
        await world.command("import", "contacts.csv")
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        await world.start("scheduler")
        for worker in workers:
            await world.ready(worker)
        await asyncio.to_thread(publish, world, trial, events, [])
        for number in range(1, kills + 1):
            await _kill_once_taken(world, workers, len(events) * number * 0.8 / kills)
        taken = await _all_taken(world, len(events))
        settled = await world.settled(timeout_s=300)
        rest = await asyncio.to_thread(left, world)
        stored = (await world.query("SELECT count(*), count(DISTINCT event_id) FROM events"))[0]
        letters = (await world.query("SELECT count(*) FROM dead_letters"))[0][0]
        await world.stop()
        found = await trial.judge(world)
        trial.note("kills", len(world.kills))
        trial.note("events", len(events))
        trial.require("workers were killed", len(world.kills) >= kills, len(world.kills))
        trial.require("all events were taken", taken == len(events), taken)
        trial.require("each once", tuple(stored) == (len(events), len(events)), tuple(stored))
        trial.require("nothing in quarantine", letters == 0, letters)
        trial.require("the queue is empty", rest == 0, rest)
        trial.require("all was settled", settled, found["LEFT"])


async def _kill_once_taken(world: World, workers: list[Process], count: float) -> None:
    """All workers at once, as soon as so many events are stored, or nothing more comes for long."""
    end = time.monotonic() + BACK_S
    sql = "SELECT count(*) FROM events"
    while (await world.query(sql))[0][0] < count and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    for worker in workers:
        world.kill(worker)


async def _all_taken(world: World, count: int) -> int:
    """How many events are stored once all are, or once nothing has changed for a minute."""
    sql = (
        "SELECT (SELECT count(*) FROM events), count(*) FROM records "
        "WHERE state = 'open' AND next_due_at <= now()"
    )
    before, since = (0, 0), time.monotonic()
    while time.monotonic() - since < BACK_S:
        now = tuple((await world.query(sql))[0])
        if now == (count, 0):
            break
        if now != before:
            before, since = now, time.monotonic()
        await asyncio.sleep(0.5)
    return int((await world.query(sql))[0][0])


FAULTS = [
    Fault(
        id=f"F1c-{broker}",
        injected=f"SIGKILL of all workers at once, {KILLS} times, while they take producers' "
        f"events from {name}",
        expected="an event is acknowledged once it is committed; else it is given out again",
        passes="each event taken exactly once, none in quarantine; all sent, copies ≤ unknown",
        full=3_000,
        short=200,
        run=partial(run, broker=broker),
    )
    for broker, name in (("redis", "Redis"), ("rabbitmq", "RabbitMQ"))
]
