"""The daemon: web, scheduler and worker in one process, or each alone, with the same code.

On SIGTERM or SIGINT it stops taking on work, finishes what is in flight, and ends with 0. When one
of its parts dies it stops the others and ends with an error, so that a supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime, timedelta

import structlog

from schedules.clock import Cron, Ticker, missed_firings
from workers import traces
from workers.app import App, open_app
from workers.errors import DuewatchError, SettingsError
from workers.events import Gathering, read_json
from workers.operations_digest import make_due
from workers.restore import Gate, clock_trouble, send_behind
from workers.settings import Settings
from workers.store.quarantine import Quarantine
from workers.syncing import Syncing
from workers.tasks import Ears
from workers.web import serve as serve_web
from workers.web.events import Scans
from workers.web.health import serve_health
from workers.webhooks.teller import Teller

log = structlog.get_logger("daemon")

Serving = Callable[[App], AbstractAsyncContextManager[tuple[str, int]]]
ROLES = ("web", "scheduler", "worker")
DIGESTS = "operations digests"
SOURCE = "source "
"""Before a source's name, where the clock's names are kinds too."""
DIGESTS_EVERY = timedelta(hours=1)
"""How often it is looked whether a month's operations digests are still to be made."""
DRAIN_S = 30.0
"""Longest time from the signal to the end; what is still in flight then is swept up as unknown."""


def run_daemon(settings: Settings, roles: Collection[str] = ROLES) -> None:
    """Opens everything, serves until a signal, closes. Raises SettingsError, or what ended it."""
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_daemon(settings, roles))


def event_loop() -> asyncio.AbstractEventLoop:
    """The quicker event loop, where it can be had."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _daemon(settings: Settings, roles: Collection[str]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with traces.exporting(settings.traces.endpoint, settings.traces.sample, roles):
        async with open_app(settings) as app:
            await serve(app, roles, stopping)


async def serve(
    app: App,
    roles: Collection[str],
    stopping: asyncio.Event,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Runs the roles until `stopping` is set. `ready` is told the web address once it answers.

    Raises SettingsError when the address can't be listened on, DuewatchError when a part died.
    """
    async with AsyncExitStack() as stack:
        if "web" in roles:
            address = await _listen(app, stack, serve_web, "port")
            if ready is not None:
                ready(address)
        elif app.settings.web.health_port is not None:
            log.info("health", address=await _listen(app, stack, serve_health, "health_port"))
        endpoints = app.settings.webhooks
        teller = Teller(app.store, endpoints, app.settings.public_url, app.clock)
        if "worker" in roles:
            await teller.subscribe(app.rules)
        if endpoints:
            # Whoever tells nobody itself rings those who do.
            app.store.webhooks.on_change(teller.ring if "worker" in roles else app.bell.ring)
        _hear(app, roles, stack, teller)
        parts: list[asyncio.Task[None]] = []
        if "worker" in roles:
            gate = Gate(app.store, app.settings, app.clock)
            sending = send_behind(gate, app.delivery, stopping)
            parts.append(asyncio.create_task(sending, name="worker"))
            parts.append(asyncio.create_task(teller.run(stopping), name="webhooks"))
        if "scheduler" in roles:
            scheduling = _schedule(app, Syncing(app), stopping)
            parts.append(asyncio.create_task(scheduling, name="scheduler"))
        log.info("ready", roles=sorted(roles))
        await _until_stopped(parts, stopping)


