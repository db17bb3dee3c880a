"""A backlog of one rule on PostgreSQL, and urgent invitations beside it.

    .venv/bin/python -m bench.backlog [--rows 1000000] [--seconds 120] [--urgent 100] [--seed 7]

Starts a PostgreSQL of its own, plans one real statement and copies it by SQL (record, notification
and line) until so many are pending and due. Then one worker, a process of its own, sends for some
time to an SMTP server in this one, which takes a message at once, while invitations in their last
24 hours come in at random moments. Told are the rate; what a claim of 100 takes, made from here
beside the worker four times a second, and given back; how long the urgent ones took from planned to
recorded as accepted. It ends with 1 where a goal wasn't met: 99 of 100 claims within 50 ms, 95 of
100 urgent messages within 30 s.

The server runs without fsync, as the tests' does: a disk adds its own time to each commit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import click
import structlog
from sqlalchemy import Table, func, select, text

from tests import postgres
from tests.fakes.smtp_server import SmtpServer
from tests.product import contact, invitation, statement
from workers.app import App, open_app
from workers.model import DIGEST
from workers.settings import Settings
from workers.store.tables import notifications, occurrences, records

AT_A_TIME = 50_000
CLAIM_GOAL_S, URGENT_GOAL_S = 0.050, 30.0
LEASE = timedelta(seconds=15)
PATIENCE_S = 120.0
"""How long after the stated time the last urgent messages are waited for."""


@dataclass(slots=True)
class Seen:
    """What was measured: (when it began, how long it took) of each claim; seconds."""

    claims: list[tuple[float, float]] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)
    """(when, how many were sent by then), once a second."""


async def claim_now_and_then(app: App, seen: Seen) -> None:
    """Claims as a worker does, four times a second, and gives back what it got."""
    outbox = app.store.outbox
    known = frozenset({*app.registry.rules, DIGEST})
    while True:
        began = perf_counter()
        claimed = await outbox.claim(app.clock(), 100, LEASE, "mail", known=known)
        seen.claims.append((began, perf_counter() - began))
        async with app.store.database.write() as connection:
            back = {one.id: (one.row.not_before, one.row.reason) for one in claimed}
            await outbox.put_off(connection, claimed, back)
        await asyncio.sleep(0.25)


@asynccontextmanager
async def worker(url: str, port: int, folder: Path) -> AsyncIterator[None]:
    """A worker as it is shipped; stopped at the end."""
    file = folder / "duewatch.toml"
    file.write_text(
        f'database_url = "{url}"\n[mail]\nproviders = ["smtp"]\nsender = "desk@example.com"\n'
        f"per_domain_per_minute = 0\n[providers.smtp]\nport = {port}\n"
        'host = "127.0.0.1"\ntls = "none"\nconnections = 10\n[logs]\nlevel = "error"\n',
        "utf-8",
    )
    command = [sys.executable, "-c", "from workers.cli import main; main()", "worker"]
    environ = {**os.environ, "DUEWATCH_FILE": str(file), "PYTHONPATH": str(Path.cwd())}
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environ)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def fill(app: App, rows: int) -> None:
    """Plans one statement and copies it until so many are pending."""
    now = datetime.now(UTC)
    one = statement(
        "S0", generated_at=now - timedelta(days=20), confirm_by=(now + timedelta(days=3)).date()
    )
    await app.intake.take([contact(), one])
    await app.scan.run("statement")
    for first in range(1, rows, AT_A_TIME):
        last = min(first + AT_A_TIME, rows) - 1
        async with app.store.database.write() as connection:
            for sql in (
                _copied(
                    records,
                    ref="'S' || n",
                    hash="md5('record' || n)",
                    data="""replace(CAST(data AS text), '"S0"', '"S' || n || '"')::json""",
                ),
                _copied(notifications, uid="md5('notification' || n)"),
                _copied(
                    occurrences, record_id="record_id + n", notification_id="notification_id + n"
                ),
            ):
                await connection.execute(text(sql), {"first": first, "last": last})
    async with app.store.database.write() as connection:
        for table in (records, notifications, occurrences):
            await connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) "
                    f"FROM {table.name}"
                )
            )


def _copied(table: Table, **changed: str) -> str:
    """The statement that copies a table's first row to the ids that follow it, n = first…last."""
    changed = {"id": "id + n", **changed}
    names = [column.name for column in table.columns]
    quoted = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(changed.get(name, f'"{name}"') for name in names)
    return (
        f"INSERT INTO {table.name} ({quoted}) SELECT {values} "
        f"FROM (SELECT * FROM {table.name} ORDER BY id LIMIT 1) one, "
        "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"
    )


