"""A burst of producers' events while one process after the other dies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import aiohttp

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.faults.f21_poison import left, publish
from tests.faults.suite.world import Process, World

PROCESSES = 2
KILL_EVERY_S, SHORT_KILL_EVERY_S = 5.0, 2.0
BATCH = 100
SENDERS = 4
STILL_S = 60.0
HEAD = {"Content-Type": "application/cloudevents-batch+json"}


async def run(trial: Trial, door: str) -> None:
    broker = "" if door == "http" else door
    async with trial.world(broker=broker) as world:
        events = [_event(number) for number in range(trial.n)]
        made = await world.command("tokens", "create", "producer", "--scope", "events:write")
        role = "web" if door == "http" else "worker"
        processes = await world.start(role, PROCESSES)
        for process in processes:
            await world.ready(process)
        every_s = SHORT_KILL_EVERY_S if trial.short else KILL_EVERY_S
        killing = world.meanwhile(_kill_in_turn(world, processes, every_s))
        began = time.monotonic()
        if door == "http":
            answered = await _post_all(world, events, made.out.strip())
        else:
            bodies = [json.dumps(one).encode() for one in events]
            await asyncio.to_thread(publish, world, trial, bodies, [])
            answered = {one["id"] for one in events}
        await _until_still(world, len(events))
        took = time.monotonic() - began
        killing.cancel()
        rest = 0 if door == "http" else await asyncio.to_thread(left, world)
        await world.stop()
        await _judge(trial, world, answered, rest)
        trial.note("events", f"{len(events):,}")
        trial.note("kills", len(world.kills))
        trial.note("taken", f"{len(events) / took:.0f}/s")


async def _judge(trial: Trial, world: World, answered: set[str], rest: int) -> None:
    stored = {one["event_id"]: one["times"] for one in await world.query(EVENTS)}
    effects = {one["ref"]: one["times"] for one in await world.query(RECORDS)}
    letters = (await world.query("SELECT count(*) FROM dead_letters"))[0][0]
    lost = answered - set(stored)
    trial.result.counts["LOSS"] += len(lost)
    trial.result.counts["DUP"] += sum(times - 1 for times in (*stored.values(), *effects.values()))
    trial.require("processes were killed", len(world.kills) >= 2, len(world.kills))
    trial.require("every acknowledged event is stored", not lost, sorted(lost)[:5])
    trial.require("all were acknowledged", len(answered) == trial.n, len(answered))
    once = len(stored) == trial.n and set(stored.values()) == {1}
    trial.require("each event once", once, len(stored))
    once = len(effects) == trial.n and set(effects.values()) == {1}
    trial.require("each record once", once, len(effects))
    trial.require("nothing in quarantine", letters == 0, letters)
    trial.require("the queue is empty", rest == 0, rest)


EVENTS = "SELECT event_id, count(*) AS times FROM events GROUP BY event_id"
RECORDS = "SELECT ref, count(*) AS times FROM records GROUP BY ref"


def _event(number: int) -> dict[str, Any]:
    """A statement that is confirmed already: it is kept, and nobody is told."""
    data = {
        "ref": f"B{number:07}",
        "partner": f"P{number % 500}",
        "statement_kind": "INCENTIVE",
        "generated_at": "2026-11-20T02:00:00Z",
        "status": "CONFIRMED",
        "amount_incl_tax": f"{number % 9973}.25",
    }
    return {
        "specversion": "1.0",
        "id": f"burst-{number}",
        "source": "billing",
        "type": "duewatch.statement.upserted.v1",
        "data": data,
    }


async def _kill_in_turn(world: World, processes: Sequence[Process], every_s: float) -> None:
    turn = 0
    while True:
        await asyncio.sleep(every_s)
        world.kill(processes[turn % len(processes)])
        turn += 1


async def _until_still(world: World, count: int) -> None:
    """Waits until so many events are stored, or nothing has come for a while."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < STILL_S:
        now = int((await world.query("SELECT count(*) FROM events"))[0][0])
        if now >= count:
            return
        if now != before:
            before, since = now, time.monotonic()
        await asyncio.sleep(0.5)


async def _post_all(world: World, events: Sequence[dict[str, Any]], token: str) -> set[str]:
    """Several producers, each sending a batch until it has an answer; returns what was taken."""
    batches = iter([events[at : at + BATCH] for at in range(0, len(events), BATCH)])
    head = {**HEAD, "Authorization": f"Bearer {token}"}
    answered: set[str] = set()
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, headers=head) as client:

        async def sender() -> None:
            for batch in batches:
                post = partial(_post, world, client, json.dumps(batch))
                for said in await _until_answered(post):
                    if said["status"] in {"taken", "repeat"}:
                        answered.add(said["id"])

        await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return answered


async def _until_answered(
    post: Callable[[int], Awaitable[list[dict[str, Any]] | None]],
) -> list[dict[str, Any]]:
    for turn in range(2000):
        if (said := await post(turn)) is not None:
            return said
        await asyncio.sleep(0.05)
    raise TimeoutError("nobody took a batch")


async def _post(
    world: World, client: aiohttp.ClientSession, body: str, turn: int
) -> list[dict[str, Any]] | None:
    port = world.web_ports[turn % len(world.web_ports)]
    try:
        async with client.post(f"http://127.0.0.1:{port}/v1/events", data=body) as got:
            if got.status >= 500 or got.status == 429:
                return None
            found: list[dict[str, Any]] = (await got.json(content_type=None))["results"]
            return found
    except (aiohttp.ClientError, TimeoutError):
        return None


FAULTS = [
    Fault(
        id=f"F1d-{door}",
        injected=f"a burst of events by {name}, SIGKILL of one of {PROCESSES} processes that take "
        f"them in, each in turn, every {KILL_EVERY_S:g} s",
        expected="what was acknowledged is stored; what wasn't comes again and is known",
        passes="every acknowledged event is stored exactly once, with its record; none in "
        "quarantine",
        full=100_000,
        short=1_500,
        run=partial(run, door=door),
        apart=True,
    )
    for door, name in (("rabbitmq", "RabbitMQ"), ("http", "HTTP, in batches"))
]
