"""How many events a second are taken in, by HTTP in batches, by RabbitMQ and by Redis.

    .venv/bin/python -m bench.intake [--n 20000] [--only http-sqlite,rabbitmq-postgresql,…]
        [--batch 500] [--clients 2] [--times 3] [--write docs/performance.md]

The events are of real types and none is due at once: statements (`duewatch.statement.upserted.v1`),
and payments with a list of three lines (`duewatch.payment.opened.v1`). The daemon is a process as
it is shipped: its web role answers HTTP, its worker takes from the brokers. Over HTTP this process
posts what it wrote before, and the clock runs from the first post to the last answer; in the queues
all events lie before the worker starts, and it runs from a tenth taken to nine tenths. The scans
that events ask for go on meanwhile, in the same process.

A JSON line each: events a second, and CPU seconds of the daemon for 1,000 events.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import click
from sqlalchemy import func, select

from bench.idle import daemon
from bench.page import machine, table, told, write_section
from bench.send import cpu_s
from tests import postgres, rabbitmq
from tests.redis import OwnServer
from workers.daemon import event_loop
from workers.store.engine import Database
from workers.store.tables import events
from workers.tasks import Bell

DOORS, BASES = ("http", "rabbitmq", "redis"), ("sqlite", "postgresql")
CELLS = tuple(f"{door}-{base}" for door in DOORS for base in BASES)
KINDS = ("statement", "payment")
GOALS = {"http": 5000, "rabbitmq": 2000, "redis": 2000}
REFS = {"statement": "S", "payment": "F"}
PARTNERS = 200
HEAD = {"Content-Type": "application/cloudevents-batch+json"}
NOWHERE = 9
"""A port that nobody listens on: nothing is due, so nothing is sent."""
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one door did with one kind of events."""

    cell: str
    kind: str
    events: int
    per_second: float
    cpu_s_per_1000: float


def event(type_: str, number: str, data: dict[str, Any]) -> dict[str, Any]:
    """One CloudEvent of ours."""
    return {
        "specversion": "1.0",
        "id": number,
        "source": "/bench",
        "type": f"duewatch.{type_}.v1",
        "time": datetime.now(UTC).isoformat(),
        "data": data,
    }


def people() -> Iterator[dict[str, Any]]:
    """The partners and a person at each."""
    for number in range(PARTNERS):
        ref = f"P{number}"
        yield event("partner.upserted", ref, {"ref": ref, "name": f"伙伴 {number} 有限公司"})
        person = {"partner": ref, "ref": f"C{number}", "role": "finance", "name": f"王小{number}"}
        person |= {"mail": f"c{number}@example.com", "channels": "mail"}
        yield event("contact.upserted", f"C{number}", person)


def made(kind: str, number: int) -> dict[str, Any]:
    """A statement, or a payment with three lines, that came into being just now."""
    now = datetime.now(UTC)
    ref, partner = f"{REFS[kind]}{number}", f"P{number % PARTNERS}"
    if kind == "statement":
        data: dict[str, Any] = {
            "ref": ref,
            "partner": partner,
            "statement_kind": "INCENTIVE",
            "period": "2026-10",
            "generated_at": now.isoformat(),
            "confirm_by": (now + timedelta(days=20)).date().isoformat(),
            "amount_incl_tax": "1060.00",
        }
        return event("statement.upserted", ref, data)
    lines = [
        {"item_name": f"云服务 {n}", "tax_rate": "6%", "amount_incl_tax": f"{n}06.00"}
        for n in (1, 2, 3)
    ]
    data = {
        "ref": ref,
        "partner": partner,
        "programme": "FH",
        "status": "付款申请审核通过",
        "approved_at": now.isoformat(),
        "amount_incl_tax": "618.00",
        "buyer_title": "示例云计算有限公司",
        "buyer_tax_no": "91520900MA6J6CBN9Q",
        "lines": lines,
    }
    return event("payment.opened", ref, data)


@contextmanager
def base_url(base: str, folder: Path) -> Iterator[str]:
    """An empty database."""
    if base == "sqlite":
        yield f"sqlite:///{folder}/duewatch.db"
        return
    server = postgres.running(folder, durable=True)
    try:
        server.create("bench")
        yield server.url("bench").replace("+asyncpg", "", 1)
    finally:
        postgres.stop(folder)


def bodies(made_events: Sequence[Any], size: int) -> list[bytes]:
    """Batches as they are posted."""
    parts = (made_events[first : first + size] for first in range(0, len(made_events), size))
    return [json.dumps(part, ensure_ascii=False).encode() for part in parts]


async def post_all(port: int, waiting: list[bytes], clients: int) -> None:
    """Posts batches over so many connections until none is left."""
    url = f"http://127.0.0.1:{port}/v1/events"

    async def client() -> None:
        async with aiohttp.ClientSession(headers=HEAD) as session:
            while waiting:
                async with session.post(url, data=waiting.pop()) as got:
                    assert got.status == 200, (await got.text())[:2000]

    await asyncio.gather(*(client() for _ in range(clients)))


