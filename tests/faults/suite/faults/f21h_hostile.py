"""Ten thousand hostile messages by each door, and a good one between every few."""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import dramatiq
import pika
import redis

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.faults.f1d_burst import _event as good_event
from tests.faults.suite.world import World

QUEUE = "duewatch.events"
GOOD_EACH = 10
STILL_S = 45.0
GROWTH_MB = 80.0
SENDERS = 4
SINGLE = {"Content-Type": "application/cloudevents+json"}
Mutation = Callable[[random.Random, dict[str, Any]], bytes]


def _text(said: Any) -> bytes:
    return json.dumps(said).encode()


def _with(said: dict[str, Any], **changed: Any) -> bytes:
    return _text({**said, **changed})


def _with_data(said: dict[str, Any], **changed: Any) -> bytes:
    return _with(said, data={**said["data"], **changed})


def _truncated(chance: random.Random, said: dict[str, Any]) -> bytes:
    whole = _text(said)
    return whole[: chance.randrange(1, len(whole))]


def _flipped(chance: random.Random, said: dict[str, Any]) -> bytes:
    """Some bytes that no UTF-8 has."""
    whole = bytearray(_text(said))
    for _ in range(chance.randrange(1, 4)):
        whole[chance.randrange(len(whole))] = chance.choice((0xFF, 0xFE, 0xC0))
    return bytes(whole)


def _nested(chance: random.Random, said: dict[str, Any]) -> bytes:
    depth = chance.choice((20, 500, 5_000))
    deep = b"[" * depth + b"]" * depth
    return b'{"mark": "' + str(said["id"]).encode() + b'", "data": ' + deep + b"}"


def _wrong_value(chance: random.Random, said: dict[str, Any]) -> bytes:
    field = chance.choice(("ref", "partner", "generated_at", "amount_incl_tax", "statement_kind"))
    wrong = chance.choice(
        ([], {}, [1], {"a": 1}, "x\0y", "\ud800", "1,234.5O", "2026-02-30T25:61:00Z", "", " ")
    )
    # What one field takes, or takes for empty, is wrong in another.
    if isinstance(wrong, str) and "\0" not in wrong and not "\ud800" <= wrong[:1] <= "\udfff":
        wrong = {
            "ref": "a" * 300,
            "partner": "b" * 300,
            "statement_kind": "\0",
            "generated_at": "yesterday",
            "amount_incl_tax": "NaN",
        }[field]
    return _with_data(said, **{field: wrong})


def _wrong_envelope(chance: random.Random, said: dict[str, Any]) -> bytes:
    return chance.choice(
        (
            _with(said, specversion=chance.choice(("0.3", "2.0", 1.0, None, []))),
            _with(said, id=chance.choice(("", "a b", "x" * 500, 7, None, "\u2028"))),
            _with(said, source=chance.choice(("", 5, {}, "y" * 201))),
            _with(
                said, type=f"duewatch.{chance.choice(('statement.upserted.v99', 'x', '', '..'))}"
            ),
            _with(said, time=chance.choice(("now", "2026-13-01T00:00:00Z", 5))),
            _with(said, datacontenttype="application/x-python-serialize"),
            _with(said, data_base64="gASVAAA="),
            _with(said, data=chance.choice(("text", [1, 2], 5, True))),
            _with(said, **{"Bad-Name": "x"}),
            _with(said, extension={"nested": True}),
        )
    )


def _not_strict(chance: random.Random, said: dict[str, Any]) -> bytes:
    whole = _text(said).decode()
    return chance.choice(
        (
            whole.replace('"id"', f'"id": "{said["id"]}-x", "id"', 1),
            whole.replace('"data": {', '"data": {"amount_incl_tax": NaN, ', 1),
            whole.replace('"data": {', '"data": {"extra": 1e999, ', 1),
            whole.replace('"data": {', f'"data": {{"extra": {"9" * 400}, ', 1),
            whole[:-1] + ", }",
            f"// {said['id']}\n{whole}",
            f"[{whole}",
        )
    ).encode()


