"""A COMMIT is carried out and its answer never comes: nobody was told whether it counted."""

from __future__ import annotations

from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.wire import Wire

WORKERS = 4
SHARE = 0.1
"""Of all commits of workers."""
LEAST, SHORT_LEAST = 200, 5
COMMITTED = b"COMMIT\x00"
"""How PostgreSQL says that a transaction is durable now."""
QUICK = {"delivery": {"lease_s": 3, "poll_s": 0.5, "batch": 20}}


class Drops:
    """Cuts a connection in the place of passing on that a transaction was committed."""

    def __init__(self, trial: Trial) -> None:
        self.count = 0
        self.begun = False
        self._rng = trial.rng

    async def hear(self, said: bytes) -> None:
        """Raises ConnectionResetError to cut."""
        if self.begun and COMMITTED in said and self._rng.random() < SHARE:
            self.count += 1
            raise ConnectionResetError


async def run(trial: Trial) -> None:
    async with trial.world(settings=QUICK) as world:
        await world.load(trial.n, sms_share=0.5)
        drops = Drops(trial)
        async with Wire(world.postgres.port, drops.hear) as wire:
            url = world.postgres.url(port=wire.port)
            workers = await world.start(
                "worker", 2 if trial.short else WORKERS, supervised=True, DATABASE_URL=url
            )
            for worker in workers:
                await world.ready(worker)
            drops.begun = True
            settled = await world.settled(timeout_s=300)
            ended = [code for one in workers for _, code in one.exits]
            await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        least = SHORT_LEAST if trial.short else LEAST
        trial.note("answers to COMMIT lost", drops.count)
        trial.note("copies", found.extra)
        trial.require("all was settled", settled, found["LEFT"])
        trial.require(f"at least {least} answers were lost", drops.count >= least, drops.count)
        trial.require("unknown 0: each was found out", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require("no worker ended", not ended, ended)


FAULTS = [
    Fault(
        id="F11",
        injected=f"for {SHARE:.0%} of the workers' commits, claims, beginnings and outcomes alike, "
        "the connection is cut when the commit is durable and its answer isn't passed on",
        expected="whoever lost the answer looks whether what it wrote is there, and goes on",
        passes="no copies, nothing unknown, none stopped, no worker ended",
        full=6_000,
        short=200,
        run=run,
    ),
]
