"""The scan: due records -> notifications with their occurrences, one transaction a batch.

Run by the clock, by hand or by an event: one path. A batch is whole partners, so that a recipient
gets one digest per rule and run. A crash loses nothing and repeats nothing: what was committed
isn't due any more, and what wasn't still is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import structlog

from schedules.planner import Circumstances, Plan, Step, digest_instant
from schedules.rule import State
from workers import traces
from workers.errors import StateError
from workers.judge import Judge
from workers.meter import Histogram
from workers.model import DAILY, DIGEST, NotificationState
from workers.records import Records, Registry, Watched, plan_all
from workers.settings import Settings
from workers.store import AsyncConnection, Store

log = structlog.get_logger("scan")

BATCH_RECORDS = 500
"""Records planned in one transaction; a partner with more is still one batch."""


@dataclass(slots=True)
class Draft:
    """One notification that a scan would write: who is told what of which records.

    `digest_at` (aware UTC) is when a person's digest goes out that these lines go into.
    """

    kind: str
    step: Step
    digest_at: datetime | None = None
    items: list[tuple[Watched, Step]] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What a run did. `drafts` are kept only on a dry run."""

    kind: str
    fire_at: datetime
    run_id: int | None = None
    missed: int = 0
    looked_at: int = 0
    planned: int = 0
    held: int = 0
    by_event: bool = False
    drafts: list[Draft] = field(default_factory=list)


class Scan:
    """Runs rules. `ring` tells the workers that there is something to send."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        clock: Callable[[], datetime],
        ring: Callable[[], None],
    ) -> None:
        self.store = store
        self.registry = registry
        self.records = Records(store, registry)
        self.judge = Judge(store, registry)
        self.clock = clock
        self.ring = ring
        self.took = Histogram()
        self._link_life = timedelta(days=settings.links.days)

    async def run(
        self,
        kind: str,
        *,
        trigger: str = "hand",
        fire_at: datetime | None = None,
        missed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tally | None:
        """Plans all of a rule's due records. None when a clock's firing was taken by another.

        Raises UnknownThingError for a kind without a rule, StateError when the rule is paused.
        """
        self.registry.rule(kind)
        if paused := (await self.store.operations.paused()).get(kind):
            if trigger == "clock":
                return None
            raise StateError(
                f"rule {kind} is paused ({paused.reason}): duewatch resume {kind} first"
            )
        now = self.clock()
        fire_at = fire_at or now
        run_id = await self.store.outbox.start_run(kind, fire_at, trigger, now, missed)
        if run_id is None:
            return None
        tally = Tally(kind, fire_at, run_id, missed, by_event=trigger == "event")
        began = perf_counter()
        with traces.span("scan", kind=kind, trigger=trigger) as span:
            await self._replan_if_changed(kind, now)
            await self._batches(tally, now, progress)
            await self.store.outbox.finish_run(run_id, self.clock())
            span.tell(count=tally.planned)
        self.took.observe(perf_counter() - began, kind)
        if tally.looked_at or trigger == "hand":
            log.info(
                "scan",
                kind=kind,
                trigger=trigger,
                looked_at=tally.looked_at,
                planned=tally.planned,
                held=tally.held,
                missed=missed,
            )
        return tally

    async def dry_run(self, kind: str, at: datetime | None = None) -> Tally:
        """What a run at `at` (aware UTC, default now) would write, without writing anything."""
        self.registry.rule(kind)
        now = at or self.clock()
        tally = Tally(kind, now)
        around = await self._around(kind)
        anew = await self._planned_by(kind) not in {None, self.registry.fingerprint(kind)}
        due = await self.store.records.due_partners(kind, now, anyway=anew)
        for partners in _batched(due):
            async with self.store.database.read() as connection:
                rows = await self.store.records.due(connection, kind, partners, now, anyway=anew)
                watched, broken = await self.records.revive(connection, rows, with_lines=False)
            tally.held += len(broken)
            plans, faults = plan_all(watched, now, around)
            tally.looked_at += len(plans)
            tally.held += len(faults) + sum(_is_unheard(plan) for _, plan in plans)
            tally.drafts.extend(_drafts(kind, plans, now, around))
        tally.planned = len(tally.drafts)
        return tally

    async def _batches(
        self, tally: Tally, now: datetime, progress: Callable[[int, int], None] | None
    ) -> None:
        around = await self._around(tally.kind)
        due = await self.store.records.due_partners(tally.kind, now)
        total = sum(count for _, count in due)
        for partners in _batched(due):
            async with self.store.database.write() as connection:
                await self._batch(connection, tally, partners, now, around)
            self.ring()
            if progress is not None:
                progress(tally.looked_at, total)

    async def _batch(
        self,
        connection: AsyncConnection,
        tally: Tally,
        partners: Sequence[str],
        now: datetime,
        around: Circumstances,
    ) -> None:
        rows = await self.store.records.due(connection, tally.kind, partners, now)
        watched, broken = await self.records.revive(connection, rows, with_lines=False)
        plans, faults = plan_all(watched, now, around)
        broken |= faults
        written = []
        for draft in _drafts(tally.kind, plans, now, around):
            notification, lines = self._rows(draft, tally.run_id, now)
            with traces.span(
                "plan",
                apart=not tally.by_event,
                kind=draft.kind,
                channel=draft.step.channel,
                notification=notification["uid"],
            ):
                notification["traceparent"] = traces.current()
            written.append((notification, lines))
        planned = await self.store.outbox.plan_all(connection, written)
        await self.store.records.change_records(
            connection,
            [_after(one, plan) for one, plan in plans]
            + [_held(record_id, why, unheard=False) for record_id, why in broken.items()],
        )
        held = len(broken) + sum(_is_unheard(plan) for _, plan in plans)
        assert tally.run_id is not None
        await self.store.outbox.count_run(connection, tally.run_id, len(plans), planned, held)
        tally.looked_at += len(plans)
        tally.planned += planned
        tally.held += held

    async def _planned_by(self, kind: str) -> str | None:
        """The fingerprint of what the records were last planned by; None before the first scan."""
        return await self.store.database.remembered(f"planned by {kind}"[:64])

    async def _replan_if_changed(self, kind: str, now: datetime) -> None:
        """A changed cadence or calendar counts for what is watched already, too."""
        before, after = await self._planned_by(kind), self.registry.fingerprint(kind)
        if before == after:
            return
        if before is not None:
            count = await self.judge.replan(kind, now)
            log.info("replanned: cadence, quiet hours or working days changed", kind=kind, n=count)
        await self.store.database.remember(f"planned by {kind}"[:64], after)

    async def _around(self, kind: str) -> Circumstances:
        return self.registry.around(kind, await self.store.operations.unsubscribed(kind))

    def _rows(
        self, draft: Draft, run_id: int | None, now: datetime
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        step = draft.step
        contact = step.contact
        assert contact is not None
        last = max((one.until for _, one in draft.items if one.until is not None), default=now)
        notification = {
            "uid": uuid.uuid4().hex,
            "kind": draft.kind if draft.digest_at is None else DIGEST,
            "message": step.message if draft.digest_at is None else DAILY,
            "channel": step.channel,
            "contact": contact.ref,
            "name": contact.name,
            "role": step.role[:40],
            "address": contact.address(step.channel),
            "language": contact.language,
            "time_zone": contact.time_zone,
            "quiet": contact.quiet,
            "urgent": any(one.urgent for _, one in draft.items),
            "state": NotificationState.PENDING.value,
            "reason": "",
            "run_id": run_id,
            "not_before": draft.digest_at or now,
            "link_until": max(now, last) + self._link_life,
            "digest_key": _digest_key(draft),
            "created_at": now,
            "changed_at": now,
        }
        lines = [
            {
                "record_id": one.id,
                "ladder": one.record.ladder,
                "stage": told.stage,
                "channel": told.channel,
                "contact": contact.ref,
                "until": told.until,
                "message": told.message,
            }
            for one, told in draft.items
        ]
        return notification, lines


def _batched(due: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Whole partners, together at most BATCH_RECORDS records unless one alone has more."""
    batch: list[str] = []
    size = 0
    for partner, count in due:
        if batch and size + count > BATCH_RECORDS:
            yield batch
            batch, size = [], 0
        batch.append(partner)
        size += count
    if batch:
        yield batch


