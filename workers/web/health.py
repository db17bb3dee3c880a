"""/healthz: the process lives. /readyz: can it do its work, and which part is ill. /metrics.

A process without the web role serves these three alone, at `web.health_port`.

/readyz answers 503 when this process can do nothing: its database, its schema or its own delivery
loop. What others see as well, or what can be done without (the broker, a provider, a scheduler
that doesn't fire), is `degraded`: it is named, and the answer stays 200, because taking every
process out of service would help nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from workers.app import App
from workers.store.gauges import Gauges
from workers.store.guard import Guard
from workers.web.callbacks import Callbacks
from workers.web.events import Events
from workers.web.figures import Figures, Own, Readings, Said, counted
from workers.web.problems import json_answer

log = structlog.get_logger("health")

ANSWER_S = 5.0
"""A database that takes longer to say its version counts as away."""
BROKER_S = 2.0
BROKER_KEPT_S = 10.0
"""How long it is believed what the broker answered: some log every knock at their door."""
FIRST_FIRING_S = 120.0
"""How long after the start nothing may have been fired yet."""
SLACK = timedelta(minutes=2)
"""A rule that wasn't fired for two of its periods and this is late."""
PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
GRAVE = ("database", "schema", "delivery")
"""What a process can't do its work without."""


class Health:
    """The three routes that machines watch. Without doors it is a worker's or a scheduler's."""

    def __init__(
        self,
        app: App,
        events: Events | None = None,
        callbacks: Callbacks | None = None,
        requests: Counter[Any] | None = None,
    ) -> None:
        self._app = app
        own = Own(
            counted(events.outcomes if events else None),
            counted(callbacks.outcomes if callbacks else None),
            counted(requests),
        )
        self._registry = CollectorRegistry()
        self._figures = Figures(app, own)
        self._registry.register(self._figures)
        ProcessCollector(registry=self._registry)
        self._gauges = Gauges(app.store.database)
        self._kinds = app.registry.enabled()
        # Every process would count the same database: those with a web role do.
        self._readings = Readings(self._gauges, self._kinds, app.clock) if events else None
        self._broker = Broker(app.settings.broker_url)
        self._scrape = asyncio.Lock()
        self._began_at = asyncio.get_running_loop().time()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)
        router.add_get("/metrics", self._metrics)

    async def _healthz(self, request: web.Request) -> web.Response:
        return json_answer({"status": "alive"})

    # --- ready ----------------------------------------------------------------------------

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = await self._checks()
        grave = [name for name in GRAVE if checks.get(name)]
        status = "not ready" if grave else "degraded" if any(checks.values()) else "ready"
        shown = {name: said or "ok" for name, said in checks.items()}
        return json_answer({"status": status, "checks": shown}, status=503 if grave else 200)

    async def _checks(self) -> dict[str, str]:
        """What is wrong with each part; "" where nothing is."""
        checks = {"database": "", "schema": "", "delivery": self._delivery()}
        try:
            async with asyncio.timeout(ANSWER_S):
                # Asked first, because a schema without versions is answered for by silence.
                await self._app.store.operations.paused()
                checks["schema"] = await self._app.store.database.misfit()
                if not checks["schema"]:
                    checks["sending"] = await self._sending()
                    checks["scheduler"] = await self._scheduler()
                    checks["providers"] = _ill(await self._breakers())
        except Exception as error:
            checks["database"] = f"doesn't answer: {type(error).__name__}"
            checks["schema"] = "unknown"
        if self._broker.url:
            checks["broker"] = await self._broker.ill()
        return checks

    def _delivery(self) -> str:
        running = self._app.delivery.running
        return "the delivery loop has ended: restart the process" if running is False else ""

    async def _sending(self) -> str:
        refusal = (await Guard(self._app.store.database).standing()).refusal
        return f"{refusal.why}: duewatch resume-after-restore" if refusal is not None else ""

    async def _scheduler(self) -> str:
        """Whether rules are fired at all, by whichever scheduler."""
        now = self._app.clock()
        said = await self._gauges.fired(self._kinds, now)
        if not said.fired:
            up_s = asyncio.get_running_loop().time() - self._began_at
            never = "no rule was ever fired: is duewatch scheduler running?"
            return never if up_s > FIRST_FIRING_S else ""
        cadences = self._app.registry.cadences
        late = sorted(
            kind
            for kind, at in said.fired.items()
            if kind not in said.paused and now - at > 2 * cadences[kind].scan_every + SLACK
        )
        if not late:
            return ""
        last = max(said.fired[kind] for kind in late)
        return f"not fired since {last:%Y-%m-%d %H:%M} UTC: {', '.join(late)}"

    async def _breakers(self) -> Mapping[str, str]:
        states = await self._app.store.breakers.states()
        return {name: one.state for name, one in states.items()}

    # --- metrics --------------------------------------------------------------------------

    async def _metrics(self, request: web.Request) -> web.Response:
        async with self._scrape:
            self._figures.said = await self._say()
            body = generate_latest(self._registry)
        return web.Response(
            body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _say(self) -> Said:
        said = Said()
        if self._broker.url:
            said.broker = not await self._broker.ill()
        try:
            async with asyncio.timeout(ANSWER_S):
                said.breakers = await self._breakers()
                said.refused = bool(await self._sending())
            said.database = True
        except Exception as error:
            log.error("metrics", error=type(error).__name__)
            return said
        if self._readings is not None:
            said.taken = await self._readings.latest()
            if said.taken is not None:
                said.age = asyncio.get_running_loop().time() - said.taken.at
        return said

    async def close(self) -> None:
        """Gives up what is still being counted."""
        if self._readings is not None:
            await self._readings.close()


class Broker:
    """Whether somebody listens at the broker's address. It carries bells only."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._asked_at = float("-inf")
        self._said = ""

    async def ill(self) -> str:
        """What is wrong, "" if nothing; asked every BROKER_KEPT_S at most."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= BROKER_KEPT_S:
            self._asked_at = now
            self._said = await self._ask()
        return self._said

    async def _ask(self) -> str:
        parts = urlsplit(self.url.partition(";")[0])
        host, port = parts.hostname or "localhost", parts.port or PORTS[parts.scheme]
        try:
            async with asyncio.timeout(BROKER_S):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            return f"{host}:{port} doesn't answer ({type(error).__name__}): polling goes on"
        return ""


def _ill(breakers: Mapping[str, str]) -> str:
    """Which providers are left alone."""
    return ", ".join(f"{name} is {state}" for name, state in breakers.items() if state != "closed")


@asynccontextmanager
async def serve_health(app: App) -> AsyncIterator[tuple[str, int]]:
    """Serves the three routes alone, at `web.health_port`; gives the address and port.

    Raises OSError when the port is taken.
    """
    health = Health(app)
    built = web.Application(client_max_size=1024)
    health.add_to(built.router)
    runner = web.AppRunner(built, access_log=None, max_line_size=1024, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, app.settings.web.host, app.settings.web.health_port).start()
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        await runner.cleanup()
        await health.close()
