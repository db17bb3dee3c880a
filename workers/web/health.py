"""/healthz: the process lives. /readyz: it can do its work. /metrics: Prometheus' text format.

Labels hold kinds, channels, states and routes: no personal data, and few of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.app import App
from workers.store.engine import newest_version
from workers.web.callbacks import Callbacks
from workers.web.events import Events
from workers.web.problems import json_answer

log = structlog.get_logger("health")

ANSWER_S = 5.0
"""A database that takes longer to say its version counts as away."""


@dataclass(slots=True)
class _Snapshot:
    """What the database said at a scrape; None when it was away."""

    notifications: dict[tuple[str, str, str], int] = field(default_factory=dict)
    records: dict[tuple[str, str], int] = field(default_factory=dict)
    needs: dict[str, int] = field(default_factory=dict)
    runs: dict[str, float] = field(default_factory=dict)
    oldest_s: float = 0.0


class _Figures(Collector):
    def __init__(
        self, app: App, events: Events, callbacks: Callbacks, requests: Counter[Any]
    ) -> None:
        self._app = app
        self._events = events
        self._callbacks = callbacks
        self._requests = requests
        self.snapshot: _Snapshot | None = None

    def describe(self) -> list[Metric]:
        """Nothing in advance: what there is depends on the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures, from the latest snapshot and this process' counters."""
        yield _gauge("build_info", "The program's version.", ["version"], {(_version(),): 1})
        up = self.snapshot is not None
        yield _gauge("database_up", "1 when the database answers.", [], {(): int(up)})
        if self.snapshot is not None:
            yield from self._stored(self.snapshot)
        yield _counter(
            "attempts",
            "Sends ended by this process, by what came of them.",
            ["channel", "outcome"],
            self._app.delivery.outcomes,
        )
        events = {(outcome,): count for outcome, count in self._events.outcomes.items()}
        yield _counter("events", "Events, by what became of them.", ["outcome"], events)
        yield _counter(
            "reports",
            "Providers' status reports, by whether they fit a message.",
            ["provider", "outcome"],
            self._callbacks.outcomes,
        )
        names = ["route", "method", "status"]
        yield _counter("requests", "HTTP requests answered.", names, self._requests)

    def _stored(self, said: _Snapshot) -> Iterator[Metric]:
        yield _gauge(
            "notifications",
            "Notifications, by state.",
            ["kind", "channel", "state"],
            said.notifications,
        )
        yield _gauge("records", "Records, by state.", ["kind", "state"], said.records)
        yield _gauge(
            "oldest_pending_seconds",
            "How long the oldest notification that may be sent has waited.",
            [],
            {(): said.oldest_s},
        )
        runs = {(kind,): at for kind, at in said.runs.items()}
        yield _gauge("last_run_timestamp_seconds", "When a rule last ran.", ["kind"], runs)
        needs = {(what.replace(" ", "_"),): count for what, count in said.needs.items()}
        yield _gauge("needs_a_person", "What waits for somebody.", ["what"], needs)


class Health:
    """The three routes that machines watch."""

    def __init__(
        self, app: App, events: Events, callbacks: Callbacks, requests: Counter[Any]
    ) -> None:
        self._app = app
        self._registry = CollectorRegistry()
        self._figures = _Figures(app, events, callbacks, requests)
        self._registry.register(self._figures)
        self._scrape = asyncio.Lock()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)
        router.add_get("/metrics", self._metrics)

    async def _healthz(self, request: web.Request) -> web.Response:
        return json_answer({"status": "alive"})

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = {**await self._database(), "delivery": self._delivery()}
        ready = not any(checks.values())
        shown = {name: said or "ok" for name, said in checks.items()}
        status = "ready" if ready else "not ready"
        return json_answer({"status": status, "checks": shown}, status=200 if ready else 503)

    async def _database(self) -> dict[str, str]:
        """What is wrong with the database and its schema; "" where nothing is."""
        try:
            async with asyncio.timeout(ANSWER_S):
                # Asked first, because a schema without versions is answered for by silence.
                await self._app.store.operations.paused()
                present = await self._app.store.database.schema_version()
        except Exception as error:
            return {"database": f"doesn't answer: {type(error).__name__}", "schema": "unknown"}
        wanted = newest_version()
        wrong = f"version {present}, wanted {wanted}: run duewatch migrate"
        return {"database": "", "schema": "" if present == wanted else wrong}

    def _delivery(self) -> str:
        running = self._app.delivery.running
        return "the delivery loop has ended: restart the process" if running is False else ""

    async def _metrics(self, request: web.Request) -> web.Response:
        async with self._scrape:
            self._figures.snapshot = await self._snapshot()
            body = generate_latest(self._registry)
        return web.Response(
            body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _snapshot(self) -> _Snapshot | None:
        store, now = self._app.store, self._app.clock()
        try:
            async with asyncio.timeout(ANSWER_S):
                oldest = await store.operations.oldest_pending(now)
                runs = await store.operations.last_runs()
                return _Snapshot(
                    notifications=await store.operations.counts(),
                    records=await store.records.count(),
                    needs=await store.operations.needs_a_person(),
                    runs={kind: run.started_at.timestamp() for kind, run in runs.items()},
                    oldest_s=(now - oldest).total_seconds() if oldest is not None else 0.0,
                )
        except Exception as error:
            log.error("metrics", error=type(error).__name__)
            return None


def _gauge(name: str, what: str, labels: list[str], values: Any) -> Metric:
    family = GaugeMetricFamily(f"duewatch_{name}", what, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([str(part) for part in key], value)
    return family


def _counter(name: str, what: str, labels: list[str], values: Any) -> Metric:
    family = CounterMetricFamily(f"duewatch_{name}", what, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([str(part) for part in key], value)
    return family


def _version() -> str:
    try:
        return version("duewatch")
    except PackageNotFoundError:
        return "unknown"
