"""What became of every message, offline, from three accounts of it. Pure.

expected   what the oracle wants, written before anything ran
database   what the product says: a row a notification, with its attempts
far side   what the SMTP server and the SMS gateway logged

LOSS     must be sent, was never taken by the far side, and stands in no named final state
DUP      copies beyond one that no attempt of unknown outcome accounts for; of what is parked
         rather than sent again (SMS) every copy beyond one
WRONG    taken by the far side though it was not to be sent, or nobody knows of it
PHANTOM  the database says accepted, the far side never took it
GHOST    the far side took it, the database has no attempt that could be it
DRIFT    copies of one message under different Message-IDs
LEFT     still pending or in flight at the end
STOPPED  must be sent, was never taken, and ended in a named state that somebody sees
UNKNOWN  attempts of unknown outcome: each is listed by the product
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]

DONE = frozenset({"accepted", "delivered"})
NAMED = frozenset({"failed", "suppressed", "cancelled", "parked"})
OPEN = frozenset({"pending", "sending"})
SHOWN = 5
"""Examples kept of each finding."""


@dataclass(slots=True)
class Findings:
    """The count of each finding, with the first few keys of it; times in seconds.

    `late` is due → first taken. `recovery` is from the kill that cut an attempt off to the moment
    at which its message was given back to the others, or parked.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    late: list[float] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    expected: int = 0
    taken: int = 0
    extra: int = 0
    """Copies beyond one, accounted for or not."""
    stall_s: float = 0.0
    """The longest time between two acceptances."""

    def add(self, what: str, key: str, number: int = 1) -> None:
        """Counts a finding."""
        if number > 0:
            self.counts[what] += number
            if len(self.examples[what]) < SHOWN:
                self.examples[what].append(key)

    def __getitem__(self, what: str) -> int:
        return self.counts[what]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of them don't exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def check(
    expected: Iterable[Line],
    database: Iterable[Line],
    far_side: Iterable[Line],
    kills: Sequence[float],
) -> Findings:
    """Compares the accounts. `kills` are the instants (epoch seconds) at which something died."""
    wanted = {line["key"]: line for line in expected}
    rows: dict[str, list[Line]] = defaultdict(list)
    for row in database:
        rows[row["key"]].append(row)
    taken: dict[str, list[Line]] = defaultdict(list)
    for event in far_side:
        if event.get("kept"):
            taken[event["key"]].append(event)
    found = Findings(expected=sum(bool(line["must_send"]) for line in wanted.values()))
    for key, line in wanted.items():
        _check_one(found, line, rows.get(key, []), taken.get(key, []))
    for key in taken.keys() - wanted.keys():
        found.add("WRONG", key, len(taken[key]))
    found.taken = sum(map(len, taken.values()))
    for mine in rows.values():
        for row in mine:
            found.recovery += _recoveries(row["attempts"], sorted(kills))
    moments = sorted(event["t"] for mine in taken.values() for event in mine)
    gaps = (after - before for before, after in pairwise(moments))
    found.stall_s = max(gaps, default=0.0)
    return found


def _check_one(found: Findings, line: Line, rows: Sequence[Line], taken: Sequence[Line]) -> None:
    key, copies = line["key"], len(taken)
    states = {row["state"] for row in rows}
    outcomes = Counter(one["outcome"] for row in rows for one in row["attempts"])
    unknown = outcomes["unknown"]
    found.add("UNKNOWN", key, unknown)
    found.add("LEFT", key, sum(row["state"] in OPEN for row in rows))
    if line["must_send"] and not copies:
        ended = bool(states) and states <= NAMED
        found.add("STOPPED" if ended else "LOSS", key)
    if not line["must_send"]:
        found.add("WRONG", key, copies)
    if states & DONE and not copies:
        found.add("PHANTOM", key)
    if copies and not unknown and not outcomes["accepted"]:
        found.add("GHOST", key)
    if copies > 1:
        found.extra += copies - 1
        accounted = unknown if line["repeat"] == "resend" else 0
        found.add("DUP", key, copies - 1 - accounted)
    if len({event.get("message_id") for event in taken}) > 1:
        found.add("DRIFT", key)
    if line["must_send"] and copies:
        found.late.append(max(0.0, min(event["t"] for event in taken) - line["due"]))


def _recoveries(attempts: Iterable[Line], kills: Sequence[float]) -> Iterable[float]:
    for one in attempts:
        if one["outcome"] != "unknown" or one["ended"] is None:
            continue
        place = bisect_left(kills, one["began"])
        if place < len(kills) and kills[place] <= one["ended"]:
            yield one["ended"] - kills[place]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A file of JSON lines; a last line that was cut off is left out."""
    if not path.exists():
        return []
    found = []
    for text in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found
