"""What a simulated life came to: what the oracle expected, what was found, and how they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from workers.simulation.days import DAY, MINUTE
from workers.simulation.life import Life
from workers.simulation.oracle import Delivered, Verdict
from workers.simulation.states import Message

MAY_TAKE = 12 * MINUTE
"""Two SMS a minute go to one number; the rest waits its turn."""
LOOSE = 30 * MINUTE
SHOWN = 20


class Difference(NamedTuple):
    """One message on which product and oracle disagree.

    `what`: missing (nobody was told), moot (told, but it needn't be), double, outside (told at
    another time), elsewhere (to another address), digest (alone instead of with the day's mail, or
    the other way round).
    """

    what: str
    message: Message
    expected_at: datetime | None
    found_at: datetime | None
    detail: str = ""


@dataclass(slots=True)
class Lived:
    """What the product has to show at the end.

    `told` has a tuple for each accepted line: the six parts of a Message, when it was accepted, the
    address, and whether it went with a digest.
    """

    told: list[tuple[Any, ...]]
    records: dict[tuple[str, str], int]
    counts: dict[tuple[str, str, str], int]
    kept: dict[str, int]
    dropped: int
    broken: list[tuple[str, int]]
    instants: int
    scans: int
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """The whole of it. Instants are aware UTC, durations seconds of real time."""

    seed: int
    partners: int
    days: int
    events: int
    records: Counter[str] = field(default_factory=Counter)
    messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    expected: int = 0
    found: int = 0
    in_digests: int = 0
    moot_expected: int = 0
    moot_dropped: int = 0
    put_off: int = 0
    stopped: int = 0
    kept: int = 0
    instants: int = 0
    scans: int = 0
    differences: list[Difference] = field(default_factory=list)
    broken: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0.0
    product_seconds: float = 0.0
    oracle_seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Whether all was as the oracle expects, and the ledger adds up."""
        return not self.differences and not self.broken and self.found == self.expected

    @property
    def by_difference(self) -> Counter[str]:
        """How many differences of each sort."""
        return Counter(one.what for one in self.differences)

    @property
    def days_a_second(self) -> float:
        """Virtual days lived in a second."""
        return self.days / self.seconds if self.seconds else 0.0

    @classmethod
    def of(cls, parts: Sequence[Report]) -> Report:
        """Several shares of one life as a whole."""
        whole = cls(parts[0].seed, parts[0].partners, parts[0].days, 0)
        for part in parts:
            for name in ("records", "messages", "lines", "states"):
                getattr(whole, name).update(getattr(part, name))
            for name in SUMS:
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            whole.differences += part.differences
            whole.broken += part.broken
            whole.product_seconds = max(whole.product_seconds, part.product_seconds)
            whole.oracle_seconds = max(whole.oracle_seconds, part.oracle_seconds)
        whole.differences.sort(key=_when)
        return whole


SUMS = [
    "events",
    "expected",
    "found",
    "in_digests",
    "moot_expected",
    "moot_dropped",
    "put_off",
    "stopped",
    "kept",
    "instants",
    "scans",
]


def compare(life: Life, verdict: Verdict, lived: Lived) -> Report:
    """Every difference between what must have been told and what was, the earliest first."""
    found: dict[Message, tuple[datetime, str, bool]] = {}
    differences: list[Difference] = []
    for *what, at, address, in_digest in lived.told:
        message = Message(*what)
        if message in found:
            differences.append(Difference("double", message, found[message][0], at, address))
        found[message] = (at, address, bool(in_digest))
    differences += _differences(verdict.told, found)
    differences += _same_address(lived)
    counts = lived.counts
    report = Report(
        seed=life.seed,
        partners=life.partners,
        days=round((life.end - life.start) / timedelta(days=1)),
        events=len(life.events),
        expected=len(verdict.told),
        found=len(lived.told),
        in_digests=sum(in_digest for _, _, in_digest in found.values()),
        moot_expected=verdict.moot,
        moot_dropped=lived.dropped,
        put_off=verdict.put_off,
        stopped=verdict.stopped,
        kept=sum(lived.kept.values()),
        instants=lived.instants,
        scans=lived.scans,
        differences=sorted(differences, key=_when),
        broken=list(lived.broken),
        product_seconds=lived.seconds,
    )
    for (kind, _), count in lived.records.items():
        report.records[kind] += count
    for (kind, channel, state), count in counts.items():
        report.states[state] += count
        if state == "accepted":
            report.messages[kind, channel] += count
    report.lines.update(message.kind for message in found)
    if report.states["accepted"] != report.kept:
        report.broken.append(("the inbox keeps all that was accepted", 1))
    return report


def _differences(
    expected: dict[Message, Delivered], found: dict[Message, tuple[datetime, str, bool]]
) -> list[Difference]:
    differences = []
    for message, want in expected.items():
        if message not in found:
            differences.append(Difference("missing", message, want.at, None, want.address))
            continue
        at, address, in_digest = found[message]
        early, late = (LOOSE, LOOSE) if want.loose else (timedelta(0), MAY_TAKE)
        if want.loose and (want.in_digest or in_digest):
            # A digest that is put off whole comes as soon as it may; a line of it that is planned
            # anew comes with the next one.
            early, late = early + DAY, late + DAY
        if not want.at - early <= at <= want.at + late:
            differences.append(Difference("outside", message, want.at, at))
        if address != want.address:
            detail = f"{address}, not {want.address}"
            differences.append(Difference("elsewhere", message, want.at, at, detail))
        if in_digest != want.in_digest and not want.loose:
            detail = "with the day's mail" if in_digest else "alone"
            differences.append(Difference("digest", message, want.at, at, detail))
    for message in found.keys() - expected.keys():
        at, address, _ = found[message]
        differences.append(Difference("moot", message, None, at, address))
    return differences


def _same_address(lived: Lived) -> list[Difference]:
    """One stage twice to one address, by whatever contact."""
    seen: dict[tuple[Any, ...], datetime] = {}
    twice = []
    for *what, at, address, _ in lived.told:
        key = (*what[:-1], address)
        if key in seen:
            twice.append(Difference("double", Message(*what), seen[key], at, address))
        seen[key] = at
    return twice


def _when(one: Difference) -> datetime:
    at = one.expected_at or one.found_at
    assert at is not None
    return at
