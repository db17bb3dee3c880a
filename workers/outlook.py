"""The outlook: what will be told in the coming days, and why a record's people were told or not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from schedules.clock import fire_time
from schedules.planner import Circumstances, Step, Told, Verdict, digest_instant, forecast, plan
from schedules.rule import Assessment, Record, Rule, State
from workers.model import DAILY, DIGEST
from workers.records import Records, Registry, Watched
from workers.store import Row, Store

PAGE = 100
"""Records revived at a time."""
AT_ONCE = 5
"""Records planned until others have their turn: the web reckons forecasts beside its answers."""


@dataclass(slots=True)
class Foretold:
    """One message to come: a digest of `refs` to one contact.

    `at` (UTC) is the scan that plans it, or when the person's digest of the day goes out; `day` is
    the date in the rule's zone (Beijing).
    """

    kind: str
    day: date
    at: datetime
    channel: str
    message: str
    contact: str
    name: str
    address: str
    language: str
    refs: list[str] = field(default_factory=list)
    stages: set[str] = field(default_factory=set)


async def foretell(
    store: Store,
    registry: Registry,
    start: datetime,
    days: int,
    kind: str | None = None,
    *,
    anew: bool = False,
) -> list[Foretold]:
    """The messages of the next `days` days from `start` (aware UTC) if nothing changes, in order.

    The planner in virtual time over all open records; digests are counted as the scan makes them.
    `anew` plans each record from `start` on: when it is due next was stored by another cadence.
    Raises UnknownThingError for a kind without a rule.
    """
    if kind is not None:
        registry.rule(kind)
    found: dict[tuple[Any, ...], Foretold] = {}
    for one in [kind] if kind is not None else registry.enabled():
        end = start + timedelta(days=days)
        await _foretell_kind(store, registry, one, start, end, found, anew)
    # In a thread: a hundred thousand messages take a while, and others wait for this loop.
    return await asyncio.to_thread(
        sorted, found.values(), key=lambda told: (told.at, told.kind, told.contact)
    )


async def _foretell_kind(
    store: Store,
    registry: Registry,
    kind: str,
    start: datetime,
    end: datetime,
    found: dict[tuple[Any, ...], Foretold],
    anew: bool,
) -> None:
    around = registry.around(kind, await store.operations.unsubscribed(kind))
    records, after = Records(store, registry), 0
    until = None if anew else end
    while rows := await store.records.open_records(kind, after, PAGE, until=until):
        after = rows[-1].id
        async with store.database.read() as connection:
            watched, _ = await records.revive(connection, rows, with_lines=False)
        for number, one in enumerate(watched.values()):
            if not number % AT_ONCE:
                await asyncio.sleep(0)
            begin = start if anew else max(start, one.row.next_due_at or start)
            for at, step in forecast(one.record, one.contacts, one.told, begin, end, around):
                _add(found, one.record, at, step, around)


def _add(
    found: dict[tuple[Any, ...], Foretold],
    record: Record,
    at: datetime,
    step: Step,
    around: Circumstances,
) -> None:
    contact, every = step.contact, around.cadence.scan_every
    if contact is None:
        return
    fired = fire_time(at, every)
    goes_at = fired if fired == at else fired + every
    kind, message = record.kind, step.message
    if digest_at := digest_instant(step, goes_at, around):
        kind, message, goes_at = DIGEST, DAILY, digest_at
    address = contact.address(step.channel) or ""
    key = (kind, goes_at, contact.ref, address, step.channel, message)
    told = found.get(key)
    if told is None:
        told = found[key] = Foretold(
            kind=kind,
            day=goes_at.astimezone(around.rule.zone).date(),
            at=goes_at,
            channel=step.channel,
            message=message,
            contact=contact.ref,
            name=contact.name,
            address=address,
            language=contact.language,
        )
    told.refs.append(record.ref)
    told.stages.add(step.stage)


@dataclass(frozen=True, slots=True)
class Explained:
    """One record's story at one instant. `told` maps what was told to its notification's row."""

    watched: Watched
    rule: Rule
    steps: Sequence[Step]
    next_due_at: datetime | None
    told: dict[Told, Row[Any]]
    history: Sequence[Row[Any]]


async def explain(
    store: Store, registry: Registry, ref: str, kind: str | None, now: datetime
) -> Explained:
    """Every stage of a record: due when, told whom and what came of it, or skipped and why.

    Raises UnknownThingError, or HeldError when the record can't be read any more.
    """
    watched = await Records(store, registry).one(ref, kind)
    around = registry.around(
        watched.record.kind, await store.operations.unsubscribed(watched.record.kind)
    )
    record = watched.record
    if watched.row.unheard:
        # Held because nobody can be told: the steps say best who is missing.
        record = replace(record, assessment=Assessment(State.OPEN))
    planned = plan(record, watched.contacts, watched.told, now, around)
    history = await store.operations.history(watched.id)
    told = {
        Told(row.stage, row.channel, row.contact): row
        for row in history
        if row.dropped is None and row.ladder == watched.record.ladder
    }
    next_due_at = None if watched.row.unheard else planned.next_due_at
    return Explained(watched, around.rule, planned.steps, next_due_at, told, history)


WORDS = {
    Verdict.TOLD: "told",
    Verdict.DUE: "due now: the next scan tells",
    Verdict.COMING: "to come",
    Verdict.OVERTAKEN: "skipped",
    Verdict.VOID: "skipped",
    Verdict.UNREACHABLE: "nobody to tell",
    Verdict.UNWANTED: "not wished",
    Verdict.TWICE: "skipped",
    Verdict.OFF: "not told",
}
"""A verdict in a person's words; the step's own `why` says the rest."""
