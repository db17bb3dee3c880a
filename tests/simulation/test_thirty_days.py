"""Thirty virtual days of the real product against the oracle: nothing missing, double or moot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from schedules.rule import ContactData
from tests.fakes.clock import FakeClock
from tests.product import RULES, opened
from tests.simulation.generate import END, START, life
from tests.simulation.oracle import (
    DELIVERED_AFTER,
    MINUTE,
    SCAN_EVERY,
    Event,
    Message,
    must_be_told,
)
from workers.app import App
from workers.intake import Incoming
from workers.store.tables import notifications, occurrences, records

SECONDS = int(SCAN_EVERY.total_seconds())
TICKS = [START + number * SCAN_EVERY for number in range(int((END - START) / SCAN_EVERY))]


def incoming(event: Event) -> Incoming:
    if event.kind == "contact":
        return Incoming(ContactData.model_validate(event.data))
    if event.kind == "line":
        model = RULES["payment"].Line
        assert model is not None
        return Incoming(model.model_validate(event.data), "payment")
    return Incoming(RULES[event.kind].Data.model_validate(event.data), event.kind)


async def due_kinds(app: App, tick: datetime) -> list[str]:
    """The rules that would find something: a scan of the others looks at nothing."""
    async with app.store.database.read() as connection:
        found = await connection.execute(
            select(records.c.kind)
            .where(records.c.state == "open", records.c.next_due_at <= tick)
            .distinct()
        )
        return list(found.scalars())


async def waits(app: App) -> bool:
    async with app.store.database.read() as connection:
        pending = notifications.c.state == "pending"
        soon = notifications.c.not_before <= app.clock() + MINUTE
        found = await connection.execute(select(func.count()).where(pending, soon))
        return bool(found.scalar())


async def live(app: App, clock: FakeClock, events: Sequence[Event]) -> None:
    """The events in their time, a scan at each tick where anything may be due, then deliveries."""
    waiting = sorted(events, key=lambda event: event.at)

    async def take(until: datetime) -> None:
        while waiting and waiting[0].at <= until:
            now = waiting[0].at
            count = sum(event.at == now for event in waiting[:200])
            clock.set(now)
            await app.intake.take([incoming(event) for event in waiting[:count]])
            del waiting[:count]

    for tick in TICKS:
        await take(tick)
        clock.set(tick)
        for kind in await due_kinds(app, tick):
            await app.scan.run(kind, trigger="clock", fire_at=tick)
        await take(tick + DELIVERED_AFTER)
        clock.set(tick + DELIVERED_AFTER)
        # Two SMS a minute to a number: what waits for the next minute is sent then.
        while await waits(app):
            await app.delivery.drain()
            clock.advance(MINUTE)


async def told(app: App) -> list[tuple[Message, datetime, str]]:
    """What was accepted: each line, when, and to what address."""
    async with app.store.database.read() as connection:
        rows = await connection.execute(
            select(
                records.c.ref,
                occurrences.c.ladder,
                occurrences.c.stage,
                occurrences.c.channel,
                occurrences.c.contact,
                notifications.c.accepted_at,
                notifications.c.address,
            )
            .join(notifications, notifications.c.id == occurrences.c.notification_id)
            .join(records, records.c.id == occurrences.c.record_id)
            .where(occurrences.c.dropped.is_(None), notifications.c.state == "accepted")
        )
        return [(Message(*row[:5]), row[5], row[6]) for row in rows]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("seed", "count"), [(12, 500), pytest.param(20260914, 2000, marks=pytest.mark.slow)]
)
async def test_thirty_days_tell_everybody_what_they_must_know_once_and_in_time(
    seed: int, count: int, tmp_path: Path, clock: FakeClock
) -> None:
    events = life(seed, count)
    expected = must_be_told(events, TICKS)
    clock.set(START - timedelta(days=2))
    every = {kind: {"scan_every_s": SECONDS} for kind in RULES}
    url = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with opened(url, clock, rules=every) as app:
        await live(app, clock, events)
        found = await told(app)
        kept = await app.store.operations.kept_count()
        counts = await app.store.operations.counts()

    at = {what: when for what, when, _ in found}
    assert len(expected) > count, "the histories must give the product something to do"
    assert sorted(expected.keys() - at.keys()) == [], "missing"
    assert sorted(at.keys() - expected.keys()) == [], "moot, or to the wrong person"
    assert [what for what, times in Counter(w for w, _, _ in found).items() if times > 1] == []
    addressed = Counter((w.ref, w.ladder, w.stage, w.channel, to) for w, _, to in found)
    assert [what for what, times in addressed.items() if times > 1] == [], "one address, twice"
    late = {what: (expected[what], at[what]) for what in expected if at[what] != expected[what]}
    assert [what for what, (want, got) in late.items() if not want < got <= want + 4 * MINUTE] == []
    accepted = sum(number for (_, _, state), number in counts.items() if state == "accepted")
    assert {state for _, _, state in counts} == {"accepted", "cancelled"}, "some became moot"
    assert sum(kept.values()) == accepted
