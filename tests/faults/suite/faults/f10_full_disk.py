"""No space is left: under PostgreSQL's data, under a SQLite file, under a log."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import postgres
from tests.faults.suite.fault import Fault, Trial
from tests.faults.suite.faults.f2_killed_scans import unplanned
from tests.faults.suite.faults.f9_database import Producer, made_producer, until_it_works
from tests.faults.suite.lite import LiteWorld
from tests.faults.suite.world import World

WORKERS = 4
FULL_S, SHORT_FULL_S = 15.0, 6.0
RESUME_S = 60.0
SPARE_MB = 40
"""What PostgreSQL has beyond its data: two segments of its log, and a little."""
ANSWERS = (
    {"verb": ".", "do": "usual", "after_s": 0.05},
    {"verb": "SMS", "do": "usual", "after_s": 0.05},
)


class NotRootError(Exception):
    """A small file system can only be made by root."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at this folder. Raises NotRootError for who may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        raise NotRootError("F10 needs root: a small file system can't be mounted; not run")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


class Disk:
    """Fills a file system to its last byte, and empties it again."""

    def __init__(self, place: Path) -> None:
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Takes all that is free."""
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """Gives it back."""
        self._ballast.unlink()


def _onto(world: World, place: Path) -> None:
    """Moves PostgreSQL's data to this folder; it runs on there."""
    data = world.postgres.home / "data"
    world.postgres.crash()
    shutil.copytree(data, place / "data")
    shutil.rmtree(data)
    data.symlink_to(place / "data")
    postgres._own(place, *place.rglob("*"))
    (place / "data").chmod(0o700)
    world.postgres.start()


