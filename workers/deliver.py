"""Delivery: claim -> still due? -> render -> begin (committed) -> provider -> finish.

Nothing leaves before its attempt is committed, and nothing is committed to that the planner
wouldn't tell now: the last look and the beginning of the attempt are one transaction. What dies
in between is found by the sweep as of unknown outcome, and the provider's nature decides.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from workers import traces
from workers.carriers import Carriers, Offer, Shown, domain_of
from workers.commitment import Commitment
from workers.errors import ProviderError, TransientError, UnknownOutcomeError
from workers.foresight import Foresight
from workers.hand import Hand
from workers.last_look import LastLook, Ready
from workers.links import Links
from workers.meter import SendMeter
from workers.model import DIGEST, NotificationState, Outcome
from workers.outcomes import asks_for_less, failed, turn_of
from workers.providers import Channel, Provider
from workers.purse import Purse
from workers.records import Registry
from workers.render import Renderer
from workers.settings import Settings
from workers.store import AsyncConnection, Store
from workers.store.attempts import Claimed, Finished
from workers.store.breakers import Turn

log = structlog.get_logger("deliver")

S = NotificationState
RECORD_EVERY_S = 0.02
"""Outcomes that come within this time are recorded in one transaction, if any is to come."""
GATHER_S = 0.02
"""So long places that became free wait for more, so that a chunk is worth its transaction."""
ALONE_S = 0.25
"""So long a chunk is begun by itself; one that takes longer doesn't keep others waiting."""