async def by_http(cell: str, folder: Path, base: str, count: int, size: int, clients: int) -> Any:
    """Both kinds, one after the other."""
    with base_url(base, folder) as url:
        settings = f'database_url = "{url}"'
        async with daemon(folder, settings, ["web"], NOWHERE) as (pids, port, _):
            await post_all(port, bodies([*people()], size), 1)
            found = []
            for kind in KINDS:
                waiting = bodies([made(kind, number) for number in range(count)], size)
                await asyncio.sleep(2)
                cpu, began = cpu_s(pids), time.perf_counter()
                await post_all(port, waiting, clients)
                took = time.perf_counter() - began
                used = (cpu_s(pids) - cpu) / count * 1000
                found.append(Rate(cell, kind, count, count / took, used))
            return found


@asynccontextmanager
async def broker(door: str) -> AsyncIterator[str]:
    """A broker of our own."""
    server = rabbitmq.OwnServer() if door == "rabbitmq" else OwnServer()
    await asyncio.to_thread(server.start)
    try:
        yield server.url
    finally:
        server.remove()


def fill(bell: Bell, kind: str, count: int) -> None:
    """Puts so many events into the queue."""
    for number in range(count):
        bell.send_event(made(kind, number))


async def by_queue(cell: str, folder: Path, base: str, count: int) -> Any:
    """Both kinds, each from a full queue."""
    found = []
    async with broker(cell.partition("-")[0]) as broker_url:
        for kind in KINDS:
            here = folder / kind
            here.mkdir()
            with base_url(base, here) as url:
                bell = Bell(broker_url)
                settings = f'database_url = "{url}"\nbroker_url = "{broker_url}"'
                async with daemon(here, settings, ["web"], NOWHERE) as (_, port, _):
                    await post_all(port, bodies([*people()], 500), 1)
                await asyncio.to_thread(fill, bell, kind, count)
                bell.close()
                async with daemon(here, settings, ["web", "worker"], NOWHERE) as (pids, _, _):
                    found.append(await watched(cell, kind, url, pids, count))
    return found


async def watched(cell: str, kind: str, url: str, pids: list[int], count: int) -> Rate:
    """The rate at which events are taken, from a tenth to nine tenths."""
    database = Database.connected(url)
    ours = select(func.count()).select_from(events).where(events.c.type.contains(f".{kind}."))
    marks: list[tuple[float, int, float]] = []
    end = time.perf_counter() + PATIENCE_S
    try:
        while time.perf_counter() < end:
            async with database.read() as connection:
                number = (await connection.execute(ours)).scalar_one()
            if number >= count // 10:
                marks.append((time.perf_counter(), number, cpu_s(pids)))
            if number >= count * 9 // 10:
                break
            await asyncio.sleep(0.1)
    finally:
        await database.close()
    (began, first, cpu), (ended, last, cpu_then) = marks[0], marks[-1]
    many = max(last - first, 1)
    return Rate(cell, kind, count, many / (ended - began), (cpu_then - cpu) / many * 1000)


async def measure(cell: str, count: int, size: int, clients: int) -> list[Rate]:
    """One door on one database."""
    door, _, base = cell.partition("-")
    with tempfile.TemporaryDirectory(prefix="duewatch-intake-") as name:
        if door == "http":
            found = await by_http(cell, Path(name), base, count, size, clients)
        else:
            found = await by_queue(cell, Path(name), base, count)
    return list(found)


NAMES = {"http": "HTTP", "rabbitmq": "RabbitMQ", "redis": "Redis"}
NAMES |= {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
NAMES |= {"statement": "statements", "payment": "payments with 3 lines"}


def tell(path: Path, found: Sequence[Rate], times: int, size: int, clients: int) -> None:
    """Writes the section of a run's figures."""
    rows = []
    for one in found:
        door, _, base = one.cell.partition("-")
        rows.append(
            (
                f"{NAMES[door]}, {NAMES[base]}: {NAMES[one.kind]}",
                f"{one.per_second:,.0f}",
                f"{one.cpu_s_per_1000:.2f}",
                f"{GOALS[door]:,}",
                told(one.per_second >= GOALS[door]),
            )
        )
    text = (
        f"`bench/intake.py`: {found[0].events:,} events each, the median of {times}; {machine()}. "
        f"HTTP in batches of {size} over {clients} connections, one process each; the queues were "
        "full before the worker started. No event is due at once; the scans that they ask for go "
        "on meanwhile in the same process. CPU is the daemon's alone, without the database's."
    )
    head = ("door", "events/s", "CPU s for 1,000", "goal", "")
    write_section(path, "Events a second", text, table(head, rows))


@click.command(help=__doc__)
@click.option("--n", "count", default=20_000, show_default=True)
@click.option("--only", default=",".join(CELLS), show_default=True)
@click.option("--batch", default=500, show_default=True, help="Events in one request.")
@click.option("--clients", default=2, show_default=True, help="Requests at a time.")
@click.option("--times", default=1, show_default=True, help="Runs of each; the median is told.")
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
def main(count: int, only: str, batch: int, clients: int, times: int, write: Path | None) -> None:
    """Measures each."""
    found: list[Rate] = []
    for cell in only.split(","):
        runs: list[list[Rate]] = []
        for _ in range(times):
            with asyncio.Runner(loop_factory=event_loop) as runner:
                runs.append(runner.run(measure(cell, count, batch, clients)))
        for same in zip(*runs, strict=True):
            middle = sorted(same, key=lambda one: one.per_second)[times // 2]
            click.echo(json.dumps(asdict(middle)))
            found.append(middle)
    if write is not None:
        tell(write, found, times, batch, clients)


if __name__ == "__main__":
    main()
