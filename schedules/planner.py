"""The planner: record + rule + contacts + now -> who is told what, when, and why not. Pure.

The scan, the forecast, explain and the last look before a send all call `plan`, so what is
foretold is what is sent.

A *step* is one stage of one record for one contact by one channel. Each step falls due at one
instant, moved out of the contact's quiet hours. Of the steps of one contact that are due, only
those of the latest stage are told: after a downtime nobody gets the whole ladder at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schedules.calendar import QuietHours, WorkingCalendar, out_of_quiet, send_instant
from schedules.rule import Cadence, Channel, Contact, Record, Rule, Stage, State, Tell

_DAY = timedelta(days=1)
MAX_REPEATS = 400
"""A repeating stage ends here (about eight years of every fifth working day)."""


class Told(NamedTuple):
    """One thing told: the unique key of an occurrence within a record's ladder."""

    stage: str
    channel: str
    contact: str


class Verdict(StrEnum):
    """What the planner says of one step.

    told         a notification carries it already
    due          it is to be told now
    coming       it will be, at `at`
    overtaken    a later stage for the same contact is due or told
    void         its time has passed: the deadline is over, or quiet hours last until then
    unreachable  the contact has no usable address, or nobody holds the role
    unwanted     the contact doesn't wish this channel, or unsubscribed
    twice        another contact of the same stage has the same address
    off          the stage isn't for this record, or the record isn't open
    """

    TOLD = "told"
    DUE = "due"
    COMING = "coming"
    OVERTAKEN = "overtaken"
    VOID = "void"
    UNREACHABLE = "unreachable"
    UNWANTED = "unwanted"
    TWICE = "twice"
    OFF = "off"


class Step(NamedTuple):
    """One stage for one contact by one channel. Instants are aware UTC.

    `at` is when it falls due; `until` is the first instant at which it would be wrong (the
    deadline), or None. `contact` is None where nobody holds the role.
    """

    stage: str
    order: tuple[datetime, int]
    role: str
    channel: Channel
    message: str
    urgent: bool
    contact: Contact | None
    at: datetime | None
    until: datetime | None
    verdict: Verdict
    why: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a record as they stand at one instant, in the ladder's order.

    `next_due_at` is when the planner must look again. `unheard` says who is missing when a stage
    is due, nobody at all can be told, and no later stage is to come: the record is then held.
    """

    steps: tuple[Step, ...]
    next_due_at: datetime | None
    unheard: str | None = None

    @property
    def due(self) -> tuple[Step, ...]:
        """The steps to be told now."""
        return tuple(step for step in self.steps if step.verdict is Verdict.DUE)

    @property
    def telling(self) -> dict[Told, str]:
        """What is told once the due steps are, and the address each goes to."""
        return {
            Told(step.stage, step.channel, step.contact.ref): step.contact.address(step.channel)
            or ""
            for step in self.due
            if step.contact is not None
        }


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What all records of a rule share while planning.

    `quiet` are the default quiet hours by channel; `unsubscribed` holds (channel, address) pairs
    that don't want this kind any more. `digest_at` is the wall-clock time of a person's digest.
    """

    rule: Rule
    cadence: Cadence
    calendar: WorkingCalendar
    quiet: Mapping[str, QuietHours | None]
    unsubscribed: AbstractSet[tuple[str, str]] = frozenset()
    digest_at: time = time(9, 30)


def plan(
    record: Record,
    contacts: Sequence[Contact],
    told: Mapping[Told, str],
    now: datetime,
    around: Circumstances,
    *,
    whole: bool = True,
) -> Plan:
    """Decide every step of a record at `now` (aware UTC).

    `contacts` are those of the record's partner and of its parent; `told` what its present ladder
    has told, with the address each went to. Whoever only does what is due, and explains nothing,
    may leave out the stages that aren't for this record: `whole` is false then.
    """
    theirs = around.rule.told_at(record)
    contacts = [contact for contact in contacts if contact.partner == theirs]
    steps: list[Step] = []
    for number, one in enumerate(around.cadence.stages):
        if reason := around.rule.applies(one, record):
            if whole:
                steps.extend(_off(one, number, record, around.rule, reason))
            continue
        for name, day_or_instant in _times(one, record, around, now):
            steps.extend(
                _steps_of(one, name, number, day_or_instant, record, contacts, told, now, around)
            )
    steps.sort(key=lambda step: step.order)
    judged = _judge(steps, told, now, record)
    next_due_at = _next_due(judged)
    # A stage that reaches nobody doesn't cost those to come: whom they reach is seen then.
    unheard = _unheard(judged, record, now) if next_due_at is None else None
    return Plan(tuple(judged), next_due_at, unheard)


