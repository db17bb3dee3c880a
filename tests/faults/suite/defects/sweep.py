"""Defects in what becomes of a dead worker's messages."""

from __future__ import annotations

from tests.faults.suite.mutants import Change, Mutant

FILE = "workers/store/aftermath.py"

MUTANTS = [
    Mutant(
        "hopeful-sweep",
        "what a dead worker had in flight is taken for accepted",
        (Change(FILE, "case((again, S.PENDING.value)", "case((again, S.ACCEPTED.value)"),),
        caught_by="F1a",
    ),
]
