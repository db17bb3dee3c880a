"""The network loses its way between workers and a server: no byte passes, nothing is refused."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from urllib.parse import urlsplit

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.wire import Wire
from tests.faults.suite.world import World

CUT_OFF = 2
"""Workers behind the wire; as many aren't."""
HELD_S, SHORT_HELD_S = 40.0, 10.0
LEASE_S, SHORT_LEASE_S = 15.0, 3.0
ANSWERS = (
    {"verb": ".", "do": "usual", "after_s": 0.05},
    {"verb": "SMS", "do": "usual", "after_s": 0.05},
)
IN_FLIGHT_S = 1.0
IN_FLIGHT = (
    {"verb": ".", "do": "usual", "after_s": IN_FLIGHT_S},
    {"verb": "SMS", "do": "usual", "after_s": IN_FLIGHT_S},
)
"""So slow are answers for a moment, so that something is in flight when the wire is cut."""
LATE_S = 5.0
"""The second answer to what was cut off comes so long after the wire is mended: who was cut off
speaks up while another has it in hand.
"""
DETECTED_S, BACK_S = 30.0, 60.0
PARTITIONED = {"postgres": "PostgreSQL", "broker": "Redis", "smtp": "the mail server"}


async def run(trial: Trial, between: str) -> None:
    held_s = SHORT_HELD_S if trial.short else HELD_S
    lease_s = SHORT_LEASE_S if trial.short else LEASE_S
    cuts_mail = between == "smtp"
    settings = {
        "delivery": {
            "lease_s": lease_s,
            "batch": 20,
            "first_retry_s": 2,
            "breaker_open_s": 2,
            "breaker_longest_s": 4,
        },
        # A relay that is cut off is given up within the time; else the answer is waited for.
        "providers": {"smtp": {"timeout_s": 10, "answer_timeout_s": 10 if cuts_mail else 60}},
    }
    async with trial.world(settings=settings) as world:
        await world.load(trial.n, sms_share=0.3 if between == "postgres" else 0.0)
        await world.far_side.script(*ANSWERS)
        async with Wire(_port(world, between)) as wire:
            behind = await world.start(
                "worker", CUT_OFF, supervised=True, **_through(world, between, wire.port)
            )
            await world.start("worker", 1 if trial.short else CUT_OFF)
            for worker in behind:
                await world.ready(worker)
            await world.far_side.has_kept(trial.n * 0.15)
            if between == "postgres":
                await world.far_side.script(*IN_FLIGHT)
                await asyncio.sleep(IN_FLIGHT_S / 2)
            wire.hold()
            world.kills.append(time.time())
            before = await world.far_side.kept()
            if between == "postgres":
                await _slow_down_what_was_cut_off(world, held_s - lease_s + LATE_S)
            await asyncio.sleep(held_s)
            sent = await world.far_side.kept() - before
            wire.mend(break_old=trial.seed % 2 == 0)
            await world.far_side.script(*ANSWERS)
            # New work, so that those who were cut off have something to come back to.
            await world.load(trial.n // 4, trial.rng, sms_share=0.0)
            loaded = time.monotonic()
            settled = await world.settled(timeout_s=300)
            back = time.monotonic() - loaded
            carried = wire.carried_after_mending
            ended = [code for one in behind for _, code in one.exits]
            await world.stop()
        found = await trial.judge(world)
        open_ones = await world.query("SELECT count(*) FROM attempts WHERE outcome IS NULL")
        trial.note("held", f"{held_s:g} s")
        trial.note("sent meanwhile", sent)
        trial.note("copies", found.extra)
        trial.note("parked", found["STOPPED"])
        trial.note("settled after", f"{back:.1f} s")
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("those cut off came back", carried > 0, carried)
        trial.require("no worker ended", not ended, ended)
        trial.require("no attempt is left open", open_ones[0][0] == 0, open_ones)
        trial.require("copies ≤ unknown", found.extra <= found["UNKNOWN"], found.extra)
        if between == "postgres":
            recovery = trial.result.recovery_s
            trial.require("something was cut off", found["UNKNOWN"] > 0, found["UNKNOWN"])
            trial.require(f"taken over ≤ {DETECTED_S:g} s", 0 < recovery <= DETECTED_S, recovery)
        trial.require("the others went on", sent > 0 or between == "smtp", sent)
        trial.require(f"new work settled ≤ {BACK_S:g} s", back <= BACK_S, back)


async def _slow_down_what_was_cut_off(world: World, answer_s: float) -> None:
    """What is in flight and doesn't get on is theirs who were cut off."""
    sql = "SELECT address, fence FROM notifications WHERE state = 'sending' AND channel = 'mail'"
    await asyncio.sleep(1)
    before = {tuple(one) for one in await world.query(sql)}
    await asyncio.sleep(1)
    stuck = before & {tuple(one) for one in await world.query(sql)}
    keys = sorted(address.partition("@")[0] for address, _ in stuck)
    slow = [{"verb": ".", "key": key, "do": "usual", "after_s": answer_s} for key in keys]
    await world.far_side.script(*slow, *ANSWERS)


def _port(world: World, between: str) -> int:
    assert world.broker is not None
    broker = urlsplit(world.broker.url).port or 0
    ports = {"postgres": world.postgres.port, "smtp": world.far_side.smtp_port, "broker": broker}
    return ports[between]


def _through(world: World, between: str, port: int) -> dict[str, str]:
    """The environment of a worker that is behind a wire."""
    assert world.broker is not None
    direct = str(_port(world, between))
    return {
        "postgres": {"DATABASE_URL": world.postgres.url(port=port)},
        "broker": {"BROKER_URL": world.broker.url.replace(f":{direct}", f":{port}")},
        "smtp": {"DUEWATCH_PROVIDERS__SMTP__PORT": str(port)},
    }[between]


FAULTS = [
    Fault(
        id=f"F27-{between}",
        injected=f"no byte passes between {CUT_OFF} of 4 workers and {name} for {HELD_S:g} s, and "
        "nothing is refused or closed; then all of it does",
        expected="their leases end and the others take over; what they say too late is refused",
        passes=f"copies ≤ unknown; taken over ≤ {DETECTED_S:g} s; what came in after it was "
        f"mended is settled ≤ {BACK_S:g} s; no worker ended",
        full=6_000,
        short=400,
        run=partial(run, between=between),
    )
    for between, name in PARTITIONED.items()
]
