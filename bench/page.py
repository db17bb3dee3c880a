"""docs/performance.md: what each script measured, in a section of its own.

A script writes its section anew and leaves the others as they are, so each can be run by itself.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

HEAD = """# Performance

Written by `make bench`, a section by each script of `bench/`. What stands beside each other in a
section was measured in one run on one machine. A load above its cores says that others had them
too: then the seconds are longer than they would be, and the CPU seconds somewhat.
"""
_SECTION = re.compile(r"^## ", re.M)


def machine() -> str:
    """What it was measured on, and when: cores, architecture, Python, load, date.

    A load beyond what a script itself makes says that others had the cores as well.
    """
    return (
        f"{os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()}), load "
        f"{os.getloadavg()[1]:.1f}, {datetime.now(UTC):%Y-%m-%d}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def told(met: bool) -> str:
    """Whether a goal was met, as a cell says it."""
    return "met" if met else "**not met**"


def write_section(page: Path, title: str, *paragraphs: str) -> None:
    """Replaces the section with this title, or adds it at the end."""
    text = page.read_text("utf-8") if page.exists() else HEAD
    parts = _SECTION.split(text)
    section = "\n\n".join([title, *(one.strip() for one in paragraphs)]) + "\n"
    found = [at for at, part in enumerate(parts) if at and part.partition("\n")[0] == title]
    if found:
        parts[found[0]] = section
    else:
        parts.append(section)
    parts[0] = HEAD
    page.write_text("\n## ".join(part.strip("\n") + "\n" for part in parts), "utf-8")
