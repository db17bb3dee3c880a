"""How it is where little happens: a command's help, the daemon's start and rest, one message's way.

    .venv/bin/python -m bench.idle [--messages 100] [--rest 20]

A JSON line each, with its goal: seconds of `duewatch --help`; seconds until the daemon is ready,
its CPU and memory while it rests; milliseconds from the beginning of `POST /v1/events`, of a
statement that is due at once, to the final dot at an SMTP server (half and 99 of 100 are quicker),
once with the whole daemon on SQLite and once with its three roles on PostgreSQL and Redis.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import click

from bench.send import cpu_s
from tests import postgres
from tests.fakes.smtp_server import SmtpServer
from tests.redis import OwnServer, free_port

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from workers.cli import main; main()")
HEAD = {"Content-Type": "application/cloudevents+json"}
PATIENCE_S = 30.0


def told(name: str, value: float, unit: str, goal: float) -> None:
    """One figure, as a line of JSON."""
    line = {"name": name, "value": round(value, 3), "unit": unit, "goal": goal}
    click.echo(json.dumps(line | {"met": value <= goal}))


def help_takes_s() -> float:
    """Seconds of `duewatch --help`, the middle of nine."""
    taken = []
    for _ in range(9):
        began = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@asynccontextmanager
async def daemon(
    folder: Path, settings: str, roles: Sequence[str], smtp: int
) -> AsyncIterator[tuple[list[int], int, float]]:
    """The roles as processes: (their ids, the web's port, seconds until it was ready)."""
    port = free_port()
    file = folder / "duewatch.toml"
    file.write_text(
        f'{settings}\n[mail]\nproviders = ["smtp"]\nsender = "desk@example.com"\n'
        f'[providers.smtp]\nhost = "127.0.0.1"\nport = {smtp}\ntls = "none"\n'
        f'[web]\nport = {port}\n[logs]\nlevel = "error"\n',
        "utf-8",
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DUEWATCH_")}
    environ = {**kept, "DUEWATCH_FILE": str(file), "PYTHONPATH": str(ROOT)}
    migrating = await _run("migrate", folder, environ)
    await migrating.wait()
    began = time.perf_counter()
    processes = [await _run(role, folder, environ) for role in roles]
    try:
        await _ready(port)
        yield [one.pid for one in processes], port, time.perf_counter() - began
    finally:
        for one in processes:
            one.terminate()
        for one in processes:
            await one.wait()


async def _run(role: str, folder: Path, environ: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*COMMAND, role, cwd=folder, env=environ)


async def _ready(port: int) -> None:
    async with aiohttp.ClientSession() as client, asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with client.get(f"http://127.0.0.1:{port}/readyz") as got:
                    if got.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)


def held_mb(pid: int) -> float:
    """Millions of bytes that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def way_ms(port: int, server: SmtpServer, messages: int) -> list[float]:
    """Milliseconds of each message's way, one after the other."""
    url, taken = f"http://127.0.0.1:{port}/v1/events", []
    async with aiohttp.ClientSession(headers=HEAD) as client:
        await _post(client, url, "partner", "p", {"ref": "P1", "name": "Partner"})
        person = {"partner": "P1", "ref": "C1", "role": "finance", "name": "Wang"}
        person |= {"mail": "c1@example.com", "channels": "mail", "language": "zh-CN"}
        await _post(client, url, "contact", "c", person)
        await asyncio.sleep(2)
        for number in range(messages):
            server.arrived.clear()
            began = time.perf_counter()
            await _post(client, url, "statement", f"s{number}", _statement(number))
            async with asyncio.timeout(PATIENCE_S):
                await server.arrived.wait()
            taken.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.15)
    return sorted(taken)


async def _post(
    client: aiohttp.ClientSession, url: str, kind: str, number: str, data: dict[str, Any]
) -> None:
    event = {
        "specversion": "1.0",
        "id": number,
        "source": "bench",
        "type": f"duewatch.{kind}.upserted.v1",
        "data": data,
    }
    async with client.post(url, data=json.dumps(event)) as got:
        assert got.status == 200, await got.text()


def _statement(number: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "ref": f"S{number}",
        "partner": "P1",
        "statement_kind": "INCENTIVE",
        "generated_at": (now - timedelta(days=20)).isoformat(),
        "confirm_by": (now + timedelta(days=2)).date().isoformat(),
        "amount_incl_tax": "100.00",
    }


def tell_way(what: str, taken: Sequence[float]) -> None:
    """Half of the messages, and 99 of 100, were quicker than this."""
    told(f"due to accepted, half: {what}", taken[len(taken) // 2], "ms", 50)
    told(f"due to accepted, 99 %: {what}", taken[int(len(taken) * 0.99)], "ms", 250)


async def embedded(messages: int, rest_s: float) -> None:
    """The whole daemon in one process on SQLite."""
    with tempfile.TemporaryDirectory() as name:
        url = f'database_url = "sqlite:///{name}/duewatch.db"'
        async with (
            SmtpServer() as server,
            daemon(Path(name), url, ["run"], server.port) as (pids, port, ready_s),
        ):
            told("daemon ready", ready_s, "s", 2)
            await asyncio.sleep(3)
            before = cpu_s(pids)
            await asyncio.sleep(rest_s)
            told("daemon at rest", (cpu_s(pids) - before) / rest_s * 100, "% of a core", 1)
            told("daemon holds", held_mb(pids[0]), "MB", 150)
            tell_way("SQLite, one process", await way_ms(port, server, messages))


async def spread(messages: int) -> None:
    """The three roles on PostgreSQL and Redis."""
    broker = OwnServer()
    broker.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            database = postgres.running(folder, durable=True)
            try:
                database.create("bench")
                url = database.url("bench").replace("+asyncpg", "")
                settings = f'database_url = "{url}"\nbroker_url = "{broker.url}"'
                roles = ["web", "worker", "scheduler"]
                async with (
                    SmtpServer() as server,
                    daemon(folder, settings, roles, server.port) as (_, port, _),
                ):
                    await asyncio.sleep(3)
                    tell_way("PostgreSQL and Redis", await way_ms(port, server, messages))
            finally:
                postgres.stop(folder)
    finally:
        broker.remove()


@click.command()
@click.option("--messages", default=100, show_default=True)
@click.option("--rest", default=20.0, show_default=True, help="Seconds the daemon is left alone.")
def main(messages: int, rest: float) -> None:
    """Measures everything, one after the other."""
    told("duewatch --help", help_takes_s(), "s", 0.25)
    asyncio.run(embedded(messages, rest))
    asyncio.run(spread(messages))


if __name__ == "__main__":
    main()
