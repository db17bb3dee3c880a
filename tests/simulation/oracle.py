"""An independent judge: who must be told what, when, given what happened. Shares no code with the
product; it knows the three ladders, the working days of 2026 and the recipients' clocks by itself.

It reads the same raw events as the product. A scan comes at every tick, its delivery a little
later, and what happens in between counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

BEIJING = ZoneInfo("Asia/Shanghai")
SCAN_EVERY = timedelta(minutes=15)
DELIVERED_AFTER = timedelta(minutes=2)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def _days(*spans: tuple[int, int, int]) -> set[date]:
    return {date(2026, m, d) for m, first, last in spans for d in range(first, last + 1)}


OFF = _days((1, 1, 3), (2, 15, 23), (4, 4, 6), (5, 1, 5), (6, 19, 21), (9, 25, 27), (10, 1, 7))
MADE_UP = _days((1, 4, 4), (2, 14, 14), (2, 28, 28), (5, 9, 9), (9, 20, 20), (10, 10, 10))


def working(day: date) -> bool:
    return day in MADE_UP or (day.weekday() < 5 and day not in OFF)


def later(day: date, count: int) -> date:
    while count:
        day += DAY
        count -= working(day)
    return day


def earlier(day: date, count: int) -> date:
    while not working(day):
        day -= DAY
    while count:
        day -= DAY
        count -= working(day)
    return day


class Event(NamedTuple):
    """One raw thing that came in: kind is "contact", "line" or a record's kind."""

    at: datetime
    kind: str
    data: dict[str, Any]


class Message(NamedTuple):
    """One thing to be told of one record to one person by one channel."""

    ref: str
    ladder: str
    stage: str
    channel: str
    contact: str


class Rung(NamedTuple):
    name: str
    place: int
    when: date | datetime
    tells: tuple[tuple[str, str], ...]
    after: bool = False


class Step(NamedTuple):
    """One thing that could be told. Without a contact it stands for somebody who has no address;
    an unwished one can't be told either, but somebody chose that.
    """

    order: tuple[datetime, int]
    what: Message
    at: datetime | None
    until: datetime | None
    unwished: bool = False


@dataclass
class Thing:
    """A record as it stands: its raw fields, what was told of it, and when to look again."""

    kind: str
    data: dict[str, Any]
    told: set[Message] = field(default_factory=set)
    wake: datetime | None = None

    @property
    def ladder(self) -> str:
        until = self.data.get("confirm_by")
        again = {
            "invitation": self.data.get("attempt_no", 1),
            "statement": until.isoformat() if until else 1,
        }
        return str(again.get(self.kind, self.data.get("rejected_count", 0) + 1))


def is_open(thing: Thing, sums: dict[str, float]) -> bool:
    data, status = thing.data, thing.data["status"]
    if thing.kind == "invitation":
        return status in {"PENDING", "EXPIRED"}
    if thing.kind == "statement":
        return bool(status == "PENDING")
    due = status in {"付款申请审核通过", "发票审核不通过"}
    done = data.get("invoice_numbers") and data.get("invoices_received_at")
    complete = abs(sums[data["ref"]] - float(data["amount_incl_tax"])) < 0.005
    return due and complete and not (done and status == "付款申请审核通过")


def deadline(thing: Thing) -> datetime | None:
    data = thing.data
    if thing.kind == "statement" and data.get("confirm_by"):
        return datetime.combine(data["confirm_by"] + DAY, time(), BEIJING).astimezone(UTC)
    if thing.kind != "invitation":
        return None
    ends = {"ONLINE": data["sent_at"] + 7 * DAY, "ACTIVITY": data.get("activity_ends_at")}
    link = ends.get(data["origin"])
    if data["status"] == "EXPIRED":
        link = min(at for at in (link, data["updated_at"]) if at is not None)
    registered = data.get("registered_at")
    clocks = [link, registered + 15 * DAY if registered else None]
    return min((at for at in clocks if at is not None), default=None)


FINANCE, FINANCE_SMS = ("finance", "mail"), ("finance", "mail sms")
BOTH = (FINANCE, ("administrator", "mail"))
ESCALATED = (FINANCE_SMS, ("administrator", "mail"), ("partner_manager", "mail"))


