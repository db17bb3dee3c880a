"""Shared opportunities and their progress: when they end, who is told, and what closes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.planner import Circumstances, plan
from schedules.rule import (
    Assessment,
    Contact,
    Deadline,
    Effect,
    Link,
    Partner,
    Record,
    Related,
    Sample,
    State,
)
from schedules.rules.opportunity import Opportunity, OpportunityData
from schedules.rules.opportunity_progress import OpportunityProgress, OpportunityProgressData
from tests.unit.planning import BEIJING, CALENDAR, DAY, HOUR, NIGHT, RULES

SHARED, PROGRESS = Opportunity(), OpportunityProgress()
MONDAY = datetime(2026, 11, 23, 2, tzinfo=UTC)


def record_of(rule: Opportunity | OpportunityProgress, data: Any) -> Record:
    return rule.record(data, Partner("P1", "青禾云"), CALENDAR)


def shared(**changes: Any) -> Record:
    data = {"ref": "JHD1", "partner": "P1", "name": "ERP 上云", "shared_at": MONDAY}
    return record_of(SHARED, OpportunityData(**{**data, **changes}))


def progress(**changes: Any) -> Record:
    data = {"ref": "JHD1", "partner": "P1", "name": "ERP 上云", "accepted_at": MONDAY}
    return record_of(PROGRESS, OpportunityProgressData(**{**data, **changes}))


def contact(ref: str, role: str, **changes: Any) -> Contact:
    mail = f"{ref}@example.com".lower()
    return Contact(ref, "P1", role, ref, mail, "+8613800138000", **changes)


PEOPLE = (contact("S1", "sales"), contact("S2", "sales"), contact("V1", "supervisor"))


def told(
    rule: Opportunity | OpportunityProgress,
    record: Record,
    now: datetime,
    people: tuple[Contact, ...] = PEOPLE,
) -> set[tuple[str, str, str, str]]:
    around = Circumstances(rule, rule.cadence, CALENDAR, NIGHT)
    due = plan(record, people, {}, now, around).due
    return {
        (one.stage, one.channel, one.contact.ref if one.contact else "", one.message) for one in due
    }


def stages_of(rule: Opportunity | OpportunityProgress, record: Record) -> list[str]:
    return [one.name for one in rule.cadence.stages if rule.applies(one, record) is None]


def nine(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 9, tzinfo=BEIJING).astimezone(UTC)


# --- the deadline of a shared opportunity


@pytest.mark.parametrize(
    ("shared_at", "last_day", "provisional"),
    [
        ("2026-11-23 10:00", date(2026, 11, 26), False),
        ("2026-11-19 23:59", date(2026, 11, 24), False),
        ("2026-11-21 10:00", date(2026, 11, 25), False),
        ("2026-02-12 10:00", date(2026, 2, 24), False),  # Fri 13, make-up Sat 14, off to Mon 23
        ("2026-02-13 10:00", date(2026, 2, 25), False),
        ("2026-02-18 10:00", date(2026, 2, 26), False),
        ("2026-09-18 10:00", date(2026, 9, 22), False),  # the make-up Sunday 20 counts
        ("2026-09-20 10:00", date(2026, 9, 23), False),
        ("2026-12-28 10:00", date(2026, 12, 31), False),
        ("2026-12-30 10:00", date(2027, 1, 4), True),
    ],
)
def test_an_opportunity_ends_with_its_third_working_day(
    shared_at: str, last_day: date, provisional: bool
) -> None:
    end = datetime(last_day.year, last_day.month, last_day.day, 16, tzinfo=UTC)

    record = shared(shared_at=shared_at)
    assert record.deadline == Deadline(end, Effect.DECLINED, provisional)
    assert SHARED.view(record)["provisional"] is provisional


@pytest.mark.parametrize(
    ("updated_at", "end"),
    [
        (None, datetime(2026, 11, 26, 16, tzinfo=UTC)),
        (MONDAY + DAY, MONDAY + DAY),
        (MONDAY + 9 * DAY, datetime(2026, 11, 26, 16, tzinfo=UTC)),
    ],
)
def test_one_declined_by_the_system_ended_no_later_than_that_was_known(
    updated_at: datetime | None, end: datetime
) -> None:
    declined = shared(status="系统自动拒绝", updated_at=updated_at)

    assert declined.deadline.at == end
    assert shared(updated_at=MONDAY + DAY).deadline.at == datetime(2026, 11, 26, 16, tzinfo=UTC)


# --- its states, people and messages


@pytest.mark.parametrize(
    ("status", "state", "last_word"),
    [
        ("待接受", State.OPEN, False),
        ("AUTO_DECLINED", State.OPEN, True),
        ("已自动拒绝", State.OPEN, True),
        ("已接受", State.CLOSED, False),
        ("已拒绝", State.CLOSED, False),
        ("已取消", State.CLOSED, False),
    ],
)
def test_the_status_of_an_opportunity_decides_its_state(
    status: str, state: State, last_word: bool
) -> None:
    assessment = shared(status=status).assessment

    assert (assessment.state, assessment.last_word) == (state, last_word)
    assert assessment.why


def test_of_what_the_system_has_declined_only_that_is_told() -> None:
    assert stages_of(SHARED, shared()) == ["T-2", "T-0", "declined"]
    assert stages_of(SHARED, shared(status="AUTO_DECLINED")) == ["declined"]


def test_the_owner_is_told_two_days_before_and_the_supervisor_joins_on_the_last_day() -> None:
    record = shared(owner="S2")

    assert told(SHARED, record, nine(2026, 11, 24) - HOUR) == set()
    assert told(SHARED, record, nine(2026, 11, 24)) == {
        ("T-2", "mail", "S2", "reminder"),
        ("T-2", "sms", "S2", "reminder"),
    }
    assert told(SHARED, record, nine(2026, 11, 26)) == {
        ("T-0", "mail", "S2", "reminder"),
        ("T-0", "sms", "S2", "reminder"),
        ("T-0", "mail", "V1", "reminder"),
    }
    assert told(SHARED, record, nine(2026, 11, 27)) == {
        ("declined", "mail", "S2", "declined"),
        ("declined", "mail", "V1", "declined"),
    }


def test_before_spring_festival_the_make_up_saturday_is_the_day_to_be_told() -> None:
    record = shared(shared_at="2026-02-11 10:00", owner="S1")

    assert told(SHARED, record, nine(2026, 2, 14) - HOUR) == {
        ("T-2", "mail", "S1", "reminder"),
        ("T-2", "sms", "S1", "reminder"),
    }
    assert {one[0] for one in told(SHARED, record, nine(2026, 2, 14))} == {"T-0"}
    assert told(SHARED, record, nine(2026, 2, 23)) == set()
    assert {one[0] for one in told(SHARED, record, nine(2026, 2, 24))} == {"declined"}


def test_a_missing_supervisor_isnt_replaced_by_the_administrator() -> None:
    people = (contact("S1", "sales"), contact("A1", "administrator"))

    seen = told(SHARED, shared(), nine(2026, 11, 26), people)
    assert {(channel, ref) for _, channel, ref, _ in seen} == {("mail", "S1"), ("sms", "S1")}


@pytest.mark.parametrize("owner", [None, "C9"])
def test_without_a_known_owner_all_the_sales_are_told(owner: str | None) -> None:
    for rule, record in ((SHARED, shared(owner=owner)), (PROGRESS, progress(owner=owner))):
        assert [one.ref for one in rule.recipients("owner", record, PEOPLE)] == ["S1", "S2"]
        assert [one.ref for one in rule.recipients("supervisor", record, PEOPLE)] == ["V1"]


def test_the_last_day_is_urgent_and_may_not_be_switched_off() -> None:
    flags = {one.name: (one.urgent, one.required) for one in SHARED.cadence.stages}

    assert flags == {"T-2": (False, False), "T-0": (True, True), "declined": (False, False)}


def test_an_opportunity_is_worth_what_the_vendor_expects_or_nothing_is_said() -> None:
    record = shared(expected_amount="¥1,200.50", currency="元")

    assert SHARED.amount(record) == (Decimal("1200.50"), "CNY")
    assert SHARED.amount(shared()) is None
    assert SHARED.view(record)["expected_amount"] == Decimal("1200.50")


def test_an_unknown_status_lists_what_may_be_written() -> None:
    with pytest.raises(ValidationError, match=r"PENDING \(待接受\)"):
        shared(status="待办")


# --- progress


@pytest.mark.parametrize(
    ("last_update_at", "opened_at"),
    [(None, MONDAY), (MONDAY + DAY, MONDAY + DAY), (MONDAY - DAY, MONDAY)],
)
def test_silence_counts_from_the_last_update_or_the_acceptance(
    last_update_at: datetime | None, opened_at: datetime
) -> None:
    record = progress(last_update_at=last_update_at)

    assert record.opened_at == opened_at
    assert record.deadline == Deadline(None)
    assert PROGRESS.view(record)["quiet_since"] == opened_at


def test_each_update_begins_a_new_climb() -> None:
    assert progress().ladder == "20261123T020000Z"
    assert progress(last_update_at=MONDAY + DAY).ladder == "20261124T020000Z"


@pytest.mark.parametrize(
    ("accepted_at", "seventh"),
    [
        ("2026-11-23 10:00", nine(2026, 12, 2)),
        ("2026-02-11 10:00", nine(2026, 2, 27)),
        ("2026-09-17 10:00", nine(2026, 9, 28)),
        ("2026-12-28 10:00", nine(2027, 1, 6)),
    ],
)
def test_the_first_reminder_comes_after_seven_working_days(
    accepted_at: str, seventh: datetime
) -> None:
    record = progress(accepted_at=accepted_at, owner="S1")

    assert told(PROGRESS, record, seventh - timedelta(minutes=1)) == set()
    assert told(PROGRESS, record, seventh) == {("+7", "mail", "S1", "reminder")}


def test_from_the_tenth_working_day_the_supervisor_hears_of_it_and_every_fifth_again() -> None:
    record = progress(owner="S1")
    both = {("mail", "S1", "reminder"), ("sms", "S1", "reminder"), ("mail", "V1", "escalation")}

    days = {
        "+10": nine(2026, 12, 7),
        "+15": nine(2026, 12, 14),
        "+15#2": nine(2026, 12, 21),
        "+15#3": nine(2026, 12, 28),
        "+15#4": nine(2027, 1, 4),  # 1 January is assumed to be worked, so the early day is taken
    }
    for stage, at in days.items():
        assert told(PROGRESS, record, at) == {(stage, *rest) for rest in both}


def test_the_administrator_hears_of_silence_where_there_is_no_supervisor() -> None:
    people = (contact("S1", "sales"), contact("A1", "administrator"))

    seen = told(PROGRESS, progress(), nine(2026, 12, 7), people)
    assert ("+10", "mail", "A1", "escalation") in seen


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("跟进中", State.OPEN),
        ("交付中", State.OPEN),
        ("交付完成", State.CLOSED),
        ("已终止", State.CLOSED),
    ],
)
def test_progress_is_to_be_reported_until_it_is_delivered_or_ended(
    status: str, state: State
) -> None:
    assert progress(status=status).assessment.state is state


def related(data: OpportunityData) -> Related:
    record = record_of(SHARED, data)
    state = record.assessment.state
    return Related(SHARED.kind, data.ref, state, record.opened_at, record.deadline.at, data)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", State.OPEN),
        ("ACCEPTED", State.OPEN),
        ("DECLINED", State.CLOSED),
        ("AUTO_DECLINED", State.CLOSED),
        ("CANCELLED", State.CLOSED),
    ],
)
def test_progress_ends_with_an_opportunity_that_isnt_the_partners_any_more(
    status: str, state: State
) -> None:
    record = progress()
    data: Any = record.data
    assert PROGRESS.links(data) == (Link("opportunity", "JHD1"),)

    other = shared(status=status).data
    assert isinstance(other, OpportunityData)
    seen = PROGRESS.in_light_of(data, [related(other)], record.assessment, record.deadline)
    assert seen[0].state is state
    assert ("opportunity JHD1" in seen[0].why) is (state is State.CLOSED)
    assert seen[1] == record.deadline


def test_a_record_of_another_kind_says_nothing_of_progress() -> None:
    record = progress()
    data: Any = record.data
    alien = Related("payment", "X", State.CLOSED, MONDAY, None, record.data)
    own = Assessment(State.OPEN, "as it was")

    assert PROGRESS.in_light_of(data, [alien], own, record.deadline)[0] is own


# --- samples


def fits(rule: Opportunity | OpportunityProgress, sample: Sample) -> set[str]:
    record = record_of(rule, rule.Data(**sample.data))
    fitting = [one for one in rule.cadence.stages if rule.applies(one, record) is None]
    return {tell.message for one in fitting for tell in one.tell}


@pytest.mark.parametrize("rule", [SHARED, PROGRESS], ids=lambda rule: rule.kind)
def test_samples_show_every_message_in_both_languages(
    rule: Opportunity | OpportunityProgress,
) -> None:
    samples = rule.samples(datetime(2026, 11, 24, 2, tzinfo=UTC))

    messages = {tell.message for one in rule.cadence.stages for tell in one.tell}
    assert set().union(*(fits(rule, sample) for sample in samples)) == messages
    assert {c["language"] for sample in samples for c in sample.contacts} == {"zh-CN", "en"}
    assert all(sample.partner["name"] for sample in samples)
    assert RULES[rule.kind].kind == rule.kind


def test_a_record_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="not an opportunity"):
        SHARED.view(progress())
    with pytest.raises(TypeError, match="not an opportunity's"):
        PROGRESS.view(shared())
