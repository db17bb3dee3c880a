"""The web server is killed between its commit and its reply; producers send again."""

from __future__ import annotations

import asyncio
import csv
import json
from collections import Counter
from typing import Any

import aiohttp

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.population import populate
from tests.faults.suite.wire import Wire
from tests.faults.suite.world import Process, World
from tests.redis import free_port

SERVERS = 2
SENDERS = 4
EACH = 20
"""One commit of so many is a server's last."""
COMMITTED = b"COMMIT\x00"
"""How PostgreSQL ends a transaction that is durable now."""
SINGLE = {"Content-Type": "application/cloudevents+json"}


async def run(trial: Trial) -> None:
    async with trial.world(broker="") as world:
        events = _events(world, trial)
        await world.command("import", "contacts.csv")
        made = await world.command("tokens", "create", "producer", "--scope", "events:write")
        killers = [Killer(trial, world) for _ in range(SERVERS)]
        async with killers[0].wire, killers[1].wire:
            for killer in killers:
                await killer.start()
            posts = Posts(world, made.out.strip())
            await posts.all(events)
            kills = sum(killer.kills for killer in killers)
            for killer in killers:
                killer.share = 0.0
            other = {**events[0], "data": {**events[0]["data"], "amount_incl_tax": "9.00"}}
            conflict = await posts.one(other)
        await world.stop()
        stored = await world.query("SELECT event_id FROM events")
        found = Counter(one["event_id"] for one in stored)
        rows = await world.query("SELECT ref, count(*) AS times FROM records GROUP BY ref")
        effects = {one["ref"]: one["times"] for one in rows}
        wanted = {one["id"] for one in events}
        proof = await world.command("verify")
        trial.note("kills", kills)
        trial.note("posts", posts.sent)
        trial.note("without an answer", posts.unanswered)
        trial.note("repeats", posts.said["repeat"])
        lost = posts.answered - set(found)
        trial.result.counts["LOSS"] += len(lost)
        trial.result.counts["DUP"] += sum(times - 1 for times in effects.values())
        trial.require("servers were killed after a commit", kills >= trial.n // 40, kills)
        trial.require("a repeat was recognized", posts.said["repeat"] > 0, posts.said)
        trial.require("every 2xx is durable", not lost, sorted(lost)[:5])
        trial.require("all were taken in the end", posts.answered == wanted, len(posts.answered))
        once = set(effects.values()) == {1} and len(effects) == len(events)
        trial.require("effects exactly once", once, (len(effects), max(effects.values())))
        trial.require("each event is stored once", set(found.values()) == {1}, len(found))
        trial.require("other content under the id is refused", conflict == 409, conflict)
        trial.require("the ledger adds up", proof.code == 0, proof.out[-1500:])


def _events(world: World, trial: Trial) -> list[dict[str, Any]]:
    """The statements that `populate` would have imported, as events."""
    populate(world.folder, trial.n, trial.rng)
    with (world.folder / "statements.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[: trial.n]
    return [
        {
            "specversion": "1.0",
            "id": row["ref"],
            "source": "billing",
            "type": "duewatch.statement.upserted.v1",
            "data": row,
        }
        for row in rows
    ]


class Killer:
    """Kills a web server when one of its commits is durable and it doesn't know it yet."""

    def __init__(self, trial: Trial, world: World) -> None:
        self.kills = 0
        self.share = 1 / EACH
        self._rng, self._world = trial.rng, world
        self._port = free_port()
        self._server: Process | None = None
        self.wire = Wire(world.postgres.port, self._answered)

    async def start(self) -> None:
        """Starts the server behind the wire, and waits until it serves."""
        url = self._world.postgres.url(port=self.wire.port)
        self._world.web_ports.append(self._port)
        (self._server,) = await self._world.start(
            "web", DATABASE_URL=url, DUEWATCH_WEB__PORT=str(self._port)
        )
        await self._world.ready(self._server)

    async def _answered(self, said: bytes) -> None:
        if COMMITTED not in said or self._server is None or self._rng.random() >= self.share:
            return
        if self._world._says_ready(self._server) and self._world.kill(self._server):
            self.kills += 1


class Posts:
    """Producers: each sends an event until it is answered, to whichever server is up."""

    def __init__(self, world: World, token: str) -> None:
        self.sent = self.unanswered = 0
        self.answered: set[str] = set()
        self.said: Counter[str] = Counter()
        self._world = world
        self._head = {**SINGLE, "Authorization": f"Bearer {token}"}

    async def all(self, events: list[dict[str, Any]]) -> None:
        """Sends them all, several at a time."""
        queue = iter(events)

        async def sender() -> None:
            for event in queue:
                if await self.one(event) == 200:
                    self.answered.add(event["id"])

        await asyncio.gather(*(sender() for _ in range(SENDERS)))

    async def one(self, event: dict[str, Any]) -> int:
        """Sends one until it is answered; returns the status."""
        body = json.dumps(event)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client:
            for turn in range(1200):
                port = self._world.web_ports[turn % len(self._world.web_ports)]
                url = f"http://127.0.0.1:{port}/v1/events"
                try:
                    async with client.post(url, data=body, headers=self._head) as got:
                        self.sent += 1
                        if got.status < 500:
                            said = await got.json(content_type=None)
                            self.said[str(said.get("status"))] += 1
                            return got.status
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.1)
                except (aiohttp.ClientError, TimeoutError):
                    self.unanswered += 1
        raise TimeoutError(f"nobody took {event['id']}")


FAULTS = [
    Fault(
        id="F3",
        injected=f"SIGKILL of one of {SERVERS} web servers when a commit is durable and its "
        f"reply isn't sent, for each {EACH}th commit; producers repeat what had no answer",
        expected="the stored result is said again; other content under the same id is refused",
        passes="effects exactly once; every 2xx is durable; all are taken in the end; other "
        "content under an id: 409",
        full=600,
        short=60,
        run=run,
    ),
]
