"""A believable year of a partner centre, made up: raw events of all kinds, in their time.

The same seed, size and span make the same year. Partners are large and small; statements come in
floods as months end, staff incentives by quarters; on holidays next to nothing happens. Events
come late, twice and after newer ones; people leave, move, and have enough of some reminders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from random import Random
from typing import Any

from workers.simulation.days import BEIJING, DAY
from workers.simulation.events import Event, in_order
from workers.simulation.money_life import bills, coupons, quotas
from workers.simulation.pen import Pen
from workers.simulation.sales_life import (
    invitations,
    offers,
    opportunities,
    registrations,
    sales_tasks,
)
from workers.simulation.team_life import (
    FAMILY,
    certifications,
    members,
    partner,
    people,
    projects,
)
from workers.simulation.world import World

CAMPAIGNS = 50
"""One partner in so many registers a hundred customers within weeks."""
FIRST_DAY = date(2026, 1, 1)


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand at an instant, as raw fields by ref. Derived records aren't among them."""

    partners: dict[str, dict[str, Any]]
    contacts: dict[str, dict[str, Any]]
    records: dict[str, dict[str, dict[str, Any]]]
    lines: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Life:
    """All events of a span in order, from `start` up to `end` (aware UTC)."""

    seed: int
    partners: int
    start: datetime
    end: datetime
    events: tuple[Event, ...]

    def at(self, at: datetime) -> Standing:
        """What would be known at an instant (aware): the state of every kind, for a demo."""
        world = World()
        for event in self.events:
            if event.at > at:
                break
            world.take(event.at, (event,))
        records: dict[str, dict[str, dict[str, Any]]] = {}
        for (kind, ref), thing in world.things.items():
            if kind not in {"settlement_account", "pre_registration_limit"}:
                records.setdefault(kind, {})[ref] = thing.data
        contacts = {one["ref"]: one for theirs in world.people.values() for one in theirs}
        lines = {ref: list(rows.values()) for ref, rows in world.lines.items()}
        return Standing(dict(world.partners), contacts, records, lines)

    def share(self, number: int, of: int) -> Life:
        """The part of the partners, whole families, that is share `number` (from 0) of `of`."""
        mine = tuple(event for event in self.events if _family(event) % of == number)
        return Life(self.seed, self.partners, self.start, self.end, mine)


def _family(event: Event) -> int:
    """The number of the family of partners that an event is about."""
    data = event.data
    named = data.get("partner") or data.get("payment") or data["ref"]
    return int(str(named).partition("P")[2].partition("-")[0]) // FAMILY


def life(
    seed: int,
    partners: int = 200,
    start: date = FIRST_DAY,
    days: int = 365,
    busy: float = 1.0,
) -> Life:
    """The year (or another span of `days`) from the beginning of a day of Beijing on.

    `busy` is how much happens, 1 for a usual year of mostly small partners. `Life.at` gives what is
    known at an instant of it.
    """
    first = datetime.combine(start, time(), BEIJING).astimezone(UTC)
    last = first + days * DAY
    events = [
        event
        for number in range(partners)
        for event in _partner(seed, number, first, last, busy)
        if event.at < last
    ]
    return Life(seed, partners, first, last, tuple(sorted(events, key=in_order)))


def _partner(
    seed: int, number: int, first: datetime, last: datetime, busy: float
) -> Iterator[Event]:
    chance = Random(f"{seed}/{number}")  # noqa: S311 - nothing here is secret
    pen = Pen(chance, first, last, f"P{number:04}", chance.random() < 0.8, busy)
    size = chance.choices((0.5, 1.0, 3.0), (65, 28, 7))[0]
    yield from partner(pen, number)
    yield from people(pen)
    yield from bills(pen, size)
    yield from coupons(pen)
    yield from quotas(pen)
    yield from invitations(pen)
    yield from registrations(pen, campaign=number % CAMPAIGNS == 7)
    yield from opportunities(pen)
    yield from sales_tasks(pen)
    yield from offers(pen)
    yield from members(pen)
    yield from projects(pen)
    yield from certifications(pen)
