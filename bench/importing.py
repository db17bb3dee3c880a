"""What `duewatch import` of a large CSV takes: seconds and memory, on SQLite and PostgreSQL.

    .venv/bin/python -m bench.importing [--rows 1000000] [--only sqlite,postgresql] [--times 1]
        [--write docs/performance.md]

The file holds statements of 10,000 partners with Chinese headings, as exports have them. The
command is a process as it is shipped, its peak memory what the system counted of it (ru_maxrss);
the database server's isn't in it. Goals: a million rows within 3 minutes, and 300 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from bench.intake import base_url
from bench.page import machine, table, told, write_section

ROOT = Path(__file__).parents[1]
GOAL_S, GOAL_MB = 180.0, 300.0
PARTNERS = 10_000
HEADINGS = "账单ID,伙伴ID,对账单类型,账期,生成时间,确认截止日,含税金额,币种"


@dataclass(frozen=True, slots=True)
class Import:
    """What one import took: seconds by the clock and of CPU, and at most so many MB."""

    base: str
    rows: int
    seconds: float
    cpu_s: float
    peak_mb: float


def write_csv(path: Path, rows: int) -> None:
    """The file."""
    today = datetime.now(UTC).date()
    kinds = ("激励", "活动", "云商店")
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{HEADINGS}\n")
        for number in range(rows):
            made = today - timedelta(days=number % 20)
            file.write(
                f"S{number:07},P{number % PARTNERS:05},{kinds[number % 3]},2026-10,"
                f"{made} 10:{number % 60:02},{made + timedelta(days=30)},{number}.50,CNY\n"
            )


def take(base: str, url: str, folder: Path, path: Path, rows: int) -> Import:
    """Runs the command on an empty database and looks at what it used."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DUEWATCH_", "DATABASE_"))}
    environ = kept | {"PYTHONPATH": str(ROOT), "DUEWATCH_DATABASE_URL": url}
    command = [sys.executable, "-c", "from workers.cli import main; main()"]
    subprocess.run([*command, "migrate"], cwd=folder, env=environ, check=True, capture_output=True)
    measured = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(done.returncode, used.ru_maxrss, used.ru_utime + used.ru_stime, done.stderr[-500:])"
    )
    began = time.perf_counter()
    got = subprocess.run(
        [sys.executable, "-c", measured, *command, "import", "--json", str(path)],
        cwd=folder, env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    took = time.perf_counter() - began
    code, peak, cpu, *said = got.stdout.split(maxsplit=3)
    assert code == "0", said
    return Import(base, rows, took, float(cpu), int(peak) / 1024)


def tell(path: Path, found: Sequence[Import], times: int) -> None:
    """Writes the section of a run's figures."""
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    rows = [
        (
            names[one.base],
            f"{one.seconds:,.0f}",
            f"{one.rows / one.seconds:,.0f}",
            f"{one.cpu_s:,.0f}",
            f"{one.peak_mb:,.0f}",
            told(one.seconds <= GOAL_S * one.rows / 1e6 and one.peak_mb <= GOAL_MB),
        )
        for one in found
    ]
    text = (
        f"`bench/importing.py`: `duewatch import` of a CSV with {found[0].rows:,} new statements "
        f"of {PARTNERS:,} partners, the median of {times}; {machine()}. The goal is a million rows "
        f"within {GOAL_S:.0f} s and {GOAL_MB:.0f} MB. CPU and memory are the command's, without "
        "the database server's."
    )
    head = ("into", "seconds", "rows/s", "CPU s", "peak MB", "")
    write_section(path, "Import of a large file", text, table(head, rows))


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--only", default="sqlite,postgresql", show_default=True)
@click.option("--times", default=1, show_default=True, help="Runs of each; the median is told.")
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
def main(rows: int, only: str, times: int, write: Path | None) -> None:
    """Measures each."""
    found = []
    with tempfile.TemporaryDirectory(prefix="duewatch-import-") as name:
        path = Path(name) / "statements.csv"
        write_csv(path, rows)
        for base in only.split(","):
            runs = []
            for number in range(times):
                folder = Path(name) / f"{base}-{number}"
                folder.mkdir()
                with base_url(base, folder) as url:
                    runs.append(take(base, url, folder, path, rows))
            found.append(sorted(runs, key=lambda one: one.seconds)[times // 2])
            click.echo(json.dumps(asdict(found[-1])))
    if write is not None:
        tell(write, found, times)


if __name__ == "__main__":
    main()