def _too_large(chance: random.Random, said: dict[str, Any]) -> bytes:
    return _with_data(said, note="z" * chance.choice((70_000, 200_000, 300_000)))


def _pickled(chance: random.Random, said: dict[str, Any]) -> bytes:
    return pickle.dumps(said, protocol=chance.choice((0, 2, 4)))


def _other_encoding(chance: random.Random, said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode(chance.choice(("utf-16", "utf-32")))


def _foreign_seal(chance: random.Random, said: dict[str, Any]) -> bytes:
    return _text(
        {
            "sealed": chance.choice(("v1", "v0")),
            "producer": "billing",
            "key": "2026a",
            "id": said["id"],
            "time": "2026-11-24T02:00:00Z",
            "body": json.dumps(said),
            "signature": "AAAA" * 11,
        }
    )


def _unknown_field(chance: random.Random, said: dict[str, Any]) -> bytes:
    return _with_data(said, **{f"field_{chance.randrange(10**6)}": 1})


def _wrong_message(chance: random.Random, said: dict[str, Any]) -> bytes:
    """A Dramatiq message that is made wrongly."""
    whole: dict[str, Any] = {"queue_name": QUEUE, "actor_name": "event", "args": [said]}
    whole |= {"kwargs": {}, "options": {}, "message_id": said["id"], "message_timestamp": 0}
    wrong: tuple[dict[str, Any], ...] = (
        {"args": []},
        {"args": [said, said]},
        {"args": said},
        {"args": [[said]]},
        {"args": [None]},
        {"args": [pickle.dumps(said, 0).decode()]},
        {"kwargs": {"event": said}},
        {"args": [], "kwargs": {"another": said}},
        {"actor_name": 7},
        {"actor_name": ""},
        {"actor_name": "unreadable"},
    )
    return _with(whole, **chance.choice(wrong))


def _no_object(chance: random.Random, said: dict[str, Any]) -> bytes:
    return _text(chance.choice(([said["id"]], said["id"], [[said["id"]]], {"a": said["id"]})))


MUTATIONS: tuple[Mutation, ...] = (
    _truncated,
    _flipped,
    _nested,
    _wrong_value,
    _wrong_envelope,
    _not_strict,
    _too_large,
    _pickled,
    _other_encoding,
    _foreign_seal,
    _unknown_field,
    _wrong_message,
    _no_object,
)


def hostile(count: int, chance: random.Random) -> list[bytes]:
    """So many messages, no two alike, of which none is an event that could be taken."""
    found: dict[bytes, None] = {}
    number = 0
    while len(found) < count:
        number += 1
        said = good_event(10_000_000 + number)
        found[MUTATIONS[number % len(MUTATIONS)](chance, said)] = None
    return list(found)


async def run(trial: Trial, door: str) -> None:
    broker = {"http": "", "redis": "redis", "dramatiq": "redis"}.get(door, "rabbitmq")
    async with trial.world(broker=broker) as world:
        bad = hostile(trial.n, trial.rng)
        good = [good_event(number) for number in range(trial.n // GOOD_EACH)]
        made = await world.command("tokens", "create", "producer", "--scope", "events:write")
        (process,) = await world.start("web" if door == "http" else "worker")
        await world.ready(process)
        before = _held_mb(process.pid)
        mixed = [*bad, *map(_text, good)]
        trial.rng.shuffle(mixed)
        began = time.monotonic()
        statuses: set[int] = set()
        if door == "http":
            statuses = await _post_all(world, mixed, made.out.strip())
        else:
            await asyncio.to_thread(_publish, world, door, mixed)
        await _until_still(world, len(good), len(bad))
        took = time.monotonic() - began
        grown, ended = _held_mb(process.pid) - before, [code for _, code in process.exits]
        kept = await world.query("SELECT reason, times FROM dead_letters")
        taken = await world.query("SELECT ref FROM records")
        proof = await world.command("verify")
        await world.stop()
    wanted = {one["data"]["ref"] for one in good}
    trial.note("hostile", f"{len(bad):,}")
    trial.note("neighbours", len(good))
    trial.note("rate", f"{len(mixed) / took:.0f}/s")
    trial.note("memory", f"+{max(0.0, grown):.0f} MB")
    lost = wanted - {one["ref"] for one in taken}
    trial.result.counts["LOSS"] += len(lost)
    trial.require("no process ended", not ended, ended)
    trial.require("all neighbours were taken", not lost, sorted(lost)[:5])
    trial.require("nothing else was taken", len(taken) == len(wanted), len(taken))
    trial.require("all hostile ones are in quarantine", len(kept) == len(bad), len(kept))
    trial.require("each with a reason", all(one["reason"] for one in kept), len(kept))
    trial.require("no answer is our own fault", not any(s >= 500 for s in statuses), statuses)
    trial.require(f"memory ≤ +{GROWTH_MB:g} MB", grown <= GROWTH_MB, grown)
    trial.require("the ledger adds up", proof.code == 0, proof.out[-1500:])


def _held_mb(pid: int | None) -> float:
    assert pid is not None
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def _until_still(world: World, good: int, bad: int) -> None:
    """Waits until all is taken or kept, or nothing has changed for a while."""
    sql = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM dead_letters)"
    before, since = (-1, -1), time.monotonic()
    while time.monotonic() - since < STILL_S:
        now = tuple((await world.query(sql))[0])
        if now == (good, bad):
            return
        if now != before:
            before, since = now, time.monotonic()
        await asyncio.sleep(0.5)


async def _post_all(world: World, bodies: Sequence[bytes], token: str) -> set[int]:
    """Each as a single event; returns the statuses that were answered."""
    url = f"http://127.0.0.1:{world.web_ports[0]}/v1/events"
    head = {**SINGLE, "Authorization": f"Bearer {token}"}
    left, statuses = iter(bodies), set[int]()
    async with aiohttp.ClientSession(headers=head) as client:

        async def sender() -> None:
            for body in left:
                async with client.post(url, data=body) as got:
                    statuses.add(got.status)
                    await got.read()

        await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return statuses


def _publish(world: World, door: str, bodies: Sequence[bytes]) -> None:
    assert world.broker is not None
    if door in {"dramatiq", "dramatiq-rabbitmq"}:
        bodies = [_wrapped(number, body) for number, body in enumerate(bodies)]
    if world.broker.url.startswith("redis"):
        with redis.Redis.from_url(world.broker.url) as client:
            for number, body in enumerate(bodies):
                client.hset(f"dramatiq:{QUEUE}.msgs", f"raw-{number}", body)
                client.rpush(f"dramatiq:{QUEUE}", f"raw-{number}")
        return
    connection = pika.BlockingConnection(pika.URLParameters(world.broker.url))
    channel = connection.channel()
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=2))
    connection.close()


