"""What the files of an invoice list cost: small ones a second, and one of 10,000 lines.

    .venv/bin/python -m bench.files [--n 300] [--times 3] [--write docs/performance.md]

Makes the XLSX and the PDF of lists of ten lines, each list another, in this process and then in one
process a core; and both of a list of 10,000 lines in a process of its own, whose peak memory the
system tells (ru_maxrss). The clock of the small ones runs once everything is loaded, that of the
large one from its first byte, with the loading of fonts and libraries. Goals: 600 mails a second
with both files, and a large list within 4 s and 200 MB.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from bench.page import machine, table, told, write_section
from tests.invoices import invoice_list

SMALL, LARGE = 10, 10_000
GOAL_RATE, GOAL_S, GOAL_MB = 600.0, 4.0, 200.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of CPU for each small file, pairs a second, and what the large pair took."""

    xlsx_ms: float
    pdf_ms: float
    pairs_a_core: float
    pairs: float
    large_xlsx_s: float
    large_pdf_s: float
    large_mb: float


def small(count: int, first: int = 0) -> tuple[float, float, float]:
    """(CPU seconds of the workbooks, of the documents, seconds of all) of so many small lists."""
    from workers.render.pdf import invoice_list_pdf
    from workers.render.xlsx import invoice_list_xlsx

    lists = [
        invoice_list(SMALL, first=(first + number) * SMALL + 1, partner=f"杭州云帆 {number}")
        for number in range(count)
    ]
    invoice_list_pdf(lists[0], "zh-CN"), invoice_list_xlsx(lists[0], "zh-CN")
    began, cpu = time.perf_counter(), time.process_time()
    for one in lists:
        invoice_list_xlsx(one, "zh-CN")
    between = time.process_time()
    for one in lists:
        invoice_list_pdf(one, "zh-CN")
    return between - cpu, time.process_time() - between, time.perf_counter() - began


def large() -> tuple[float, float, float]:
    """(seconds of the workbook, of the document, peak MB) of a large list, in a fresh process."""
    began = time.perf_counter()
    from workers.render.pdf import invoice_list_pdf
    from workers.render.xlsx import invoice_list_xlsx

    one = invoice_list(LARGE)
    invoice_list_xlsx(one, "zh-CN")
    between = time.perf_counter()
    invoice_list_pdf(one, "zh-CN")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return between - began, time.perf_counter() - between, peak


def measure(count: int) -> Cost:
    """One run."""
    cores = os.cpu_count() or 1
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1) as pool:
        large_xlsx, large_pdf, peak = pool.apply(large)
    with fresh.Pool(cores) as pool:
        xlsx, pdf, took = pool.apply(small, (count,))
        asked = [(count, number * count) for number in range(cores)]
        together = [one[2] for one in pool.starmap(small, asked, chunksize=1)]
    pairs = sum(count / one for one in together)
    return Cost(
        xlsx / count * 1000, pdf / count * 1000, count / took, pairs, large_xlsx, large_pdf, peak
    )


def tell(path: Path, found: Cost, count: int, times: int) -> None:
    """Writes the section of a run's figures."""
    cores = os.cpu_count()
    seconds = found.large_xlsx_s + found.large_pdf_s
    rows = [
        (f"XLSX of {SMALL} lines", f"{found.xlsx_ms:.2f} ms of CPU", "", ""),
        (f"PDF of {SMALL} lines", f"{found.pdf_ms:.2f} ms of CPU", "", ""),
        ("both, one core", f"{found.pairs_a_core:,.0f} a second", "", ""),
        (
            f"both, {cores} cores",
            f"{found.pairs:,.0f} a second",
            f"{GOAL_RATE:,.0f}",
            told(found.pairs >= GOAL_RATE),
        ),
        (
            f"both of {LARGE:,} lines",
            f"{seconds:.1f} s (XLSX {found.large_xlsx_s:.1f}, PDF {found.large_pdf_s:.1f})",
            f"{GOAL_S:.0f} s",
            told(seconds <= GOAL_S),
        ),
        (
            "its peak memory",
            f"{found.large_mb:.0f} MB",
            f"{GOAL_MB:.0f} MB",
            told(found.large_mb <= GOAL_MB),
        ),
    ]
    text = (
        f"`bench/files.py`: the making of the invoice list's files, {count} lists, the median of "
        f"{times}; {machine()}. The large list is made in a process of its own, loading included."
    )
    write_section(path, "Files", text, table(("what", "takes", "goal", ""), rows))


@click.command(help=__doc__)
@click.option("--n", "count", default=300, show_default=True)
@click.option("--times", default=3, show_default=True, help="Runs; the median of each is told.")
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
def main(count: int, times: int, write: Path | None) -> None:
    """Measures everything."""
    runs = [asdict(measure(count)) for _ in range(times)]
    middle = Cost(**{name: _middle([one[name] for one in runs]) for name in runs[0]})
    click.echo(json.dumps(asdict(middle)))
    if write is not None:
        tell(write, middle, count, times)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    sys.exit(main())
