"""Workers are asked to end, one after the other, under load; requests go to two web servers."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.error
import urllib.request

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import Process, World

WORKERS = 4
RESTARTS = 20
DRAIN_S = 30.0
ANSWER_S = 0.05


async def run(trial: Trial) -> None:
    async with trial.world() as world:
        await world.load(trial.n, sms_share=0.5)
        await world.far_side.script(
            {"verb": ".", "do": "usual", "after_s": ANSWER_S},
            {"verb": "SMS", "do": "usual", "after_s": ANSWER_S},
        )
        workers = await world.start("worker", 2 if trial.short else WORKERS)
        servers = await world.start("web", 2)
        asks = Asks(world)
        await asks.until_all_answer()
        asking = world.meanwhile(asks.go_on())
        drains: list[float] = []
        codes: list[int] = []
        for number in range(4 if trial.short else RESTARTS):
            part = trial.n * 0.8 / (4 if trial.short else RESTARTS)
            await world.far_side.has_kept(number * part)
            drains.append(await _restart(world, workers[number % len(workers)], codes))
            if number % 4 == 3:
                server = servers[number // 4 % 2]
                await _restart(world, server, codes)
                await asks.until_all_answer()
        settled = await world.settled(timeout_s=300)
        asking.cancel()
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        trial.note("restarts", len(codes))
        trial.note("drain", f"≤ {max(drains):.1f} s")
        trial.note("requests", asks.answered)
        trial.note("refused", asks.refused)
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("unknown 0", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require("exit code 0", set(codes) == {0}, codes)
        trial.require(f"drained in ≤ {DRAIN_S:g} s", max(drains) <= DRAIN_S, drains)
        trial.require("no request was refused by both", asks.refused == 0, asks.refused)
        trial.require("requests were made", asks.answered > 0, asks.answered)


async def _restart(world: World, process: Process, codes: list[int]) -> float:
    """SIGTERM; returns how long it took to end, in seconds."""
    await world.ready(process)
    begun = time.monotonic()
    process.signal(signal.SIGTERM)
    codes.append(await process.ended(60))
    return time.monotonic() - begun


class Asks:
    """Somebody who asks one web server, and when that doesn't answer the other, as a proxy does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answered = self.refused = 0

    async def until_all_answer(self) -> None:
        """Waits until both are up."""
        async with asyncio.timeout(60):
            for port in self.world.web_ports:
                while not await asyncio.to_thread(_answers, port):  # noqa: ASYNC110 - see has_kept
                    await asyncio.sleep(0.1)

    async def go_on(self) -> None:
        """Asks five times a second, for ever."""
        while True:
            first, second = self.world.web_ports
            for port in (first, second):
                if await asyncio.to_thread(_answers, port):
                    self.answered += 1
                    break
            else:
                self.refused += 1
            await asyncio.sleep(0.2)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


FAULTS = [
    Fault(
        id="F4",
        injected=f"SIGTERM to each of {WORKERS} workers in turn, {RESTARTS} times, and to one of "
        "two web servers now and then, under load",
        expected="it claims nothing more, finishes what is in flight, gives the rest back",
        passes="no copies, nothing unknown, exit code 0, drained ≤ 30 s, no request refused by "
        "both",
        full=10_000,
        short=120,
        run=run,
    ),
]
