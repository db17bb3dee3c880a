"""An independent judge: who must be told what, when, given what happened.

It shares no code with the product: it knows the ladders, the working days and the recipients'
clocks by itself, and reads the same raw events. At every tick there is a scan, what it plans is
delivered a little later or with a person's daily mail, and what happens in between counts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from workers.simulation.days import (
    DAY,
    HOUR,
    MINUTE,
    NINE,
    clock,
    digest_time,
    earlier,
    here,
    is_quiet,
    later,
    turn,
)
from workers.simulation.events import Event, in_order
from workers.simulation.ladders import IN_RECORD, LADDERS, NAMED, Rung, Tells
from workers.simulation.states import (
    Message,
    Thing,
    deadline,
    has_last_word,
    is_off,
    ladder,
    opened_at,
    state,
)
from workers.simulation.world import World

Person = dict[str, Any]
DELIVERED_AFTER = 2 * MINUTE
PUT_OFF_AT_MOST = DAY
MARGIN = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When scans come: every `every` from `start` up to `end`, but not while the machine is down.

    `down` are spans without a scan; the first tick after one catches up.
    """

    start: datetime
    end: datetime
    every: timedelta
    down: tuple[tuple[datetime, datetime], ...] = ()

    def tick(self, at: datetime) -> datetime:
        """The first tick at or after an instant."""
        steps = -((self.start - max(at, self.start)) // self.every)
        found = self.start + steps * self.every
        for first, last in self.down:
            if first <= found < last:
                return self.tick(last)
        return found

    def awake(self, at: datetime) -> datetime:
        """The instant itself, or the end of the span in which the machine is down."""
        for first, last in self.down:
            if first <= at < last:
                return last
        return at


class Step(NamedTuple):
    """One thing that could be told. Without a contact it stands for somebody who has no address;
    an unwished one can't be told either, but somebody chose that.
    """

    order: tuple[datetime, int]
    what: Message
    person: Person
    address: str
    at: datetime | None
    until: datetime | None
    urgent: bool
    unwished: bool = False


class Judgement(NamedTuple):
    """What is due of a thing, when to look again, and whether nobody can be told now or later.

    `coming` is what will be due, with quiet hours or a snooze over.
    """

    due: dict[Message, Step]
    wake: datetime | None
    nobody: bool
    coming: frozenset[Message] = frozenset()


class Delivered(NamedTuple):
    """When a message must be delivered, to what address, and whether in the person's daily mail.

    `loose`: it was put off or planned anew on the way, so it may come one scan earlier or later.
    """

    at: datetime
    address: str
    in_digest: bool
    loose: bool


@dataclass(slots=True)
class Verdict:
    """All that must be told, and what of the planned became moot or met a stopped address.

    `put_off` counts what came into quiet hours on its way (the machine was down): whether that is
    dropped and planned anew, or merely waits, depends on what else its mail carries.
    """

    told: dict[Message, Delivered] = field(default_factory=dict)
    moot: int = 0
    put_off: int = 0
    stopped: int = 0
    world: World = field(default_factory=World)


class _Planned(NamedTuple):
    send_at: datetime
    number: int
    thing: Thing
    what: Message
    address: str
    in_digest: bool


# --- one record ---------------------------------------------------------------------------


def _address(person: Person, channel: str) -> str | None:
    value = person.get("mail" if channel == "mail" else "mobile")
    return value if value and "*" not in value else None


def _people_for(tells: Tells, thing: Thing, people: Sequence[Person]) -> Sequence[Person]:
    found = _holding(tells.role, thing, people)
    if any(_address(one, channel) for one in found for channel in tells.channels):
        return found
    return _holding(tells.instead, thing, people) or found


def _holding(role: str, thing: Thing, people: Sequence[Person]) -> Sequence[Person]:
    data = thing.data
    if role in IN_RECORD:
        person = {
            name: data.get(f"{role}_{name}") for name in ("mail", "mobile", "time_zone", "name")
        }
        who = data.get("customer") if role == "customer" else None
        zone = person["time_zone"] or "Asia/Shanghai"
        return [person | {"ref": f"{role}:{who or data['ref']}", "time_zone": zone}]
    if role in NAMED:
        name, role = NAMED[role]
        named = [one for one in people if one["ref"] == data.get(name)]
        if named:
            return named
    return [one for one in people if one["role"] == role]


def _times(rung: Rung, thing: Thing, due: datetime | None, now: datetime) -> Iterator[Any]:
    """The name and the day or instant of a rung; of a repeated one those around `now`."""
    anchor = due if rung.anchor == "due" else opened_at(thing)
    assert anchor is not None
    if rung.unit == "h":
        yield rung.name, anchor + rung.count * HOUR
        return
    # The deadline is the first instant too late, so its day is the one before.
    day = here(anchor - MARGIN if rung.anchor == "due" else anchor)
    if rung.unit == "d":
        day += rung.count * DAY
    else:
        day = later(day, rung.count) if rung.count > 0 else earlier(day, -rung.count)
    found: list[tuple[str, date]] = [(rung.name, day)]
    while rung.every and day <= here(now) + 3 * DAY:
        day = later(day, rung.every)
        found.append((f"{rung.name}#{len(found) + 1}", day))
    # What was to be told long ago is overtaken for everybody by what came after it.
    yield from found[-5:]


def _nominal(when: date | datetime) -> datetime:
    return when if isinstance(when, datetime) else clock(when, NINE, "Asia/Shanghai")


def _falls_due(
    when: date | datetime,
    person: Person,
    channel: str,
    until: datetime | None,
    now: datetime,
    every: timedelta,
) -> datetime | None:
    """When it is to be told, or None when it can't be told in time any more."""
    at = _nominal(when)
    if not isinstance(when, datetime):
        local = clock(when, NINE, person["time_zone"])
        at = local if until is None or local < until else at
    if is_quiet(person, channel, at):
        end = turn(person, channel, at, 1)
        at = turn(person, channel, at, 0) - MINUTE - every if until and end >= until else end
    if at > now or not is_quiet(person, channel, now):
        return max(at, now) if at <= now else at
    end = turn(person, channel, now, 1)
    return None if until and end >= until else end


def _steps(
    thing: Thing, told: Mapping[Message, str], world: World, now: datetime, every: timedelta
) -> Iterator[Step]:
    """All steps of a thing's ladder. An address that has a stage already isn't told it again."""
    due, people, climb = deadline(thing, world), world.people_of(thing), ladder(thing)
    had = {(what.stage, what.channel, to) for what, to in told.items() if what.ladder == climb}
    for rung in LADDERS[thing.kind]:
        if is_off(rung, thing, due):
            continue
        until = None if "after" in rung.conditions else due
        for name, when in _times(rung, thing, due, now):
            seen = {(channel, to) for stage, channel, to in had if stage == name}
            for tells in rung.tells:
                for person in _people_for(tells, thing, people) or ({"ref": ""},):
                    for channel in tells.channels:
                        what = Message(*thing.key, climb, name, channel, person["ref"])
                        step = _step(rung, when, what, person, until, now, world, every)
                        mine = (channel, step.address)
                        if step.address and not step.unwished:
                            if mine in seen and what not in told:
                                step = step._replace(unwished=True, at=None)
                            seen.add(mine)
                        yield step


def _step(
    rung: Rung,
    when: date | datetime,
    what: Message,
    person: Person,
    until: datetime | None,
    now: datetime,
    world: World,
    every: timedelta,
) -> Step:
    to = _address(person, what.channel)
    urgent = "urgent" in rung.conditions
    order = (_nominal(when), rung.place)
    if not to:
        return Step(order, what._replace(contact=""), person, "", None, until, urgent)
    wished = what.channel in person.get("channels", "mail sms")
    if person.get("digest") == "daily" and what.channel == "sms" and not urgent:
        wished = False
    spared = "required" in rung.conditions and what.channel == "mail"
    if (what.channel, to, what.kind) in world.unsubscribed and not spared:
        wished = False
    at = _falls_due(when, person, what.channel, until, now, every) if wished else None
    return Step(order, what, person, to, at, until, urgent, unwished=not wished)


def judge(
    thing: Thing, told: Mapping[Message, str], world: World, now: datetime, every: timedelta
) -> Judgement:
    """What is to be told of a thing at an instant, if `told` is what has been told of it."""
    if state(thing, world) != "open":
        return Judgement({}, None, False)
    steps = [s for s in _steps(thing, told, world, now, every) if not s.until or now < s.until]
    latest: dict[str, tuple[datetime, int]] = {}
    for step in steps:
        come = step.what in told or (step.at is not None and step.at <= now)
        if step.what.contact and come:
            latest[step.what.contact] = max(latest.get(step.what.contact, step.order), step.order)
    due: dict[Message, Step] = {}
    coming: dict[Message, datetime] = {}
    for step in steps:
        if not step.what.contact or step.what in told or step.at is None:
            continue
        if latest.get(step.what.contact, step.order) > step.order:
            continue
        if step.at <= now:
            due[step.what] = step
        else:
            coming[step.what] = step.at
    come_orders = [step.order for step in steps if step.order[0] <= now]
    top = [step for step in steps if come_orders and step.order == max(come_orders)]
    nobody = bool(top) and not any(step.what.contact for step in top) and not (due or coming)
    return Judgement(due, min(coming.values(), default=None), nobody, frozenset(coming))


# --- the whole of it ----------------------------------------------------------------------


class Oracle:
    """Lives through events with scans at the rhythm's ticks, and keeps what must be told."""

    def __init__(self, events: Iterable[Event], rhythm: Rhythm) -> None:
        self.waiting = sorted(events, key=in_order)[::-1]
        self.rhythm = rhythm
        self.world = World()
        self.verdict = Verdict(world=self.world)
        self._planned: list[_Planned] = []
        self._loose: set[Message] = set()
        self._number = 0

    def live(self) -> Verdict:
        """Everything from the first event to the rhythm's end."""
        at = self._next()
        while at is not None and at < self.rhythm.end:
            self._take(at)
            if at == self.rhythm.tick(at):
                self._scan(at)
            self._take(at + DELIVERED_AFTER)
            self._deliver(at + DELIVERED_AFTER)
            at = self._next()
        return self.verdict

    def _next(self) -> datetime | None:
        """The next instant at which something is to be done."""
        wakes = self.world.next_wake()
        times = [] if wakes is None else [self.rhythm.tick(wakes)]
        if self._planned:
            times.append(self.rhythm.awake(self._planned[0].send_at))
        if self.waiting:
            times.append(self.rhythm.tick(self.waiting[-1].at))
        return min(times, default=None)

    def _take(self, until: datetime) -> None:
        while self.waiting and self.waiting[-1].at <= until:
            at = self.waiting[-1].at
            batch = []
            while self.waiting and self.waiting[-1].at == at:
                batch.append(self.waiting.pop())
            self.world.take(at, batch)

    def _scan(self, tick: datetime) -> None:
        for thing in self.world.awake(tick):
            found = judge(thing, thing.told, self.world, tick, self.rhythm.every)
            for what, step in found.due.items():
                self._plan(thing, step, tick)
                thing.told[what] = step.address
            thing.mute = found.nobody
            spoken = has_last_word(thing) and bool(thing.told) and found.wake is None
            thing.done = thing.done or (spoken and not found.nobody)
            self.world.sleep(thing, None if found.nobody else found.wake)

    def _plan(self, thing: Thing, step: Step, tick: datetime) -> None:
        daily = step.person.get("digest") == "daily" and step.what.channel == "mail"
        when = None
        if daily and not step.urgent:
            when = digest_time(step.person, tick, step.until)
        self._number += 1
        planned = _Planned(
            when or tick, self._number, thing, step.what, step.address, when is not None
        )
        heapq.heappush(self._planned, planned)

    def _deliver(self, now: datetime) -> None:
        while self._planned and self._planned[0].send_at <= now:
            one = heapq.heappop(self._planned)
            self._last_look(one, now)

    def _last_look(self, one: _Planned, now: datetime) -> None:
        thing, what = one.thing, one.what
        told = {other: to for other, to in thing.told.items() if other != what}
        found = judge(thing, told, self.world, now, self.rhythm.every)
        step = found.due.get(what)
        if what.ladder == ladder(thing) and step is not None and step.address == one.address:
            if (what.channel, one.address, "*") in self.world.unsubscribed:
                self.verdict.stopped += 1
                return
            loose = what in self._loose
            self.verdict.told[what] = Delivered(now, one.address, one.in_digest, loose)
            return
        if what in found.coming and what.ladder == ladder(thing):
            self.verdict.put_off += 1
        else:
            self.verdict.moot += 1
        thing.told.pop(what, None)
        self._loose.add(what)
        if state(thing, self.world) == "open" and not thing.mute and not thing.done:
            self.world.look(thing, now)
