"""All that the broker holds is wiped at random moments."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from urllib.parse import quote

import redis

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import World
from tests.rabbitmq import OwnServer, Server

WORKERS = 4
WIPES = 50
MEAN_S = 1.0
PARTS = 10
"""The messages come in so many parts, so that there are bells to lose."""


async def run(trial: Trial, broker: str) -> None:
    parts = 3 if trial.short else PARTS
    async with trial.world(broker=broker) as world:
        await world.load(trial.n // 2)
        await world.start("worker", 2 if trial.short else WORKERS)
        await world.start("scheduler")
        wiper = world.meanwhile(_wipe(trial, world))
        for _ in range(parts):
            await world.load(trial.n // 2 // parts, trial.rng, plan=False)
        async with asyncio.timeout(300):
            await _all_planned(world)
        settled = await world.settled(timeout_s=300)
        wipes = await wiper
        last = time.monotonic()
        await world.load(10, trial.rng)
        again = await world.settled(timeout_s=60)
        back = time.monotonic() - last
        await world.stop()
        await trial.judge(world)
        trial.note("wipes", wipes)
        trial.note("new work after", f"{back:.1f} s")
        trial.require("all was settled", settled and again, (settled, again))
        trial.require("it was wiped", wipes >= (5 if trial.short else WIPES), wipes)
        trial.require("unknown 0", trial.result.counts["UNKNOWN"] == 0, "see the table")
        trial.require("new work is sent in ≤ 60 s", back <= 60, back)


async def _all_planned(world: World) -> None:
    """Until the schedulers have made a message of all that is open and due."""
    due = (
        "SELECT count(*) FROM records WHERE kind = 'statement' AND state = 'open' "
        "AND next_due_at <= now()"
    )
    while (await world.query(due))[0][0]:  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.5)


async def _wipe(trial: Trial, world: World) -> int:
    wipes = 5 if trial.short else WIPES
    for number in range(wipes):
        await asyncio.sleep(trial.rng.expovariate((5 if trial.short else 1) / MEAN_S))
        assert world.broker is not None
        if isinstance(world.broker, OwnServer):
            await asyncio.to_thread(_purge, world.broker, delete=number % 2 == 1)
        else:
            with redis.Redis.from_url(world.broker.url) as client:
                await asyncio.to_thread(client.flushall)
    return wipes


def _purge(broker: OwnServer, *, delete: bool) -> None:
    """Purges each queue, or deletes it under its consumers."""
    server = broker._server
    assert isinstance(server, Server)
    found = server.ask("GET", "queues/%2F")
    assert isinstance(found, list)
    for queue in found:
        path = f"queues/%2F/{quote(queue['name'], safe='')}"
        server.ask("DELETE", path if delete else f"{path}/contents")


FAULTS = [
    Fault(
        id=f"F7-{broker}",
        injected=f"{how}, {WIPES} times, every {MEAN_S:g} s on average, while half of the messages "
        "come in",
        expected="what is due is in the database; polling finds it, bells ring again",
        passes="no copies, nothing unknown; new work sent ≤ 60 s after the last wipe",
        full=10_000,
        short=200,
        run=partial(run, broker=broker),
    )
    for broker, how in (
        ("redis", "FLUSHALL"),
        ("rabbitmq", "each queue purged, or deleted under its consumers"),
    )
]