async def under_postgres(trial: Trial) -> None:
    """F10-postgres."""
    async with trial.world() as world:
        loaded = await world.load(trial.n * 9 // 10, sms_share=0.5)
        producer = await made_producer(world, trial, len(loaded), trial.n // 10)
        await world.far_side.script(*ANSWERS)
        data = world.postgres.home / "data"
        used = sum(one.stat().st_size for one in data.rglob("*") if one.is_file())
        with small_disk(world.postgres.home / "disk", used // 2**20 + SPARE_MB) as place:
            await asyncio.to_thread(_onto, world, place)
            try:
                await _on_a_full_disk(trial, world, producer, Disk(place))
            finally:
                with suppress(subprocess.CalledProcessError):
                    await asyncio.to_thread(world.postgres.crash)


async def _on_a_full_disk(trial: Trial, world: World, producer: Producer, disk: Disk) -> None:
    workers = await world.start("worker", WORKERS)
    await world.start("scheduler")
    for worker in workers:
        await world.ready(worker)
    posting = world.meanwhile(producer.post_all(0.2))
    await world.far_side.has_kept(trial.n * 0.15)
    await asyncio.to_thread(disk.fill)
    world.kills.append(time.time())
    keeper = world.meanwhile(_start_again(world))
    await asyncio.sleep(FULL_S)
    await asyncio.to_thread(disk.empty)
    resumed = await until_it_works(world)
    async with asyncio.timeout(240):
        await posting
        while await unplanned(world):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.5)
    settled = await world.settled(timeout_s=300)
    keeper.cancel()
    ended = [code for one in workers for _, code in one.exits]
    await world.stop()
    found = await trial.judge(world)
    said = (world.postgres.home / "log").read_text("utf-8", "replace").count("No space left")
    trial.note("refusals by the disk", said)
    trial.note("503s", producer.told_to_wait)
    trial.note("copies", found.extra)
    trial.note("resumed after", f"{resumed:.1f} s")
    trial.note("workers that ended", len(ended))
    trial.require("all was settled", settled, found["LEFT"])
    trial.require("the disk was full for PostgreSQL", said > 0, said)
    trial.require("requests were refused meanwhile", producer.told_to_wait > 0, 0)
    trial.require("refused by 503 with Retry-After", not producer.other, producer.other[:9])
    trial.require("no worker ended", not ended, ended)
    trial.require(f"resumed ≤ {RESUME_S:g} s", resumed <= RESUME_S, resumed)


async def _start_again(world: World) -> None:
    """PostgreSQL ends itself when its log can't be written; it is started again as by systemd."""
    while True:
        await asyncio.sleep(2)
        with suppress(subprocess.CalledProcessError):
            await asyncio.to_thread(world.postgres._run, "pg_ctl", "status")
            continue
        with suppress(subprocess.CalledProcessError):
            await asyncio.to_thread(world.postgres.start)


async def under_sqlite(trial: Trial) -> None:
    """F10-sqlite."""
    delivery = {"lease_s": 3, "poll_s": 0.5, "batch": 20}
    with small_disk(trial.folder / "disk", 200) as place:
        async with LiteWorld(trial, place, delivery=delivery) as world:
            loaded = await world.load(trial.n * 9 // 10, trial.rng, sms_share=0.5)
            await world.far_side.script(*ANSWERS)
            producer = await made_producer(world, trial, len(loaded), trial.n // 10, "run")
            (process,) = world.processes
            posting = world.meanwhile(producer.post_all(0.2))
            await world.far_side.has_kept(trial.n * 0.15)
            disk = Disk(place)
            await asyncio.to_thread(disk.fill)
            world.kills.append(time.time())
            await asyncio.sleep(SHORT_FULL_S if trial.short else FULL_S)
            await asyncio.to_thread(disk.empty)
            emptied, before = time.monotonic(), await world.far_side.kept()
            await world.far_side.has_kept(before + 1, timeout_s=120)
            resumed = time.monotonic() - emptied
            async with asyncio.timeout(240):
                await posting
                while await unplanned(world):  # noqa: ASYNC110 - another process's doing
                    await asyncio.sleep(0.5)
            settled = await world.settled(timeout_s=300)
            said = _full(world, process.name)
            ended = [code for _, code in process.exits]
            await world.stop()
            found = await trial.judge(world)
            whole = await world.is_whole()
        trial.note("refusals by the disk", said)
        trial.note("503s", producer.told_to_wait)
        trial.note("copies", found.extra)
        trial.note("resumed after", f"{resumed:.1f} s")
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("the file is whole", whole, whole)
        trial.require("the disk was full for SQLite", said > 0, said)
        trial.require("requests were refused meanwhile", producer.told_to_wait > 0, 0)
        trial.require("refused by 503 with Retry-After", not producer.other, producer.other[:9])
        trial.require("the process went on", not ended, ended)
        trial.require(f"resumed ≤ {RESUME_S:g} s", resumed <= RESUME_S, resumed)


def _full(world: World, name: str) -> int:
    text = (world.folder / f"{name}.log").read_text("utf-8", "replace")
    return text.count("disk is full") + text.count("database away")


async def under_a_log(trial: Trial) -> None:
    """F10-logs."""
    async with trial.world() as world:
        await world.load(trial.n, sms_share=0.5)
        with small_disk(world.folder / "disk", 1) as place:
            (world.folder / "worker-1.log").symlink_to(place / "worker-1.log")
            (worker,) = await world.start("worker")
            await world.ready(worker)
            await asyncio.to_thread(Disk(place).fill)
            before = await world.far_side.kept()
            size = (place / "worker-1.log").stat().st_size
            settled = await world.settled(timeout_s=300)
            sent = await world.far_side.kept() - before
            ended = [code for _, code in worker.exits]
            grown = (place / "worker-1.log").stat().st_size - size
            await world.stop()
        found = await trial.judge(world, stopped_at_most=0)
        trial.note("sent without a log", sent)
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("most was sent without a log", sent > trial.n / 2, sent)
        # The last block of the file may have had some room.
        trial.require("no more could be logged", grown < 8192, grown)
        trial.require("unknown 0", found["UNKNOWN"] == 0, found["UNKNOWN"])
        trial.require("copies 0", found.extra == 0, found.extra)
        trial.require("the worker went on", not ended, ended)


FAULTS = [
    Fault(
        id="F10-postgres",
        injected=f"PostgreSQL's data on a file system that is full for {FULL_S:g} s, under load; a "
        "producer posts meanwhile",
        expected="producers are told to wait; nothing is sent whose attempt can't be written",
        passes="copies ≤ unknown; all refusals are 503 with Retry-After; work goes on ≤ "
        f"{RESUME_S:g} s after there is space; no worker ended",
        full=4_000,
        short=0,
        run=under_postgres,
    ),
    Fault(
        id="F10-sqlite",
        injected=f"the SQLite file's file system is full for {FULL_S:g} s, under load; a producer "
        "posts meanwhile",
        expected="as with PostgreSQL",
        passes=f"as with PostgreSQL; the file is whole; work goes on ≤ {RESUME_S:g} s after there "
        "is space",
        full=1_500,
        short=0,
        run=under_sqlite,
    ),
    Fault(
        id="F10-logs",
        injected="the file system that a worker logs to is full",
        expected="it sends on",
        passes="all sent, no copies, nothing unknown; the worker doesn't end",
        full=2_000,
        short=0,
        run=under_a_log,
    ),
]
