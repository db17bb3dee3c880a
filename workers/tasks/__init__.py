"""Dramatiq actors, a few lines each: the broker is a bell and a letterbox, not a store.

    deliver   a bell: "look at the outbox". Lost, late or repeated it costs a moment
    scan      a wish that one kind be scanned; what is due is scanned by the clock anyway
    event     a producer's CloudEvent: acknowledged once it is committed, or kept in quarantine

Embedded, the bell rings within this process. With `broker_url` it goes over Redis or RabbitMQ, and
whoever listens hears it; without, with a broker that is away, and for a bell that is lost, the
workers' polling is the floor. Producers put events into the queue `duewatch.events`.

letters         what lies in a queue, made sense of
over_redis      Dramatiq's brokers with their
over_rabbitmq   traps filled in
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dramatiq
import structlog

from workers.errors import CallerError, SettingsError, UnavailableError
from workers.store import is_away
from workers.store.quarantine import Quarantine
from workers.tasks.letters import (
    ARGUMENTS,
    BELLS,
    DELIVER,
    EVENT,
    EVENTS,
    QUEUES,
    SCAN,
    UNREADABLE,
    Letter,
    Line,
    open_letter,
)

if TYPE_CHECKING:
    from workers.tasks.over_rabbitmq import Rabbitmq
    from workers.tasks.over_redis import Redis

log = structlog.get_logger("bell")

MAX_DELIVERIES = 3
"""How often work on one message may begin, by faults or ended processes, until it is put aside."""
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
"""Between looks whether the database is back, doubling."""
STOP_S = 10.0
IDLE_MS = 200
THREADS = {DELIVER: 1, SCAN: 1, EVENT: 16}
"""By actor; a slow scan holds up no bell, because each has workers of its own. Events that are in
hand at the same time are stored together.
"""
PROBE_S = 10.0


@dataclass(frozen=True, slots=True)
class Ears:
    """What this process does with letters; None where it doesn't fetch them.

    `scan` scans a kind; `event` takes an event and returns why it can't be taken, or "". Both may
    raise what the database raises: they are asked again then. `read` parses JSON strictly.
    """

    letters: Quarantine
    clock: Callable[[], datetime]
    scan: Callable[[str], Awaitable[None]] | None = None
    event: Callable[[Any], Awaitable[str]] | None = None
    read: Callable[[bytes], Any] = json.loads


class _PutBackError(Exception):
    """Work on a letter is given up for now: the broker gives it to somebody else."""


class Bell:
    """Rings workers, in this process or in others, and hears what the broker carries."""

    def __init__(self, broker_url: str) -> None:
        self.url = broker_url
        self._heard: Callable[[], None] | None = None
        self._ears: Ears | None = None
        self._line = Line(set(), json.loads)
        self._broker = _make_broker(broker_url, self._line)
        self._actors: dict[str, Any] = {}
        works = {DELIVER: self._deliver, SCAN: self._work, EVENT: self._work}
        for name, work in (works | {UNREADABLE: self._work}).items() if self._broker else ():
            declare = dramatiq.actor(broker=self._broker, actor_name=name, queue_name=QUEUES[name])
            self._actors[name] = declare(work)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._alone = asyncio.Lock()
        self._workers: list[dramatiq.Worker] = []
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bell")
        self._ringing = False

    # --- hearing --------------------------------------------------------------------------

    def listen(self, heard: Callable[[], None] | None = None, ears: Ears | None = None) -> None:
        """Begins to hear, on this event loop: `heard` is called for bells, `ears` for letters."""
        self._loop = asyncio.get_running_loop()
        self._heard, self._ears = heard, ears
        if self._broker is None:
            return
        wanted = {DELIVER: heard, SCAN: ears and ears.scan, EVENT: ears and ears.event}
        actors = [name for name, ear in wanted.items() if ear is not None]
        self._line.known = {*actors, UNREADABLE}
        self._line.read = ears.read if ears else json.loads
        for name in actors:
            worker = dramatiq.Worker(
                self._broker,
                queues={QUEUES[name]},
                worker_threads=THREADS[name],
                worker_timeout=IDLE_MS,
            )
            worker.start()
            self._workers.append(worker)

    def _deliver(self, _: Letter) -> None:
        if self._heard is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._heard)

    def _work(self, letter: Letter) -> None:
        """Returns once the letter's effect is committed; otherwise raises, and it is put back."""
        if self._ears is None:
            log.error("not a message", queue=letter.queue, why=letter.reason)
        else:
            self._on_loop(self._see_to(letter, self._ears))

    async def _see_to(self, letter: Letter, ears: Ears) -> None:
        if not letter.again:
            await self._patiently(letter, ears)
            return
        # One at a time, so that the one which ended a process isn't taken for its neighbours.
        async with self._alone:
            await self._patiently(letter, ears)

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _patiently(self, letter: Letter, ears: Ears) -> None:
        """Does it with patience: a database that is away is waited for, faults are counted."""
        counted, faults, pause, reason = False, 0, FIRST_PAUSE_S, ""
        while True:
            try:
                if letter.again and not counted:
                    times = await ears.letters.begin_again(letter.body, ears.clock())
                    counted = True
                    if times >= MAX_DELIVERIES:
                        reason = (
                            f"whoever began on it ended before it was done, {MAX_DELIVERIES} times"
                        )
                if reason := reason or await _done(letter, ears):
                    await ears.letters.keep(letter.queue, reason, letter.body, ears.clock())
                    log.warning("quarantined", queue=letter.queue, bytes=len(letter.body))
                elif counted:
                    await ears.letters.ended(letter.body)
                return
            except Exception as error:
                if not is_away(error):
                    faults += 1
                    log.error("letter", actor=letter.actor, error=type(error).__name__)
                if faults >= MAX_DELIVERIES:
                    reason = f"{type(error).__name__}: {error}"
            await self._rest(pause)
            pause = min(2 * pause, MAX_PAUSE_S)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        if self._stopping.is_set():
            raise _PutBackError

    # --- speaking -------------------------------------------------------------------------

    def ring(self) -> None:
        """Rings, without waiting for the broker; several at once are one."""
        if self._broker is None:
            if self._heard is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._heard)
        elif not self._ringing:
            self._ringing = True
            self._threads.submit(self._ring, self._broker)

    def _ring(self, broker: Redis | Rabbitmq) -> None:
        self._ringing = False
        try:
            if not broker.is_full_of_bells():
                self._actors[DELIVER].send()
        except Exception as error:
            self._line.lost("ringing", error)
        else:
            self._line.found("ringing")

    def request_scan(self, kind: str) -> None:
        """Asks whoever schedules to scan a kind. Returns once the broker has it.

        Raises SettingsError without a broker, UnavailableError when it can't be reached.
        """
        self._send(SCAN, kind)

    def send_event(self, event: Mapping[str, Any]) -> None:
        """Sends a CloudEvent, plain JSON values only. Returns once the broker has it.

        Raises SettingsError without a broker, UnavailableError when it can't be reached.
        """
        self._send(EVENT, event)

    def _send(self, actor: str, value: Any) -> None:
        try:
            self._reached()
            self._actors[actor].send(**{ARGUMENTS[actor]: value})
        except CallerError:
            raise
        except Exception as error:
            raise self._unavailable(error) from None

    def _reached(self) -> Redis | Rabbitmq:
        if self._broker is None:
            raise SettingsError("broker_url: is empty: name a Redis or RabbitMQ to send through")
        return self._broker

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"broker_url: can't use {shown_broker(self.url)}: {type(error).__name__}: check that "
            "it runs, and the name, password and rights"
        )

    def probe(self) -> tuple[float, str, str, str]:
        """Sends a message through a queue of its own and hears it.

        Returns (seconds it took, what the server is, what is wrong with it, the remedy). Raises
        SettingsError without a broker, UnavailableError when nothing is heard within PROBE_S.
        """
        broker = self._reached()
        queue = f"duewatch.probe-{uuid.uuid4().hex[:12]}"
        self._line.known = {*self._line.known, DELIVER, UNREADABLE}
        try:
            broker.declare_queue(queue)
            ear = broker.consume(queue, 1, IDLE_MS)
            began = time.monotonic()
            broker.enqueue(dramatiq.Message(queue, DELIVER, (), {}, {}))
            while (message := next(ear)) is None:
                if time.monotonic() - began > PROBE_S:
                    raise TimeoutError
            took = time.monotonic() - began
            ear.ack(message)
            ear.close()
            about = broker.server()
            broker.remove(queue)
        except Exception as error:
            raise self._unavailable(error) from None
        return took, *about

    # --- ending ---------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stops hearing: what is under way is ended or given back to the broker."""
        self._stopping.set()
        await asyncio.to_thread(self._stop_workers)

    def _stop_workers(self) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.stop(timeout=int(STOP_S * 1000))

    def close(self) -> None:
        """Stops ringing too, and closes the broker."""
        self._stopping.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._stop_workers()
        if self._broker is not None:
            with suppress(Exception):
                self._broker.close()