def _wrapped(number: int, body: bytes) -> bytes:
    """As a Dramatiq producer writes it, where what it carries can be carried; else as it is."""
    try:
        event = json.loads(body)
        if _text(event) != body or "actor_name" in event:
            return body  # what was hostile about it would be mended by writing it anew
        return dramatiq.Message(QUEUE, "event", (event,), {}, {}, f"m-{number}", 0).encode()
    except (ValueError, RecursionError, UnicodeEncodeError):
        return body


DOORS = {
    "http": "HTTP",
    "redis": "Redis, raw",
    "dramatiq": "Dramatiq over Redis",
    "rabbitmq": "RabbitMQ, plain",
    "dramatiq-rabbitmq": "Dramatiq over RabbitMQ",
}
FAULTS = [
    Fault(
        id=f"F21h-{door}",
        injected=f"hostile messages by {name}: cut short, other encodings, pickles, wrong seals, "
        "envelopes, fields and values, keys twice, NaN, depth, size; a good one to each ten",
        expected="each is kept in quarantine with its reason; the neighbours are taken",
        passes="quarantine = hostile, exactly; all neighbours taken; no process ended; memory "
        f"≤ +{GROWTH_MB:g} MB; HTTP answers none with 5xx",
        full=10_000,
        short=150,
        run=partial(run, door=door),
        apart=True,
    )
    for door, name in DOORS.items()
]
