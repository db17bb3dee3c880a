"""Dramatiq actors, a line each: the broker is a bell, not a store.

A bell says "look at the outbox"; it carries nothing, so a lost, late or repeated one costs a moment
at most, and without any broker the workers' polling is the floor. Embedded, the broker lives in
this process; with `broker_url` it is Redis or RabbitMQ, and every worker hears it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dramatiq
import structlog
from dramatiq.brokers.stub import StubBroker

log = structlog.get_logger("bell")

QUEUE = "duewatch-bells"
MAX_AGE_MS = 60_000
"""An older bell is dropped: polling has looked since."""


def make_broker(url: str) -> dramatiq.Broker:
    """The broker for a URL: redis://, amqp://, or "" for one within this process."""
    middleware: list[dramatiq.Middleware] = [
        dramatiq.middleware.AgeLimit(max_age=MAX_AGE_MS),
        dramatiq.middleware.ShutdownNotifications(),
    ]
    if url.startswith("redis"):
        from dramatiq.brokers.redis import RedisBroker

        return RedisBroker(url=url, middleware=middleware)  # type: ignore[no-untyped-call]
    if url.startswith("amqp"):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        # Dramatiq's own default publishes into a dying socket without noticing.
        return RabbitmqBroker(url=url, middleware=middleware, confirm_delivery=True)
    return StubBroker(middleware=middleware)


class Bell:
    """Rings workers, in this process or in others."""

    def __init__(self, broker_url: str) -> None:
        self._broker = make_broker(broker_url)
        self._heard: Callable[[], None] = lambda: None
        declare = dramatiq.actor(broker=self._broker, actor_name="deliver", queue_name=QUEUE)
        self._actor = declare(self._ring)
        self._worker: dramatiq.Worker | None = None
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bell")
        self._ringing = False

    def _ring(self) -> None:
        self._heard()

    def listen(self, heard: Callable[[], None]) -> None:
        """Begins to hear bells: `heard` is called on this event loop."""
        loop = asyncio.get_running_loop()

        def pass_on() -> None:
            loop.call_soon_threadsafe(heard)

        self._heard = pass_on
        self._worker = dramatiq.Worker(self._broker, worker_threads=1, worker_timeout=200)
        self._worker.start()

    def ring(self) -> None:
        """Rings, without waiting for the broker; several at once are one."""
        if self._ringing:
            return
        self._ringing = True
        self._threads.submit(self._send)

    def _send(self) -> None:
        self._ringing = False
        try:
            self._actor.send()
        except Exception as error:
            log.warning("no bell: polling goes on", error=type(error).__name__)

    def close(self) -> None:
        """Stops hearing and ringing."""
        self._threads.shutdown(wait=True)
        if self._worker is not None:
            self._worker.stop(timeout=5_000)
        self._broker.close()
