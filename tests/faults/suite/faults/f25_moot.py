"""What makes a message pointless is committed at each point between its plan and its content."""

from __future__ import annotations

import asyncio
import csv
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.faults.suite.checker import percentile, read_lines
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.named_points import CUTS, number_of
from tests.faults.suite.points import with_points
from tests.faults.suite.world import World

WORKERS = 3
KINDS = ("confirmed", "disputed", "inactive", "unsubscribed", "")
"""What happens; of each fifth message nothing, so that it must arrive."""
WINDOW_S = 1.0
AFTER = frozenset(CUTS[7:])
"""Cut points at which a message is committed to: what happens then comes too late for it."""
WATCHED = (
    "CREATE TABLE happened (what text, address text)",
    """CREATE FUNCTION begun() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO happened SELECT 'begun', address FROM notifications
        WHERE id = NEW.notification_id; RETURN NULL; END $$""",
    """CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO happened VALUES ('fact', substr(NEW.event_id, 3) || '@t.example');
        RETURN NULL; END $$""",
    """CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO happened VALUES ('fact', NEW.address); RETURN NULL; END $$""",
    "CREATE TRIGGER watch AFTER INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION begun()",
    """CREATE TRIGGER watch AFTER INSERT ON events FOR EACH ROW
        WHEN (NEW.event_id LIKE 'F-%') EXECUTE FUNCTION told()""",
    "CREATE TRIGGER watch AFTER INSERT ON suppressions FOR EACH ROW EXECUTE FUNCTION refused()",
)
"""Rows that are written once, in the transactions whose order counts."""
ORDER = "SELECT what, address, pg_xact_commit_timestamp(xmin) AS at FROM happened ORDER BY at"