async def _done(letter: Letter, ears: Ears) -> str:
    """Does what the letter asks for, and returns why that can't be done, or ""."""
    if letter.reason:
        return letter.reason
    if letter.actor == EVENT and ears.event is not None:
        return await ears.event(letter.content)
    if letter.actor == SCAN and ears.scan is not None:
        try:
            await ears.scan(str(letter.content))
        except CallerError as error:
            # An unknown or a paused kind: nothing of value is lost with a wish.
            log.warning("no scan", why=str(error)[:200])
    return ""


def read_event(body: bytes, read: Callable[[bytes], Any]) -> tuple[Any, str]:
    """(the event that a kept letter carries, why it carries none): what a replay takes."""
    letter = open_letter(EVENTS, body, read)
    if letter.actor == EVENT:
        return letter.content, ""
    return None, letter.reason or f"is for {letter.actor}, not an event: drop it"


def shown_broker(url: str) -> str:
    """The URL as it may be shown: without its name and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _make_broker(url: str, line: Line) -> Redis | Rabbitmq | None:
    """The broker for a URL, not yet connected; None for "": everything is within this process."""
    if not url:
        return None
    # They say the same every three seconds while a broker is away, and repeat whole messages.
    for name in ("dramatiq", "pika"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if url.startswith("redis"):
        from workers.tasks.over_redis import Redis

        return Redis(url, line)
    from workers.tasks.over_rabbitmq import Rabbitmq

    return Rabbitmq(url, line)


__all__ = ["BELLS", "EVENTS", "Bell", "Ears", "read_event", "shown_broker"]