async def invite(app: App, moments: Sequence[float]) -> None:
    """Has an invitation come in at each of these moments (seconds from now), and plans it."""
    began = perf_counter()
    for number, moment in enumerate(moments):
        await asyncio.sleep(max(0.0, began + moment - perf_counter()))
        sent_at = datetime.now(UTC) - timedelta(days=7) + timedelta(hours=20)
        await app.intake.take([invitation(f"I{number}", sent_at=sent_at)])
        await app.scan.run("invitation")


async def count(server: SmtpServer, seen: Seen) -> None:
    """Notes once a second how many messages the server has."""
    while True:
        seen.sent.append((perf_counter(), len(server.messages)))
        await asyncio.sleep(1)


async def urgent_lateness(app: App) -> tuple[list[float], int]:
    """How long the urgent messages took that were accepted (seconds), and how many weren't."""
    n = notifications.c
    async with app.store.database.read() as connection:
        found = await connection.execute(
            select(n.created_at, n.accepted_at).where(n.kind == "invitation", n.urgent)
        )
        rows = list(found)
    took = [(row.accepted_at - row.created_at) / timedelta(seconds=1) for row in rows if row[1]]
    return sorted(took), len(rows) - len(took)


async def watch(app: App, server: SmtpServer, seconds: float, moments: Sequence[float]) -> Seen:
    """Sees a worker send for so many seconds, and on until the urgent ones are out."""
    seen = Seen()
    for _ in range(300):  # it starts
        if server.messages:
            break
        await asyncio.sleep(0.1)
    chores = [
        asyncio.create_task(count(server, seen)),
        asyncio.create_task(claim_now_and_then(app, seen)),
    ]
    inviting = asyncio.create_task(invite(app, moments))
    await asyncio.sleep(seconds)
    await inviting
    for _ in range(int(PATIENCE_S)):
        if not (await urgent_lateness(app))[1]:
            break
        await asyncio.sleep(1)
    for chore in chores:
        chore.cancel()
    await asyncio.gather(*chores, return_exceptions=True)
    return seen


def share(values: Sequence[float], part: float) -> float:
    """The value that so much of the values (0 to 1) doesn't exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def report(seen: Seen, seconds: float, urgent: list[float], missing: int) -> bool:
    """Prints the figures; whether the goals were met."""
    began, met = seen.sent[0][0], True
    for name, low, high in (("first third", 0, 1), ("last third", 2, 3)):
        since, until = (began + seconds * part / 3 for part in (low, high))
        claims = [took for at, took in seen.claims if since <= at < until]
        counted = [number for at, number in seen.sent if since <= at < until]
        rate = (counted[-1] - counted[0]) / (len(counted) - 1) if len(counted) > 1 else 0.0
        p50, p99 = share(claims, 0.5), share(claims, 0.99)
        met = met and bool(claims) and p99 <= CLAIM_GOAL_S
        click.echo(
            f"{name}: {rate:.1f} a second; {len(claims)} claims, p50 {p50 * 1000:.1f} ms, "
            f"p99 {p99 * 1000:.1f} ms"
        )
    click.echo(
        f"urgent: {len(urgent)} accepted, {missing} not; p50 {share(urgent, 0.5):.2f} s, "
        f"p95 {share(urgent, 0.95):.2f} s, most {share(urgent, 1):.2f} s"
    )
    return met and not missing and share(urgent, 0.95) <= URGENT_GOAL_S


async def run(shared: Path, rows: int, seconds: float, urgent: int, seed: int) -> bool:
    """The whole of it on a server of its own, noted in `shared`; whether the goals were met."""
    moments = random.Random(seed)
    server = postgres.running(shared)
    try:
        server.create("backlog")
        url = server.url("backlog").replace("+asyncpg", "", 1)
        async with SmtpServer() as sink, open_app(Settings(database_url=url)) as app:
            began = perf_counter()
            await fill(app, rows)
            async with app.store.database.read() as connection:
                version = (await connection.execute(text("SHOW server_version"))).scalar_one()
                pending = await connection.execute(
                    select(func.count()).where(notifications.c.state == "pending")
                )
                click.echo(
                    f"PostgreSQL {version}, {os.cpu_count()} cores, seed {seed}: "
                    f"{pending.scalar_one():,} pending after {perf_counter() - began:.0f} s"
                )
            came = sorted(moments.uniform(0, seconds) for _ in range(urgent))
            async with worker(url, sink.port, shared):
                seen = await watch(app, sink, seconds, came)
            return report(seen, seconds, *await urgent_lateness(app))
    finally:
        postgres.stop(shared)


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, help="How many are pending.")
@click.option("--seconds", default=120.0, help="How long the worker sends.")
@click.option("--urgent", default=100, help="How many urgent invitations come in.")
@click.option("--seed", default=7, help="Of the moments at which they come in.")
def main(rows: int, seconds: float, urgent: int, seed: int) -> None:
    """Runs it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="duewatch-backlog-") as shared:
        met = asyncio.run(run(Path(shared), rows, seconds, urgent, seed))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
