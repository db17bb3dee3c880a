"""PostgreSQL falls down and comes back, or throws its users out."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from typing import Any

import aiohttp

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.faults.f2_killed_scans import unplanned
from tests.faults.suite.population import populate
from tests.faults.suite.world import AWAY, World

WORKERS = 4
CRASHES, SHORT_CRASHES = 10, 2
MEAN_S = 4.0
DOWN_S = 2.0
ENDED, SHORT_ENDED = 500, 40
RESUME_S = 15.0
ANSWERS = (
    {"verb": ".", "do": "usual", "after_s": 0.05},
    {"verb": "SMS", "do": "usual", "after_s": 0.05},
)
THROW_OUT = """
    SELECT pg_terminate_backend(pid) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE datname = 'duewatch' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1
    ) AS one
"""


class Producer:
    """Somebody who posts statements, and each again until it is taken, as the docs tell them to."""

    def __init__(self, world: World, token: str, events: list[dict[str, Any]]) -> None:
        self.taken: set[str] = set()
        self.told_to_wait = self.unanswered = 0
        self.other: list[int] = []
        self.events = events
        self._world = world
        self._head = {
            "Content-Type": "application/cloudevents+json",
            "Authorization": f"Bearer {token}",
        }

    async def post_all(self, pause_s: float) -> None:
        """Posts one after the other."""
        limit = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=limit) as client:
            for event in self.events:
                while not await self._is_taken(client, event):  # noqa: ASYNC110 - it is asked
                    await asyncio.sleep(0.3)
                self.taken.add(event["id"])
                await asyncio.sleep(pause_s)

    async def _is_taken(self, client: aiohttp.ClientSession, event: dict[str, Any]) -> bool:
        url = f"http://127.0.0.1:{self._world.web_ports[0]}/v1/events"
        try:
            async with client.post(url, data=json.dumps(event), headers=self._head) as got:
                if got.status == 200:
                    return True
                waits = got.status == 503 and "Retry-After" in got.headers
                if waits and got.content_type == "application/problem+json":
                    self.told_to_wait += 1
                else:
                    self.other.append(got.status)
        except (aiohttp.ClientError, TimeoutError):
            self.unanswered += 1
        return False


async def made_producer(
    world: World, trial: Trial, first: int, count: int, role: str = "web"
) -> Producer:
    """Starts a web server, `web` or `run`, for somebody who has `count` more statements to post;
    they are numbered from `first` on.
    """
    populate(world.folder, count, trial.rng, first=first)
    await world.command("import", "contacts.csv")
    made = await world.command("tokens", "create", "producer", "--scope", "events:write")
    with (world.folder / "statements.csv").open(encoding="utf-8") as file:
        events = [
            {
                "specversion": "1.0",
                "id": row["ref"],
                "source": "billing",
                "type": "duewatch.statement.upserted.v1",
                "data": row,
            }
            for row in csv.DictReader(file)
        ]
    (web,) = await world.start(role)
    await world.ready(web)
    return Producer(world, made.out.strip(), events)


async def crash(trial: Trial) -> None:
    """F9-crash."""
    async with trial.world() as world:
        loaded = await world.load(trial.n * 9 // 10, sms_share=0.5)
        await world.far_side.script(*ANSWERS)
        posts = trial.n // 10
        producer = await made_producer(world, trial, len(loaded), posts)
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        schedulers = await world.start("scheduler")
        for process in workers:
            await world.ready(process)
        posting = world.meanwhile(producer.post_all(0.5 if trial.short else 0.1))
        resumed: list[float] = []
        for _ in range(SHORT_CRASHES if trial.short else CRASHES):
            await asyncio.sleep(trial.rng.expovariate(1 / MEAN_S))
            await asyncio.to_thread(world.postgres.crash)
            world.kills.append(time.time())
            await asyncio.sleep(DOWN_S)
            await asyncio.to_thread(world.postgres.start)
            resumed.append(await until_it_works(world))
        async with asyncio.timeout(240):
            await posting
            while await unplanned(world):  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.5)
        settled = await world.settled(timeout_s=300)
        ended = [code for one in (*workers, *schedulers) for _, code in one.exits]
        await world.stop()
        found = await trial.judge(world)
        stored = {row[0] for row in await world.query("SELECT event_id FROM events")}
        trial.note("crashes", len(resumed))
        trial.note("resumed after", f"≤ {max(resumed):.1f} s")
        trial.note("503s", producer.told_to_wait)
        trial.note("copies", found.extra)
        trial.note("processes that ended", len(ended))
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("requests were refused meanwhile", producer.told_to_wait > 0, 0)
        trial.require("refused by 503 with Retry-After", not producer.other, producer.other[:9])
        lost = producer.taken - stored
        trial.require("every 2xx is durable", not lost, sorted(lost)[:5])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require(f"resumed ≤ {RESUME_S:g} s", max(resumed) <= RESUME_S, resumed)


async def until_it_works(world: World) -> float:
    """Seconds until an outcome is written down again; nothing to send counts as well."""
    begun = time.monotonic()
    since = time.time()
    done = (
        "SELECT count(*) FROM attempts WHERE ended_at > to_timestamp($1) "
        "UNION ALL SELECT count(*) FROM notifications WHERE state IN ('pending', 'sending')"
    )
    async with asyncio.timeout(60):
        while True:
            try:
                written, left = (row[0] for row in await world.query(done, since))
            except AWAY:
                written, left = 0, 1
            if written or not left:
                return time.monotonic() - begun
            await asyncio.sleep(0.1)


async def thrown_out(trial: Trial) -> None:
    """F9-terminate."""
    async with trial.world() as world:
        await world.load(trial.n, sms_share=0.5)
        await world.far_side.script(*ANSWERS)
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        for worker in workers:
            await world.ready(worker)
        wanted = SHORT_ENDED if trial.short else ENDED
        ender = world.meanwhile(_throw_out(world, wanted))
        settled = await world.settled(timeout_s=300)
        ended = await ender if ender.done() else 0
        codes = [code for one in workers for _, code in one.exits]
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        trial.note("connections ended", ended)
        trial.note("copies", found.extra)
        trial.require("all was settled", settled, found["LEFT"])
        trial.require(f"{wanted} connections were ended under load", ended >= wanted, ended)
        trial.require("unknown 0", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require("no worker ended", not codes, codes)


async def _throw_out(world: World, count: int) -> int:
    done = 0
    while done < count:
        done += len(await world.query(THROW_OUT))
        await asyncio.sleep(0.05)
    return done


FAULTS = [
    Fault(
        id="F9-crash",
        injected=f"PostgreSQL is stopped at once (pg_ctl -m immediate) for {DOWN_S:g} s, "
        f"{CRASHES} times, every {MEAN_S:g} s on average; a producer posts meanwhile",
        expected="producers are told to wait; outcomes are kept until they can be written down",
        passes=f"no copies; every 2xx is durable; all else is 503 with Retry-After; work goes on "
        f"≤ {RESUME_S:g} s after its return",
        full=6_000,
        short=200,
        run=crash,
    ),
    Fault(
        id="F9-terminate",
        injected=f"pg_terminate_backend on one of the product's connections, {ENDED} times, 20 a "
        "second",
        expected="what was rolled back is done again; what was committed is found out",
        passes="no copies, nothing unknown, none stopped, no worker ended",
        full=6_000,
        short=300,
        run=thrown_out,
    ),
]
