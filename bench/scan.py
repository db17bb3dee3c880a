"""What a scan costs: 10,000 due records among ever more that aren't, and planning by itself.

    .venv/bin/python -m bench.scan [--records 10000000] [--due 10000] [--only sqlite,postgresql]
        [--times 3] [--write docs/performance.md] [--plot docs/images/scan.svg]

For 10,000, 100,000 … up to `--records` records of one rule a database is filled by SQL with copies
of one real statement; every n-th is due, so that the due ones lie far apart, and all belong to
2,000 partners with a person each. The rule's scan then runs as the clock has it run, several times,
what it wrote being taken back in between. Told are its seconds (the median), the CPU seconds of
this process, and how many occurrences a second that is; and the planner alone, over records that
were read before.

Goals: among ten million at most 1.2 times what it costs among 100,000; 10,000 occurrences a second.
Ten million want about 8 GB of disk, for as long as it runs.
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

import click
import structlog
from sqlalchemy import Table, text

from bench.intake import base_url
from bench.page import machine, table, told, write_section
from tests.product import contact, partner, statement
from workers.app import App, open_app
from workers.daemon import event_loop
from workers.records import plan_all
from workers.settings import Settings
from workers.store.tables import records

KIND, PARTNERS, AT_A_TIME = "statement", 2000, 500_000
SMALL, GOAL_RATIO, GOAL_RATE = 100_000, 1.2, 10_000
LATER = timedelta(days=9)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one scan took: by the clock, of our CPU, and the planner alone; seconds."""

    base: str
    records: int
    due: int
    planned: int
    seconds: float
    cpu_s: float
    planning_s: float


