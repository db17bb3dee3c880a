"""What this process did, counted and timed in memory; workers/web/figures.py shows it.

Counts begin anew with the process: a reader of the figures takes their rate, not their height.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from time import perf_counter
from typing import Any

from workers import traces

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of what takes milliseconds when well: a scan, an attempt."""
LATENESS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds of what people notice: from due to accepted, in seconds."""


@dataclass(frozen=True, slots=True)
class Series:
    """One labelled series: pairs of upper bound and how many were at most that, and the sum."""

    labels: tuple[str, ...]
    buckets: list[tuple[str, int]]
    total: float


class Histogram:
    """How often something took how long, by labels. `bounds` are seconds, rising."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds = bounds
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._totals: dict[tuple[str, ...], float] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        """Adds one; less than nothing, as after a clock was set back, counts as nothing."""
        seconds = max(0.0, seconds)
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, seconds)] += 1
        self._totals[labels] = self._totals.get(labels, 0.0) + seconds

    def series(self) -> Iterator[Series]:
        """All series, in the order of their labels."""
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        for labels, counts in sorted(self._counts.items()):
            yield Series(
                labels, list(zip(names, accumulate(counts), strict=True)), self._totals[labels]
            )


@dataclass(slots=True)
class Ended:
    """How an attempt ended: whoever made it says so; until then it was cut off."""

    outcome: str = ""


class SendMeter:
    """Attempts of this process: how many, how they ended, how long they took, how late they were.

    `sends` counts by (channel, provider, outcome), `took` by (channel, provider), and `late` by
    (channel, urgency): from when the message was due until a provider accepted it.
    """

    def __init__(self) -> None:
        self.sends: Counter[tuple[str, str, str]] = Counter()
        self.took = Histogram()
        self.late = Histogram(LATENESS)

    @contextmanager
    def attempt(self, row: Any, provider: str, clock: Callable[[], datetime]) -> Iterator[Ended]:
        """One attempt, timed, counted and traced. `row` is the notification as claimed; `clock`
        gives business time. What is cut off before its outcome is known isn't counted.
        """
        began, ended = perf_counter(), Ended()
        with traces.span(
            "attempt",
            parent=row.traceparent,
            kind=row.kind,
            channel=row.channel,
            provider=provider,
            notification=row.uid,
            number=row.attempt_count + 1,
        ) as span:
            yield ended
            span.tell(outcome=ended.outcome)
        if ended.outcome:
            self.sent(row, provider, ended.outcome, perf_counter() - began, clock())

    def sent(self, row: Any, provider: str, outcome: str, seconds: float, now: datetime) -> None:
        """Counts one attempt. `row` is the notification as claimed; `seconds` the hand-over's.

        A first attempt was due when it might be sent; a later one when it was planned, so that
        what a provider put off counts as late.
        """
        self.sends[row.channel, provider, outcome] += 1
        self.took.observe(seconds, row.channel, provider)
        if outcome == "accepted":
            due = row.created_at if row.attempt_count else row.not_before
            self.late.observe((now - due) / timedelta(seconds=1), row.channel, urgency(row.urgent))


def urgency(urgent: bool) -> str:
    """How a lane's second half is called where people read it."""
    return "urgent" if urgent else "normal"
