"""Deliberate defects: the suite must notice each, or its zeroes mean nothing.

A file of `defects/` has its mutants in a list `MUTANTS`; a new file is a new mutant. A mutant is
the product's code with some texts replaced, in a copy from which the processes run.
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.suite.servers import ROOT

PARTS = ("workers", "schedules", "templates")


@dataclass(frozen=True, slots=True)
class Change:
    """A text of a file that is replaced; it must be there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect in words, what it changes, and the fault that must fail because of it.

    `n` messages are enough to notice it.
    """

    name: str
    defect: str
    changes: tuple[Change, ...]
    caught_by: str
    n: int = 300


@contextmanager
def copied(tree: Path = ROOT) -> Iterator[Path]:
    """A copy of the product as it is now, removed afterwards: who works on it disturbs no trial."""
    with TemporaryDirectory(prefix="duewatch-tree-") as name:
        for part in PARTS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(tree / part, Path(name, part), ignore=ignored)
        yield Path(name)


@contextmanager
def grown(mutant: Mutant) -> Iterator[Path]:
    """A copy of the product with the defect, removed afterwards.

    Raises ValueError when a text to be replaced isn't there once: the product has changed.
    """
    with copied() as tree:
        for change in mutant.changes:
            file = tree / change.file
            text = file.read_text("utf-8")
            if text.count(change.old) != 1:
                times = text.count(change.old)
                raise ValueError(f"{mutant.name}: {change.file} has {times} times {change.old!r}")
            file.write_text(text.replace(change.old, change.new), "utf-8")
        yield tree


def find_mutants(folder: Path = Path(__file__).parent / "defects") -> list[Mutant]:
    """All mutants, by name."""
    package = ".".join(folder.relative_to(ROOT).parts)
    found: list[Mutant] = []
    for module in pkgutil.iter_modules([str(folder)]):
        found += importlib.import_module(f"{package}.{module.name}").MUTANTS
    return sorted(found, key=lambda one: one.name)
