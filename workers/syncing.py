"""Syncing: what a source reads goes through the intake, and what it no longer holds is noticed.

One process syncs a source at a time, by a lease in the database; a clock's firing is a row with a
unique key, as a scan's is. A row that is refused harms no other. A trial takes the same way within
transactions that are rolled back, so what it says is what would happen.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel

from schedules.clock import Cron, missed_firings
from schedules.rule import State
from workers.core import Core
from workers.errors import InputError, StateError, UnavailableError, UnknownThingError
from workers.intake import DEADLOCKS, Batch, Incoming, Intake, Taken
from workers.restore import clock_trouble
from workers.sources import (
    Part,
    PartDone,
    Reading,
    Row,
    RowError,
    Source,
    build_sources,
    row_model,
)
from workers.store import is_deadlock

log = structlog.get_logger("sync")

BATCH_ROWS = 500
"""Rows taken in one transaction."""
MOST_KEPT = 10_000
"""Refusals of one part that are kept to be shown; all are counted."""
LEASE = timedelta(seconds=60)
SURE_OF = 10
"""Known records from which on a listing that lost most of them is taken for broken."""
LOOK_S = 20.0
"""How long a look at whether a source can be read may take."""
LATE = timedelta(minutes=2)
"""A cron's time that is longer ago isn't caught up for a source that was never synced by it."""
CLOSED, REFUSED = "closed", "refused"
DETAIL_CHARS = 2_000


@dataclass(slots=True)
class Synced:
    """What one sync did, or on a trial would do.

    `gone` has the refs by kind that a whole listing no longer held, `back` those that came again.
    `outcome` is done, refused (part of it was) or failed; `faults` say why.
    """

    source: str
    gone_means: str
    parts: list[PartDone] = field(default_factory=list)
    gone: dict[str, list[str]] = field(default_factory=dict)
    back: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def outcome(self) -> str:
        """In one word."""
        if self.failed:
            return "failed"
        wrong = self.faults or any(part.fault or part.refused for part in self.parts)
        return REFUSED if wrong else "done"

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many of each outcome, by what the rows were."""
        found: dict[str, Counter[str]] = {}
        for part in self.parts:
            for shape, counts in part.counts.items():
                found.setdefault(shape, Counter()).update(counts)
        for kind, refs in self.gone.items():
            if refs:
                found.setdefault(kind, Counter())["gone"] += len(refs)
        return {shape: dict(counts) for shape, counts in sorted(found.items())}

    @property
    def detail(self) -> str:
        """What was wrong, shortened to what fits in a list of runs."""
        said = [*self.faults, *(f"{part.name}: {part.fault}" for part in self.parts if part.fault)]
        said += [
            # Where and why, but not the value: it may be somebody's address.
            f"{problem.place}, {problem.heading or 'the row'}: {problem.remedy}"
            for part in self.parts
            for problem in part.problems[:5]
        ]
        return "\n".join(said)[:DETAIL_CHARS]


