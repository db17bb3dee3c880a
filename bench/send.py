"""How many mails a second go from due to accepted and recorded, beside the peers in the same run.

    .venv/bin/python -m bench.send [--n 4000] [--only sqlite,postgresql-1,celery,…] [--times 3]

All send the message of `bench.message` to Postfix's smtp-sink on this machine. Ours are statements
that were planned before; a worker is a process as it is shipped, with 100 places and 10
connections, and does all it does: claim, last look, render, commit to the attempt, send, record.
The peers' tasks build the message and send it over a kept connection, and record nothing; their
best settings for speed: Celery with two processes, Dramatiq with two of eight threads, Redis
without a disk.

Each prints a line: messages a second between the first and the last tenth, and the CPU seconds of
its workers for 1,000 messages. The peers need `make .venv-peers/.stamp`; smtp-sink comes with
Debian's package postfix.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import redis
import structlog
from sqlalchemy import func, select, text

from bench.message import templates
from bench.page import machine, table, write_section
from tests import postgres
from tests.product import contact, partner, statement
from tests.redis import OwnServer, free_port
from workers.app import TEMPLATES, open_app
from workers.settings import Settings
from workers.store.engine import Database
from workers.store.tables import notifications

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers/bin/python"
PLACES, CONNECTIONS, BATCH = 100, 10, 200
ENTRY = "from workers.cli import main; main()"
PATIENCE_S = 300.0
CELLS = ("sqlite", "postgresql-1", "postgresql-2", "celery", "dramatiq", "procrastinate")


@dataclass(frozen=True, slots=True)
class Speed:
    """What one of them did."""

    who: str
    messages: int
    per_second: float
    cpu_s_per_1000: float


@contextmanager
def sink() -> Iterator[int]:
    """Postfix's smtp-sink on a free port."""
    program = shutil.which("smtp-sink") or "/usr/sbin/smtp-sink"
    if not Path(program).exists():
        raise SystemExit("smtp-sink isn't there: apt-get install postfix")
    port = free_port()
    process = subprocess.Popen([program, "-u", "nobody", "-m", "500", f"127.0.0.1:{port}", "500"])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds of processes so far, with all their children that live."""
    ticks, wanted = 0, set(pids)
    for place in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid, parent = int(place.name), int(fields[1])
        if pid in wanted or parent in wanted:
            wanted.add(pid)
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# --- ours -----------------------------------------------------------------------------------


async def _plan(url: str, folder: Path, count: int) -> None:
    shutil.copytree(TEMPLATES, folder / "templates")
    words = folder / "templates/messages/zh-CN/statement"
    for part, content in templates().items():
        (words / f"reminder.{part}").write_text(content, "utf-8")
    now = datetime.now(UTC)
    async with open_app(Settings(database_url=url), clock=lambda: datetime.now(UTC)) as app:
        for first in range(0, count, 500):
            things = []
            for number in range(first, min(first + 500, count)):
                who, name = f"P{number}", f"王小{number % 100}"
                things += [
                    partner(who),
                    contact(f"C{number}", partner=who, name=name, language="zh-CN"),
                    statement(
                        f"S{number}",
                        partner=who,
                        generated_at=now - timedelta(days=20),
                        confirm_by=(now + timedelta(days=2)).date(),
                    ),
                ]
            await app.intake.take(things)
        await app.scan.run("statement")


def _worker(
    url: str, port: int, folder: Path, number: int, places: int, entry: str
) -> subprocess.Popen[bytes]:
    file = folder / f"worker-{number}.toml"
    file.write_text(
        f'database_url = "{url}"\ntemplates = "{folder / "templates"}"\n'
        f'[mail]\nproviders = ["smtp"]\nsender = "desk@example.com"\nper_domain_per_minute = 0\n'
        f"[delivery]\nconcurrency = {places}\nbatch = {BATCH}\n"
        f'[providers.smtp]\nport = {port}\nhost = "127.0.0.1"\ntls = "none"\n'
        f"connections = {CONNECTIONS}\n"
        f'[logs]\nlevel = "error"\n[state]\nfile = "{folder / f"{number}.state"}"\n',
        "utf-8",
    )
    command = [sys.executable, "-c", entry, "worker"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DUEWATCH_", "DATABASE_"))}
    environ = {**kept, "DUEWATCH_FILE": str(file), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environ)


async def _accepted(database: Database) -> list[datetime]:
    n = notifications.c
    async with database.read() as connection:
        rows = await connection.execute(select(n.accepted_at).where(n.state == "accepted"))
        return sorted(rows.scalars())


async def _count(database: Database) -> int:
    async with database.read() as connection:
        wanted = select(func.count()).where(notifications.c.state == "pending")
        return int((await connection.execute(wanted)).scalar_one())


async def ours(who: str, count: int, places: int = PLACES, entry: str = ENTRY) -> Speed:
    """Our workers, one or two, on a database of their own; `entry` is what Python runs as one."""
    kind, _, processes = who.partition("-")
    with tempfile.TemporaryDirectory() as name, sink() as port:
        folder = Path(name)
        server = postgres.running(folder, durable=True) if kind == "postgresql" else None
        url = f"sqlite:///{folder / 'duewatch.db'}"
        if server is not None:
            server.create("bench")
            url = server.url("bench").replace("+asyncpg", "")
        try:
            await _plan(url, folder, count)
            workers = [
                _worker(url, port, folder, one, places, entry) for one in range(int(processes or 1))
            ]
            pids = [one.pid for one in workers]
            database = Database.connected(url)
            before, end = 0.0, time.monotonic() + PATIENCE_S
            while (left := await _count(database)) and time.monotonic() < end:
                before = before or (cpu_s(pids) if left < count else 0.0)
                await asyncio.sleep(0.25)
            await asyncio.sleep(0.5)
            used = cpu_s(pids) - before
            for one in workers:
                one.terminate()
            for one in workers:
                one.wait()
            times = await _accepted(database)
            await database.close()
        finally:
            postgres.stop(folder)
    assert len(times) == count, f"{who}: {len(times)} of {count} were accepted"
    tenth = count // 10
    took = (times[-tenth] - times[tenth]).total_seconds()
    return Speed(who, count, (count - 2 * tenth) / took, used / count * 1000)


# --- the peers ------------------------------------------------------------------------------

COMMANDS = {
    "celery": "-m celery -A bench.peers.speed worker --concurrency 2 --loglevel ERROR",
    "dramatiq": "-m dramatiq bench.peers.speed --processes 2 --threads 8",
    "procrastinate": "-m procrastinate --app bench.peers.speed_procrastinate.app worker "
    "--concurrency 20 --delete-jobs always",
}
PUTS = {
    "celery": "-m bench.peers.speed celery",
    "dramatiq": "-m bench.peers.speed dramatiq",
    "procrastinate": "-m bench.peers.speed_procrastinate",
}
QUEUES = {"celery": "celery", "dramatiq": "dramatiq:default"}


def peer(who: str, count: int) -> Speed:
    """A peer's workers on messages that wait in Redis, or in PostgreSQL."""
    if not PEERS.exists():
        raise SystemExit("the peers' environment isn't there: make .venv-peers/.stamp")
    if who not in QUEUES:
        return _peer_in_sql(who, count)
    server = OwnServer("--save", "", "--appendonly", "no")
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            return _peer(who, count, server.url, lambda: int(client.llen(QUEUES[who])), 1)
    finally:
        server.remove()


