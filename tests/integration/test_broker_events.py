"""Producers' events by the broker: acknowledged after the commit, or kept with the reason."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import make_url
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.integration.test_bells import BAD, held, push, waiting, wire_to
from tests.integration.test_events import event
from tests.integration.test_web_database_away import Wire, _through
from tests.product import NOW, contact, inbox, opened, partner, statement
from tests.redis import OwnServer
from workers.app import App
from workers.daemon import serve
from workers.errors import SettingsError, UnavailableError
from workers.events import read_json
from workers.store.engine import Database
from workers.store.quarantine import MAX_KEPT_BYTES, Quarantine
from workers.tasks import EVENTS, Bell, Ears

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOON_S = 20.0
Take = Callable[[Any], Awaitable[str]]


async def until(happened: Callable[[], Awaitable[bool]], seconds: float = SOON_S) -> None:
    for _ in range(int(seconds / 0.05)):
        if await happened():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


@asynccontextmanager
async def at_work(app: App, *roles: str) -> AsyncIterator[None]:
    """The daemon's roles, until the block ends."""
    stopping = asyncio.Event()
    daemon = asyncio.create_task(serve(app, roles, stopping))
    try:
        yield
    finally:
        stopping.set()
        await daemon


@asynccontextmanager
async def taking(url: str, database: Database, take: Take) -> AsyncIterator[Bell]:
    """A worker that does `take` with each event."""
    bell = Bell(url)
    bell.listen(None, ears(database, take))
    try:
        yield bell
    finally:
        await bell.stop()
        bell.close()


def ears(database: Database, take: Take) -> Ears:
    return Ears(Quarantine(database), FakeClock(NOW), None, take, read_json)


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{folder / 'duewatch.db'}")
    try:
        yield database
    finally:
        await database.close()


def producer(url: str) -> dramatiq.Broker:
    """Another program's broker: Dramatiq as it comes, and none of ours."""
    if url.startswith("redis"):
        return RedisBroker(url=url)  # type: ignore[no-untyped-call]
    return RabbitmqBroker(url=url, confirm_delivery=True)


def publish(url: str, *events: Any, delay: int | None = None) -> None:
    broker = producer(url)
    broker.declare_queue(EVENTS)
    for one in events:
        broker.enqueue(dramatiq.Message(EVENTS, "event", (one,), {}, {}), delay=delay)
    if url.startswith("redis"):
        broker.client.close()  # type: ignore[attr-defined]
    broker.close()


def left(url: str) -> int:
    return held(url, EVENTS) if url.startswith("redis") else waiting(url, EVENTS)


async def refs(app: App) -> set[str]:
    return {row.ref for row in await app.store.records.search(kind="payment", limit=1000)}


