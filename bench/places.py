"""How the mails a second of one worker grow with the messages it hands over at a time.

    .venv/bin/python -m bench.places [--n 3000] [--write docs/performance.md]
        [--plot docs/images/places.svg]

The work is that of `bench.send`, with one worker on PostgreSQL and one on SQLite; what is varied is
`delivery.concurrency`, of which 10 is the default: a crash leaves at most so many outcomes unknown.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
import structlog

from bench.page import machine, table, write_section
from bench.send import Speed, ours

PLACES = (2, 5, 10, 25, 50, 100, 200)
BASES = {"postgresql-1": "PostgreSQL", "sqlite": "SQLite"}


def plot(found: dict[str, list[Speed]], path: Path) -> None:
    """Draws mails a second against messages at a time, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "places", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for base, look in zip(BASES, ("s--", "o-"), strict=True):
            rates = [one.per_second for one in found[base]]
            axes.plot(PLACES, rates, look, label=BASES[base])
        axes.set_xscale("log")
        axes.set_xticks(PLACES, [str(one) for one in PLACES])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("messages handed over at a time (delivery.concurrency)")
        axes.set_ylabel("mails a second, one worker")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


@click.command()
@click.option("--n", "count", default=3000, show_default=True)
@click.option("--write", type=click.Path(path_type=Path), help="The page, docs/performance.md.")
@click.option("--plot", "image", type=click.Path(path_type=Path), help="An SVG beside the page.")
def main(count: int, write: Path | None, image: Path | None) -> None:
    """Measures each and prints it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found: dict[str, list[Speed]] = {base: [] for base in BASES}
    for base, places in ((base, places) for base in BASES for places in PLACES):
        speed = asyncio.run(ours(base, count, places))
        found[base].append(speed)
        click.echo(f"{BASES[base]}, {places} at a time: {speed.per_second:,.0f}/s")
    if image is not None:
        plot(found, image)
    if write is not None:
        rows = [
            (str(places), *(f"{found[base][at].per_second:,.0f}" for base in BASES))
            for at, places in enumerate(PLACES)
        ]
        about = (
            f"`bench/places.py`: {count:,} mails by one worker, mails a second; {machine()}. A "
            "crash leaves at most so many outcomes unknown as are handed over at a time: the "
            "default is 10."
        )
        shown = "![Mails a second against messages at a time](images/places.svg)"
        head = ("at a time", *BASES.values())
        write_section(write, "How many at a time", about, table(head, rows), shown)


if __name__ == "__main__":
    main()
