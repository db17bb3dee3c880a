"""What holds for every record of the real rules, whoever is told, at every instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from schedules.calendar import QuietHours
from schedules.planner import Circumstances, Step, Told, forecast, plan
from schedules.rule import Assessment, Channel, Contact, Partner, Record, State
from tests.unit.planning import (
    CALENDAR,
    DAY,
    HOUR,
    MINUTE,
    NIGHT,
    RULES,
    ZONES,
    beijing,
    person,
)


def instants(first: datetime, last: datetime) -> st.SearchStrategy[datetime]:
    minutes = int((last - first) / MINUTE)
    return st.integers(0, minutes).map(lambda count: first + count * MINUTE)


START, END = beijing(1, month=9), beijing(31, month=12)
people = st.lists(
    st.builds(
        person,
        st.sampled_from("ABCDEF"),
        st.sampled_from(["finance", "administrator", "sales", "partner_manager"]),
        time_zone=st.sampled_from((*ZONES, "Asia/Shanghai", "Pacific/Honolulu")),
        mail=st.sampled_from([None, "a@example.com", "b@example.com", "c***@example.com"]),
        mobile=st.sampled_from([None, "+8613800138000", "+8613900139000", "138****0000"]),
        quiet=st.sampled_from([None, "none", "20:00-09:30", "12:00-14:00", "00:00-06:00"]),
        channels=st.sampled_from([frozenset({"mail", "sms"}), frozenset({"mail"})]),
    ),
    max_size=5,
    unique_by=lambda contact: contact.ref,
)


@st.composite
def real_records(draw: st.DrawFn) -> tuple[Record, Circumstances]:
    kind = draw(st.sampled_from(sorted({"invitation", "statement", "payment"})))
    rule, now = RULES[kind], draw(instants(START, END))
    sample = draw(st.sampled_from(list(rule.samples(now))))
    data = rule.Data.model_validate(sample.data)
    lines = [rule.Line.model_validate(line) for line in sample.lines] if rule.Line else []
    made = Record(
        kind=kind,
        data=data,
        opened_at=rule.opened_at(data),
        deadline=rule.deadline(data, CALENDAR),
        partner=Partner(data.partner, "Partner"),
        lines=tuple(lines),
        ladder=rule.ladder(data),
        assessment=rule.assess(data, lines),
        snoozed_until=draw(st.none() | instants(now, now + 9 * DAY)),
    )
    return made, Circumstances(rule, rule.cadence, CALENDAR, NIGHT)


def live(
    one: Record, who: Sequence[Contact], shared: Circumstances, start: datetime, ticks: int
) -> list[tuple[datetime, Step]]:
    """A scan every quarter of an hour, which tells what is due."""
    told: dict[Told, str] = {}
    found: list[tuple[datetime, Step]] = []
    for number in range(ticks):
        now = start + number * 15 * MINUTE
        planned = plan(one, who, told, now, shared)
        found += [(now, step) for step in planned.due]
        told |= planned.telling
        if planned.next_due_at is None:
            break
    return found


def address(step: Step) -> str | None:
    assert step.contact is not None
    return step.contact.address(step.channel)


@settings(max_examples=60, deadline=None)
@given(real_records(), people, st.integers(0, 8 * 24))
def test_what_is_told_is_told_once_in_time_and_at_a_decent_hour(
    made: tuple[Record, Circumstances], who: list[Contact], hours: int
) -> None:
    one, shared = made
    start = one.opened_at + hours * HOUR
    found = live(one, who, shared, start, ticks=3 * 96)

    keys = [(step.stage, step.channel, address(step)) for _, step in found]
    assert len(keys) == len(set(keys))
    for moment, step in found:
        assert step.contact is not None
        assert step.at is not None
        assert step.at <= moment
        assert step.until is None or moment < step.until
        assert "*" not in (address(step) or "*")
        assert one.snoozed_until is None or moment >= one.snoozed_until
        assert not quiet(step.contact, step.channel, moment)
    for contact in who:
        mine = [(moment, step.order) for moment, step in found if step.contact == contact]
        assert mine == sorted(mine), "no earlier stage after a later one"
        for moment in {moment for moment, _ in mine}:
            assert len({order for at, order in mine if at == moment}) == 1


def quiet(contact: Contact, channel: Channel, at: datetime) -> bool:
    hours = QuietHours.parse(contact.quiet) if contact.quiet else NIGHT[channel]
    return hours is not None and hours.covers(at.astimezone(ZoneInfo(contact.time_zone)).time())


@settings(max_examples=60, deadline=None)
@given(real_records(), people, instants(START, END), st.sampled_from(["closed", "held", "paused"]))
def test_nothing_is_told_of_what_isnt_open(
    made: tuple[Record, Circumstances], who: list[Contact], now: datetime, state: str
) -> None:
    one, shared = made
    planned = plan(replace(one, assessment=Assessment(State(state))), who, {}, now, shared)

    assert planned.due == ()
    assert planned.next_due_at is None
    assert planned.unheard is None


@settings(max_examples=60, deadline=None)
@given(real_records(), people, st.integers(0, 200))
def test_a_forecast_is_what_scans_at_its_instants_would_tell(
    made: tuple[Record, Circumstances], who: list[Contact], hours: int
) -> None:
    one, shared = made
    start = one.opened_at + hours * HOUR
    end = start + 20 * DAY
    foretold = forecast(one, who, {}, start, end, shared)

    told: dict[Told, str] = {}
    happened: list[tuple[datetime, Step]] = []
    moment: datetime | None = start
    while moment is not None and moment < end:
        planned = plan(one, who, told, moment, shared)
        happened += [(moment, step) for step in planned.due]
        told |= planned.telling
        held = planned.unheard is not None and not planned.due
        assert planned.next_due_at is None or planned.next_due_at > moment
        moment = None if held else planned.next_due_at
    assert foretold == happened


@settings(max_examples=60, deadline=None)
@given(real_records(), people, instants(START, END))
def test_nothing_falls_due_before_the_planner_says_to_look_again(
    made: tuple[Record, Circumstances], who: list[Contact], now: datetime
) -> None:
    one, shared = made
    first = plan(one, who, {}, now, shared)
    wake = first.next_due_at or now + 30 * DAY
    for part in (0.1, 0.5, 0.9, 0.999):
        between = now + (wake - now) * part
        assert plan(one, who, first.telling, between, shared).due == ()