def forecast(
    record: Record,
    contacts: Sequence[Contact],
    told: Mapping[Told, str],
    start: datetime,
    end: datetime,
    around: Circumstances,
) -> list[tuple[datetime, Step]]:
    """What will be told from `start` up to, not including, `end`, if nothing changes until then.

    It is the scan in virtual time: plan, tell what is due, move on to the next instant.
    """
    known = dict(told)
    found: list[tuple[datetime, Step]] = []
    moment: datetime | None = start
    while moment is not None and moment < end:
        planned = plan(record, contacts, known, moment, around, whole=False)
        found.extend((moment, step) for step in planned.due)
        known |= planned.telling
        if planned.unheard and not planned.due:
            break
        moment = planned.next_due_at
    return found


def digest_instant(step: Step, now: datetime, around: Circumstances) -> datetime | None:
    """When a step that is told now goes out with its person's digest, or None: at once, by itself.

    The digest comes at `digest_at` of the person's zone, once their quiet hours are over; what is
    urgent, and what would come too late with it, doesn't wait.
    """
    contact = step.contact
    if contact is None or not contact.daily or step.channel != "mail" or step.urgent:
        return None
    if type(around.rule).figures is not Rule.figures:
        return None  # a line among others would lose the charts
    zone = ZoneInfo(contact.time_zone)
    day = now.astimezone(zone).date()
    at = send_instant(day, around.digest_at, zone)
    if at < now:
        at = send_instant(day + _DAY, around.digest_at, zone)
    quiet = quiet_hours(contact, "mail", around.quiet)
    moved = out_of_quiet(at, quiet, zone, None)
    return moved if moved is not None and (step.until is None or moved < step.until) else None


def _off(one: Stage, number: int, record: Record, rule: Rule, reason: str) -> Iterator[Step]:
    for tell in one.tell:
        for channel in tell.by:
            yield Step(
                stage=one.name,
                order=(record.opened_at, number),
                role=tell.role,
                channel=channel,
                message=rule.message(tell, record),
                urgent=one.urgent,
                contact=None,
                at=None,
                until=None,
                verdict=Verdict.OFF,
                why=reason,
            )


def _times(
    one: Stage, record: Record, around: Circumstances, now: datetime
) -> Iterator[tuple[str, date | datetime]]:
    """The names and times of a stage: one, or for a repeating stage all up to the first to come."""
    when, zone = one.when, around.rule.zone
    due = record.deadline.at
    anchor = due if when.anchor == "due" else record.opened_at
    if anchor is None:
        return
    if when.unit == "hour":
        first: date | datetime = anchor + timedelta(hours=when.count)
        first_day = first.astimezone(zone).date() if isinstance(first, datetime) else first
    else:
        # The deadline is the first instant too late, so its day is the one just before.
        last = anchor - timedelta(microseconds=1) if when.anchor == "due" else anchor
        first = first_day = _count_days(last.astimezone(zone).date(), when.count, when.unit, around)
    yield one.name, first
    if not when.every:
        return
    day = first_day
    for repeat in range(2, MAX_REPEATS + 1):
        # A day of margin: recipients in other zones and quiet hours move a step by less.
        if day > now.astimezone(zone).date() + timedelta(days=1):
            return
        day = _count_days(day, when.every, when.every_unit, around)
        yield f"{one.name}#{repeat}", day


def _count_days(day: date, count: int, unit: str, around: Circumstances) -> date:
    if unit == "day":
        return day + timedelta(days=count)
    if count > 0:
        return around.calendar.after(day, count).day
    return around.calendar.before(day, -count).day


