"""What /metrics shows: this process' own counts, and what the database said at its last reading.

A reading counts whole tables, so it is kept: taking them never costs more than SHARE of the time,
however much is stored. How old it is, and what it cost, are figures too. Labels hold kinds,
channels, states and routes: no personal data, and few of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from workers.app import App
from workers.meter import Histogram, SendMeter, urgency
from workers.sources import build_sources
from workers.store.gauges import Gauges, Reading

log = structlog.get_logger("health")

SHARE = 0.05
"""Most of the time that readings may take: one of 2 s is kept for 40 s."""
KEPT_AT_MOST_S = 300.0
WAIT_S = 2.0
"""How long a scrape waits for a reading that is under way before it shows the one before."""
READ_S = 60.0
"""A reading that takes longer is given up; the one before is shown, and its age."""
TELLINGS = ("waiting", "failed")
BREAKER_STATES = ("closed", "half_open", "open")


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading, when it was taken (loop's time), and what it cost (seconds)."""

    reading: Reading
    at: float
    cost: float


class Readings:
    """Takes readings no more often than their cost allows."""

    def __init__(
        self, gauges: Gauges, kinds: Collection[str], clock: Callable[[], datetime]
    ) -> None:
        self._gauges = gauges
        self._kinds = kinds
        self._clock = clock
        self._latest: Taken | None = None
        self._next_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def latest(self) -> Taken | None:
        """The newest reading there is; None when none was ever taken."""
        loop = asyncio.get_running_loop()
        if self._task is None and loop.time() >= self._next_at:
            self._task = asyncio.create_task(self._read())
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=WAIT_S)
        return self._latest

    async def close(self) -> None:
        """Gives up a reading that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(READ_S):
                reading = await self._gauges.read(self._kinds, self._clock())
            self._latest = Taken(reading, loop.time(), loop.time() - began)
        except Exception as error:
            log.error("reading", error=type(error).__name__, detail=str(error)[:200])
        finally:
            cost = loop.time() - began
            self._next_at = loop.time() + min(cost / SHARE, KEPT_AT_MOST_S)
            self._task = None


@dataclass(slots=True)
class Own:
    """What this process counted at its doors. A process without the web role has none."""

    events: Mapping[str, int] = field(default_factory=dict)
    reports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    requests: Mapping[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class Said:
    """What was asked for this scrape. `broker` is None where there is none to ask."""

    database: bool = False
    taken: Taken | None = None
    age: float = 0.0
    broker: bool | None = None
    breakers: Mapping[str, str] = field(default_factory=dict)
    refused: bool = False


class Figures(Collector):
    """All figures. `said` is set before each scrape."""

    def __init__(self, app: App, own: Own) -> None:
        self._app = app
        self._own = own
        self._sources = build_sources(app.settings.sources, app.rules)
        self.said = Said()

    def describe(self) -> list[Metric]:
        """Nothing in advance: what there is depends on the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """This process, its surroundings, and the latest reading."""
        yield from self._process()
        yield from self._surroundings()
        if self.said.taken is not None:
            yield from _stored(self.said.taken.reading)
            yield from self._late_syncs(self.said.taken.reading)
            age, cost = {(): self.said.age}, {(): self.said.taken.cost}
            yield _gauge("reading_age_seconds", "How old the counts of the database are.", [], age)
            yield _gauge("reading_seconds", "How long counting the database took.", [], cost)

    def _process(self) -> Iterator[Metric]:
        delivery, scan = self._app.delivery, self._app.scan
        meter = getattr(delivery, "meter", None) or SendMeter()
        scans = getattr(scan, "took", None) or Histogram()
        yield _gauge("build_info", "The program's version.", ["version"], {(_version(),): 1})
        running = {} if delivery.running is None else {(): int(delivery.running)}
        yield _gauge("delivery_running", "1 while the delivery loop of a worker runs.", [], running)
        what = "Messages settled by this process, by what came of them."
        yield _counter("attempts", what, ["channel", "outcome"], delivery.outcomes)
        what = "Attempts of this process, by who carried them and how they ended."
        yield _counter("sends", what, ["channel", "provider", "outcome"], meter.sends)
        waits = Counter[tuple[str]]()
        for (limit, _), count in delivery.waits.items():
            waits[(limit,)] += count
        what = "Messages that this process made wait, by the limit that was reached."
        yield _counter("waits", what, ["limit"], waits)
        what = "How long handing a message to a provider took."
        yield _histogram("attempt_seconds", what, ["channel", "provider"], meter.took)
        what = "From due to accepted by a provider."
        yield _histogram("due_to_accepted_seconds", what, ["channel", "urgency"], meter.late)
        yield _histogram("scan_seconds", "How long a rule's scan took.", ["kind"], scans)
        registry = self._app.registry
        periods = {
            (kind,): registry.cadences[kind].scan_every.total_seconds()
            for kind in registry.enabled()
        }
        yield _gauge("rule_period_seconds", "How often a rule is to be fired.", ["kind"], periods)
        events = {(outcome,): count for outcome, count in self._own.events.items()}
        yield _counter("events", "Events, by what became of them.", ["outcome"], events)
        what = "Providers' status reports, by whether they fit a message."
        yield _counter("reports", what, ["provider", "outcome"], self._own.reports)
        names = ["route", "method", "status"]
        yield _counter("requests", "HTTP requests answered.", names, self._own.requests)

    def _late_syncs(self, said: Reading) -> Iterator[Metric]:
        now = self._app.clock()
        late = {
            (name,): one.settings.overdue(said.syncs[name].started_at, now).total_seconds()
            for name, one in self._sources.items()
            if name in said.syncs
        }
        what = "How long ago a source's sync was due that hasn't begun; 0 for none."
        yield _gauge("sync_overdue_seconds", what, ["source"], late)

    def _surroundings(self) -> Iterator[Metric]:
        said = self.said
        up = {(): int(said.database)}
        yield _gauge("database_up", "1 when the database answers.", [], up)
        if said.broker is not None:
            yield _gauge("broker_up", "1 when the broker answers.", [], {(): int(said.broker)})
        refused = {(): int(said.refused)}
        what = "1 while nothing is sent because an old database was restored."
        yield _gauge("sending_refused", what, [], refused)
        states = {
            (name, state): int(said.breakers.get(name, "closed") == state)
            for name in {*self._app.by_name, *said.breakers}
            for state in BREAKER_STATES
        }
        what = "1 for the state that a provider is in: open is left alone."
        yield _gauge("provider_state", what, ["provider", "state"], states)