def _peer_in_sql(who: str, count: int) -> Speed:
    with tempfile.TemporaryDirectory() as name:
        server = postgres.running(Path(name), durable=True)
        try:
            server.create("peer")
            url = server.url("peer").replace("+asyncpg", "")
            return _peer(who, count, url, lambda: asyncio.run(_to_do(url)), 2)
        finally:
            postgres.stop(Path(name))


async def _to_do(url: str) -> int:
    database = Database.connected(url)
    async with database.read() as connection:
        waiting = text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'")
        found = int((await connection.execute(waiting)).scalar_one())
    await database.close()
    return found


def _peer(who: str, count: int, url: str, left: Callable[[], int], processes: int) -> Speed:
    with sink() as port:
        environ = {**os.environ, "PEER_URL": url, "PEER_SMTP": str(port)}
        subprocess.run(
            [str(PEERS), *PUTS[who].split(), str(count)], cwd=ROOT, env=environ, check=True
        )
        quiet = subprocess.DEVNULL
        workers = [
            subprocess.Popen(
                [str(PEERS), *COMMANDS[who].split()],
                cwd=ROOT,
                env=environ,
                stdout=quiet,
                stderr=quiet,
            )
            for _ in range(processes)
        ]
        try:
            return _watched(who, count, left, [one.pid for one in workers])
        finally:
            for one in workers:
                one.terminate()
            for one in workers:
                one.wait()