@dataclass(slots=True)
class _Course:
    """One sync under way. `unsure` are kinds of which a refused row's ref couldn't be read."""

    source: Source
    synced: Synced
    trial: bool
    now: datetime
    holder: str = ""
    lost: bool = False
    seen: dict[str, set[str]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    state: dict[str, Any] = field(default_factory=dict)


class _Undone(Exception):
    """Rolls a trial back."""


class Syncing:
    """Syncs the sources of the settings. Raises SettingsError naming the key that is wrong."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.store = core.store
        self.intake = Intake(core.store, core.registry, core.clock)
        self.sources = build_sources(core.settings.sources, core.rules)

    def one(self, name: str) -> Source:
        """A source by its name. Raises UnknownThingError that names those there are."""
        if name not in self.sources:
            known = ", ".join(self.sources) or "none: add a table [sources.NAME] to the settings"
            raise UnknownThingError(f"there is no source {name!r}; there are {known}")
        return self.sources[name]

    def schedules(self) -> dict[str, timedelta | Cron]:
        """When each source is synced by the scheduler, those that are."""
        found = {name: one.settings.schedule() for name, one in self.sources.items()}
        return {name: timing for name, timing in found.items() if timing is not None}

    async def look(self, name: str) -> str:
        """Why a source can't be read now, or what its columns lack; "" where all is well.

        Reads its first rows at most, and writes nothing.
        """
        source = self.one(name)
        state = await self.store.sources.state(name, _fingerprint(source))
        reading = Reading(state, self.core.clock(), trial=True, stored=self._stored)
        try:
            async with asyncio.timeout(LOOK_S):
                await source.look(reading)
        except (UnavailableError, InputError) as error:
            return str(error)
        except TimeoutError:
            return f"{name}: no answer within {LOOK_S:g} s"
        finally:
            await source.close()
        return ""

    async def trial(self, name: str, *, full: bool = False) -> Synced:
        """What a sync would do, writing nothing."""
        course = self._course(name, trial=True)
        await self._go(course, full)
        return course.synced

    async def run(
        self,
        name: str,
        *,
        trigger: str = "hand",
        fire_at: datetime | None = None,
        missed: int = 0,
        full: bool = False,
    ) -> Synced | None:
        """Syncs a source. None when a clock's firing was another's, or another is at it now.

        `full` reads all there is, whatever was read before. Raises StateError by hand when another
        is at it; what can't be read is in the result.
        """
        course = self._course(name, trial=False)
        now = course.now
        sources = self.store.sources
        run_id = await sources.start_run(name, fire_at or now, trigger, now, missed)
        if run_id is None:
            return None
        course.holder = secrets.token_hex(16)
        if not await sources.claim(name, course.holder, LEASE, now):
            said = "another process was at it"
            await sources.finish_run(run_id, "skipped", now, said)
            if trigger == "clock":
                return None
            raise StateError(f"source {name} is being synced just now: see duewatch sources {name}")
        synced = course.synced
        try:
            async with self._held(course):
                await sources.end_lost_runs(name, run_id, now)
                await self._go(course, full)
        except BaseException as error:
            synced.failed = True
            synced.faults.append(f"it ended with {type(error).__name__}")
            raise
        finally:
            with suppress(asyncio.CancelledError):
                done_at = self.core.clock()
                await sources.finish_run(
                    run_id, synced.outcome, done_at, synced.detail, synced.counts
                )
        log.info("sync", source=name, trigger=trigger, outcome=synced.outcome, counts=synced.counts)
        return synced

    async def fire(self, name: str, fire_at: datetime) -> None:
        """One tick of a source's schedule: syncs it unless another scheduler has."""
        try:
            tolerance = self.core.settings.scheduler.clock_tolerance_s
            if trouble := await clock_trouble(self.store, self.core.clock, tolerance):
                log.error("not fired", source=name, fire_at=str(fire_at), why=trouble)
                return
            timing = self.one(name).settings.schedule()
            last = await self.store.sources.last_firing(name)
            now, missed = self.core.clock(), 0
            if isinstance(timing, Cron):
                if last is None and now - fire_at > LATE:
                    return
                missed = 0 if last is None else timing.missed(last, fire_at)
            elif timing is not None:
                missed = missed_firings(last, now, timing)
            await self.run(name, trigger="clock", fire_at=fire_at, missed=missed)
        except Exception as error:
            # The next tick reads again what this one couldn't.
            log.error("sync failed", source=name, error=type(error).__name__)

    # --- one sync -------------------------------------------------------------------------

    def _course(self, name: str, *, trial: bool) -> _Course:
        source = self.one(name)
        return _Course(source, Synced(name, source.settings.gone), trial, self.core.clock())

    @asynccontextmanager
    async def _held(self, course: _Course) -> AsyncIterator[None]:
        """Keeps the lease alive meanwhile, and gives it back."""
        name, holder = course.source.name, course.holder

        async def renew() -> None:
            while not course.lost:
                await asyncio.sleep(LEASE.total_seconds() / 4)
                course.lost = not await self.store.sources.renew(name, holder, LEASE)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self.store.sources.release(name, holder)

    async def _go(self, course: _Course, full: bool) -> None:
        source, synced = course.source, course.synced
        mark = _fingerprint(source)
        state = await self.store.sources.state(source.name, mark)
        reading = Reading(state, course.now, full, course.trial, self._stored)
        try:
            async with aclosing(source.parts(reading)) as parts:
                async for part in parts:
                    done = PartDone(part.name)
                    synced.parts.append(done)
                    await self._part(course, part, done)
        except UnavailableError as error:
            synced.failed = True
            synced.faults.append(str(error))
        finally:
            await source.close()
        if not synced.failed:
            await self._gone(course)
            if not course.trial and course.state:
                await self.store.sources.save_state(
                    source.name, mark, state | course.state, course.now
                )
        await self._back(course)

    async def _part(self, course: _Course, part: Part, done: PartDone) -> None:
        try:
            await self._rows(course, part, done)
        except InputError as error:
            done.fault = str(error)
        else:
            course.whole |= part.whole
            course.state |= part.state
        if part.settle is not None and not course.trial:
            await part.settle(done)

    async def _rows(self, course: _Course, part: Part, done: PartDone) -> None:
        waiting: list[tuple[Row, BaseModel]] = []
        try:
            async with aclosing(part.rows) as rows:
                async for row in rows:
                    try:
                        waiting.append((row, row_model(row)))
                    except RowError as error:
                        _refuse(course, row, done, error)
                    if len(waiting) >= BATCH_ROWS:
                        taken, waiting = waiting, []
                        await self._take(course, taken, done)
        except InputError:
            # What came before a place that can't be read stands.
            await self._take(course, waiting, done)
            raise
        await self._take(course, waiting, done)

    async def _take(
        self, course: _Course, waiting: list[tuple[Row, BaseModel]], done: PartDone
    ) -> None:
        if not waiting:
            return
        if course.lost:
            raise UnavailableError(
                f"source {course.source.name}: another process took it over: it is read again"
            )
        things = [Incoming(model, self._kind(row)) for row, model in waiting]
        batch, closed = await self._taken(course, things)
        for (row, _), thing, outcome in zip(waiting, things, batch.outcomes, strict=True):
            ref = getattr(thing.model, "ref", None)
            word = outcome.value
            if outcome is Taken.CHANGED and (thing.kind, ref) in closed:
                word = CLOSED
            _count(done, row.shape.name, word)
            if thing.kind == row.shape.name:
                course.seen.setdefault(thing.kind, set()).add(str(ref))

    def _kind(self, row: Row) -> str | None:
        kind = row.shape.name.removesuffix(".line")
        return kind if kind in self.core.rules else None

    async def _taken(
        self, course: _Course, things: list[Incoming]
    ) -> tuple[Batch, set[tuple[str | None, str | None]]]:
        """The batch's outcomes, and which records it closed."""
        for _ in range(DEADLOCKS):
            try:
                return await self._within(course, things)
            except Exception as error:
                if not is_deadlock(error):
                    raise
        return await self._within(course, things)

    async def _within(
        self, course: _Course, things: list[Incoming]
    ) -> tuple[Batch, set[tuple[str | None, str | None]]]:
        refs: dict[str, set[str]] = {}
        for thing in things:
            ref = getattr(thing.model, "ref", None)
            if thing.kind is not None and ref is not None:
                refs.setdefault(thing.kind, set()).add(ref)
        batch = Batch()
        closed: set[tuple[str | None, str | None]] = set()
        sources = self.store.sources
        try:
            async with self.store.database.write() as connection:
                before = {k: await sources.states(connection, k, some) for k, some in refs.items()}
                batch = await self.intake.take_in(connection, things)
                for kind, some in refs.items():
                    after = await sources.states(connection, kind, some)
                    closed |= {
                        (kind, ref)
                        for ref, state in after.items()
                        if state == State.CLOSED and before[kind].get(ref) != State.CLOSED
                    }
                    await sources.add(connection, course.source.name, kind, some)
                if course.trial:
                    raise _Undone
        except _Undone:
            pass
        return batch, closed

    async def _stored(self, kind: str) -> AsyncIterator[Mapping[str, Any]]:
        after = 0
        while rows := await self.store.sources.unclosed(kind, after, BATCH_ROWS):
            for row in rows:
                yield row.data
            after = rows[-1].id

    # --- what is gone, and what is back ---------------------------------------------------

    async def _gone(self, course: _Course) -> None:
        source, synced = course.source, course.synced
        if source.settings.gone == "ignore":
            return
        for kind in sorted(course.whole & self.core.rules.keys()):
            if kind in course.unsure:
                synced.faults.append(
                    f"{kind}: what is gone isn't looked at, since rows without a readable ref "
                    "were refused: mend them"
                )
                continue
            known = await self.store.sources.brought(source.name, kind)
            gone = sorted(known - course.seen.get(kind, set()))
            if len(known) >= SURE_OF and len(gone) > source.settings.most_gone * len(known):
                synced.faults.append(
                    f"{kind}: {len(gone)} of {len(known)} known records are gone at once, so the "
                    "listing is taken for broken: look at it, or raise most_gone for one sync"
                )
                continue
            if gone:
                synced.gone[kind] = gone
            if course.trial or not gone:
                continue
            if source.settings.gone == "close":
                for ref in gone:
                    await self._close(course, kind, ref)
            await self.store.sources.mark(source.name, kind, gone, course.now)

    async def _back(self, course: _Course) -> None:
        for kind, seen in course.seen.items():
            back = sorted(seen & await self.store.sources.gone(course.source.name, kind))
            if not back:
                continue
            course.synced.back[kind] = back
            if course.trial:
                continue
            for ref in back:
                await self._reopen(course, kind, ref)
            await self.store.sources.mark(course.source.name, kind, back, None)

    async def _close(self, course: _Course, kind: str, ref: str) -> None:
        """As by hand: its data stay as they are, and a person can reopen it."""
        watched = await self.core.records.one(ref, kind, with_lines=False)
        if watched.row.state == State.CLOSED:
            return
        by = _by(course)
        why = f"closed by {by}: it no longer holds it"
        await self._change(
            watched.id, kind, ref, watched.record.partner.ref, by, "close",
            state=State.CLOSED.value, why=why, closed_by_hand=why,
            closed_at=course.now, next_due_at=None,
        )  # fmt: skip

    async def _reopen(self, course: _Course, kind: str, ref: str) -> None:
        watched = await self.core.records.one(ref, kind)
        by = _by(course)
        if not (watched.row.closed_by_hand or "").startswith(f"closed by {by}: "):
            return
        one = watched.record
        judged, _ = self.core.registry.judge(
            self.core.rules[kind], one.data, one.lines, one.related
        )
        await self._change(
            watched.id, kind, ref, one.partner.ref, by, "reopen",
            state=judged.state.value, why=judged.why, closed_by_hand=None,
            closed_at=course.now if judged.state is State.CLOSED else None,
            next_due_at=course.now if judged.state is State.OPEN else None,
        )  # fmt: skip

    async def _change(
        self, record_id: int, kind: str, ref: str, partner: str, by: str, action: str, **values: Any
    ) -> None:
        now = self.core.clock()
        await self.store.operations.change_record(record_id, by, action, "sync", now, **values)
        async with self.store.database.write() as connection:
            await self.intake.go_on(connection, {kind: {ref}}, {kind: {partner}})


def _by(course: _Course) -> str:
    return f"source {course.source.name}"


def _count(done: PartDone, shape: str, word: str) -> None:
    counts = done.counts.setdefault(shape, {})
    counts[word] = counts.get(word, 0) + 1


def _refuse(course: _Course, row: Row, done: PartDone, error: RowError) -> None:
    _count(done, row.shape.name, REFUSED)
    if len(done.problems) < MOST_KEPT:
        done.problems.extend(error.problems)
    # It is there, however wrong: it must not be taken for gone.
    ref = row.values.get("ref")
    if isinstance(ref, float) and ref.is_integer():
        ref = int(ref)
    if ref is None or not str(ref).strip():
        course.unsure.add(row.shape.name)
    else:
        course.seen.setdefault(row.shape.name, set()).add(str(ref).strip())


def _fingerprint(source: Source) -> str:
    """Of the settings by which rows are read: with others a source begins anew."""
    apart = {"every_s", "cron", "gone", "most_gone"}
    content = source.settings.model_dump(mode="json", exclude=apart)
    text = json.dumps([source.kind_of_source, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