async def _listen(app: App, stack: AsyncExitStack, serve_at: Serving, key: str) -> str:
    wanted = app.settings.web
    try:
        host, port = await stack.enter_async_context(serve_at(app))
    except OSError as error:
        raise SettingsError(
            f"web.{key}: can't listen on {wanted.host}:{getattr(wanted, key)}: {error.strerror}: "
            "choose another port, or stop what uses it"
        ) from None
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _hear(app: App, roles: Collection[str], stack: AsyncExitStack, teller: Teller) -> None:
    """Workers hear bells and take producers' events, schedulers hear who wishes a scan."""
    scans, gathering = Scans(app.scan), Gathering(app.events)

    async def take(event: object) -> str:
        result = await gathering.take(event)
        scans.ask(set(result.kinds) & set(app.registry.enabled()))
        return "" if result.well else result.why

    async def scan(kind: str) -> None:
        await app.scan.run(kind, trigger="request")

    def ring() -> None:
        app.delivery.ring()
        teller.ring()

    works, schedules = "worker" in roles, "scheduler" in roles
    if not works and not schedules:
        return
    ears = Ears(
        Quarantine(app.store.database),
        app.clock,
        scan if schedules else None,
        take if works else None,
        read_json,
    )
    app.bell.listen(ring if works else None, ears)
    stack.push_async_callback(scans.finish)
    stack.push_async_callback(app.bell.stop)


async def _schedule(app: App, syncing: Syncing, stopping: asyncio.Event) -> None:
    """Ticks until stopping, then waits for the scan that is under way."""
    running: set[asyncio.Task[None]] = set()

    async def tick(kind: str, fire_at: datetime) -> None:
        if stopping.is_set():
            return
        if kind.startswith(SOURCE):
            work = syncing.fire(kind.removeprefix(SOURCE), fire_at)
        else:
            work = _make_digests(app) if kind == DIGESTS else fire(app, kind, fire_at)
        task = asyncio.ensure_future(work)
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.shield(task)

    periods: dict[str, timedelta | Cron] = {
        kind: app.registry.cadences[kind].scan_every for kind in app.registry.enabled()
    }
    periods |= {SOURCE + name: timing for name, timing in syncing.schedules().items()}
    ticker = Ticker(periods | {DIGESTS: DIGESTS_EVERY}, tick, app.clock)
    ticker.start()
    await stopping.wait()
    ticker.stop()
    if running:
        await asyncio.gather(*running, return_exceptions=True)


async def _make_digests(app: App) -> None:
    try:
        await make_due(app, app.clock())
    except Exception as error:
        # The next hour looks again, for what is missing by then.
        log.error("digests", error=type(error).__name__, detail=str(error)[:200])


async def fire(app: App, kind: str, fire_at: datetime) -> None:
    """One tick of a rule: scans it unless another scheduler has, or this machine's clock is wrong.

    What was missed since the last firing is caught up by this one, which says how many they were.
    """
    try:
        tolerance = app.settings.scheduler.clock_tolerance_s
        if trouble := await clock_trouble(app.store, app.clock, tolerance):
            log.error("not fired", kind=kind, fire_at=str(fire_at), why=trouble)
            return
        last = await app.store.outbox.last_firing(kind)
        if last is not None and last >= fire_at:
            return  # this machine stood still meanwhile: a later firing has counted this one
        # By the fire time, not the clock: who is late for it leaves the next one to the next tick.
        missed = missed_firings(last, fire_at, app.registry.cadences[kind].scan_every)
        done = await app.scan.run(kind, trigger="clock", fire_at=fire_at, missed=missed)
        if done is not None and missed:
            log.warning("caught up", kind=kind, missed=missed, planned=done.planned, last=str(last))
    except Exception as error:
        # The next tick looks again: what is due stays due.
        log.error("scan failed", kind=kind, error=type(error).__name__, detail=str(error)[:200])


async def _until_stopped(parts: list[asyncio.Task[None]], stopping: asyncio.Event) -> None:
    waiter = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({waiter, *parts}, return_when=asyncio.FIRST_COMPLETED)
        died = [] if stopping.is_set() else [part for part in parts if part.done()]
        stopping.set()
        log.info("stopping")
        if parts:
            _, late = await asyncio.wait(parts, timeout=DRAIN_S)
            for part in late:
                log.warning("given up: its messages are swept up as unknown", part=part.get_name())
                part.cancel()
        for part in died:
            raise DuewatchError(f"the {part.get_name()} ended: {part.exception()!r}")
    finally:
        waiter.cancel()
        log.info("stopped")