async def test_an_event_by_the_broker_is_told_at_once(
    broker_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    behind = {"clock_tolerance_s": 1e9}  # the test's clock stands still
    async with opened(database, clock, broker_url=broker_url, scheduler=behind) as app:
        await app.intake.take([partner(), contact()])
        async with at_work(app, "worker"):
            publish(broker_url, event())
            await until(lambda: _is(inbox(app), ["c1@example.com"]))

        assert await refs(app) == {"F1"}
        assert left(broker_url) == 0


async def _is(found: Awaitable[Any], wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_a_bare_cloud_event_and_one_with_a_delay_are_taken_too(
    broker_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with opened(database, clock, broker_url=broker_url) as app, at_work(app, "worker"):
        publish(broker_url, event("1", ref="F1", lines=[]), delay=3_600_000)
        push(broker_url, json.dumps(event("2", ref="F2", lines=[])).encode(), EVENTS)
        await until(lambda: _is(refs(app), {"F1", "F2"}))


async def test_bad_messages_are_kept_with_their_reasons_and_harm_no_neighbour(
    broker_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    refused = [
        event("a", amount_incl_tax="1,234.5O"),
        event("b", kind="paiment"),
        {"specversion": "1.0"},
        "text",
    ]
    unread = [body for body in BAD if b"deliver" not in body]
    broken = [b'{"specversion": "1.0", "id": "1", "id": "2"}', b'{"specversion": NaN}']
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with opened(database, clock, broker_url=broker_url) as app:
        with capture_logs() as logs:
            async with at_work(app, "worker"):
                publish(broker_url)
                await asyncio.sleep(1)
                for number, body in enumerate([*unread, *broken]):
                    publish(broker_url, event(str(number), ref=f"F{number}", lines=[]))
                    push(broker_url, body, EVENTS)
                publish(broker_url, *refused, event("z", ref="FZ", lines=[]))
                good = {f"F{number}" for number in range(len(unread) + 2)} | {"FZ"}
                await until(lambda: _is(refs(app), good))
                letters = Quarantine(app.store.database)
                wanted = len(refused) + len(unread) + len(broken)
                await until(lambda: _count(letters, wanted))
                await asyncio.sleep(1)
        rows = await letters.all()

        assert len(rows) == wanted
        assert all(row.reason and row.door.startswith(EVENTS) for row in rows)
        reasons = "\n".join(row.reason for row in rows)
        for said in ("isn't UTF-8", "isn't JSON", "twice", "NaN", "too deep", "at most 262144"):
            assert said in reasons
        assert "/data/amount_incl_tax" in reasons
        assert "duewatch.payment.upserted.v1" in reasons
        assert max(len(row.body.encode()) for row in rows) <= MAX_KEPT_BYTES
        assert left(broker_url) == 0
        assert not any("1,234.5O" in str(entry) for entry in logs)


async def _count(letters: Quarantine, wanted: int) -> bool:
    return len(await letters.all()) >= wanted


async def test_the_same_bad_message_again_is_one_dead_letter(
    redis_url: str, tmp_path: Path
) -> None:
    async def refuse(_: Any) -> str:
        return "not today"

    async with store(tmp_path) as database:
        letters = Quarantine(database)
        with capture_logs():
            async with taking(redis_url, database, refuse):
                for _ in range(3):
                    push(redis_url, b'{"specversion": "1.0", "id": "same"}', EVENTS)
                await until(lambda: _times(letters, 3))

        assert len(await letters.all()) == 1


async def _times(letters: Quarantine, wanted: int) -> bool:
    rows = await letters.all()
    return bool(rows) and rows[0].times == wanted


async def test_while_the_database_is_away_events_wait_and_none_is_lost(
    broker_url: str, postgres_url: str, clock: FakeClock
) -> None:
    url = make_url(postgres_url)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    async with wire, opened(_through(url, wire), clock, broker_url=broker_url) as app:
        with capture_logs():
            async with at_work(app, "worker"):
                publish(broker_url, event("0", ref="F0", lines=[]))
                await until(lambda: _is(refs(app), {"F0"}))
                await wire.cut()
                publish(broker_url, *(event(str(n), ref=f"F{n}", lines=[]) for n in range(1, 21)))
                await asyncio.sleep(4)  # longer than three tries take
                await wire.mend()
                await until(lambda: _is(refs(app), {f"F{n}" for n in range(21)}), 60)

        assert await Quarantine(app.store.database).all() == []
        assert left(broker_url) == 0


async def test_a_worker_that_stops_gives_back_what_it_could_not_do(
    broker_url: str, tmp_path: Path
) -> None:
    taken: list[str] = []

    async def away(_: Any) -> str:
        raise ConnectionRefusedError

    async def take(one: Any) -> str:
        taken.append(one["id"])
        return ""

    async with store(tmp_path) as database:
        with capture_logs():
            async with taking(broker_url, database, away):
                publish(broker_url, *(event(str(n)) for n in range(12)))
                await asyncio.sleep(1.5)
            async with taking(broker_url, database, take):
                await until(lambda: _done(taken, {str(n) for n in range(12)}))
        assert await Quarantine(database).all() == []


async def _done(taken: list[str], wanted: set[str]) -> bool:
    return set(taken) >= wanted


async def test_what_fails_three_times_is_put_aside_and_the_rest_goes_on(
    broker_url: str, tmp_path: Path
) -> None:
    taken: list[str] = []
    tries = 0

    async def take(one: Any) -> str:
        nonlocal tries
        if one["id"] == "bad":
            tries += 1
            raise KeyError("a fault of ours")
        taken.append(one["id"])
        return ""

    async with store(tmp_path) as database:
        letters = Quarantine(database)
        with capture_logs():
            async with taking(broker_url, database, take):
                publish(broker_url, event("1"), event("bad"), event("2"))
                await until(lambda: _done(taken, {"1", "2"}))
                await until(lambda: _count(letters, 1))
        (row,) = await letters.all()

        assert tries == 3
        assert row.reason == "KeyError: 'a fault of ours'"
        assert json.loads(row.body)["args"][0]["id"] == "bad"


DIES = """
import asyncio, os, sys
from tests.integration.test_broker_events import ears
from workers.store.engine import Database
from workers.tasks import Bell

async def take(event):
    os.write(1, event["id"].encode() + b"\\n")
    if event["id"] == "poison":
        os.abort()
    return ""

async def main(url, database):
    bell = Bell(url)
    bell.listen(None, ears(await Database.open(database), take))
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(300)
async def test_a_message_that_kills_its_process_is_put_aside_after_three(
    redis_url: str, tmp_path: Path
) -> None:
    await _put_aside_after_three(redis_url, tmp_path)


@pytest.mark.timeout(300)
async def test_over_rabbitmq_too_a_message_that_kills_its_process_is_put_aside(
    rabbitmq_url: str, tmp_path: Path
) -> None:
    await _put_aside_after_three(rabbitmq_url, tmp_path)


async def _put_aside_after_three(broker_url: str, tmp_path: Path) -> None:
    publish(broker_url, event("poison"), *(event(f"good-{n}") for n in range(3)))
    seen: list[str] = []
    async with store(tmp_path) as database:
        letters = Quarantine(database)
        for _ in range(3):
            began = await _begun_before_it_died(broker_url, database)
            assert began.count("poison") == 1
            seen += began
            if broker_url.startswith("redis"):
                _was_silent_for_long(broker_url)
        assert await letters.all() == []
        taken: list[str] = []

        async def take(one: Any) -> str:
            taken.append(one["id"])
            return ""

        with capture_logs():
            async with taking(broker_url, database, take):
                await until(lambda: _count(letters, 1), 60)
                await until(lambda: _done(taken + seen, {f"good-{n}" for n in range(3)}))
        (row,) = await letters.all()

        assert "ended before it was done" in row.reason
        assert "poison" not in taken


async def _begun_before_it_died(broker_url: str, database: Database) -> list[str]:
    """What a process of its own began on until one of the events killed it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DIES, broker_url, str(database.engine.url)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == -signal.SIGABRT, err.decode()
    return out.decode().split()


def _was_silent_for_long(url: str) -> None:
    """As though the dead processes' last signs of life were a minute old."""
    with redis.Redis.from_url(url) as client:
        for name in client.zrange("dramatiq:__heartbeats__", 0, -1):
            client.zadd("dramatiq:__heartbeats__", {name: 1})


async def test_what_fails_while_redis_is_down_is_not_acknowledged(
    own_redis: OwnServer, tmp_path: Path
) -> None:
    taken: list[str] = []
    fails = True

    async def take(one: Any) -> str:
        if fails:
            raise ConnectionRefusedError("the database, too")
        taken.append(one["id"])
        return ""

    own_redis.kill()
    own_redis.options += ("--appendonly", "yes", "--appendfsync", "always")
    own_redis.start()
    async with store(tmp_path) as database:
        with capture_logs():
            async with taking(own_redis.url, database, take):
                publish(own_redis.url, *(event(str(n)) for n in range(12)))
                await asyncio.sleep(1)
                own_redis.kill()
                await asyncio.sleep(2)
                fails = False
                await asyncio.sleep(2)
                own_redis.start()
                await until(lambda: _done(taken, {str(n) for n in range(12)}), 60)
                await until(lambda: _empty(own_redis.url), 60)

        assert await Quarantine(database).all() == []


async def _empty(url: str) -> bool:
    return left(url) == 0


async def test_what_redis_gave_out_into_a_dying_connection_is_not_stranded(
    redis_url: str, tmp_path: Path
) -> None:
    taken: list[str] = []

    async def take(one: Any) -> str:
        taken.append(one["id"])
        return ""

    async with store(tmp_path) as database, taking(redis_url, database, take) as bell:
        publish(redis_url, event("1"))
        await until(lambda: _done(taken, {"1"}))
        body = json.dumps(event("2"))
        with redis.Redis.from_url(redis_url) as client:
            # It counts as given out to a process that lives and never got it.
            client.hset(f"dramatiq:{EVENTS}.msgs", "lost-reply", body)
            owner = f"dramatiq:__acks__.{bell._broker.broker_id}"  # type: ignore[union-attr]
            client.sadd(f"{owner}.{EVENTS}", "lost-reply")
        await until(lambda: _done(taken, {"2"}))
        await until(lambda: _empty(redis_url))


async def test_an_event_is_confirmed_or_the_sender_is_told(broker_url: str) -> None:
    bell = Bell(broker_url)
    bell.send_event(event())
    assert left(broker_url) == 1
    if broker_url.startswith("amqp"):
        with wire_to(broker_url) as channel:
            channel.queue_delete(EVENTS)
        bell.send_event(event())
        assert left(broker_url) == 1
    bell.close()
    for url in ("redis://:secret@127.0.0.1:1/0", "amqp://me:secret@127.0.0.1:1/"):
        gone = Bell(url)
        with pytest.raises(UnavailableError, match=r"^broker_url: can't use \w+://127\.0\.0\.1:1"):
            gone.send_event(event())
        gone.close()
    with pytest.raises(SettingsError, match="broker_url: is empty"):
        Bell("").send_event(event())


async def test_a_wish_for_a_scan_is_done_by_who_schedules(
    broker_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with opened(database, clock, broker_url=broker_url) as app:
        await app.intake.take([partner(), contact(), statement()])
        other = Bell(broker_url)
        with capture_logs() as logs:
            async with at_work(app, "scheduler"):
                for kind in ("no such kind", "statement", "statement"):
                    other.request_scan(kind)
                await until(lambda: _requested(app))
        other.close()

        assert [entry["why"][:35] for entry in logs if entry["event"] == "no scan"]


async def _requested(app: App) -> bool:
    runs = await app.store.operations.last_runs()
    return "statement" in runs and runs["statement"].trigger == "request"
