"""Servers that refuse: for now (421, 450, 451), or for good (550, 552, 554), at each verb."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median
from typing import Any

from tests.faults.suite.checker import percentile, read_lines
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import World

WORKERS = 4
CONNECTIONS = 10
"""The default of `providers.smtp.connections`, by worker."""
FIRST_RETRY_S = 2.0
SPREAD = 0.15
"""By which the product moves a retry, so that not all come back at once."""
SOFT = (
    ("CONNECT", "421 4.3.2 closing", 1.0),
    ("EHLO", "421 4.3.0 not now", 1.0),
    ("MAIL", "451 4.3.0 later", 0.06),
    ("RCPT", "450 4.7.1 greylisted", 0.1),
    ("DATA", "451 4.3.0 later", 0.06),
    (".", "451 4.3.0 later", 0.06),
    (".", "421 4.3.2 closing", 0.03),
)
HARD = (
    ("MAIL", "552 5.3.4 too big", 0.02),
    ("RCPT", "550 5.1.1 no such user", 0.05),
    ("DATA", "554 5.7.1 not allowed", 0.03),
    (".", "550 5.7.1 not wanted", 0.03),
)
BREAKER = {"breaker_open_s": 0.5, "breaker_longest_s": 1}
"""A server in such trouble is left alone for a while; here no longer than that."""
DATED = """
    SELECT a.number, extract(epoch FROM a.began_at)::float AS began,
           extract(epoch FROM lag(a.ended_at) OVER w)::float AS before,
           extract(epoch FROM a.ended_at - a.began_at)::float AS took
    FROM attempts a WINDOW w AS (PARTITION BY a.notification_id ORDER BY a.number)
"""


async def soft(trial: Trial) -> None:
    """F12."""
    settings = {"delivery": {"first_retry_s": FIRST_RETRY_S, "longest_retry_s": 8, **BREAKER}}
    async with trial.world(settings=settings) as world:
        await world.load(trial.n)
        rules = [{"verb": v, "do": "reply", "text": t, "share": share} for v, t, share in SOFT]
        # Connections are kept, so that few are made: some are refused for certain.
        first = [{**rule, "times": 2} for rule in rules[:2]]
        # Greylisting: of some people the first try is refused, whoever tries.
        grey = {"verb": "RCPT", "do": "reply", "text": "451 4.7.1 greylisted, try again"}
        some = "n000004" if trial.short else "n0001"
        await world.far_side.script({**grey, "key": some, "each": 1}, *first, *rules[2:])
        await world.start("worker", 2 if trial.short else WORKERS)
        settled = await world.settled(timeout_s=600)
        used = await world.far_side.used()
        dated = await world.query(DATED)
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        waits = [one["began"] - one["before"] for one in dated if one["number"] == 2]
        least = min(waits, default=0.0)
        outcomes = await _outcomes(world)
        trial.note("refused for now", sum(used))
        trial.note("second try after", f"{median(waits or [0]):.1f} s (median)")
        trial.note("connections", most_connections(world))
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("each verb refused", all(used), used)
        trial.require("deferred as often", outcomes["deferred"] > sum(used) * 0.5, outcomes)
        trial.require("none failed for good", outcomes["rejected"] == 0, outcomes)
        trial.require("unknown 0", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        early = FIRST_RETRY_S * (1 - SPREAD) - 0.1
        trial.require(f"no second try within {early:.1f} s", least >= early, least)
        most = CONNECTIONS * WORKERS
        seen = most_connections(world)
        trial.require(f"connections at a time ≤ {most}", seen <= most, seen)


async def hard(trial: Trial) -> None:
    """F13."""
    settings = {"delivery": {"first_retry_s": 2, **BREAKER}}
    async with trial.world(settings=settings) as world:
        await world.load(trial.n)
        rules = [{"verb": v, "do": "reply", "text": t, "share": share} for v, t, share in HARD]
        # What is refused before anybody was named says nothing of a recipient.
        nobody = {"verb": "EHLO", "do": "reply", "text": "554 5.3.0 no service", "times": 2}
        await world.far_side.script(nobody, *rules)
        await world.start("worker", 2 if trial.short else WORKERS)
        settled = await world.settled(timeout_s=600)
        used = await world.far_side.used()
        refused = sum(used[1:])
        dated = await world.query(DATED)
        await world.stop()
        await trial.judge(world, stopped_at_most=refused)
        failed = await world.query("SELECT attempt_count FROM notifications WHERE state = 'failed'")
        tries = Counter(one["attempt_count"] for one in failed)
        outcomes = await _outcomes(world)
        bad = {_key(one[0]) for one in await world.query("SELECT address FROM suppressions")}
        told = {one["key"] for one in _refusals(world) if one["text"].startswith("550 5.1.1")}
        took = percentile([one["took"] or 0.0 for one in dated], 0.99)
        trial.note("refused for good", refused)
        trial.note("suppressed", len(bad))
        trial.note("to the end", f"{took:.1f} s (p99)")
        trial.require("all was settled", settled, trial.result.counts["LEFT"])
        trial.require("each verb refused", all(used), used)
        trial.require(f"failed = {refused}", len(failed) == refused, len(failed))
        trial.require("rejected once each", outcomes["rejected"] == refused, outcomes)
        # A message that met the server that served nobody has had a try before.
        trial.require("no try after a refusal", set(tries) <= {1, 2, 3}, tries)
        once = tries[1] >= refused - 2
        trial.require("exactly 1 try each, but for those 2", once, tries)
        trial.require("suppressed = those whose address is bad", bad == told, (len(bad), len(told)))
        trial.require("terminal ≤ 5 s", took <= 5, took)


async def _outcomes(world: World) -> Counter[str]:
    rows = await world.query("SELECT outcome, count(*) FROM attempts GROUP BY outcome")
    return Counter({one[0]: one[1] for one in rows})


def _key(address: str) -> str:
    return address.partition("@")[0]


def _refusals(world: World) -> list[dict[str, Any]]:
    lines = read_lines(world.folder / "sink.jsonl")
    return [one for one in lines if one["verb"] == "REPLY" and one["text"][0] == "5"]


def most_connections(world: World) -> int:
    """How many connections the server had at a time, at most."""
    opened: dict[int, int] = defaultdict(int)
    most = now = 0
    for one in read_lines(world.folder / "sink.jsonl"):
        step = {"CONNECT": 1, "CLOSE": -1}.get(one["verb"], 0)
        opened[one.get("conn", 0)] += step
        now += step
        most = max(most, now)
    return most


FAULTS = [
    Fault(
        id="F12",
        injected="421, 450, 451 at connect, EHLO, MAIL, RCPT, DATA and the final dot, about a "
        "third of all tries; greylisting",
        expected="tried again later, with a spread; a server in trouble is left alone a while",
        passes="all sent, none failed, nothing unknown, no copies; no second try earlier than the "
        "schedule less its spread; connections ≤ 10 a worker",
        full=4_000,
        short=100,
        run=soft,
    ),
    Fault(
        id="F13",
        injected="552 at MAIL, 550 5.1.1 at RCPT, 554 5.7.1 at DATA, 550 at the final dot, 13 % of "
        "all messages; 554 at EHLO twice",
        expected="over at once; an address is suppressed only where it is bad (5.1.x)",
        passes="one try each, ended ≤ 5 s (p99); failed and suppressed = exactly those refused; "
        "all others sent",
        full=10_000,
        short=200,
        run=hard,
    ),
]
