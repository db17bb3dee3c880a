"""Delivery: claim -> still due? -> render -> begin (committed) -> provider -> finish.

Nothing leaves before its attempt is committed, and nothing is committed to that the planner
wouldn't tell now: the last look and the beginning of the attempt are one transaction. What dies
in between is found by the sweep as of unknown outcome, and the provider's nature decides.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from workers.errors import (
    PermanentError,
    ProviderError,
    TransientError,
    UnknownOutcomeError,
)
from workers.last_look import LastLook, Ready, Settled
from workers.links import Links
from workers.model import NotificationState, Outcome
from workers.providers import Channel, Provider
from workers.records import Registry
from workers.render import Renderer
from workers.settings import Settings
from workers.store import AsyncConnection, Store
from workers.store.outbox import Claimed, Finished

log = structlog.get_logger("deliver")

S = NotificationState
RECORD_EVERY_S = 0.02
"""Outcomes that come within this time are recorded in one transaction."""


class Delivery:
    """Sends what is pending. One per process; any number of processes."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        renderer: Renderer,
        providers: Mapping[Channel, Provider],
        links: Links,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.look = LastLook(store, registry, renderer, links, settings, clock)
        self.providers = providers
        self.settings = settings
        self.clock = clock
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.running: bool | None = None
        """Whether the loop runs; None until it has begun, as in a process of another role."""
        self._lease = timedelta(seconds=settings.delivery.lease_s)
        self._held: dict[int, Claimed] = {}
        self._bell = asyncio.Event()
        self._room = asyncio.Event()
        # A message begins only when it can be handed over at once, so a crash leaves at most
        # `concurrency` outcomes unknown; a slow send keeps its own slot and nobody else's.
        self._slots = asyncio.Semaphore(settings.delivery.concurrency)
        self._in_line = asyncio.Lock()
        # What a number gets in a minute is counted by one chunk at a time.
        self._counting_sms = asyncio.Lock()
        self._finished: asyncio.Queue[Finished] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- the loop -------------------------------------------------------------------------

    def ring(self) -> None:
        """Says that something may be pending. Safe to call at any time, any number of times."""
        self._bell.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Delivers until `stopping` is set, then finishes what is in flight."""
        self.running = True
        chores = [
            asyncio.create_task(self._record()),
            asyncio.create_task(self._renew()),
            asyncio.create_task(self._sweep_now_and_then()),
        ]
        waits_for_stop = asyncio.create_task(stopping.wait())
        waits_for_stop.add_done_callback(lambda _: self._bell.set())
        try:
            while not stopping.is_set():
                self._bell.clear()
                try:
                    claimed = await self._step()
                except Exception as error:
                    # The database is away: the rows are safe there, so wait and look again.
                    log.error("delivery", error=type(error).__name__, detail=str(error)[:200])
                    claimed = 0
                if not claimed:
                    await self._rest()
            await self._finish_all()
        finally:
            self.running = False
            for task in (*chores, waits_for_stop):
                task.cancel()
            await asyncio.gather(*chores, waits_for_stop, return_exceptions=True)

    async def drain(self) -> int:
        """Delivers all that is pending now and returns how many notifications were claimed."""
        await self._sweep()
        chores = [asyncio.create_task(self._record()), asyncio.create_task(self._renew())]
        total = 0
        try:
            while claimed := await self._step():
                total += claimed
                await self._finish_all()
        finally:
            for task in chores:
                task.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
        return total

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.delivery.poll_s):
                await self._bell.wait()

    async def _sweep_now_and_then(self) -> None:
        while True:
            await self._sweep()
            await asyncio.sleep(self.settings.delivery.poll_s)

    async def _sweep(self) -> None:
        repeatable = {name for name, one in self._by_name().items() if one.repeat_is_safe}
        try:
            again, parked = await self.store.outbox.sweep(
                repeatable, self.settings.delivery.attempts, self.clock()
            )
        except Exception as error:
            log.error("sweep", error=type(error).__name__, detail=str(error)[:200])
            return
        if again or parked:
            log.warning("unknown outcomes", to_be_sent_again=again, parked=parked)

    def _by_name(self) -> dict[str, Provider]:
        return {provider.name: provider for provider in self.providers.values()}

    async def _step(self) -> int:
        """Claims as much as there is room for and starts on it; returns how many."""
        limit = self.settings.delivery.batch
        while len(self._held) >= 2 * limit:
            self._room.clear()
            await self._room.wait()
        now = self.clock()
        if not await self.store.outbox.waiting(now):
            return 0
        claimed = await self.store.outbox.claim(now, limit, self._lease)
        # Two chunks fit in: while one sends the other is looked at and rendered.
        size = max(1, self.settings.delivery.concurrency // 2)
        for one in claimed:
            self._held[one.id] = one
        for start in range(0, len(claimed), size):
            self._spawn(self._chunk(claimed[start : start + size]))
        return len(claimed)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_all(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._finished.join()

    def _let_go(self, claimed: Collection[Claimed]) -> None:
        for one in claimed:
            self._held.pop(one.id, None)
        self._room.set()

    # --- one chunk ------------------------------------------------------------------------

    async def _chunk(self, claimed: Sequence[Claimed]) -> None:
        async with self._in_line:  # one chunk at a time: two would wait for each other's slots
            for _ in claimed:
                await self._slots.acquire()
        ready: list[Ready] = []
        sms = any(one.row.channel == "sms" for one in claimed)
        try:
            async with self._counting_sms if sms else nullcontext():
                ready = await self._prepare(claimed)
        except Exception as error:
            # Not begun, so nothing left: the lease ends and another look is taken.
            log.error("prepare", error=type(error).__name__, detail=str(error)[:200])
            self._let_go(claimed)
        begun_at = asyncio.get_running_loop().time()
        for _ in range(len(claimed) - len(ready)):
            self._slots.release()
        for one in ready:
            self._spawn(self._send(one, begun_at))

    async def _prepare(self, claimed: Sequence[Claimed]) -> list[Ready]:
        """The last look, rendering and the commitment to send."""
        looked = await self.look.at(claimed)
        ready = [one for one in looked if isinstance(one, Ready)]
        now = self.clock()
        begun: list[Ready] = []
        async with self.store.database.write() as connection:
            for one in looked:
                if isinstance(one, Settled):
                    await self._settle(connection, one, now)
            refused = await self._suppressed(connection, ready)
            for one in ready:
                if reason := refused.get(one.claimed.id):
                    settled = Settled(one.claimed, reason, S.SUPPRESSED, dropped=one.dropped)
                    await self._settle(connection, settled, now)
                elif await self.store.outbox.begin(
                    connection,
                    one.claimed,
                    self.providers[one.claimed.row.channel].name,
                    one.revisions,
                    self._lease,
                    now,
                ):
                    await self.store.outbox.drop(connection, one.dropped, now)
                    begun.append(one)
                else:
                    # Something changed since it was rendered: give it back and look again.
                    await self.store.outbox.put_off(connection, one.claimed, now, "")
                    self._bell.set()
        begun_ids = {one.claimed.id for one in begun}
        self._let_go([one for one in claimed if one.id not in begun_ids])
        return begun

    async def _settle(self, connection: AsyncConnection, one: Settled, now: datetime) -> None:
        if one.state is None:
            assert one.until is not None
            await self.store.outbox.put_off(connection, one.claimed, one.until, one.reason)
            return
        if not await self.store.outbox.settle(connection, one.claimed, one.state, one.reason, now):
            return
        await self.store.outbox.drop(connection, one.dropped, now)
        self.outcomes[one.claimed.row.channel, one.state.value] += 1

    async def _suppressed(
        self, connection: AsyncConnection, ready: Sequence[Ready]
    ) -> dict[int, str]:
        rows = [one.claimed.row for one in ready]
        required = {one.claimed.id for one in ready if one.required}
        found = await self.store.outbox.suppressed(
            connection, {(row.channel, row.address) for row in rows}
        )
        return {
            row.id: reason
            for row in rows
            # What is required doesn't ask whether its kind is wished.
            for kind in ("*", *((row.kind,) if row.id not in required else ()))
            if (reason := found.get((row.channel, row.address, kind)))
        }

    # --- send and record ------------------------------------------------------------------

    async def _send(self, one: Ready, begun_at: float) -> None:
        row = one.claimed.row
        provider = self.providers[row.channel]
        try:
            if asyncio.get_running_loop().time() - begun_at > self._lease.total_seconds():
                # This process was stopped in between: by now the message may be in other hands.
                raise TransientError("the lease ended before the message was handed over")
            accepted = await provider.send(one.message)
        except ProviderError as error:
            finished = self._failed(one, provider, error)
        except Exception as error:
            # A provider's own fault after the attempt began: nobody knows whether it was accepted.
            lost = UnknownOutcomeError(f"{provider.name} broke: {type(error).__name__}")
            log.exception("provider", provider=provider.name, notification=row.uid)
            finished = self._failed(one, provider, lost)
        else:
            finished = Finished(
                one.claimed,
                Outcome.ACCEPTED,
                S.ACCEPTED,
                accepted.reply,
                reference=accepted.reference,
            )
        finally:
            self._slots.release()
        self._finished.put_nowait(finished)

    def _failed(self, one: Ready, provider: Provider, error: ProviderError) -> Finished:
        row = one.claimed.row
        number = row.attempt_count + 1
        spent = number >= self.settings.delivery.attempts
        if isinstance(error, PermanentError):
            return Finished(
                one.claimed,
                Outcome.REJECTED,
                S.FAILED,
                error.reply,
                reason=str(error),
                address_is_bad=error.address_is_bad,
            )
        outcome = Outcome.DEFERRED if isinstance(error, TransientError) else Outcome.UNKNOWN
        if outcome is Outcome.UNKNOWN and not provider.repeat_is_safe:
            reason = f"unknown outcome: {error}"
            return Finished(one.claimed, outcome, S.PARKED, error.reply, reason=reason)
        if spent:
            reason = f"gave up after {number} attempts: {error}"
            return Finished(one.claimed, outcome, S.FAILED, error.reply, reason=reason)
        wished = error.retry_after if isinstance(error, TransientError) else None
        again = self.clock() + max(wished or timedelta(0), self.back_off(row.uid, number))
        return Finished(
            one.claimed, outcome, S.PENDING, error.reply, reason=str(error), again_at=again
        )

    def back_off(self, uid: str, number: int) -> timedelta:
        """The time to the next try: doubled each time, up to a limit, ±15 % steady by message."""
        first, longest = (
            self.settings.delivery.first_retry_s,
            self.settings.delivery.longest_retry_s,
        )
        spread = hashlib.sha256(f"{uid}{number}".encode()).digest()[0] / 255 * 0.3 - 0.15
        return timedelta(seconds=min(first * 2 ** (number - 1), longest) * (1 + spread))

    async def _record(self) -> None:
        """Writes outcomes down, those that come together in one transaction."""
        while True:
            finished = [await self._finished.get()]
            await asyncio.sleep(RECORD_EVERY_S)
            while not self._finished.empty():
                finished.append(self._finished.get_nowait())
            while True:
                try:
                    refused = await self.store.outbox.finish(finished, self.clock())
                    break
                except Exception as error:
                    # What was accepted must be written down: try until the database is back.
                    log.error("record", error=type(error).__name__, detail=str(error)[:200])
                    await asyncio.sleep(1)
            if refused:
                log.warning("outcomes refused by the fence", count=refused)
            for one in finished:
                self.outcomes[one.claimed.row.channel, one.outcome.value] += 1
                log.info(
                    "attempt",
                    notification=one.claimed.row.uid,
                    kind=one.claimed.row.kind,
                    channel=one.claimed.row.channel,
                    outcome=one.outcome.value,
                    state=one.state.value,
                )
                self._finished.task_done()
            self._let_go([one.claimed for one in finished])

    async def _renew(self) -> None:
        """Keeps the leases of what is in hand from ending while a slow server takes its time."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            if not self._held:
                continue
            try:
                await self.store.outbox.renew(list(self._held.values()), self._lease)
            except Exception as error:
                log.error("lease", error=type(error).__name__, detail=str(error)[:200])