class Delivery:
    """Sends what is pending. One per process; any number of processes."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        renderer: Renderer,
        providers: Mapping[Channel, Mapping[str, Provider]],
        links: Links,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.look = LastLook(store, registry, renderer, links, settings, clock)
        self.carriers = Carriers(store, providers, settings, clock)
        self.purse = Purse(store, settings, clock)
        self.settings = settings
        self.clock = clock
        self._known = frozenset({*registry.rules, DIGEST})  # a newer version's are left to it
        self.commitment = Commitment(store, self.look, self.purse, self.carriers, settings, clock)
        self.outcomes = self.commitment.outcomes
        self._hand = Hand(self.carriers)
        self.foresight = Foresight(self.look, lambda: self._hand, self._pump)
        self.meter = SendMeter()
        self.running: bool | None = None
        """Whether the loop runs; None until it has begun, as in a process of another role."""
        self._lease = timedelta(seconds=settings.delivery.lease_s)
        self._held: dict[int, Claimed] = {}
        self._chosen: dict[int, str] = {}
        self._begun_by: dict[int, str] = {}
        self._under_way: set[int] = set()
        """What has begun and whose outcome isn't written down."""
        self._bell = asyncio.Event()
        self._room = asyncio.Event()
        self._pumped_later: tuple[asyncio.TimerHandle, float] | None = None
        self._begins_since = float("-inf")
        self._short = False
        """Whether shares left places free when the last were given away."""
        self._finished: asyncio.Queue[tuple[Finished, Turn | None, str]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def provider_states(self) -> list[Shown]:
        """Each provider as all workers see it: state, why, since when, limits used."""
        return await self.carriers.shown()

    @property
    def waits(self) -> Mapping[tuple[str, str], int]:
        """Messages this process made wait, by (limit, whose): provider, domain, slow, money."""
        return self.carriers.waits + self.purse.waits

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
            await self._give_back([one.id for one in self._hand], "", timedelta(0))
            await self._finish_all()
            await self.foresight.stop()
        finally:
            self.running = False
            for task in (*chores, waits_for_stop):
                task.cancel()
            await asyncio.gather(*chores, waits_for_stop, return_exceptions=True)

    async def drain(self) -> int:
        """Delivers all that is pending now and returns how many notifications were claimed.

        What a provider's pace holds up is waited for; what must wait otherwise stays pending.
        """
        await self._sweep()
        await self.carriers.look(anew=True)
        chores = [asyncio.create_task(self._record()), asyncio.create_task(self._renew())]
        total = 0
        try:
            while True:
                claimed = await self._step()
                total += claimed
                await self._finish_all()
                if not claimed and (wait := self.carriers.next_in_s) is None:
                    break
                if not claimed and wait is not None:
                    await asyncio.sleep(wait)
        finally:
            for task in chores:
                task.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
        return total

    async def _rest(self) -> None:
        poll_s, soon_s = self.settings.delivery.poll_s, self.carriers.next_in_s
        with suppress(TimeoutError):
            async with asyncio.timeout(poll_s if soon_s is None else min(poll_s, soon_s)):
                await self._bell.wait()

    async def _sweep_now_and_then(self) -> None:
        while True:
            await self._sweep()
            await self._give_back_stuck()
            await asyncio.sleep(self.settings.delivery.poll_s)

    async def _sweep(self) -> None:
        named = self.carriers.by_name.items()
        repeatable = {name for name, one in named if one.repeat_is_safe}
        try:
            again, parked = await self.store.outbox.sweep(
                repeatable, self.settings.delivery.attempts, self.clock()
            )
        except Exception as error:
            log.error("sweep", error=type(error).__name__, detail=str(error)[:200])
            return
        await self.carriers.forget_old()
        if again or parked:
            log.warning("unknown outcomes", to_be_sent_again=again, parked=parked)

    async def _step(self) -> int:
        """Claims as much as there is room for and starts on it; returns how many."""
        limit = self.settings.delivery.batch
        while len(self._held) >= 2 * limit:
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._room.wait()
            await self._give_back_stuck()
        now, total = self.clock(), 0
        self.carriers.next_in_s = None
        channels = await self.store.outbox.waiting(now, self._known)
        if channels:
            await self.carriers.look()
        for channel in channels:
            waiting = self._hand.counts()
            for offer in await self.carriers.offers(channel, limit, waiting):
                total += await self._claim(channel, offer, now, waiting)
        self._pump()
        return total

    async def _claim(self, channel: str, offer: Offer, now: datetime, waiting: Counter[str]) -> int:
        sift = partial(self.carriers.sift, waiting=waiting)
        claimed = await self.store.outbox.claim(
            now, offer.limit, self._lease, channel, sift, self._known
        )
        if offer.probe is not None:
            await self.carriers.probes_by(claimed, offer.probe)
        for one in claimed:
            with traces.span("claim", parent=one.row.traceparent, notification=one.row.uid):
                self._held[one.id] = one
        self._hand.take_up(claimed)
        return len(claimed)

    def _pump(self, *, gathered: bool = False) -> None:
        """Hands out free places, in order, to what was seen, a chunk at a time. While one chunk
        sends, the other is begun, and what comes next is seen; the places that become free
        meanwhile make the chunk after it.
        """
        if not self._hand:
            return
        places, size = self.carriers.places, max(1, self.settings.delivery.concurrency // 2)
        wait = self._begins_since + ALONE_S - asyncio.get_running_loop().time()
        if wait > 0:
            self._pump_later(wait)
            return
        wanted = min(size, len(self._hand))
        if not gathered and places.held and (self._short or places.free < wanted):
            self._pump_later(GATHER_S)
            return
        dealt = self._hand.deal(size, self.foresight.is_known)
        self._short = len(dealt.seen) < wanted
        self._chosen |= dealt.chosen
        if dealt.seen:
            self._begins_since = asyncio.get_running_loop().time()
            self._spawn(self._chunk(list(dealt.seen.values())))
        if dealt.lost:
            self._spawn(self._give_back(dealt.lost, "", timedelta(0)))
        self.foresight.ahead(list(dealt.unseen.values()))

    def _pump_later(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + wait_s
        if self._pumped_later is not None:
            handle, then = self._pumped_later
            if then <= at:
                return
            handle.cancel()
        self._pumped_later = loop.call_later(wait_s, self._pump_gathered), at

    def _pump_gathered(self) -> None:
        self._pumped_later = None
        self._pump(gathered=True)

    async def _give_back_stuck(self) -> None:
        """Makes room for others where a slow server holds all the places it may."""
        for wait, ids in self._hand.stuck().items():
            await self._give_back(ids, "put off: a slow server has no place left", wait)

    async def _give_back(self, ids: Collection[int], why: str, wait: timedelta) -> None:
        """Gives back what is in hand and hasn't begun."""
        later = self.clock() + wait
        back = self._hand.lay_down(ids)
        if not back:
            return
        try:
            async with self.store.database.write() as connection:
                waits = {
                    one.id: (later if wait else one.row.not_before, why or one.row.reason)
                    for one in back
                }
                await self.store.outbox.put_off(connection, back, waits)
        except Exception as error:
            log.error("give back", error=type(error).__name__, detail=str(error)[:200])
        for one in back:
            await self.carriers.probe_ended(one.id, unused=True)
        self._let_go(back)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_all(self) -> None:
        while self._tasks or self._hand:
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            else:
                await asyncio.sleep(GATHER_S)
        await self._finished.join()

    def _let_go(self, claimed: Collection[Claimed]) -> None:
        for one in claimed:
            self._held.pop(one.id, None)
            self._chosen.pop(one.id, None)
        self.foresight.forget([one.id for one in claimed])
        self._room.set()

    # --- one chunk ------------------------------------------------------------------------

    async def _chunk(self, claimed: Sequence[Claimed]) -> None:
        ready: list[Ready] = []
        begun_at = 0.0
        try:
            ready, begun_at = await self._prepare(claimed)
        except Exception as error:
            # Not begun, so nothing left: the lease ends and another look is taken.
            log.error("prepare", error=type(error).__name__, detail=str(error)[:200])
            self._let_go(claimed)
        self._begins_since = float("-inf")
        for one in ready:
            self._spawn(self._send(one, begun_at))
        begun = {one.claimed.id for one in ready}
        for unused in (one for one in claimed if one.id not in begun):
            self.carriers.places.leave(unused.id)
            self.purse.paid(unused.id)
            await self.carriers.probe_ended(unused.id, unused=True)
        self._pump()

    async def _prepare(self, claimed: Sequence[Claimed]) -> tuple[list[Ready], float]:
        """The last look, rendering and the commitment to send; and since when its lease runs."""
        names = {one.id: self._provider_of(one) for one in claimed}
        looked = await self.foresight.take(claimed)
        begun, begun_at, again = await self.commitment.to(looked, names)
        begun_ids = {one.claimed.id for one in begun}
        self._begun_by |= {one_id: names[one_id] for one_id in begun_ids}
        self._under_way |= begun_ids
        self._let_go([one for one in claimed if one.id not in begun_ids])
        if again:
            self._bell.set()
        return begun, begun_at

    def _provider_of(self, claimed: Claimed) -> str:
        chosen = self._chosen.pop(claimed.id, None) or self.carriers.choose(claimed.row)
        return chosen or next(iter(self.carriers.providers[claimed.row.channel]))

    # --- send and record ------------------------------------------------------------------

    async def _send(self, one: Ready, begun_at: float) -> None:
        name = self._begun_by.pop(one.claimed.id)
        with self.meter.attempt(one.claimed.row, name, self.clock) as ended:
            ended.outcome = await self._hand_over(one, name, begun_at)

    async def _hand_over(self, one: Ready, name: str, begun_at: float) -> str:
        provider, error = self.carriers.by_name[name], None
        since = asyncio.get_running_loop().time()
        self.carriers.in_flight[name] += 1
        self.carriers.places.began(one.claimed.id)
        try:
            if asyncio.get_running_loop().time() - begun_at > self._lease.total_seconds():
                # This process was stopped in between: by now the message may be in other hands.
                raise TransientError("the lease ended before it was sent", trouble="recipient")
            accepted = await provider.send(one.message)
        except ProviderError as said:
            error = said
        except Exception as said:
            # A provider's own fault after the attempt began: nobody knows whether it was accepted.
            error = UnknownOutcomeError(f"{name} broke: {type(said).__name__}")
            log.exception("provider", provider=name, notification=one.claimed.row.uid)
        finally:
            probe = await self.carriers.probe_ended(one.claimed.id, unused=False)
            turn = self.carriers.heard(turn_of(name, one.claimed.id, error, probe), since)
            self.carriers.in_flight[name] -= 1
            self.carriers.places.leave(one.claimed.id, answered=True)
            self._pump()
        if error is None:
            finished = Finished(
                one.claimed,
                Outcome.ACCEPTED,
                S.ACCEPTED,
                accepted.reply,
                reference=accepted.reference,
            )
        else:
            safe, now = provider.repeat_is_safe, self.clock()
            finished = failed(one.claimed, error, safe, self.settings.delivery, now)
            finished = self.carriers.handed_on(finished, name, error)
        slower = domain_of(one.claimed.row) if asks_for_less(error) else ""
        self._finished.put_nowait((finished, turn, slower))
        return finished.outcome.value

    async def _record(self) -> None:
        """Writes outcomes down, those that come together in one transaction."""
        while True:
            ended = [await self._finished.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(RECORD_EVERY_S):
                    # Where no other is under way, there is nothing to wait for.
                    while len(ended) < len(self._under_way):
                        ended.append(await self._finished.get())
            while not self._finished.empty():
                ended.append(self._finished.get_nowait())
            finished = [one for one, _, _ in ended]
            also = partial(
                self._also,
                finished=finished,
                turns=[turn for _, turn, _ in ended if turn is not None],
                slower=[domain for _, _, domain in ended if domain],
            )
            while True:
                try:
                    refused = await self.store.outbox.finish(finished, self.clock(), also)
                    break
                except Exception as error:
                    # What was accepted must be written down: try until the database is back.
                    log.error("record", error=type(error).__name__, detail=str(error)[:200])
                    await asyncio.sleep(1)
            if refused:
                log.warning("outcomes refused by the fence", count=refused)
            for one in finished:
                row, outcome = one.claimed.row, one.outcome.value
                self._under_way.discard(row.id)
                self.purse.paid(one.claimed.id)
                self.outcomes[row.channel, outcome] += 1
                said = {"kind": row.kind, "channel": row.channel, "state": one.state.value}
                log.info("attempt", notification=row.uid, outcome=outcome, **said)
                self._finished.task_done()
            self._let_go([one.claimed for one in finished])
            if any(one.avoid for one in finished):
                self._bell.set()

    async def _also(
        self,
        connection: AsyncConnection,
        finished: Sequence[Finished],
        turns: Sequence[Turn],
        slower: Sequence[str],
    ) -> None:
        await self.carriers.note(connection, turns, slower)
        for one in finished:
            if one.outcome in {Outcome.DEFERRED, Outcome.REJECTED}:
                await self.purse.refund(connection, one.claimed.id)

    async def _renew(self) -> None:
        """Keeps the leases of what is in hand from ending while a slow server takes its time."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                await self.store.outbox.renew(list(self._held.values()), self._lease)
                await self.carriers.renew_probes()
            except Exception as error:
                log.error("lease", error=type(error).__name__, detail=str(error)[:200])