async def fill(app: App, count: int, due: int) -> None:
    """One statement that is due, and copies of it of which every n-th is."""
    now = datetime.now(UTC)
    one = statement(
        "S0",
        partner="P0",
        generated_at=now - timedelta(days=20),
        confirm_by=(now + timedelta(days=2)).date(),
    )
    people = [
        thing
        for number in range(PARTNERS)
        for thing in (partner(f"P{number}"), contact(f"C{number}", partner=f"P{number}"))
    ]
    for first in range(0, len(people), 500):
        await app.intake.take(people[first : first + 500])
    await app.scan.run(KIND)  # what it is planned by is known from here on
    await app.intake.take([one])
    sql = copied(app, records, count // due)
    for first in range(1, count + 1, AT_A_TIME):
        values = {
            "first": first,
            "last": min(first + AT_A_TIME - 1, count),
            "soon": shown(app, now - timedelta(minutes=1)),
            "later": shown(app, now + LATER),
        }
        async with app.store.database.write() as connection:
            await connection.execute(text(sql), values)
    async with app.store.database.write() as connection:
        await connection.execute(text("DELETE FROM records WHERE ref = 'S0'"))
        await connection.execute(text("ANALYZE"))


def shown(app: App, moment: datetime) -> datetime | str:
    """An instant as a statement of our own writes it."""
    if app.store.database.dialect != "sqlite":
        return moment
    return f"{moment.isoformat(timespec='microseconds')[:26]}Z"


def copied(app: App, table: Table, every: int) -> str:
    """The statement that copies a table's first row to n = first…last; every n-th is due."""
    lite = app.store.database.dialect == "sqlite"
    ref = """replace(CAST(data AS text), '"S0"', '"S' || n || '"')"""
    soon, later = (
        f":{name}" if lite else f"CAST(:{name} AS timestamptz)" for name in ("soon", "later")
    )
    when = f"CASE WHEN n % {every} = 0 THEN {soon} ELSE {later} END"
    changed = {
        "id": "id + n",
        "ref": "'S' || n",
        "hash": "'copy ' || n",
        "partner": f"'P' || ((n / {every}) % {PARTNERS})",
        "data": ref if lite else f"CAST({ref} AS jsonb)",
        "next_due_at": when,
    }
    names = [column.name for column in table.columns]
    quoted = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(changed.get(name, f'"{name}"') for name in names)
    series = (
        "(WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n < :last) "
        "SELECT n FROM s)"
        if lite
        else "(SELECT generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n)"
    )
    return (
        f"INSERT INTO {table.name} ({quoted}) SELECT {values} "
        f"FROM (SELECT * FROM {table.name} ORDER BY id LIMIT 1) one, {series} numbers"
    )


async def take_back(app: App, due_ids: Sequence[int]) -> None:
    """Has what was planned be due again."""
    soon = shown(app, datetime.now(UTC) - timedelta(minutes=1))
    async with app.store.database.write() as connection:
        for name in ("occurrences", "notifications"):
            await connection.execute(text(f"DELETE FROM {name}"))
        await connection.execute(
            text("UPDATE records SET next_due_at = :soon WHERE id = :id"),
            [{"soon": soon, "id": one} for one in due_ids],
        )


async def planning(app: App) -> tuple[list[int], float]:
    """(the ids of what is due, seconds of CPU that planning it takes once it was read)."""
    now = app.clock()
    around = app.registry.around(KIND)
    refs = [ref for ref, _ in await app.store.records.due_partners(KIND, now)]
    async with app.store.database.read() as connection:
        rows = await app.store.records.due(connection, KIND, refs, now)
        watched, broken = await app.records.revive(connection, rows, with_lines=False)
    assert not broken
    taken = []
    for _ in range(3):
        began = time.process_time()
        plan_all(watched, now, around)
        taken.append(time.process_time() - began)
    return [row.id for row in rows], sorted(taken)[1]


async def measure(base: str, count: int, due: int, times: int) -> Cost:
    """One size on one database."""
    with (
        tempfile.TemporaryDirectory(prefix="duewatch-scan-") as name,
        base_url(base, Path(name)) as url,
    ):
        async with open_app(Settings(database_url=url)) as app:
            await fill(app, count, due)
            ids, planned_in = await planning(app)
            runs = []
            for _ in range(times):
                began, cpu = time.perf_counter(), time.process_time()
                tally = await app.scan.run(KIND)
                runs.append((time.perf_counter() - began, time.process_time() - cpu))
                assert tally is not None
                assert tally.looked_at == len(ids), (tally.looked_at, len(ids))
                messages = tally.planned
                await take_back(app, ids)
    took, cpu = sorted(runs)[times // 2]
    return Cost(base, count, len(ids), messages, took, cpu, planned_in)


def plot(found: Sequence[Cost], path: Path) -> None:
    """Draws the seconds of a scan against the size of the table, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "scan", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for base, look in (("sqlite", "o-"), ("postgresql", "s--")):
            mine = sorted((one.records, one.seconds) for one in found if one.base == base)
            if mine:
                axes.plot(*zip(*mine, strict=True), look, label=NAMES[base])
        axes.set_xscale("log")
        axes.set_ylim(0, 1.1 * max(one.seconds for one in found))
        axes.set_xlabel("records watched")
        axes.set_ylabel(f"seconds of a scan, {found[0].due:,} due")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def tell(path: Path, found: Sequence[Cost], times: int, image: str) -> None:
    """Writes the section of a run's figures."""
    rows, small = [], {one.base: one.seconds for one in found if one.records == SMALL}
    for one in found:
        rows.append(
            (
                NAMES[one.base],
                f"{one.records:,}",
                f"{one.seconds:.2f}",
                f"{one.seconds / small[one.base]:.2f}" if one.base in small else "",
                f"{one.cpu_s:.2f}",
                f"{one.due / one.seconds:,.0f}",
                f"{one.due / one.planning_s:,.0f}",
            )
        )
    large = [one for one in found if one.records > SMALL and one.base in small]
    steady = all(one.seconds <= GOAL_RATIO * small[one.base] for one in large)
    scans = all(one.due / one.seconds >= GOAL_RATE for one in found)
    plans = all(one.due / one.planning_s >= GOAL_RATE for one in found)
    text_ = (
        f"`bench/scan.py`: one rule's scan with {found[0].due:,} due records of {PARTNERS:,} "
        f"partners, each of whom is told in one mail, the median of {times}; {machine()}. A scan "
        "reads what is due, plans it and writes notifications, their lines and when each record is "
        "looked at next; planning is the planner alone, over records that were read before. CPU is "
        "that of the scanning process."
    )
    goals = (
        f"At most {GOAL_RATIO} times the cost among {SMALL:,}, measured up to "
        f"{max(one.records for one in found):,}: {told(steady) if large else '—'}. "
        f"{GOAL_RATE:,} occurrences a second: whole scans {told(scans)}, planning {told(plans)}."
    )
    head = ("on", "records", "s", f"× {SMALL:,}", "CPU s", "scanned/s", "planned/s")
    parts = [text_, table(head, rows), goals]
    if image:
        parts.append(f"![Seconds of a scan against the number of records]({image})")
    write_section(path, "The scan", *parts)


@click.command(help=__doc__)
@click.option("--records", "count", default=10_000_000, show_default=True)
@click.option("--due", default=10_000, show_default=True)
@click.option("--only", default="sqlite,postgresql", show_default=True)
@click.option("--times", default=3, show_default=True)
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
@click.option("--plot", "image", type=click.Path(path_type=Path), help="An SVG beside the page.")
def main(
    count: int, due: int, only: str, times: int, write: Path | None, image: Path | None
) -> None:
    """Measures each size on each database."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found: list[Cost] = []
    for base in only.split(","):
        size = due
        while size <= count:
            with asyncio.Runner(loop_factory=event_loop) as runner:
                found.append(runner.run(measure(base, size, due, times)))
            click.echo(json.dumps(asdict(found[-1])))
            size *= 10
    if image is not None:
        plot(found, image)
    if write is not None:
        name = image.resolve().relative_to(write.resolve().parent).as_posix() if image else ""
        tell(write, found, times, name)


if __name__ == "__main__":
    main()
