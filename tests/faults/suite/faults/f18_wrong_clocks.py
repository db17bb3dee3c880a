"""Workers whose clocks are wrong: within what is tolerated, and far beyond it."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import datetime
from pathlib import Path

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.world import World

AHEAD_S, BEHIND_S = 50, -10
"""Within `scheduler.clock_tolerance_s`, a minute, and far beyond a lease."""
BEYOND_S = 25 * 3600
ANSWER_S = 0.5
QUICK = {"delivery": {"lease_s": 3, "poll_s": 0.5, "batch": 20}}
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long skew(void) {
    const char *said = getenv("SKEW_S");
    return said ? atol(said) : 0;
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, at);
    if (which == CLOCK_REALTIME) at->tv_sec += skew();
    return done;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""
"""A process that is loaded with it sees a wall clock that is SKEW_S ahead; nobody else does."""


async def run(trial: Trial) -> None:
    async with trial.world(settings=QUICK if trial.short else None) as world:
        library = await asyncio.to_thread(_compiled, world.folder)
        await world.load(trial.n, sms_share=0.5)
        await world.far_side.script(
            {"verb": ".", "do": "usual", "after_s": ANSWER_S},
            {"verb": "SMS", "do": "usual", "after_s": ANSWER_S},
        )
        # What is due now is due later for the one behind.
        await asyncio.sleep(-BEHIND_S)
        for skew_s in (AHEAD_S, BEHIND_S, BEYOND_S):
            await world.start(
                "worker", supervised=True, LD_PRELOAD=str(library), SKEW_S=str(skew_s)
            )
        settled = await world.settled(timeout_s=300)
        await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        ahead, behind, beyond = (_sent_by(world, f"worker-{number}") for number in (1, 2, 3))
        logged = {number: _first_second(world, f"worker-{number}") for number in (1, 2)}
        apart = logged[1] - logged[2]
        trial.note("sent", f"{ahead} by the one ahead, {behind} by the one behind, {beyond} beyond")
        trial.require("all was settled", settled, found["LEFT"])
        wrong = AHEAD_S - BEHIND_S
        trial.require("clocks were wrong", abs(apart - wrong) < 30, f"{apart:.0f} s apart")
        trial.require("both sent", ahead > 0 and behind > 0, (ahead, behind))
        trial.require("nothing by a clock that is a day wrong", beyond == 0, beyond)
        trial.require("unknown 0", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)


def _compiled(folder: Path) -> Path:
    source, library = folder / "skew.c", folder / "skew.so"
    source.write_text(SOURCE, "utf-8")
    words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(words, check=True, capture_output=True)
    return library


def _sent_by(world: World, name: str) -> int:
    return sum(line.get("event") == "attempt" for line in world.logs(name))


def _first_second(world: World, name: str) -> float:
    """When a process says that it began, by its own clock."""
    said = next(line["timestamp"] for line in world.logs(name) if "timestamp" in line)
    return datetime.fromisoformat(said).timestamp()


FAULTS = [
    Fault(
        id="F18",
        injected=f"one worker's clock is {AHEAD_S} s ahead, one's {-BEHIND_S} s behind, one's 25 "
        "hours ahead",
        expected="leases go by the database's clock; who is far off sends nothing and says so",
        passes="nothing unknown, no copies; both that are tolerated send, the third nothing",
        full=3_000,
        short=120,
        run=run,
    ),
]