def rungs(thing: Thing, now: datetime) -> Iterator[Rung]:
    data, due = thing.data, deadline(thing)
    if thing.kind == "invitation":
        if due is None:
            return
        if data["status"] != "EXPIRED":
            first = (("customer", "mail sms"), ("inviter", "mail"))
            second = (("customer", "mail sms"), ("inviter", "mail sms"))
            yield Rung("T-72h", 0, due - 72 * HOUR, first)
            yield Rung("T-24h", 1, due - 24 * HOUR, second)
        yield Rung("expired", 2, due, (("inviter", "mail"),), after=True)
    elif thing.kind == "statement" and due is not None:
        last = data["confirm_by"]
        yield Rung("T-5", 0, earlier(last, 5), (FINANCE,))
        yield Rung("T-2", 1, earlier(last, 2), (FINANCE_SMS,))
        yield Rung("T-0", 2, earlier(last, 0), (FINANCE_SMS, ("administrator", "mail")))
        yield Rung("ended", 3, later(last, 1), BOTH, after=True)
        if data["statement_kind"] == "EI_PROCUREMENT":
            yield from _every_five("waiting", 4, later(last, 5), BOTH, now, after=True)
    else:
        opened = data.get("generated_at") or max(
            data["approved_at"], data.get("rejected_at") or data["approved_at"]
        )
        day = opened.astimezone(BEIJING).date()
        if thing.kind == "statement":
            yield Rung("+1", 5, later(day, 1), (FINANCE,))
            yield Rung("+3", 6, later(day, 3), (FINANCE,))
            yield from _every_five("+7", 7, later(day, 7), BOTH, now)
            return
        yield Rung("+1", 0, later(day, 1), (FINANCE_SMS,))
        yield Rung("+3", 1, later(day, 3), (FINANCE_SMS,))
        yield Rung("+7", 2, later(day, 7), ESCALATED)
        yield from _every_five("+12", 3, later(day, 12), ESCALATED, now)


def _every_five(
    name: str,
    place: int,
    day: date,
    tells: tuple[tuple[str, str], ...],
    now: datetime,
    after: bool = False,
) -> Iterator[Rung]:
    number = 1
    while day <= now.date() + 20 * DAY:
        yield Rung(name if number == 1 else f"{name}#{number}", place, day, tells, after)
        number, day = number + 1, later(day, 5)


def people_for(role: str, by: str, thing: Thing, people: list[dict[str, Any]]) -> list[Any]:
    if role == "customer":
        data = thing.data
        return [
            {
                "ref": f"customer:{data['ref']}",
                "mail": data.get("customer_mail"),
                "mobile": data.get("customer_mobile"),
                "time_zone": data["customer_time_zone"],
            }
        ]
    found = [one for one in people if one["role"] == role]
    if role == "inviter":
        named = [one for one in people if one["ref"] == thing.data.get("inviter")]
        found = named or [one for one in people if one["role"] == "sales"]
    if any(address(one, channel) for one in found for channel in by.split()):
        return found
    return [one for one in people if one["role"] == "administrator"] or found


def address(person: dict[str, Any], channel: str) -> str | None:
    value = person.get("mail" if channel == "mail" else "mobile")
    return value if value and "*" not in value else None


def quiet_span(person: dict[str, Any], channel: str) -> tuple[time, time] | None:
    text = person.get("quiet_hours") or ("21:00-08:00" if channel == "sms" else "none")
    if text == "none":
        return None
    first, last = (time.fromisoformat(part) for part in text.split("-"))
    return first, last


def is_quiet(person: dict[str, Any], channel: str, at: datetime) -> bool:
    span = quiet_span(person, channel)
    if span is None:
        return False
    local = at.astimezone(ZoneInfo(person["time_zone"])).time()
    return span[0] <= local < span[1] if span[0] < span[1] else not span[1] <= local < span[0]


def turn(person: dict[str, Any], channel: str, at: datetime, which: int) -> datetime:
    """The end of the quiet hours around `at` (which 1), or their beginning (which 0)."""
    span = quiet_span(person, channel)
    assert span is not None
    zone, sign = ZoneInfo(person["time_zone"]), 1 if which else -1
    day = at.astimezone(zone).date()
    found = [datetime.combine(day + n * DAY, span[which], zone).astimezone(UTC) for n in (-1, 0, 1)]
    return min(
        (one for one in found if (one - at) * sign >= timedelta(0)), key=lambda o: abs(o - at)
    )


def falls_due(
    rung: Rung, person: dict[str, Any], channel: str, until: datetime | None, now: datetime
) -> datetime | None:
    """When it is to be told, or None when it can't be told in time any more."""
    at = nominal(rung)
    if not isinstance(rung.when, datetime):
        local = datetime.combine(rung.when, time(9), ZoneInfo(person["time_zone"])).astimezone(UTC)
        at = local if until is None or local < until else at
    if is_quiet(person, channel, at):
        end = turn(person, channel, at, 1)
        at = turn(person, channel, at, 0) - MINUTE - SCAN_EVERY if until and end >= until else end
    if at > now or not is_quiet(person, channel, now):
        return max(at, now) if at <= now else at
    end = turn(person, channel, now, 1)
    return None if until and end >= until else end


def nominal(rung: Rung) -> datetime:
    if isinstance(rung.when, datetime):
        return rung.when
    return datetime.combine(rung.when, time(9), BEIJING).astimezone(UTC)