def _drafts(
    kind: str, plans: Sequence[tuple[Watched, Plan]], now: datetime, around: Circumstances
) -> list[Draft]:
    """One draft per recipient, channel and message, so that twelve statements are one mail.

    What goes into a person's digest is one draft per digest, whatever the message.
    """
    drafts: dict[tuple[Any, ...], Draft] = {}
    for one, plan in plans:
        for step in plan.due:
            assert step.contact is not None
            digest_at = digest_instant(step, now, around)
            apart = step.message if digest_at is None else digest_at
            key = (step.contact.ref, step.contact.address(step.channel), step.channel, apart)
            drafts.setdefault(key, Draft(kind, step, digest_at)).items.append((one, step))
    return list(drafts.values())


def _digest_key(draft: Draft) -> str | None:
    """What all scans that add to one digest agree on."""
    contact = draft.step.contact
    if draft.digest_at is None or contact is None:
        return None
    return f"{contact.ref}|{contact.address('mail')}|{draft.digest_at.isoformat()}"


def _after(one: Watched, plan: Plan) -> dict[str, Any]:
    """What becomes of a record once it was planned: looked at again, or held until mended."""
    if _is_unheard(plan):
        return _held(one.id, f"nobody to tell: {plan.unheard}", unheard=True)
    over = one.row.last_word and plan.next_due_at is None
    return {
        "id": one.id,
        "state": State.CLOSED.value if over else one.row.state,
        "why": one.row.why,
        "unheard": False,
        "next_due_at": plan.next_due_at,
    }


def _is_unheard(plan: Plan) -> bool:
    return plan.unheard is not None and not plan.due


def _held(record_id: int, why: str, *, unheard: bool) -> dict[str, Any]:
    return {
        "id": record_id,
        "state": State.HELD.value,
        "why": why,
        "unheard": unheard,
        "next_due_at": None,
    }
