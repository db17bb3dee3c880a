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
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import phonenumbers
import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from schedules.planner import Circumstances, Step, Told, Verdict, plan
from workers.errors import (
    PermanentError,
    ProviderError,
    TemplateError,
    TransientError,
    UnknownOutcomeError,
)
from workers.links import Links
from workers.model import Notice, NoticeItem, NotificationState, Outcome, Recipient
from workers.providers import Channel, Mail, Provider, Sms
from workers.records import Records, Registry, Watched
from workers.render import Renderer
from workers.settings import Settings
from workers.store import Store
from workers.store.outbox import Claimed, Finished

log = structlog.get_logger("deliver")

S = NotificationState
SMS_A_MINUTE = 2
"""To one number; carriers drop more (the vendor's limit for notices)."""
RECORD_EVERY_S = 0.02
"""Outcomes that come within this time are recorded in one transaction."""
FIRST_LOOK_S = 1.0
"""After this time a slow send no longer keeps the next chunk from beginning."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A notification that passed the last look, rendered."""

    claimed: Claimed
    message: Mail | Sms
    revisions: Mapping[int, int]
    dropped: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Settled:
    """A notification that isn't sent now: moved to an end, or put off until a time."""

    claimed: Claimed
    reason: str
    state: NotificationState | None = None
    until: datetime | None = None
    dropped: Mapping[int, str] = field(default_factory=dict)


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
        self.registry = registry
        self.records = Records(store, registry)
        self.renderer = renderer
        self.providers = providers
        self.links = links
        self.settings = settings
        self.clock = clock
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.running: bool | None = None
        """Whether the loop runs; None until it has begun, as in a process of another role."""
        self._lease = timedelta(seconds=settings.delivery.lease_s)
        self._held: dict[int, Claimed] = {}
        self._bell = asyncio.Event()
        self._room = asyncio.Event()
        # At most this many chunks are between their beginning and their sends' end.
        self._gate = asyncio.Semaphore(2)
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
            again, parked = await self.store.outbox.sweep(repeatable, self.clock())
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
        size = self.settings.delivery.concurrency
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
        async with self._gate:
            sms = any(one.row.channel == "sms" for one in claimed)
            try:
                async with self._counting_sms if sms else nullcontext():
                    ready = await self._prepare(claimed)
            except Exception as error:
                # Not begun, so nothing left: the lease ends and another look is taken.
                log.error("prepare", error=type(error).__name__, detail=str(error)[:200])
                self._let_go(claimed)
                return
            sends = [asyncio.create_task(self._send(one)) for one in ready]
            self._tasks.update(sends)
            for task in sends:
                task.add_done_callback(self._tasks.discard)
            if sends:
                await asyncio.wait(sends, timeout=FIRST_LOOK_S)

    async def _prepare(self, claimed: Sequence[Claimed]) -> list[Ready]:
        """The last look, rendering and the commitment to send."""
        looked = await self._look(claimed)
        ready = [one for one in looked if isinstance(one, Ready)]
        now = self.clock()
        begun: list[Ready] = []
        async with self.store.database.write() as connection:
            for one in looked:
                if isinstance(one, Settled):
                    await self._settle(connection, one, now)
            refused = await self._suppressed(connection, [one.claimed for one in ready])
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
        if not await self.store.outbox.settle(
            connection, one.claimed, one.state, one.reason, now
        ):
            return
        await self.store.outbox.drop(connection, one.dropped, now)
        self.outcomes[one.claimed.row.channel, one.state.value] += 1

    async def _suppressed(
        self, connection: AsyncConnection, claimed: Sequence[Claimed]
    ) -> dict[int, str]:
        rows = [one.row for one in claimed]
        found = await self.store.outbox.suppressed(
            connection, {(row.channel, row.address) for row in rows}
        )
        return {
            row.id: reason
            for row in rows
            for kind in ("*", row.kind)
            if (reason := found.get((row.channel, row.address, kind)))
        }

    # --- the last look --------------------------------------------------------------------

    async def _look(self, claimed: Sequence[Claimed]) -> list[Ready | Settled]:
        """What the planner says now of each line; moot lines are dropped, and the rest rendered."""
        now = self.clock()
        store = self.store
        async with store.database.read() as connection:
            lines = await store.outbox.lines_of(connection, [one.id for one in claimed])
            ids = {line.record_id for theirs in lines.values() for line in theirs}
            rows = await store.records.by_ids(connection, ids)
            watched, broken = await self.records.revive(connection, rows, with_lines=True)
            recent = await self._recent_sms(connection, claimed, now)
        around = {
            kind: self.registry.around(kind, await store.operations.unsubscribed(kind))
            for kind in {one.row.kind for one in claimed}
        }
        looked: list[Ready | Settled] = []
        for one in claimed:
            try:
                verdicts = [
                    (line, _last_word(line, watched, broken, now, around[one.row.kind]))
                    for line in lines.get(one.id, [])
                ]
                looked.append(await self._decide(one, verdicts, watched, recent, now))
            except Exception as error:
                # One that can't be judged waits for a person; its neighbours go on.
                log.exception("look", kind=one.row.kind, notification=one.row.uid)
                why = f"can't be judged: {type(error).__name__}: {error}"
                looked.append(Settled(one, why, S.PARKED))
        return looked

    async def _recent_sms(
        self, connection: AsyncConnection, claimed: Sequence[Claimed], now: datetime
    ) -> dict[str, tuple[int, int]]:
        """For each number: how many SMS it got in the last minute and the last 24 hours."""
        found: dict[str, tuple[int, int]] = {}
        for number in {one.row.address for one in claimed if one.row.channel == "sms"}:
            sent = [
                await self.store.outbox.sent_since(connection, "sms", number, now - span)
                for span in (timedelta(minutes=1), timedelta(days=1))
            ]
            found[number] = (sent[0], sent[1])
        return found

    async def _decide(
        self,
        one: Claimed,
        verdicts: Sequence[tuple[Row[Any], Step | str]],
        watched: Mapping[int, Watched],
        recent: dict[str, tuple[int, int]],
        now: datetime,
    ) -> Ready | Settled:
        keep = [line for line, said in verdicts if _is_due(said)]
        later = [at for _, said in verdicts if (at := _coming_at(said)) is not None]
        if not keep and later and len(later) == len(verdicts):
            return Settled(one, "put off: quiet hours or snoozed", until=min(later))
        dropped = {
            line.id: said if isinstance(said, str) else said.why or said.verdict.value
            for line, said in verdicts
            if not _is_due(said)
        }
        if not keep:
            reasons = "; ".join(dict.fromkeys(dropped.values()))
            return Settled(one, f"moot: {reasons}", S.CANCELLED, dropped=dropped)
        if one.row.channel == "sms" and (limit := self._sms_limit(one.row, recent, now)):
            return limit if isinstance(limit, Settled) else Settled(one, limit[0], until=limit[1])
        items = [watched[line.record_id] for line in keep]
        notice = self.notice(one.row, list(zip(items, keep, strict=True)), now)
        try:
            message = await asyncio.to_thread(self.renderer.render, notice)
        except TemplateError as error:
            log.error("template", kind=one.row.kind, notification=one.row.uid, detail=str(error))
            return Settled(one, str(error), S.PARKED, dropped=dropped)
        except Exception as error:
            log.error("render", kind=one.row.kind, notification=one.row.uid, error=repr(error))
            why = f"can't be rendered: {type(error).__name__}: {error}"
            return Settled(one, why, S.PARKED, dropped=dropped)
        return Ready(one, message, {item.id: item.revision for item in items}, dropped)

    def _sms_limit(
        self, row: Row[Any], recent: dict[str, tuple[int, int]], now: datetime
    ) -> Settled | tuple[str, datetime] | None:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(row.address))
        if region not in self.settings.sms.countries:
            return Settled(
                Claimed(row, row.fence),
                f"numbers of {region or 'no country'} aren't allowed: add it to sms.countries",
                S.FAILED,
            )
        minute, day = recent[row.address]
        if minute >= SMS_A_MINUTE:
            return "put off: two SMS a minute to a number", now + timedelta(minutes=1)
        if day >= self.settings.sms.per_number_a_day:
            return "put off: sms.per_number_a_day is reached", now + timedelta(hours=1)
        recent[row.address] = (minute + 1, day + 1)
        return None

    def notice(
        self, row: Row[Any], items: Sequence[tuple[Watched, Row[Any]]], now: datetime
    ) -> Notice:
        """What the renderer needs of a notification, its most pressing records first."""
        ordered = sorted(
            items, key=lambda item: (item[0].record.deadline.at or item[0].record.opened_at)
        )
        return Notice(
            uid=row.uid,
            kind=row.kind,
            message=row.message,
            channel=row.channel,
            recipient=Recipient(
                ref=row.contact,
                name=row.name,
                role=row.role,
                address=row.address,
                language=row.language,
                time_zone=row.time_zone,
            ),
            items=tuple(NoticeItem(one.record, line.stage) for one, line in ordered),
            now=now,
            attempt=row.attempt_count + 1,
            list_url=self.links.url("list", row.id, row.link_until),
            list_token=self.links.token("list", row.id, row.link_until),
            unsubscribe_url=self.links.url("unsubscribe", row.id, row.link_until),
        )

    # --- send and record ------------------------------------------------------------------

    async def _send(self, one: Ready) -> None:
        row = one.claimed.row
        provider = self.providers[row.channel]
        try:
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


def _last_word(
    line: Row[Any],
    watched: Mapping[int, Watched],
    broken: Mapping[int, str],
    now: datetime,
    around: Circumstances,
) -> Step | str:
    """The planner's word on one line as if it hadn't been told yet, or why it can't be told."""
    one = watched.get(line.record_id)
    if one is None:
        return broken.get(line.record_id, "the record is gone")
    if one.record.ladder != line.ladder:
        return "a new ladder has begun"
    this = Told(line.stage, line.channel, line.contact)
    planned = plan(one.record, one.contacts, one.told - {this}, now, around)
    for step in planned.steps:
        if step.contact is not None and Told(step.stage, step.channel, step.contact.ref) == this:
            return step
    state = one.record.assessment
    if state.state != "open":
        return f"the record is {state.state}: {state.why}"
    return "the stage isn't told to this contact any more"


def _is_due(said: Step | str) -> bool:
    return isinstance(said, Step) and said.verdict is Verdict.DUE


def _coming_at(said: Step | str) -> datetime | None:
    coming = isinstance(said, Step) and said.verdict is Verdict.COMING
    return said.at if coming and isinstance(said, Step) else None