def _watched(who: str, count: int, remaining: Callable[[], int], pids: Sequence[int]) -> Speed:
    """The rate at which the queue empties, from a tenth gone to a tenth left."""
    marks: list[tuple[float, int, float]] = []
    end, tenth = time.monotonic() + PATIENCE_S, count // 10
    while time.monotonic() < end:
        left = remaining()
        if left <= count - tenth:
            marks.append((time.monotonic(), left, cpu_s(pids)))
        if left <= tenth:
            break
        time.sleep(0.05)
    (began, first, cpu), (ended, last, cpu_then) = marks[0], marks[-1]
    sent = first - last
    return Speed(who, count, sent / (ended - began), (cpu_then - cpu) / sent * 1000)


@click.command()
@click.option("--n", "count", default=4000, show_default=True)
@click.option("--only", default=",".join(CELLS), show_default=True)
@click.option("--times", default=1, show_default=True, help="Runs of each; the median is told.")
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
def main(count: int, only: str, times: int, write: Path | None) -> None:
    """Measures each and prints a JSON line, then the ratios to Celery."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found: dict[str, Speed] = {}
    for who in only.split(","):
        runs = [
            peer(who, count) if who in COMMANDS else asyncio.run(ours(who, count))
            for _ in range(times)
        ]
        found[who] = sorted(runs, key=lambda one: one.per_second)[len(runs) // 2]
        click.echo(json.dumps(asdict(found[who])))
    if celery := found.get("celery"):
        for who, speed in found.items():
            click.echo(f"{who}: {speed.per_second / celery.per_second:.2f} x Celery")
    if write is not None:
        tell(write, list(found.values()), times)


NAMES = {
    "sqlite": "**Duewatch**, SQLite, 1 worker",
    "postgresql-1": "**Duewatch**, PostgreSQL, 1 worker",
    "postgresql-2": "**Duewatch**, PostgreSQL, 2 workers",
    "celery": "Celery 5.7, Redis, 2 processes",
    "dramatiq": "Dramatiq 2.2, Redis, 2 × 8 threads",
    "procrastinate": "Procrastinate 3.10, PostgreSQL, 2 processes × 20",
}
INTRO = """All send the same mail, Chinese text and HTML with a table of ten rows, to Postfix's
`smtp-sink`. Ours are statements that were planned before, and a worker does all that it does for
each: claim, last look by the planner, rendering, the attempt committed before a byte leaves, the
hand-over, its outcome committed. The peers build the message with `EmailMessage`, send it over a
kept connection, and record nothing: a message in their hands is lost with the process, or sent
twice ([counted](reliability.md#peers-in-the-same-faults)). PostgreSQL waits for its disk at each
commit, as it does by itself.
"""
GOAL = """The goal is 8,000 a second on two cores with PostgreSQL, 4,000 with SQLite, and 15 times
Celery's best: **not met**. What was tried so far and what it brought stands in decisions
[22](decisions/0022-mail-in-two-round-trips.md), [23](decisions/0023-seen-before-its-turn.md) and
[29](decisions/0029-a-chunk-is-made-of-what-was-seen.md). Where the time goes now, a box as wide as
its share ([open it](images/flame.svg), and each box tells its name):

![A flame graph of a sending worker](images/flame.svg)
"""


def tell(path: Path, found: Sequence[Speed], times: int) -> None:
    """Writes the section of a run's figures."""
    celery = next((one.per_second for one in found if one.who == "celery"), 0.0)
    rows = [
        (
            NAMES[one.who],
            f"{one.per_second:,.0f}",
            f"{one.per_second / celery:.2f}" if celery else "",
            f"{one.cpu_s_per_1000:.2f}",
        )
        for one in found
    ]
    facts = (
        f"{found[0].messages:,} mails each, the median of {times}; {machine()}. CPU is that of the "
        "workers alone."
    )
    head = ("who", "mails/s", "× Celery", "CPU s for 1,000")
    write_section(path, "Mails a second", INTRO, facts, table(head, rows), GOAL)


if __name__ == "__main__":
    main()
