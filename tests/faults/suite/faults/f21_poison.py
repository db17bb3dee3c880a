"""Messages that no program should choke on, between producers' events that must be taken."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pika
import redis

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.population import populate
from tests.faults.suite.world import World

WORKERS = 4
QUEUE = "duewatch.events"
HUGE = 20_000_000
DEEP = 100_000
STATEMENT = "duewatch.statement.upserted.v1"


def _event(number: str, kind: str, data: Any) -> bytes:
    said = {"specversion": "1.0", "id": number, "source": "billing", "type": kind, "data": data}
    return json.dumps(said).encode()


POISON: dict[str, Callable[[str], bytes]] = {
    "not JSON": lambda mark: b'{"specversion": "1.0", ' + mark.encode(),
    "not UTF-8": lambda mark: b"\xff\xfe\x00" + mark.encode(),
    "no object": lambda mark: json.dumps([mark]).encode(),
    "unknown type": lambda mark: _event(mark, "duewatch.statemint.upserted.v1", {}),
    "unknown version": lambda mark: _event(mark, "duewatch.statement.upserted.v9", {}),
    "wrong schema": lambda mark: _event(mark, STATEMENT, {"ref": mark, "amount_incl_tax": "1,0O"}),
    "data of another kind": lambda mark: _event(mark, STATEMENT, [mark]),
    "two ids": lambda mark: f'{{"specversion": "1.0", "id": "{mark}", "id": "2"}}'.encode(),
    "deep": lambda mark: b'{"a": "' + mark.encode() + b'", "b": ' + b"[" * DEEP,
    "arguments of another kind": lambda mark: json.dumps(
        {"actor_name": "event", "args": [1, mark], "kwargs": {}, "options": {}}
    ).encode(),
}


async def run(trial: Trial, broker: str) -> None:
    async with trial.world(broker=broker) as world:
        good = statements(world, trial)
        await world.command("import", "contacts.csv")
        bad = [
            make(f"{name}-{trial.rng.getrandbits(64):016x}")
            for name, make in POISON.items()
            for _ in range(max(1, trial.n // 200))
        ]
        bad += [b"x" * HUGE + trial.rng.randbytes(8) for _ in range(1 if trial.short else 3)]
        trial.rng.shuffle(bad)
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        await world.start("scheduler")
        await world.ready(workers[0])
        await asyncio.to_thread(publish, world, trial, good, bad)
        dead = "SELECT count(*) FROM dead_letters"
        taken = "SELECT count(*) FROM records"
        planned = "SELECT count(*) FROM records WHERE state = 'open' AND next_due_at <= now()"
        end = time.monotonic() + (60 if trial.short else 180)
        while time.monotonic() < end and (  # noqa: ASYNC110 - another process's doing
            (await world.query(taken))[0][0] < len(good)
            or (await world.query(dead))[0][0] < len(bad)
            or (await world.query(planned))[0][0]
        ):
            await asyncio.sleep(0.5)
        settled = await world.settled(timeout_s=300)
        rest = await asyncio.to_thread(left, world)
        letters = await world.query("SELECT reason, times, size FROM dead_letters")
        ended = [code for one in workers for _, code in one.exits]
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        trial.note("poison", len(bad))
        trial.note("in quarantine", len(letters))
        trial.note("neighbours", len(good))
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("quarantine = poison", len(letters) == len(bad), len(letters))
        trial.require("each with a reason", all(one["reason"] for one in letters), "a letter")
        times = max((one["times"] for one in letters), default=0)
        trial.require("given out once each", times == 1, times)
        largest = max((one["size"] for one in letters), default=0)
        trial.require("the largest is known by its size", largest == HUGE + 8, largest)
        trial.require("the queue is empty", rest == 0, rest)
        trial.require("no process ended", not ended, ended)
        trial.require("late ≤ 60 s", trial.result.late_s <= 60, trial.result.late_s)


def statements(world: World, trial: Trial) -> list[bytes]:
    """The statements that `populate` would have imported, as events."""
    populate(world.folder, trial.n, trial.rng)
    with (world.folder / "statements.csv").open(encoding="utf-8") as file:
        return [_event(row["ref"], STATEMENT, row) for row in csv.DictReader(file)]


def publish(world: World, trial: Trial, good: Sequence[bytes], bad: Sequence[bytes]) -> None:
    """Puts all into the queue, the bad between the good, as programs without Dramatiq do."""
    bodies = [*good, *bad]
    places = [trial.rng.random() for _ in bodies]
    mixed = [body for _, body in sorted(zip(places, bodies, strict=True))]
    assert world.broker is not None
    if world.broker.url.startswith("redis"):
        with redis.Redis.from_url(world.broker.url) as client:
            for number, body in enumerate(mixed):
                client.hset(f"dramatiq:{QUEUE}.msgs", f"raw-{number}", body)
                client.rpush(f"dramatiq:{QUEUE}", f"raw-{number}")
        return
    connection = pika.BlockingConnection(pika.URLParameters(world.broker.url))
    channel = connection.channel()
    channel.confirm_delivery()
    for body in mixed:
        channel.basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=2))
    connection.close()


def left(world: World) -> int:
    assert world.broker is not None
    if world.broker.url.startswith("redis"):
        with redis.Redis.from_url(world.broker.url) as client:
            return int(client.hlen(f"dramatiq:{QUEUE}.msgs"))
    connection = pika.BlockingConnection(pika.URLParameters(world.broker.url))
    count = connection.channel().queue_declare(QUEUE, passive=True).method.message_count
    connection.close()
    return int(count)


FAULTS = [
    Fault(
        id=f"F21-{broker}",
        injected=f"by {name}, between producers' events: not JSON, not UTF-8, unknown type and "
        "version, wrong schema, 100,000 levels deep, 20 MB",
        expected="kept in quarantine with the reason; the neighbours are taken",
        passes="quarantine = poison, exactly, each given out once; all others taken and sent, "
        "≤ 60 s late (p99); no process ended",
        full=2_000,
        short=100,
        run=partial(run, broker=broker),
    )
    for broker, name in (("redis", "Redis"), ("rabbitmq", "RabbitMQ"))
]