def _steps_of(
    one: Stage,
    name: str,
    number: int,
    day_or_instant: date | datetime,
    record: Record,
    contacts: Sequence[Contact],
    told: Mapping[Told, str],
    now: datetime,
    around: Circumstances,
) -> Iterator[Step]:
    """The steps of one stage, with verdicts that concern the contact alone (else COMING)."""
    until = None if one.after_deadline else record.deadline.at
    # The address counts, whoever had it: a person may have been entered anew under another ref.
    seen = {(what.channel, to) for what, to in told.items() if to and what.stage == name}
    nominal = _nominal(day_or_instant, around)
    for tell in one.tell:
        people = _people(tell, record, contacts, around.rule)
        message, order = around.rule.message(tell, record), (nominal, number)
        for contact in people or (None,):
            for channel in tell.by:
                at, verdict, why = None, Verdict.UNREACHABLE, ""
                if contact is None:
                    why = _nobody(tell, record, around.rule)
                else:
                    at = _at(day_or_instant, contact, channel, until, now, record, around)
                    verdict, why = _usable(one, contact, channel, at, seen, around)
                yield Step(
                    name,
                    order,
                    (contact.role if contact is not None else "") or tell.role,
                    channel,
                    message,
                    one.urgent,
                    contact,
                    at,
                    until,
                    verdict,
                    why,
                    one.required,
                )


def _people(tell: Tell, record: Record, contacts: Sequence[Contact], rule: Rule) -> list[Contact]:
    people = rule.recipients(tell.role, record, contacts)
    reachable = [one for one in people if any(one.address(channel) for channel in tell.by)]
    if reachable or not tell.or_else:
        return people
    instead = rule.recipients(tell.or_else, record, contacts)
    return instead or people


def _nobody(tell: Tell, record: Record, rule: Rule) -> str:
    theirs = rule.told_at(record)
    if theirs is None:
        return (
            f"partner {record.partner.ref} acts by its distributor, which isn't known: import the "
            "partner with its parent"
        )
    roles = tell.role if tell.or_else in {"", tell.role} else f"{tell.role} or {tell.or_else}"
    return f"partner {theirs} has no contact with the role {roles}: import one"


def _nominal(day_or_instant: date | datetime, around: Circumstances) -> datetime:
    if isinstance(day_or_instant, datetime):
        return day_or_instant
    return send_instant(day_or_instant, around.cadence.send_at, around.rule.zone)


def _at(
    day_or_instant: date | datetime,
    contact: Contact,
    channel: Channel,
    until: datetime | None,
    now: datetime,
    record: Record,
    around: Circumstances,
) -> datetime | None:
    """When a step falls due for one contact, or None when quiet hours last until it is void."""
    zone = ZoneInfo(contact.time_zone)
    at = _nominal(day_or_instant, around)
    if not isinstance(day_or_instant, datetime):
        local = send_instant(day_or_instant, around.cadence.send_at, zone)
        # Nine o'clock at the recipient's may be after a deadline counted in Beijing.
        at = local if until is None or local < until else at
    if record.snoozed_until is not None:
        at = max(at, record.snoozed_until)
    quiet = quiet_hours(contact, channel, around.quiet)
    moved = out_of_quiet(at, quiet, zone, until)
    if moved is not None and moved < at:
        # Brought forward: a scan must still come by before the quiet hours begin, and a snooze
        # isn't cut short.
        moved = max(moved - around.cadence.scan_every, record.snoozed_until or moved - _DAY)
        moved = moved if out_of_quiet(moved, quiet, zone, until) == moved else None
    if moved is not None and moved <= now:
        # Late (a downtime, a record that came late): not before the quiet hours of now end.
        late = out_of_quiet(now, quiet, zone, until)
        return late if late is not None and late >= now else None
    return moved


def quiet_hours(
    contact: Contact, channel: Channel, defaults: Mapping[str, QuietHours | None]
) -> QuietHours | None:
    """A contact's quiet hours for a channel: its own wish, else the channel's default."""
    if contact.quiet:
        return QuietHours.parse(contact.quiet)
    return defaults.get(channel)


