"""Bells over Redis and RabbitMQ: heard by other processes; a broker that fails costs a moment."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
import redis
import structlog
from structlog.testing import capture_logs

from tests import rabbitmq
from tests.fakes.clock import FakeClock
from tests.integration.test_web_database_away import Wire
from tests.product import contact, inbox, opened, partner, statement
from tests.redis import OwnServer
from workers.tasks import BELLS, Bell
from workers.tasks.letters import MAX_REMEMBERED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
POLL_S = 45.0
"""So long that what comes sooner came by a bell."""
SOON_S = 15.0
BACK_S = 60.0


async def until(happened: Callable[[], bool], seconds: float = SOON_S) -> None:
    for _ in range(int(seconds / 0.02)):
        if happened():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[list[float]]:
    """When bells were heard, by a listener of its own."""
    heard: list[float] = []
    bell = Bell(url)
    bell.listen(lambda: heard.append(time.monotonic()))
    try:
        yield heard
    finally:
        await bell.stop()
        bell.close()


@contextmanager
def ringing(url: str) -> Iterator[Bell]:
    bell = Bell(url)
    try:
        yield bell
    finally:
        bell.close()


async def rung(bell: Bell, heard: list[float], seconds: float = SOON_S) -> float:
    """Rings now and then until a bell is heard, and returns how long that took."""
    began, before = time.monotonic(), len(heard)
    async with asyncio.timeout(seconds):
        while len(heard) == before:
            bell.ring()
            await asyncio.sleep(0.25)
    return time.monotonic() - began


def push(url: str, body: bytes, queue: str = BELLS) -> None:
    """Puts bytes into a queue as a program without Dramatiq would."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            number = f"raw-{time.monotonic_ns()}"
            client.hset(f"dramatiq:{queue}.msgs", number, body)
            client.rpush(f"dramatiq:{queue}", number)
        return
    with wire_to(url) as channel:
        channel.basic_publish("", queue, body)


