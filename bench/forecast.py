"""What a forecast costs, and whether the web answers others meanwhile.

    .venv/bin/python -m bench.forecast [--records 100000] [--days 30] [--times 3]
        [--write docs/performance.md]

So many statements stand open, of 2,000 partners with a person each, at all points of their ladder.
The forecast of all rules is reckoned as the command does it, then asked of the daemon's web role
(`GET /v1/forecast`) while `GET /healthz` is asked every 20 ms. Goals: 10 s, and no answer later
than 250 ms.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import click
import structlog

from bench.idle import daemon
from bench.intake import NOWHERE, base_url
from bench.page import machine, table, told, write_section
from tests.product import contact, partner, statement
from workers.app import App, open_app
from workers.daemon import event_loop
from workers.outlook import foretell
from workers.settings import Settings

PARTNERS, AT_A_TIME, AGES = 2000, 500, 20
GOAL_S, GOAL_MS, EVERY_S = 10.0, 250.0, 0.02


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took: seconds by the clock and of CPU; the latest answer meanwhile, milliseconds."""

    base: str
    records: int
    messages: int
    seconds: float
    cpu_s: float
    web_s: float
    latest_ms: float


async def fill(app: App, count: int) -> None:
    """Statements that came day by day."""
    now = datetime.now(UTC)
    things = [
        thing
        for number in range(PARTNERS)
        for thing in (partner(f"P{number}"), contact(f"C{number}", partner=f"P{number}"))
    ]
    things += [
        statement(
            f"S{number}",
            partner=f"P{number % PARTNERS}",
            generated_at=now - timedelta(days=number % AGES),
            confirm_by=(now + timedelta(days=30 - number % AGES)).date(),
        )
        for number in range(count)
    ]
    for first in range(0, len(things), AT_A_TIME):
        await app.intake.take(things[first : first + AT_A_TIME])
    await app.scan.run("statement")


async def answers_meanwhile(port: int, days: int) -> tuple[float, float]:
    """(seconds of the forecast over HTTP, milliseconds of the slowest other answer meanwhile)."""
    url = f"http://127.0.0.1:{port}"
    taken: list[float] = []
    async with aiohttp.ClientSession() as client:

        async def forecast() -> float:
            began = time.perf_counter()
            async with client.get(f"{url}/v1/forecast?days={days}") as got:
                assert got.status == 200, (await got.text())[:500]
                await got.read()
            return time.perf_counter() - began

        asked = asyncio.create_task(forecast())
        while not asked.done():
            await asyncio.sleep(EVERY_S)
            began = time.perf_counter()
            async with client.get(f"{url}/healthz") as got:
                await got.read()
            taken.append((time.perf_counter() - began) * 1000)
        return await asked, max(taken)


async def measure(base: str, count: int, days: int, times: int) -> Cost:
    """One database."""
    with tempfile.TemporaryDirectory(prefix="duewatch-forecast-") as name:
        folder = Path(name)
        with base_url(base, folder) as url:
            async with open_app(Settings(database_url=url)) as app:
                await fill(app, count)
                runs = []
                for _ in range(times):
                    began, cpu = time.perf_counter(), time.process_time()
                    found = await foretell(app.store, app.registry, app.clock(), days)
                    runs.append((time.perf_counter() - began, time.process_time() - cpu))
            settings = f'database_url = "{url}"'
            async with daemon(folder, settings, ["web"], NOWHERE) as (_, port, _):
                web_s, latest = await answers_meanwhile(port, days)
    took, cpu = sorted(runs)[times // 2]
    return Cost(base, count, len(found), took, cpu, web_s, latest)


def tell(path: Path, found: Sequence[Cost], days: int, times: int) -> None:
    """Writes the section of a run's figures."""
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    rows = [
        (
            names[one.base],
            f"{one.messages:,}",
            f"{one.seconds:.1f}",
            f"{one.cpu_s:.1f}",
            told(one.seconds <= GOAL_S),
            f"{one.latest_ms:.0f}",
            told(one.latest_ms <= GOAL_MS),
        )
        for one in found
    ]
    text = (
        f"`bench/forecast.py`: {days} days over {found[0].records:,} open statements, the median "
        f"of {times}; {machine()}. The goal is {GOAL_S:.0f} s. While the web role reckons it for "
        f"one, others wait for `GET /healthz` at most {GOAL_MS:.0f} ms."
    )
    head = ("on", "messages foretold", "s", "CPU s", "", "slowest other answer, ms", "")
    write_section(path, "The forecast", text, table(head, rows))


@click.command(help=__doc__)
@click.option("--records", "count", default=100_000, show_default=True)
@click.option("--days", default=30, show_default=True)
@click.option("--only", default="sqlite,postgresql", show_default=True)
@click.option("--times", default=3, show_default=True)
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
def main(count: int, days: int, only: str, times: int, write: Path | None) -> None:
    """Measures each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = []
    for base in only.split(","):
        with asyncio.Runner(loop_factory=event_loop) as runner:
            found.append(runner.run(measure(base, count, days, times)))
        click.echo(json.dumps(asdict(found[-1])))
    if write is not None:
        tell(write, found, days, times)


if __name__ == "__main__":
    main()