def _usable(
    one: Stage,
    contact: Contact,
    channel: Channel,
    at: datetime | None,
    seen: set[tuple[str, str]],
    around: Circumstances,
) -> tuple[Verdict, str]:
    """What concerns the contact alone, and why; notes in `seen` whom this stage reaches."""
    address = contact.address(channel)
    if address is None:
        masked = contact.mail if channel == "mail" else contact.mobile
        why = f"contact {contact.ref} has no {channel} address: import the full one"
        if masked:
            why = f"contact {contact.ref} has a masked {channel} address: import the full one"
        return Verdict.UNREACHABLE, why
    if channel not in contact.channels:
        return Verdict.UNWANTED, f"contact {contact.ref} doesn't wish {channel}"
    if contact.daily and channel == "sms" and not one.urgent:
        why = f"contact {contact.ref} takes a daily digest: only what is urgent comes by SMS"
        return Verdict.UNWANTED, why
    spared = one.required and channel == "mail"
    if (channel, address) in around.unsubscribed and not spared:
        return Verdict.UNWANTED, f"contact {contact.ref} unsubscribed from this"
    if (channel, address) in seen:
        why = f"contact {contact.ref} has the address of another contact told at this stage"
        return Verdict.TWICE, why
    seen.add((channel, address))
    if at is None:
        return Verdict.VOID, "quiet hours last until the deadline"
    return Verdict.COMING, ""


def _judge(
    steps: Sequence[Step], told: Mapping[Told, str], now: datetime, record: Record
) -> list[Step]:
    latest = _latest_by_contact(steps, told, now)
    return [_verdict(step, told, now, record, latest) for step in steps]


def _latest_by_contact(
    steps: Iterable[Step], told: Mapping[Told, str], now: datetime
) -> dict[str, tuple[datetime, int]]:
    """For each contact the order of its latest stage whose time has come."""
    latest: dict[str, tuple[datetime, int]] = {}
    for step in steps:
        if step.contact is None:
            continue
        come = step.verdict is Verdict.COMING and step.at is not None and step.at <= now
        come = come or Told(step.stage, step.channel, step.contact.ref) in told
        if come and not _passed(step, now):
            latest[step.contact.ref] = max(latest.get(step.contact.ref, step.order), step.order)
    return latest


def _passed(step: Step, now: datetime) -> bool:
    return step.until is not None and now >= step.until


def _verdict(
    step: Step,
    told: Mapping[Told, str],
    now: datetime,
    record: Record,
    latest: Mapping[str, tuple[datetime, int]],
) -> Step:
    contact = step.contact
    if contact is not None and Told(step.stage, step.channel, contact.ref) in told:
        return step._replace(verdict=Verdict.TOLD, why="")
    if record.assessment.state is not State.OPEN and step.verdict in {
        Verdict.COMING,
        Verdict.UNREACHABLE,
    }:
        why = f"the record is {record.assessment.state}: {record.assessment.why}"
        return step._replace(verdict=Verdict.OFF, why=why)
    if step.verdict is not Verdict.COMING or contact is None or step.at is None:
        return step
    if _passed(step, now):
        return step._replace(verdict=Verdict.VOID, why="the deadline has passed")
    if latest.get(contact.ref, step.order) > step.order:
        return step._replace(verdict=Verdict.OVERTAKEN, why="a later stage's time has come")
    return step._replace(verdict=Verdict.DUE) if step.at <= now else step


def _next_due(steps: Iterable[Step]) -> datetime | None:
    coming = [step.at for step in steps if step.verdict is Verdict.COMING and step.at is not None]
    return min(coming, default=None)


def _unheard(steps: Sequence[Step], record: Record, now: datetime) -> str | None:
    """Why nobody is told of the latest stage whose time has come, if nobody can be."""
    if record.assessment.state is not State.OPEN:
        return None
    come = [
        step
        for step in steps
        if step.verdict is not Verdict.OFF and step.order[0] <= now and not _passed(step, now)
    ]
    if not come:
        return None
    top = max(step.order for step in come)
    stage = [step for step in come if step.order == top]
    if all(step.verdict is Verdict.UNREACHABLE for step in stage):
        return "; ".join(dict.fromkeys(step.why for step in stage))
    return None