def _stored(said: Reading) -> Iterator[Metric]:
    names = ["kind", "channel", "state"]
    yield _gauge("notifications", "Notifications, by state.", names, said.notifications)
    yield _gauge("records", "Records, by state.", ["kind", "state"], said.records)
    lanes = ["channel", "urgency"]
    depth = {
        (channel, urgency(urgent), waits_for): count
        for (channel, urgent, waits_for), count in said.depth.items()
    }
    what = "Pending notifications, by lane and what they wait for: a worker, a time, a paused rule."
    yield _gauge("queue_depth", what, [*lanes, "waits_for"], depth)
    oldest = {(channel, urgency(urgent)): age for (channel, urgent), age in said.oldest.items()}
    waiting = {key[:2]: 0.0 for key in depth} | oldest
    what = "How long the oldest notification that may be sent has waited for a worker."
    yield _gauge("oldest_due_seconds", what, lanes, waiting)
    all_lanes = {(): max(oldest.values(), default=0.0)}
    yield _gauge("oldest_pending_seconds", "The same over all lanes.", [], all_lanes)
    fired = {(kind,): at.timestamp() for kind, at in said.fired.items()}
    yield _gauge("last_run_timestamp_seconds", "When the clock last fired a rule.", ["kind"], fired)
    missed = {(kind,): count for kind, count in said.missed.items()}
    what = "Firings of the last day that passed while no scheduler ran; they were caught up once."
    yield _gauge("runs_missed", what, ["kind"], missed)
    paused = {(kind,): 1 for kind in said.paused}
    yield _gauge("rule_paused", "1 for a rule that is paused.", ["kind"], paused)
    needs = {(what,): count for what, count in said.needs.items()}
    yield _gauge("needs_a_person", "What waits for somebody.", ["what"], needs)
    doors = {(door,): count for door, count in said.quarantine.items()}
    what = "Producers' messages that couldn't be taken, by the door they came in by."
    yield _gauge("quarantine", what, ["door"], doors)
    yield from _syncs(said)
    ends = said.webhooks.items()
    alone = {(name,): int(one.row.disabled_at is not None) for name, one in ends}
    what = "1 for an endpoint that is told nothing more until a person enables it."
    yield _gauge("webhook_disabled", what, ["endpoint"], alone)
    told = {(name, state): one.counts.get(state, 0) for name, one in ends for state in TELLINGS}
    what = "What endpoints are still to be told, and what they couldn't be told."
    yield _gauge("webhook_tellings", what, ["endpoint", "state"], told)
    what = "Addresses that aren't written to; kind * is for everything."
    yield _gauge("suppressions", what, ["channel", "kind"], said.suppressions)


def _syncs(said: Reading) -> Iterator[Metric]:
    """Of the sources that were ever synced."""
    last = said.syncs.items()
    failing = {(name,): int(row.outcome in {"failed", "lost"}) for name, row in last}
    what = "1 for a source whose last sync broke off."
    yield _gauge("sync_failing", what, ["source"], failing)
    rows: Counter[tuple[str, str]] = Counter()
    for name, row in last:
        for counts in (row.counts or {}).values():
            rows.update({(name, outcome): count for outcome, count in counts.items()})
    what = "What the last sync of a source made of its rows."
    yield _gauge("sync_rows", what, ["source", "outcome"], rows)
    what = "Syncs of a source by all processes, by how they ended."
    yield _counter("syncs", what, ["source", "outcome"], said.sync_totals)
    good = {(name,): at.timestamp() for name, at in said.synced.items()}
    what = "When a source was last read to its end."
    yield _gauge("sync_last_success_timestamp_seconds", what, ["source"], good)


def _gauge(name: str, what: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"duewatch_{name}", what, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([str(part) for part in key], value)
    return family


def _counter(name: str, what: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(f"duewatch_{name}", what, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([str(part) for part in key], value)
    return family


def _histogram(name: str, what: str, labels: list[str], values: Histogram) -> Metric:
    family = HistogramMetricFamily(f"duewatch_{name}", what, labels=labels)
    for one in values.series():
        family.add_metric(list(one.labels), list(one.buckets), one.total)
    return family


def _version() -> str:
    try:
        return version("duewatch")
    except PackageNotFoundError:
        return "unknown"


def counted(counter: Counter[Any] | None) -> Mapping[Any, int]:
    """A counter as it grows, or nothing."""
    return counter if counter is not None else {}
