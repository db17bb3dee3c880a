"""Defects in the last look before a send."""

from __future__ import annotations

from tests.faults.suite.mutants import Change, Mutant

MUTANTS = [
    Mutant(
        "no-last-look",
        "what became moot after the plan is sent all the same",
        (
            Change(
                "workers/last_look.py",
                "        keep = [line for line, said in verdicts if _is_due(said)]\n",
                "        keep = [line for line, said in verdicts if line.record_id in watched]\n",
            ),
        ),
        caught_by="F25",
        n=400,
    ),
    Mutant(
        "no-second-thoughts",
        "a record that changes while a message is written doesn't stop it",
        (
            Change(
                "workers/store/attempts.py",
                "            if any(found.get(record) != seen for record, seen in",
                "            if any(found.get(record) is None for record, seen in",
            ),
        ),
        caught_by="F25",
        n=400,
    ),
]
