"""Where a worker's time goes while it sends: a flame graph of its main thread, as SVG.

    .venv/bin/python -m bench.flame [--n 5000] [--to docs/images/flame.svg]

The work is that of `bench.send` on PostgreSQL with one worker. The system interrupts the worker
every two milliseconds of its own CPU time (ITIMER_PROF), and it counts what it is doing then. A
box is a function, as wide as its share of the time, upon the one that called it; what took less
than one part in 500 is left out. Point at a box, and it tells its name and share.
"""

from __future__ import annotations

import asyncio
import html
import logging
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import click
import structlog

from bench.send import ours

EVERY_S = 0.002
LEAST = 1 / 500
WIDE, HIGH = 1200, 17
"""Of the picture and of one box, in pixels."""
SKIPPED = ("_serve", "run_daemon", "runners.py", "click/", "importlib", "<string>")
COLOURS = {"schedules": "#7aa874", "workers/render": "#d9a441", "workers": "#d97e4a"}
"""Of what is ours, by the beginning of its path; anything else is grey."""

_counted: Counter[tuple[str, ...]] = Counter()


def sample(path: str) -> None:
    """Begins to count, in this process; what was counted goes to `path` when it ends."""
    import atexit

    def note(_signal: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{_place(code.co_filename)}:{code.co_name}")
            frame = frame.f_back
        _counted[tuple(reversed(stack))] += 1

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = (f"{';'.join(stack)} {count}\n" for stack, count in _counted.items())
        Path(path).write_text("".join(lines), "utf-8")

    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    atexit.register(write)


def _place(file: str) -> str:
    """A path without what is this machine's."""
    for mark in ("site-packages/", "/lib/python3", "/workers/", "/schedules/"):
        if mark in file:
            at = file.rindex(mark)
            return file[at + 1 :] if mark.startswith("/") else file[at + len(mark) :]
    return Path(file).name


def read(path: Path) -> Counter[tuple[str, ...]]:
    """The counted stacks, from where deliveries begin."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in path.read_text("utf-8").splitlines():
        text, _, count = line.rpartition(" ")
        stack = [one for one in text.split(";") if not any(part in one for part in SKIPPED)]
        inside = [at for at, one in enumerate(stack) if one.startswith("workers/")]
        if inside and "cli/" not in stack[inside[-1]]:
            first = next(at for at in inside if "cli/" not in stack[at])
            if stack[first].endswith(":<module>"):
                continue  # loading, at the start
            found[tuple(stack[first:])] += int(count)
    return found


def draw(stacks: Counter[tuple[str, ...]]) -> str:
    """The picture: the callers at the bottom, in the order of the alphabet."""
    total = sum(stacks.values())
    boxes: list[Callable[[int], str]] = []
    deepest = 0

    def level(mine: list[tuple[tuple[str, ...], int]], depth: int, left: float) -> None:
        nonlocal deepest
        groups: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for stack, count in mine:
            if len(stack) > depth:
                groups.setdefault(stack[depth], []).append((stack, count))
        for name, theirs in sorted(groups.items()):
            share = sum(count for _, count in theirs) / total
            if share >= LEAST:
                deepest = max(deepest, depth)
                boxes.append(partial(_box, name, share, depth, left))
                level(theirs, depth + 1, left)
            left += share

    level(list(stacks.items()), 0, 0.0)
    height = (deepest + 1) * HIGH + 24
    drawn = "".join(box(height) for box in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>Where a worker\'s time goes while it '
        f'sends</title><rect width="100%" height="100%" fill="#fff"/>{drawn}</svg>\n'
    )


def _box(name: str, share: float, depth: int, left: float, height: int) -> str:
    x, y, width = left * WIDE, height - (depth + 1) * HIGH, share * WIDE
    colour = next((its for start, its in COLOURS.items() if name.startswith(start)), "#c3c7cc")
    short = name.rpartition(":")[2]
    label = short if len(short) * 6.5 < width else ""
    said = html.escape(f"{name} {share:.1%}")
    return (
        f'<g transform="translate({x:.1f} {y})"><title>{said}</title>'
        f'<rect width="{max(width - 0.5, 0.5):.1f}" height="{HIGH - 1}" fill="{colour}"/>'
        f'<text x="3" y="12">{html.escape(label)}</text></g>'
    )


@click.command()
@click.option("--n", "count", default=5000, show_default=True)
@click.option("--to", default="docs/images/flame.svg", type=click.Path(path_type=Path))
def main(count: int, to: Path) -> None:
    """Measures, draws, and prints what takes the most by itself."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stacks"
        entry = (
            f"from bench.flame import sample; sample({str(path)!r}); "
            "from workers.cli import main; main()"
        )
        asyncio.run(ours("postgresql-1", count, entry=entry))
        stacks = read(path)
    to.write_text(draw(stacks), "utf-8")
    own: Counter[str] = Counter()
    for stack, number in stacks.items():
        own[stack[-1]] += number
    for name, number in own.most_common(15):
        click.echo(f"{number / sum(stacks.values()):6.1%}  {name}")


if __name__ == "__main__":
    main()