def steps(thing: Thing, people: list[dict[str, Any]], now: datetime) -> Iterator[Step]:
    """All steps of a thing's ladder. An address that has a stage already isn't told it again."""
    due = deadline(thing)
    had = {
        (what.stage, what.channel, address(person, what.channel))
        for what in thing.told
        for person in people
        if what.ladder == thing.ladder and what.contact == person["ref"]
    }
    for rung in rungs(thing, now):
        until = None if rung.after else due
        seen = {(channel, to) for stage, channel, to in had if stage == rung.name}
        for role, by in rung.tells:
            found = people_for(role, by, thing, people)
            for person in found or [{"ref": ""}]:
                for channel in by.split():
                    to = address(person, channel)
                    ref = person["ref"] if to else ""
                    what = Message(thing.data["ref"], thing.ladder, rung.name, channel, ref)
                    wished = channel in person.get("channels", "mail sms")
                    unwished = bool(to) and (
                        not wished or ((channel, to) in seen and what not in thing.told)
                    )
                    if wished and to:
                        seen.add((channel, to))
                    at = falls_due(rung, person, channel, until, now) if to else None
                    at = None if unwished else at
                    yield Step((nominal(rung), rung.place), what, at, until, unwished)


def judge(
    thing: Thing, people: list[dict[str, Any]], sums: dict[str, float], now: datetime
) -> tuple[set[Message], datetime | None, bool]:
    """(what is due now, when to look again, whether nobody at all can be told)."""
    if not is_open(thing, sums):
        return set(), None, False
    all_steps = [step for step in steps(thing, people, now) if not step.until or now < step.until]
    latest: dict[str, tuple[datetime, int]] = {}
    for step in all_steps:
        come = step.what in thing.told or (step.at is not None and step.at <= now)
        if step.what.contact and come:
            latest[step.what.contact] = max(latest.get(step.what.contact, step.order), step.order)
    due, coming = set(), []
    for step in all_steps:
        if not step.what.contact or step.what in thing.told or step.at is None:
            continue
        if latest.get(step.what.contact, step.order) > step.order:
            continue
        if step.at <= now:
            due.add(step.what)
        else:
            coming.append(step.at)
    come_orders = [step.order for step in all_steps if step.order[0] <= now]
    top = [step for step in all_steps if come_orders and step.order == max(come_orders)]
    nobody = bool(top) and not any(step.what.contact for step in top) and not due
    return due, min(coming, default=None), nobody


class World:
    """Everything that has come in so far."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.waiting = sorted(events, key=lambda event: event.at, reverse=True)
        self.things: dict[str, Thing] = {}
        self.people: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.sums: dict[str, float] = defaultdict(float)

    def take(self, until: datetime) -> None:
        """What happens up to an instant; whatever it touches is to be looked at again."""
        while self.waiting and self.waiting[-1].at <= until:
            event = self.waiting.pop()
            touched = self._take(event)
            for one in self.things.values():
                if touched in {one.data["ref"], one.data["partner"]}:
                    one.wake = event.at

    def _take(self, event: Event) -> str | None:
        data: dict[str, Any] = event.data
        if event.kind == "line":
            self.sums[data["payment"]] += float(data["amount_incl_tax"])
            return str(data["payment"])
        if event.kind == "contact":
            others = [one for one in self.people[data["partner"]] if one["ref"] != data["ref"]]
            known = [one for one in self.people[data["partner"]] if one["ref"] == data["ref"]]
            for one in known:  # what is masked hides what is known, and doesn't change it
                clear = {name: one[name] for name in ("mail", "mobile") if one[name]}
                data = data | {n: v for n, v in clear.items() if "*" in (data[n] or "")}
            self.people[data["partner"]] = sorted([*others, data], key=lambda one: str(one["ref"]))
            return str(data["partner"])
        ref = str(data["ref"])
        if ref in self.things and self.things[ref].data == data:
            return None  # nothing new
        self.things.setdefault(ref, Thing(event.kind, data)).data = data
        return ref

    def judge(self, one: Thing, now: datetime) -> tuple[set[Message], datetime | None]:
        """What is due of a thing, and when to look again: never, once nobody can be told."""
        due, wake, nobody = judge(one, self.people[one.data["partner"]], self.sums, now)
        return due, None if nobody else wake


def must_be_told(events: Iterable[Event], ticks: list[datetime]) -> dict[Message, datetime]:
    """Each message with the instant of its delivery."""
    world, told = World(events), dict[Message, datetime]()
    for tick in ticks:
        world.take(tick)
        planned = []
        for one in world.things.values():
            if one.wake is not None and one.wake <= tick:
                due, one.wake = world.judge(one, tick)
                planned.append((one, due))
        sent_at = tick + DELIVERED_AFTER
        world.take(sent_at)
        for one, due in planned:
            still = due & world.judge(one, sent_at)[0] if due else set()
            one.told |= still
            told |= dict.fromkeys(still, sent_at)
            if due - still and is_open(one, world.sums):
                one.wake = sent_at
    return told
