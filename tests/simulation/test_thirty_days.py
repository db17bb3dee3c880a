"""Thirty virtual days of the real product against the oracle: nothing missing, double or moot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import structlog
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


async def next_due(app: App) -> datetime | None:
    async with app.store.database.read() as connection:
        found = await connection.execute(
            select(func.min(records.c.next_due_at)).where(records.c.state == "open")
        )
        due: datetime | None = found.scalar()
        return due


async def live(app: App, clock: FakeClock, events: Sequence[Event], busy: set[datetime]) -> None:
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
        due = await next_due(app) if tick in busy or tick.minute == 0 else None
        eventful = waiting and waiting[0].at <= tick + DELIVERED_AFTER
        if tick not in busy and not eventful and (due is None or due > tick):
            continue
        await take(tick)
        clock.set(tick)
        for kind in app.registry.enabled():
            await app.scan.run(kind, trigger="clock", fire_at=tick)
        await take(tick + DELIVERED_AFTER)
        clock.set(tick + DELIVERED_AFTER)
        # Two SMS a minute to a number: what waits for the next minute is sent then.
        while await app.delivery.drain():
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "count"), [(20260914, 2000)])
async def test_thirty_days_tell_everybody_what_they_must_know_once_and_in_time(
    seed: int, count: int, tmp_path: Path, clock: FakeClock
) -> None:
    events = life(seed, count)
    expected, busy = must_be_told(events, TICKS)
    clock.set(START - timedelta(days=2))
    every = {kind: {"scan_every_s": SECONDS} for kind in RULES}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    url = f"sqlite:///{tmp_path / 'duewatch.db'}"
    countries = ("CN",)
    async with opened(url, clock, rules=every, sms={"countries": countries}) as app:
        await live(app, clock, events, busy)
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
    assert {what for what, (want, got) in late.items() if not want < got <= want + 4 * MINUTE} == set()
    accepted = sum(number for (_, _, state), number in counts.items() if state == "accepted")
    assert {state for _, _, state in counts} <= {"accepted", "cancelled"}
    assert sum(kept.values()) == accepted
    assert Counter(at_hour(when) for when in at.values())[9] > 100, "mails go out at nine"


def at_hour(when: datetime) -> int:
    return when.astimezone(ZoneInfo("Asia/Shanghai")).hour
