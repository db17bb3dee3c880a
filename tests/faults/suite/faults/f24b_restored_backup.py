"""The database is lost and an old backup of it is put in its place, under the workers' feet."""

from __future__ import annotations

import asyncio
import shutil
import signal

from tests import postgres
from tests.faults.suite.checker import read_lines
from tests.faults.suite.fault import NEVER, Fault, Trial
from tests.faults.suite.world import World

WORKERS = 3
WATCHED_S = 12.0
"""So long the restored database is left to the workers before anybody confirms."""
KNOWN = 0.4
"""Share that was sent when the backup was made; the rest was sent after that."""
AFTERWARDS = 20
WHY = "probably sent before the database was restored"


async def run(trial: Trial) -> None:
    async with trial.world() as world:
        await world.load(trial.n, sms_share=0.5)
        workers = await world.start("worker", WORKERS)
        await world.far_side.has_kept(trial.n * KNOWN)
        await asyncio.to_thread(_back_up, world)
        settled = await world.settled(timeout_s=300)
        await asyncio.sleep(5)
        before = await world.far_side.kept()
        # It comes back without any memory but its file; the others live through the restore.
        workers[0].signal(signal.SIGKILL)
        await asyncio.to_thread(_restore, world)
        would_go = await world.open_messages()
        await asyncio.sleep(WATCHED_S)
        await world.ready(workers[0])
        await asyncio.sleep(3)
        unconfirmed = await world.far_side.kept() - before
        shown = await world.command("resume-after-restore")
        resumed = await world.command("resume-after-restore", "--cancel", "--reason", "restored")
        await world.load(AFTERWARDS, trial.rng, sms_share=0.5)
        again = await world.settled(timeout_s=120)
        sent = await world.far_side.kept() - before
        await world.stop()
        found = await world.accounts()
        rows = read_lines(world.folder / "database.jsonl")
        cancelled = sum(
            row["reason"] == WHY and all(one["outcome"] != "unknown" for one in row["attempts"])
            for row in rows
        )
        proof = await world.command("verify")
        # What was sent since the backup the database can't know of: it must say so of each.
        found.counts["GHOST"] -= cancelled
        trial.result.counts += found.counts
        trial.note("forgotten", would_go)
        trial.note("sent before anybody confirmed", unconfirmed)
        trial.note("taken for sent", cancelled)
        trial.require("all was sent before, and what came afterwards", settled and again, again)
        for what in NEVER:
            trial.require(f"{what} 0", found[what] == 0, f"{found[what]}, {found.examples[what]}")
        trial.require("the backup was old", would_go > trial.n * 0.1, would_go)
        trial.require("sent before anybody confirmed 0", unconfirmed == 0, unconfirmed)
        trial.require("it is shown and not decided without a word", shown.code == 1, shown.out)
        trial.require("an operator lets sends go on", resumed.code == 0, resumed.out)
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require(f"new messages are sent: {AFTERWARDS}", sent == AFTERWARDS, sent)
        trial.require("the ledger adds up", proof.code == 0, proof.out[-1500:])


def _back_up(world: World) -> None:
    """A copy of the data as they are, which waits beside them."""
    home = world.postgres.home
    world.postgres._run("pg_ctl", "stop", "-m", "fast", "-w")
    shutil.copytree(home / "data", home / "backup")
    postgres._own(home / "backup", *(home / "backup").rglob("*"))
    world.postgres.start()


def _restore(world: World) -> None:
    """As quickly as it can be done, so that the workers have hardly seen it away."""
    home = world.postgres.home
    world.postgres.crash()
    (home / "data").rename(home / "lost")
    (home / "backup").rename(home / "data")
    world.postgres.start()


FAULTS = [
    Fault(
        id="F24b",
        injected=f"PostgreSQL is lost and at once an old backup runs in its place: {1 - KNOWN:.0%} "
        "of the messages were sent since; one worker comes anew, two live through it",
        expected="nothing is sent until an operator has seen what would be, and decided",
        passes="sent before that 0; no copies; all that was forgotten is named as probably sent; "
        "new messages are sent",
        full=3_000,
        short=0,
        run=run,
    ),
]
