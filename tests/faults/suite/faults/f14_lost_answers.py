"""The content was sent and its answer is lost: dropped, reset, stalled, garbled, too late."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.suite.checker import read_lines
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import World
from workers.providers.smtp import SmtpSettings

WORKERS = 4
PAGE = 1000
ANSWER_TIMEOUT_S = 2.0
SLOW_SHARE = 0.02
"""Of answers that don't come for so long: each holds a place for that time."""
WAYS: tuple[dict[str, Any], ...] = (
    {"do": "drop"},
    {"do": "rst"},
    {"do": "eof"},
    {"do": "reply", "text": "xyzzy: not SMTP at all"},
    {"do": "reply", "text": "199 neither yes nor no"},
    {"do": "hang"},
    {"do": "usual", "after_s": 2 * ANSWER_TIMEOUT_S},
)
NOT_KEPT = 2
"""The place of the one way in which the message is lost too."""
SLOW = 2
"""So many of them, at the end of the list, are slow."""
PATIENT = {
    "first_retry_s": 2,
    "longest_retry_s": 4,
    "breaker_failures": 1000,
    "breaker_rate": 1.0,
    "breaker_open_s": 0.5,
    "breaker_longest_s": 2,
}
"""Whoever loses eight answers of ten isn't left alone here, or this would take hours."""
SHARE = 0.3
"""Of each quick way, of what the ways before it left."""


async def resent(trial: Trial) -> None:
    """Mail: sent again under the same Message-ID."""
    quick = len(WAYS) - SLOW
    shares = [SHARE] * quick + [SLOW_SHARE] * SLOW
    rules = [
        {"verb": ".", "each": 1, "share": share, "keep": number != NOT_KEPT, **way}
        for number, (share, way) in enumerate(zip(shares, WAYS, strict=True))
    ]
    settings = {
        "delivery": PATIENT,
        "providers": {"smtp": {"answer_timeout_s": ANSWER_TIMEOUT_S}},
    }
    async with trial.world(settings=settings) as world:
        await world.load(trial.n)
        await world.far_side.script(*rules)
        await world.start("worker", 2 if trial.short else WORKERS)
        settled = await world.settled(timeout_s=600)
        used = await world.far_side.used()
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        default = SmtpSettings.model_fields["answer_timeout_s"].default
        trial.note("answers lost", sum(used))
        trial.note("copies", found.extra)
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("each way was met", all(used), used)
        trial.require(
            f"unknown = {sum(used)} exactly", found["UNKNOWN"] == sum(used), found["UNKNOWN"]
        )
        trial.require("an answer is waited for ≥ 600 s by default", default >= 600, default)


async def parked(trial: Trial) -> None:
    """SMS: nothing makes a copy recognizable, so it waits for a report or a person."""
    rules: list[dict[str, Any]] = [
        {"verb": "SMS", "share": 0.4, "do": "drop", "keep": True},
        {"verb": "SMS", "share": 0.4, "do": "rst", "keep": False},
        {"verb": "SMS", "share": 0.4, "do": "reply", "status": 500, "keep": True},
        {"verb": "SMS", "share": SLOW_SHARE, "do": "hang", "keep": True},
    ]
    settings = {
        "delivery": PATIENT,
        "providers": {"twilio": {"timeout_s": ANSWER_TIMEOUT_S}},
    }
    async with trial.world(settings=settings) as world:
        await world.load(trial.n, sms_share=1.0)
        await world.far_side.script(*rules)
        await world.start("worker", 2 if trial.short else WORKERS)
        settled = await world.settled(timeout_s=600)
        used = await world.far_side.used()
        listed = await _listed(world)
        await world.stop()
        found = await trial.judge(world)
        lost = sum(used)
        (count,) = await world.query("SELECT count(*) FROM notifications WHERE state = 'parked'")
        tries = [one["key"] for one in read_lines(world.folder / "sink.jsonl") if "sid" in one]
        trial.note("answers lost", lost)
        trial.note("parked", count[0])
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("each way was met", all(used), used)
        trial.require(f"unknown = {lost} exactly", found["UNKNOWN"] == lost, found["UNKNOWN"])
        trial.require(f"parked = {lost} exactly", count[0] == lost, count[0])
        trial.require("handed over once each", len(tries) == len(set(tries)), len(tries))
        trial.require("each is listed", len(listed) == lost, len(listed))


async def _listed(world: World) -> set[int]:
    """What `duewatch list --state unknown` shows, over all its pages."""
    found: set[int] = set()
    before: list[str] = []
    while True:
        words = ("list", "--state", "unknown", "--json", "--limit", str(PAGE), *before)
        page = {int(one["id"]) for one in json.loads((await world.command(*words)).out)}
        found |= page
        if len(page) < PAGE:
            return found
        before = ["--before", str(min(page))]


FAULTS = [
    Fault(
        id="F14-mail",
        injected="after the final dot: dropped, reset, half-closed, garbage, neither yes nor no, "
        "no answer, an answer too late; 8 of 10 first tries, each way at most once a message; what "
        "is half-closed wasn't kept",
        expected="unknown, the connection is given up, sent again under the same Message-ID",
        passes="unknown = answers lost, exactly; copies ≤ unknown; all sent; the answer is waited "
        "for ≥ 600 s by default",
        full=3_000,
        short=150,
        run=resent,
    ),
    Fault(
        id="F14-sms",
        injected="after an SMS was posted: dropped, reset, 500, no answer; 8 of 10 messages",
        expected="unknown and parked, listed, and not handed over again",
        passes="no copies; unknown = parked = listed = answers lost, exactly",
        full=5_000,
        short=150,
        run=parked,
    ),
]
