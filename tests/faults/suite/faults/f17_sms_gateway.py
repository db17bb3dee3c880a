"""The SMS gateway asks for patience, fails, takes a message and doesn't say so; reports come early,
twice, out of order, and of messages that nobody knows; and money for a day runs out.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.faults.suite.checker import read_lines
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.sink import TOKEN
from tests.faults.suite.world import World
from tests.redis import free_port

WORKERS = 4
PATIENCE_S = 5
"""Retry-After of a 429."""
HEARD_S = 3.0
"""By then all workers know of it, and what was on its way has gone."""
TIMEOUT_S, LATE_S = 3.0, 6.0
"""How long a worker waits for an answer; by when it has given up and parked the message."""
REPORTS = ("sent", "delivered", "delivered")
STRANGERS = 20
PRICE, MOST = 70_000, 10_000_000
"""Of a part and of a day, in millionths: 0.07 and 10.00."""


async def trouble(trial: Trial) -> None:
    """F17."""
    port = free_port()
    few = 2 if trial.short else 10
    asked = {"verb": "SMS", "do": "reply", "status": 429, "each": 1, "share": 0.05}
    rules: list[dict[str, Any]] = [
        {**asked, "headers": {"Retry-After": str(PATIENCE_S)}, "times": few},
        {**asked, "status": 503, "headers": {"Retry-After": "1"}, "times": few},
        {**asked, "status": 500, "keep": False},
        {"verb": "SMS", "do": "rst", "keep": False, "share": 0.03},
        {"verb": "SMS", "do": "hang", "keep": True, "share": 0.06 if trial.short else 0.03},
        {"verb": "SMS", "do": "usual", "after_s": 1.0, "share": 0.1},
    ]
    settings = {
        "public_url": f"http://127.0.0.1:{port}",
        "delivery": {"first_retry_s": 2, "breaker_open_s": 1, "breaker_longest_s": 4},
        "providers": {"twilio": {"timeout_s": TIMEOUT_S}},
    }
    async with trial.world(settings=settings) as world:
        await world.load(trial.n, sms_share=1.0)
        await world.far_side.script(*rules)
        (web,) = await world.start("web", DUEWATCH_WEB__PORT=str(port))
        await world.ready(web)
        reporter = Reporter(trial, world)
        reporting = world.meanwhile(reporter.go_on())
        await world.start("worker", 2 if trial.short else WORKERS)
        settled = await world.settled(timeout_s=600)
        used = await world.far_side.used()
        await reporter.until_all_told()
        reporting.cancel()
        ends = dict(await world.query("SELECT state, count(*) FROM notifications GROUP BY state"))
        await world.stop()
        found = await trial.judge(world)
        lost = used[2] + used[3]
        doubtful = lost + used[4]
        early, crowd = _too_soon(world)
        trial.note("429", used[0])
        trial.note("503", used[1])
        trial.note("answers lost", doubtful)
        trial.note("reports", f"{reporter.told}, {reporter.early} before the answer")
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("each trouble was met", all(used), used)
        trial.require("no message again before Retry-After", early == 0, early)
        trial.require(f"no request from {HEARD_S:g} s to Retry-After", crowd == 0, crowd)
        trial.require("unknown ≤ answers lost", found["UNKNOWN"] <= doubtful, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require("a report came before its answer", reporter.early > 0, reporter.early)
        trial.require("a report came once no answer had", reporter.late > 0, reporter.late)
        trial.require("all reports were taken", not reporter.refused, reporter.refused[:5])
        trial.require("delivered = taken, by reports", ends["delivered"] == found.taken, ends)
        trial.require(f"parked = {lost}, never taken", ends.get("parked", 0) == lost, ends)
        trial.require("a forged report is refused", reporter.forged == 400, reporter.forged)


def _too_soon(world: World) -> tuple[int, int]:
    """(messages handed over again too early, requests of any while the gateway was to rest)."""
    lines = read_lines(world.folder / "sink.jsonl")
    tries = [one for one in lines if one["verb"] == "SMS"]
    early = crowd = 0
    for asked in (one for one in tries if one["status"] == 429):
        spans = [(one["t"] - asked["t"], one["key"] == asked["key"]) for one in tries]
        early += sum(same and 0 < span < PATIENCE_S - 0.1 for span, same in spans)
        crowd += sum(HEARD_S < span < PATIENCE_S - 0.1 for span, _ in spans)
    return early, crowd


class Reporter:
    """The carrier: reports on what was taken, in any order and twice.

    On every other message as soon as it was taken; on the rest once whoever waited for an answer
    has given up, so that what is parked by then is settled by its report alone.
    """

    def __init__(self, trial: Trial, world: World) -> None:
        self._rng, self._world = trial.rng, world
        self.told = self.early = self.late = self.forged = 0
        self.refused: list[int] = []
        self._seen = 0
        self._waiting: list[dict[str, Any]] = []
        self._at_it = asyncio.Lock()

    async def go_on(self) -> None:
        """Reports for ever on what is taken."""
        async with aiohttp.ClientSession() as client:
            while True:
                await self._round(client)
                await asyncio.sleep(0.05)

    async def until_all_told(self) -> None:
        """Reports on the rest, on strangers, and once with a forged signature."""
        async with aiohttp.ClientSession() as client:
            await self._round(client)
            while self._waiting:
                await asyncio.sleep(0.2)
                await self._round(client)
            taken = [one for one in self._lines() if one["verb"] == "SMS" and one["kept"]]
            url = taken[0]["callback"]
            strange = url.partition("?")[0] + "?uid=" + "f" * 32
            for number in range(STRANGERS):
                await self._post(client, strange, f"SMstranger{number}", "delivered")
            form = {"MessageSid": taken[0]["sid"], "MessageStatus": "undelivered"}
            async with client.post(url, data=form, headers={"X-Twilio-Signature": "x"}) as got:
                self.forged = got.status

    def _lines(self) -> list[dict[str, Any]]:
        return read_lines(self._world.folder / "sink.jsonl")

    async def _round(self, client: aiohttp.ClientSession) -> None:
        # The last rounds begin while one of before may still be on its way.
        async with self._at_it:
            await self._reports(client)

    async def _reports(self, client: aiohttp.ClientSession) -> None:
        lines = self._lines()
        fresh, self._seen = lines[self._seen :], len(lines)
        for one in fresh:
            if one["verb"] != "SMS" or not one["kept"]:
                continue
            if self._rng.random() < 0.5:
                self._waiting.append(one)
                continue
            await self._report(client, one)
            self.early += one["key"] not in self._answered()
        given_up = time.time() - LATE_S  # the sink's own clock, on this machine
        late = [one for one in self._waiting if one["t"] < given_up]
        for one in late:
            self._waiting.remove(one)
            self.late += one["key"] not in self._answered()
            await self._report(client, one)

    def _answered(self) -> set[str]:
        return {line["key"] for line in self._lines() if line["verb"] == "REPLY"}

    async def _report(self, client: aiohttp.ClientSession, one: dict[str, Any]) -> None:
        for status in self._rng.sample(REPORTS, len(REPORTS)):
            await self._post(client, one["callback"], one["sid"], status)

    async def _post(self, client: aiohttp.ClientSession, url: str, sid: str, status: str) -> None:
        form = [("MessageSid", sid), ("MessageStatus", status)]
        signed = {"X-Twilio-Signature": _signature(url, form)}
        async with client.post(url, data=form, headers=signed) as got:
            self.told += 1
            if got.status != 200:
                self.refused.append(got.status)


def _signature(url: str, form: Sequence[tuple[str, str]]) -> str:
    said = url + "".join(name + value for name, value in sorted(form))
    return base64.b64encode(hmac.digest(TOKEN.encode(), said.encode(), hashlib.sha1)).decode()


async def money(trial: Trial) -> None:
    """F17-money."""
    settings = {
        "sms": {"price_per_part": PRICE / 1e6, "money_a_day": MOST / 1e6},
        "delivery": {"first_retry_s": 1, "breaker_open_s": 1, "breaker_longest_s": 2},
    }
    async with trial.world(settings=settings) as world:
        await world.load(trial.n, sms_share=1.0)
        refused = {"verb": "SMS", "do": "reply", "status": 503, "share": 0.1, "each": 2}
        await world.far_side.script(refused)
        await world.start("worker", 2 if trial.short else WORKERS)
        due = (
            "SELECT count(*) FROM notifications WHERE state = 'sending' "
            "OR state = 'pending' AND not_before < now() + interval '5 minutes'"
        )
        async with asyncio.timeout(300):
            while (await world.query(due))[0][0]:  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.5)
        await asyncio.sleep(2)
        kept = await world.far_side.kept()
        (used,) = await world.far_side.used()
        await world.stop()
        ((spent,),) = await world.query("SELECT sum(spent)::bigint FROM expenses")
        found = await world.accounts()
        each = spent / kept / PRICE
        trial.note("spent", f"{spent / 1e6:.2f} of {MOST / 1e6:.2f}")
        trial.note("taken", kept)
        trial.note("refused and given back", used)
        trial.require("some were refused", used > 0, used)
        trial.require("spent ≤ cap", spent <= MOST, spent)
        trial.require("spent = taken, to the cent", each == int(each), each)
        trial.require("no more would have gone", MOST - spent < each * PRICE, spent)
        trial.require("the rest waits", found["LEFT"] == trial.n - kept, found["LEFT"])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require("WRONG 0", found["WRONG"] == 0, found["WRONG"])


FAULTS = [
    Fault(
        id="F17",
        injected="429 and 503 with Retry-After, 500, resets, answers lost after it was taken; "
        "reports twice, out of order, before the answer, of unknown messages, forged",
        expected="a gateway is left alone for as long as it asks; what is unknown is parked until "
        "a report settles it",
        passes=f"no message again before Retry-After, no request at all from {HEARD_S:g} s on; no "
        "copies; delivered = taken; parked = not taken, exactly",
        full=3_000,
        short=150,
        run=trouble,
    ),
    Fault(
        id="F17-money",
        injected="4 workers, more SMS than the day's money is for, 503 for each tenth",
        expected="money is reserved before, given back for what wasn't taken; the rest waits",
        passes="spent ≤ cap and = what was taken, to the cent; the rest waits for tomorrow",
        full=1_000,
        short=200,
        run=money,
    ),
]