@contextmanager
def wire_to(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def waiting(url: str, queue: str = BELLS) -> int:
    """How many messages a queue has that nobody holds."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            return int(client.llen(f"dramatiq:{queue}"))
    with wire_to(url) as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def held(url: str, queue: str = BELLS) -> int:
    """How many messages Redis keeps of a queue, waiting or given out."""
    with redis.Redis.from_url(url) as client:
        return int(client.hlen(f"dramatiq:{queue}.msgs"))


SCAN = """
import asyncio, sys
from tests.product import NOW
from workers.app import open_app
from workers.settings import Settings

async def main(database, broker):
    settings = Settings(database_url=database, broker_url=broker)
    async with open_app(settings, clock=lambda: NOW) as app:
        await app.scan.run("statement")

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_scan_in_one_process_wakes_a_worker_in_another(
    broker_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    delivery = {"poll_s": POLL_S}
    async with opened(database, clock, broker_url=broker_url, delivery=delivery) as app:
        await app.intake.take([partner(), contact(), statement()])
        app.bell.listen(app.delivery.ring)
        stopping = asyncio.Event()
        worker = asyncio.create_task(app.delivery.run(stopping))
        await asyncio.sleep(1)  # its first look finds nothing: nothing is planned yet
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", SCAN, database, broker_url),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "."},
        )
        assert await process.wait() == 0
        began = time.monotonic()
        while not await inbox(app):
            assert time.monotonic() - began < SOON_S, "nobody heard the other process"
            await asyncio.sleep(0.05)
        stopping.set()
        await worker
        await app.bell.stop()

        assert await inbox(app) == ["c1@example.com"]


async def test_many_bells_at_once_are_few_and_an_unheard_heap_has_an_end(broker_url: str) -> None:
    with ringing(broker_url) as bell:
        for _ in range(10_000):
            bell.ring()
        for _ in range(150):
            bell._ring(bell._broker)  # type: ignore[arg-type]
        assert 0 < waiting(broker_url) <= 100

        async with listening(broker_url) as heard:
            await until(lambda: len(heard) > 0)


BAD = [
    b"\xff\xfe garbage",
    b"",
    b"[1, 2",
    b"[]",
    b"null",
    b'{"actor_name": 3}',
    b"[" * 100_000,
    b'{"actor_name": "deliver", "queue_name": "elsewhere", "args": [], "kwargs": {}, '
    b'"options": {}, "message_id": "1", "message_timestamp": 1}',
    b'{"actor_name": "deliver", "queue_name": "duewatch.bells", "args": [], "kwargs": {}, '
    b'"options": null, "message_id": "1", "message_timestamp": 1}',
    b'{"actor_name": "deliver", "queue_name": "duewatch.bells", "args": [1, 2, 3], "kwargs": [], '
    b'"options": {"eta": 1e300}, "message_id": "1", "message_timestamp": 1}',
    b'{"actor_name": "unreadable", "args": [], "kwargs": {}}',
    b"x" * 300_000,
]


async def test_garbage_between_bells_strands_no_neighbour(broker_url: str) -> None:
    with ringing(broker_url) as bell, capture_logs():
        async with listening(broker_url) as heard:
            await rung(bell, heard)
            for body in BAD * 2:
                push(broker_url, body)
            await until(lambda: waiting(broker_url) == 0)
            for _ in range(3):
                assert await rung(bell, heard) < SOON_S
            await asyncio.sleep(0.5)
            if broker_url.startswith("redis"):
                await until(lambda: held(broker_url) == 0)


async def test_an_id_without_a_message_is_dropped(redis_url: str) -> None:
    with ringing(redis_url) as bell:
        async with listening(redis_url) as heard:
            with redis.Redis.from_url(redis_url) as client:
                client.rpush(f"dramatiq:{BELLS}", *(f"nothing-{n}" for n in range(50)))
            assert await rung(bell, heard) < SOON_S
            with redis.Redis.from_url(redis_url) as client:
                await until(lambda: not client.keys("dramatiq:__acks__.*"))


async def test_a_message_for_an_unknown_actor_is_left_for_those_who_know_it(
    broker_url: str,
) -> None:
    stranger = (
        b'{"actor_name": "tomorrow", "queue_name": "duewatch.bells", "args": [], "kwargs": {}, '
        b'"options": {}, "message_id": "1", "message_timestamp": 1}'
    )
    with ringing(broker_url) as bell:
        async with listening(broker_url) as heard:
            await rung(bell, heard)
            push(broker_url, stranger)
            for _ in range(2):
                assert await rung(bell, heard) < SOON_S
            used = time.process_time()
            await asyncio.sleep(2.5)
            # Going round and round would burn all of a processor.
            assert time.process_time() - used < 0.7
        await asyncio.sleep(0.5)
        if broker_url.startswith("redis"):
            assert held(broker_url) >= 1
            with redis.Redis.from_url(broker_url) as client:
                bodies = client.hvals(f"dramatiq:{BELLS}.msgs")
            assert stranger in bodies
        else:
            with wire_to(broker_url) as channel:
                found = [channel.basic_get(BELLS)[2] for _ in range(waiting(broker_url))]
            assert stranger in found


async def test_a_bell_from_a_wrong_clock_is_heard(broker_url: str) -> None:
    day_ms, now = 86_400_000, int(time.time() * 1000)
    async with listening(broker_url) as heard:
        for at in (now - day_ms, now + day_ms, 0, 10**18):
            before = len(heard)
            push(
                broker_url,
                b'{"actor_name": "deliver", "queue_name": "duewatch.bells", "args": [], '
                b'"kwargs": {}, "options": {}, "message_id": "1", "message_timestamp": %d}' % at,
            ) if before or broker_url.startswith("redis") else await _first(broker_url, heard)
            await until(lambda: len(heard) > before)  # noqa: B023


async def _first(url: str, heard: list[float]) -> None:
    """The listener declares its queue; before that there is nowhere to push to."""
    with ringing(url) as bell:
        await rung(bell, heard)


TEN_YEARS_AHEAD = """
import time
right = time.time
time.time = lambda: right() + 10 * 365 * 86400

import asyncio, os, sys
from workers.tasks import Bell

async def main():
    bell = Bell(sys.argv[1])
    bell._actors["deliver"].fn = lambda letter: os._exit(9)
    bell.listen(lambda: None)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_listener_with_a_wrong_clock_is_told_dead_or_alive_by_the_server_s(
    redis_url: str,
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TEN_YEARS_AHEAD, redis_url),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
    )
    with ringing(redis_url) as bell, redis.Redis.from_url(redis_url) as client:
        bell.ring()
        assert await process.wait() == 9
        seconds, _ = client.time()
        beats = client.zrange("dramatiq:__heartbeats__", 0, -1, withscores=True)
        # By its own clock nobody would take for ten years what it held when it died.
        assert len(beats) == 2
        assert all(abs(score / 1000 - seconds) < 60 for _, score in beats)


async def test_a_producer_with_a_wrong_clock_takes_nothing_from_the_living(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, ringing(redis_url) as bell:
        async with listening(redis_url) as heard:
            client.zadd("dramatiq:__heartbeats__", {"from-the-future": 4e12, "from-1970": 1})
            for _ in range(3):
                assert await rung(bell, heard) < SOON_S


DIES = """
import asyncio, os, sys
from workers.tasks import Bell

async def main():
    bell = Bell(sys.argv[1])
    bell._actors["deliver"].fn = lambda letter: os._exit(9)
    bell.listen(lambda: None)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_a_killed_listener_held_is_heard_by_another(broker_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, broker_url, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    with ringing(broker_url) as bell:
        bell.ring()
        assert await process.wait() == 9
    if broker_url.startswith("redis"):
        assert (waiting(broker_url), held(broker_url)) == (0, 1)
        with redis.Redis.from_url(broker_url) as client:
            for name in client.zrange("dramatiq:__heartbeats__", 0, -1):
                client.zadd("dramatiq:__heartbeats__", {name: time.time() * 1000 - 16_000})
    async with listening(broker_url) as heard:
        await until(lambda: len(heard) > 0)
        if broker_url.startswith("redis"):
            await until(lambda: held(broker_url) == 0)


async def test_a_broker_that_is_away_is_said_once_and_nothing_heaps_up(
    own_redis: OwnServer,
) -> None:
    own_redis.kill()
    with capture_logs() as logs, ringing(own_redis.url) as bell:
        async with listening(own_redis.url) as heard:
            threads = _threads()
            for _ in range(2000):
                bell.ring()
            await asyncio.sleep(3)  # consumers try again every half a second
            for _ in range(2000):
                bell.ring()
            assert bell._threads._work_queue.qsize() <= 1
            assert _threads() <= threads + 1
            own_redis.start()
            assert await rung(bell, heard, BACK_S) < BACK_S
            own_redis.kill()
            await asyncio.sleep(1.5)
            own_redis.start()
            assert await rung(bell, heard, BACK_S) < BACK_S
    said = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    # Two lines of each kind and each of the two ends: it was away twice.
    assert said.count("broker away: polling goes on") <= 4
    assert len(said) <= 8


async def test_delivery_goes_on_by_polling_while_the_broker_is_away(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path / 'duewatch.db'}"
    for broker in ("redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1/"):
        async with opened(url, clock, broker_url=broker, delivery={"poll_s": 0.2}) as app:
            ref = broker[:4]
            await app.intake.take([partner(), contact(), statement(ref)])
            app.bell.listen(app.delivery.ring)
            stopping = asyncio.Event()
            worker = asyncio.create_task(app.delivery.run(stopping))
            await app.scan.run("statement")
            before = time.monotonic()
            count = 1 if ref == "redi" else 2
            while len(await inbox(app)) < count:
                assert time.monotonic() - before < SOON_S
                await asyncio.sleep(0.05)
            stopping.set()
            await worker
            await app.bell.stop()


async def test_bells_ring_again_after_everything_was_flushed(redis_url: str) -> None:
    with ringing(redis_url) as bell, redis.Redis.from_url(redis_url) as client:
        async with listening(redis_url) as heard:
            for _ in range(3):
                await rung(bell, heard)
                client.flushdb()
                client.script_flush()
            assert await rung(bell, heard, BACK_S) < BACK_S


async def test_bells_ring_again_after_the_queue_was_purged_and_deleted(rabbitmq_url: str) -> None:
    with ringing(rabbitmq_url) as bell:
        async with listening(rabbitmq_url) as heard:
            await rung(bell, heard)
            with wire_to(rabbitmq_url) as channel:
                channel.queue_purge(BELLS)
            await rung(bell, heard)
            for _ in range(2):
                with wire_to(rabbitmq_url) as channel:
                    channel.queue_delete(BELLS)
                assert await rung(bell, heard, BACK_S) < BACK_S


async def test_bells_ring_again_after_the_wire_was_cut(rabbitmq_url: str) -> None:
    there = pika.URLParameters(rabbitmq_url)
    async with Wire(there.host, there.port) as wire:
        through = rabbitmq_url.replace(f":{there.port}/", f":{wire.port}/")
        with capture_logs() as logs:
            bell = Bell(through)
            async with listening(through) as heard:
                await rung(bell, heard)
                await wire.cut()
                for _ in range(500):
                    bell.ring()
                await asyncio.sleep(2)
                assert bell._threads._work_queue.qsize() <= 1
                await wire.mend()
                assert await rung(bell, heard, BACK_S) < BACK_S
            await asyncio.to_thread(bell.close)
    away = [entry for entry in logs if "away" in entry["event"]]
    assert 1 <= len(away) <= 4


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_rabbitmq_that_is_killed_and_comes_back_is_heard_again() -> None:
    server = rabbitmq.OwnServer()
    try:
        server.start()
        with capture_logs() as logs, ringing(server.url) as bell:
            async with listening(server.url) as heard:
                for _ in range(2):
                    await rung(bell, heard, BACK_S)
                    server.kill()
                    for _ in range(200):
                        bell.ring()
                        await asyncio.sleep(0.02)
                    assert bell._threads._work_queue.qsize() <= 1
                    await asyncio.to_thread(server.start)
                assert await rung(bell, heard, BACK_S) < BACK_S
    except rabbitmq.RabbitmqMissing as error:
        pytest.skip(str(error))
    finally:
        server.remove()
    assert len([entry for entry in logs if entry["log_level"] != "debug"]) <= 12


async def test_libraries_say_nothing_themselves(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with listening("amqp://guest:guest@127.0.0.1:1/"):
            await asyncio.sleep(1)
    assert [record.name for record in caplog.records] == []


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_what_was_left_is_remembered_only_so_far() -> None:
    from workers.tasks.letters import Line

    line = Line(set(), lambda body: body)
    with capture_logs():
        for number in range(MAX_REMEMBERED + 500):
            line.pause_if_same(str(number).encode())

    assert len(line._left) == MAX_REMEMBERED
    structlog.reset_defaults()


def test_an_event_for_an_actor_that_nobody_has_cant_be_taken_after_ten_minutes() -> None:
    from workers.tasks.letters import EVENTS, LEFT_LONGEST_S, UNREADABLE, Line

    clock = [0.0]
    line = Line({"event", UNREADABLE}, json.loads, lambda: clock[0])
    body = b'{"actor_name": "newer", "args": [], "kwargs": {}}'
    with capture_logs():
        while clock[0] < LEFT_LONGEST_S:
            assert line.sort(EVENTS, body, again=False) is None
            line.pause_if_same(body)
            clock[0] += 60
        assert line.sort(BELLS, body, again=False) is None
        letter = line.sort(EVENTS, body, again=False)

    assert letter is not None
    assert (letter.actor, "actor 'newer', which nobody has" in letter.reason) == (UNREADABLE, True)
    structlog.reset_defaults()
