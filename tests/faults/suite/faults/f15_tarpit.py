"""One mail domain's server answers a byte a second, not at all, or without end."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from tests.faults.suite.checker import percentile, read_lines
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.population import populate
from tests.faults.suite.world import Process, World

WORKERS = 2
TIMEOUT_S = 5.0
PLACES = 10
"""The default of `delivery.concurrency`."""
TRAPPED_S = 90.0
"""So long it is waited until each trap was met."""
SLOW = "slow.example"
SLOW_EACH = 8
"""One message of so many is to the slow domain."""
LEASE_S, SLOW_ANSWER_S = 3.0, 9.0
FLOOD_MB = 64
GROWTH_MB = 50.0
NOISE_S = 5.0
"""What two runs of the same differ by on a busy machine."""
TRAPS = (
    {"verb": "RCPT", "do": "flood", "mb": FLOOD_MB, "times": 2},
    {"verb": "RCPT", "do": "drip", "times": 2},
    {"verb": "DATA", "do": "hang", "times": 2},
    {"verb": ".", "do": "hang", "keep": False, "times": 2},
    {"verb": "RCPT", "do": "hang", "share": 0.5},
)


async def run(trial: Trial) -> None:
    settings = {
        "delivery": {
            "first_retry_s": 2,
            "longest_retry_s": 4,
            "attempts": 50,
            "breaker_open_s": 0.5,
            "breaker_longest_s": 2,
        },
        # As many connections as places: of fewer, a domain's share of the places may be all.
        "providers": {
            "smtp": {"timeout_s": TIMEOUT_S, "answer_timeout_s": TIMEOUT_S, "connections": PLACES}
        },
    }
    async with trial.world(settings=settings) as world:
        workers = await world.start("worker", WORKERS)
        for worker in workers:
            await world.ready(worker)
        normal = await _p95_of_others(world, await _load(trial, world, 0, slow=False))
        memory = Memory(workers)
        before = memory.now()
        await world.far_side.script(*({**trap, "domain": SLOW} for trap in TRAPS))
        watching = world.meanwhile(memory.watch())
        keys = await _load(trial, world, len(_expected(world)), slow=True)
        beside = await _p95_of_others(world, keys)
        used = await _met(world)
        await world.far_side.script()
        settled = await world.settled(timeout_s=300)
        watching.cancel()
        grown = memory.largest - before
        ended = [code for one in workers for _, code in one.exits]
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        trial.note("others' p95", f"{beside:.1f} s, {normal:.1f} s without")
        trial.note("trapped", sum(used))
        trial.note("memory", f"+{max(0.0, grown):.0f} MB of {before:.0f}")
        trial.require("all was settled", settled, found["LEFT"])
        # Few are trapped in the short form, so not each trap need be among what they met.
        least = 2 if trial.short else len(used)
        trial.require(f"{least} traps were met", sum(map(bool, used)) >= least, used)
        most = 2 * normal + NOISE_S
        trial.require(f"others' p95 ≤ {most:.1f} s", beside <= most, beside)
        trial.require(f"memory ≤ +{GROWTH_MB:g} MB", grown <= GROWTH_MB, grown)
        trial.require("no process ended", not ended, ended)


async def _met(world: World) -> list[int]:
    """How often each trap was met, once all were; the domain has few places at a time."""
    end = time.monotonic() + TRAPPED_S
    used = await world.far_side.used()
    while not all(used) and time.monotonic() < end:
        await asyncio.sleep(0.5)
        used = await world.far_side.used()
    return used


class Memory:
    """What the largest of some processes holds, in millions of bytes."""

    def __init__(self, processes: list[Process]) -> None:
        self.largest = 0.0
        self._processes = processes

    def now(self) -> float:
        """At this moment."""
        return max(map(_held_mb, self._processes))

    async def watch(self) -> None:
        """Looks ten times a second, for ever."""
        while True:
            self.largest = max(self.largest, self.now())
            await asyncio.sleep(0.1)


def _held_mb(process: Process) -> float:
    if process.pid is None:
        return 0.0
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def _load(trial: Trial, world: World, first: int, *, slow: bool) -> set[str]:
    """As `World.load`, but each few people may be of the slow domain. Returns the others' keys."""
    expected = populate(world.folder, trial.n, trial.rng, first=first)
    contacts = world.folder / "contacts.csv"
    lines = contacts.read_text("utf-8").split("\n")
    others = {one.key for one in expected if one.must_send}
    if slow:
        for number in range(1, len(expected) + 1, SLOW_EACH):
            lines[number] = lines[number].replace("@t.example", f"@{SLOW}")
            others.discard(expected[number - 1].key)
        contacts.write_text("\n".join(lines), "utf-8")
    await world.command("import", "contacts.csv", "statements.csv")
    every = _expected(world)
    due = [{**line, "due": time.time()} for line in every[first:]]
    text = "".join(json.dumps(line) + "\n" for line in [*every[:first], *due])
    (world.folder / "expected.jsonl").write_text(text, "utf-8")
    await world.command("scan", "statement")
    return others


def _expected(world: World) -> list[dict[str, object]]:
    return read_lines(world.folder / "expected.jsonl")


async def _p95_of_others(world: World, keys: set[str]) -> float:
    """How late those of other domains are, in seconds, once all of them are sent."""
    async with asyncio.timeout(300):
        while True:
            lines = read_lines(world.folder / "sink.jsonl")
            taken = {one["key"]: one["t"] for one in lines if one.get("kept")}
            if keys <= taken.keys():
                break
            await asyncio.sleep(0.25)
    due = {str(one["key"]): one["due"] for one in _expected(world)}
    return percentile([taken[key] - float(str(due[key])) for key in keys], 0.95)


async def patient(trial: Trial) -> None:
    """F15-slow: all answers take longer than a lease, and the time for an answer is longer yet."""
    settings = {"delivery": {"lease_s": LEASE_S, "poll_s": 0.5}}
    async with trial.world(settings=settings) as world:
        await world.load(trial.n, sms_share=0.5)
        slow = {"do": "usual", "after_s": SLOW_ANSWER_S}
        await world.far_side.script({"verb": ".", **slow}, {"verb": "SMS", **slow})
        await world.start("worker", WORKERS)
        settled = await world.settled(timeout_s=300)
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        trial.note("answers after", f"{SLOW_ANSWER_S:g} s, leases of {LEASE_S:g} s")
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("unknown 0", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        slowest = trial.result.late_s
        trial.require("answers took so long", slowest >= SLOW_ANSWER_S, slowest)


FAULTS = [
    Fault(
        id="F15",
        injected="every 8th message goes to a domain whose server drips a byte a second, never "
        f"says 354, never answers, or answers with a line of {FLOOD_MB} MB",
        expected="each step has its time; one domain holds its share of the places and no more "
        f"(with {PLACES} connections a worker, one a place)",
        passes=f"other domains' p95 ≤ 2 × normal + {NOISE_S:g} s; memory ≤ +{GROWTH_MB:g} MB; all "
        "sent once the domain recovers",
        full=1_500,
        short=120,
        run=run,
    ),
    Fault(
        id="F15-slow",
        injected=f"every answer takes {SLOW_ANSWER_S:g} s, leases are {LEASE_S:g} s long",
        expected="leases are renewed while an answer is waited for",
        passes="nothing unknown, no copies, all sent",
        full=150,
        short=24,
        run=patient,
    ),
]
