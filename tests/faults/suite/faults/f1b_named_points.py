"""Workers die at each point of a message's way, by name."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.faults.suite.checker import read_lines
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.named_points import POINTS
from tests.faults.suite.points import with_points
from tests.faults.suite.population import key_of_mobile
from tests.faults.suite.world import World

WORKERS = 3
EACH = 16
AFTERWARDS_S = 2.0
"""What was on its way to the far side arrives, and no other worker has it again yet."""
DELIVERY = {
    "lease_s": 3,
    "poll_s": 0.3,
    "batch": 4,
    "concurrency": 2,
    "first_retry_s": 1,
    "longest_retry_s": 2,
    "attempts": 50,
    "share": 1,
    "breaker_failures": 1000,
    "breaker_rate": 1.0,
}
NOTHING_BEGUN = frozenset(POINTS[:4])
HANDED_OVER = frozenset(
    {"after the final dot", "before the outcome's commit", "before a retry's commit"}
)
WRITTEN = "after the outcome's commit"
FREE_AT_ONCE = POINTS[0]
"""Rolled back, it is another worker's the next moment."""
SOME_LATER = {"verb": ".", "do": "reply", "text": "451 4.3.0 later", "share": 0.2}


async def run(trial: Trial) -> None:
    async with trial.world(broker="", settings={"delivery": DELIVERY}) as world:
        await world.load(trial.n, sms_share=0.2)
        await world.far_side.script(SOME_LATER)
        deaths = world.folder / "deaths.jsonl"
        with with_points(trial.tree) as tree:
            env = {"PYTHONPATH": str(tree), "DEATHS": str(deaths), "DEATHS_EACH": str(EACH)}
            await world.start("worker", WORKERS, supervised=True, **env)
            begun = time.monotonic()
            settled = await world.settled(timeout_s=600)
            took = time.monotonic() - begun
            await world.stop()
        found_dead = read_lines(deaths)
        world.kills += [one["t"] for one in found_dead]
        found = await trial.judge(world)
        counts = Counter(one["point"] for one in found_dead)
        wrong = _unlike_the_table(world, found_dead)
        trial.note("deaths", f"{len(found_dead)}, ≥ {min(counts[one] for one in POINTS)} a point")
        trial.note("as in the table", f"{len(found_dead) - len(wrong)} of {len(found_dead)}")
        trial.note("copies", found.extra)
        trial.note("parked", found["STOPPED"])
        trial.note("settled in", f"{took:.0f} s")
        trial.require("all was settled", settled, found["LEFT"])
        enough = all(counts[point] >= EACH for point in POINTS)
        trial.require(f"at least {EACH} deaths at each point", enough, dict(counts))
        trial.require("each death left what the table says", not wrong, wrong[:5])


def _unlike_the_table(world: World, deaths: list[dict[str, Any]]) -> list[str]:
    """Where a message that a worker died with wasn't left as the table of end states says."""
    rows = {line["key"]: line for line in read_lines(world.folder / "database.jsonl")}
    arrived: dict[str, list[float]] = defaultdict(list)
    for event in read_lines(world.folder / "sink.jsonl"):
        if event["verb"] in {"DOT", "SMS"}:
            arrived[event["key"]].append(event["t"])
    wrong = []
    for death in deaths:
        for address in death["addresses"]:
            mobile = address.startswith("+")
            key = key_of_mobile(address) if mobile else address.partition("@")[0]
            said = _left(death, rows[key], arrived[key])
            if said not in _wanted(death["point"]):
                wrong.append(f"{key} {death['point']}: {said}")
    return wrong


def _left(
    death: Mapping[str, Any], row: Mapping[str, Any], arrived: list[float]
) -> tuple[str, int]:
    """(the outcome of the attempt that was under way, how often its content came to the far side,
    whether or not that took it).
    """
    before = [one for one in row["attempts"] if one["began"] <= death["t"]]
    last = before[-1] if before else None
    open_then = last is not None and (last["ended"] is None or last["ended"] > death["t"])
    since = last["began"] if last is not None and open_then else 0.0
    if death["point"] == WRITTEN and last is not None:
        open_then, since = True, last["began"]
    elif not open_then and last is not None:
        since = last["ended"]
    until = death["t"] + (0 if death["point"] == FREE_AT_ONCE else AFTERWARDS_S)
    contents = sum(since <= at <= until for at in arrived)
    return (last["outcome"] if open_then and last is not None else "not begun"), contents


def _wanted(point: str) -> set[tuple[str, int]]:
    """The table of end states."""
    if point in NOTHING_BEGUN:
        return {("not begun", 0)}
    if point == WRITTEN:
        return {("accepted", 1)}
    return {("unknown", 1 if point in HANDED_OVER else 0)}


FAULTS = [
    Fault(
        id="F1b",
        injected=f"SIGKILL of a worker at each of {len(POINTS)} points of a message's way, from "
        "before the claim's commit to after the outcome's, in a copy of the product that dies "
        "there",
        expected="before the attempt is committed nothing is left of it; from then on it is "
        "unknown until its outcome is committed",
        passes=f"≥ {EACH} deaths a point, each message in hand left as the table says: nothing "
        "begun, or unknown with or without its content handed over, or accepted; copies ≤ unknown",
        full=1_900,
        short=0,
        run=run,
    ),
]