class Facts:
    """Makes happen what makes a message moot, by the product's own API, when it is asked to."""

    def __init__(self, world: World, token: str) -> None:
        self.done: dict[str, str] = {}
        """Where a message was when it happened, by key."""
        self.failed: list[str] = []
        self.port = 0
        self._people = _rows(world.folder / "contacts.csv")
        self._statements = _rows(world.folder / "statements.csv")
        self._url = f"http://127.0.0.1:{world.web_ports[0]}/v1"
        self._head = {"Authorization": f"Bearer {token}"}
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Facts:
        self._server = await asyncio.start_server(self._asked, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._client.close()

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = json.loads(await reader.readline())
        await self.happen(said["address"].partition("@")[0], said["point"])
        with suppress(ConnectionError):
            writer.write(b"done\n")
            await writer.drain()
        writer.close()

    async def happen(self, key: str, point: str) -> None:
        """Once; returns when it is committed."""
        kind = kind_of(key)
        if not kind or key in self.done:
            return
        self.done[key] = point
        if kind == "unsubscribed":
            body = {"address": f"{key}@t.example", "reason": "unsubscribed"}
            status = await self._post("suppressions", body, "application/json")
        elif kind == "inactive":
            data = {**self._people[f"C-{key}"], "active": "no"}
            status = await self._tell(key, "contact", data)
        else:
            data = {**self._statements[f"S-{key}"], "status": kind.upper()}
            status = await self._tell(key, "statement", data)
        if status != 200:
            self.failed.append(f"{key} {kind} {status}")

    async def _tell(self, key: str, what: str, data: Mapping[str, str]) -> int:
        event = {"specversion": "1.0", "id": f"F-{key}", "source": "billing", "data": data}
        event["type"] = f"duewatch.{what}.upserted.v1"
        return await self._post("events", event, "application/cloudevents+json")

    async def _post(self, path: str, body: Mapping[str, Any], media: str) -> int:
        head = {**self._head, "Content-Type": media}
        async with self._client.post(
            f"{self._url}/{path}", data=json.dumps(body), headers=head
        ) as got:
            await got.read()
            return got.status


def kind_of(key: str) -> str:
    """What happens to a message, "" for nothing."""
    return KINDS[number_of(key) // len(CUTS) % len(KINDS)]


async def run(trial: Trial) -> None:
    options = ("track_commit_timestamp=on",)
    async with trial.world(broker="", postgres_options=options) as world:
        loaded = await world.load(trial.n, trial.rng, fresh=True)
        for statement in WATCHED:
            await world.query(statement)
        scopes = ("--scope", "events:write", "--scope", "people:write")
        made = await world.command("tokens", "create", "facts", *scopes)
        (web,) = await world.start("web")
        await world.ready(web)
        with with_points(trial.tree) as tree:
            async with Facts(world, made.out.strip()) as facts:
                for one in loaded:
                    if one.must_send and CUTS[number_of(one.key) % len(CUTS)] == CUTS[0]:
                        await facts.happen(one.key, CUTS[0])
                env = {"PYTHONPATH": str(tree), "ASK_PORT": str(facts.port)}
                await world.start("worker", WORKERS, supervised=True, **env)
                settled = await world.settled(timeout_s=600)
                await asyncio.sleep(1)
            await world.stop()
        begun, told = await _order(world)
        late = _put_right(world, begun, told)
        found = await trial.judge(world, stopped_at_most=0)
        at = Counter(facts.done.values())
        windows = _windows(world, begun, facts)
        window = percentile(windows, 0.99)
        trial.note("facts", f"{len(facts.done)}, ≥ {min(at[cut] for cut in CUTS)} a cut point")
        trial.note("too late", len(late))
        trial.note("beginning's commit to final dot", f"{window:.2f} s (p99)")
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("each was taken", not facts.failed, facts.failed[:5])
        enough = all(at[cut] >= trial.n / len(CUTS) * 0.6 for cut in CUTS)
        trial.require("facts at each cut point", enough, dict(at))
        early = [key for key, cut in facts.done.items() if cut not in AFTER and key in late]
        # Inside of a transaction it may have to wait for that one's end; not before it began.
        outside = [key for key in early if facts.done[key] in {CUTS[0], *CUTS[2:4]}]
        trial.require("what was committed before the last look counted", not outside, outside[:5])
        trial.require("some came too late", len(late) > trial.n * 0.1, len(late))
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require(f"window ≤ {WINDOW_S:g} s (p99)", window <= WINDOW_S, window)


async def _order(world: World) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """When the last beginning of each message was committed, and what happened to it; by key."""
    begun: dict[str, datetime] = {}
    told: dict[str, datetime] = {}
    for row in await world.query(ORDER):
        of = begun if row["what"] == "begun" else told
        of[row["address"].partition("@")[0]] = row["at"]
    return begun, told


def _put_right(
    world: World, begun: Mapping[str, datetime], told: Mapping[str, datetime]
) -> set[str]:
    """Says in the truth who is still to be told: by the order of commits. Returns who that is of
    those to whom something happened.
    """
    moot = {key for key, at in told.items() if key not in begun or at < begun[key]}
    lines = []
    for line in read_lines(world.folder / "expected.jsonl"):
        if line["key"] in moot:
            line |= {"must_send": False, "why": kind_of(line["key"])}
        lines.append(json.dumps(line) + "\n")
    (world.folder / "expected.jsonl").write_text("".join(lines), "utf-8")
    return told.keys() - moot


def _windows(world: World, begun: Mapping[str, datetime], facts: Facts) -> list[float]:
    """Seconds from the beginning's commit to the final dot, where nothing was waited for."""
    return [
        event["t"] - begun[event["key"]].timestamp()
        for event in read_lines(world.folder / "sink.jsonl")
        if event["verb"] == "DOT" and facts.done.get(event["key"]) not in AFTER
        if event["key"] in begun
    ]


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["ref"]: row for row in csv.DictReader(file)}


FAULTS = [
    Fault(
        id="F25",
        injected=f"a statement is confirmed or disputed, its person leaves or unsubscribes, at "
        f"{len(CUTS)} points from the plan to just before DATA, by the API; the worker waits there",
        expected="what was committed before the beginning was isn't sent; after that it is too "
        "late",
        passes="WRONG = 0 by the order of commits; nothing else is lost; no copies; from the "
        f"beginning's commit to the final dot ≤ {WINDOW_S:g} s (p99)",
        full=5_000,
        short=0,
        run=run,
    ),
]
