"""The planner: each step's instant, its verdict, and whom it tells."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from schedules.planner import Told, Verdict, forecast
from schedules.rule import Assessment, State, Tell, end_of_day, stage
from tests.unit.planning import (
    BEIJING,
    BOTH,
    DAY,
    DUE,
    FINANCE,
    HOUR,
    LADDER,
    MINUTE,
    OPENED,
    ZONES,
    around,
    beijing,
    person,
    record,
    seen,
    the_plan,
)

# --- when a stage falls due


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("due", DUE),
        ("due - 72 hours", DUE - 72 * HOUR),
        ("due - 0 working days", beijing(27)),
        ("due - 2 working days", beijing(25)),
        ("due - 5 working days", beijing(20)),
        ("due - 3 days", beijing(24)),
        ("due + 1 working day", beijing(30)),
        ("opened + 0 days", beijing(2)),
        ("opened + 1 working day", beijing(3)),
        ("opened + 5 working days", beijing(9)),
        ("opened + 6 hours", beijing(2, 21)),
    ],
)
def test_a_stage_falls_due_when_its_sentence_says(when: str, expected: datetime) -> None:
    one = stage("x", when, FINANCE, after_deadline=True)
    (step,) = the_plan(one, now=beijing(1)).steps

    assert step.at == expected


@pytest.mark.parametrize(
    ("last_day", "when", "expected"),
    [
        (date(2026, 10, 10), "due - 0 working days", date(2026, 10, 10)),
        (date(2026, 10, 10), "due - 1 working days", date(2026, 10, 9)),
        (date(2026, 10, 9), "due - 2 working days", date(2026, 9, 30)),
        (date(2026, 9, 27), "due - 0 working days", date(2026, 9, 24)),
        (date(2026, 9, 22), "due - 2 working days", date(2026, 9, 20)),
        (date(2026, 3, 1), "due - 0 working days", date(2026, 2, 28)),
        (date(2026, 3, 2), "due - 5 working days", date(2026, 2, 24)),
        (date(2026, 1, 5), "due - 1 working days", date(2026, 1, 4)),
        (date(2028, 3, 1), "due - 1 days", date(2028, 2, 29)),
        (date(2026, 12, 31), "due + 1 days", date(2027, 1, 1)),
    ],
)
def test_make_up_days_holidays_and_month_ends_count(
    last_day: date, when: str, expected: date
) -> None:
    of = record(end_of_day(last_day, BEIJING))
    one = stage("x", when, FINANCE, after_deadline=True)
    (step,) = the_plan(one, now=datetime(2025, 12, 1, tzinfo=UTC), of=of).steps

    assert step.at is not None
    assert step.at.astimezone(BEIJING).date() == expected


def test_in_a_year_that_isnt_announced_a_reminder_is_rather_early() -> None:
    of = record(end_of_day(date(2031, 10, 6), BEIJING))
    one = stage("x", "due - 1 working days", FINANCE)
    (step,) = the_plan(one, now=OPENED, of=of).steps

    # 1 to 3 October are off by law; what else is isn't known, so Monday the 6th counts as worked.
    assert step.at == datetime(2031, 9, 30, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_stage_comes_at_nine_on_the_recipients_clock_before_and_after_a_clock_change(
    zone: str,
) -> None:
    one = stage("x", "opened + 1 day, then every 1 day", FINANCE)
    of, who = record(None, opened_at=beijing(1, month=3)), [person(time_zone=zone)]
    found = forecast(of, who, {}, of.opened_at, of.opened_at + 300 * DAY, around(one))
    local = [moment.astimezone(ZoneInfo(zone)) for moment, _ in found]

    assert {(at.hour, at.minute) for at in local} == {(9, 0)}
    days = [at.date() for at in local]
    assert days == [days[0] + n * DAY for n in range(len(days))]
    assert len(days) in {299, 300}


def test_far_in_the_west_what_would_come_after_the_deadline_comes_at_the_vendors_nine() -> None:
    one = stage("T-0", "due - 0 working days", FINANCE)
    (step,) = the_plan(one, now=OPENED, people=[person(time_zone="America/Los_Angeles")]).steps

    assert step.at == beijing(27)
    assert step.until == DUE


# --- quiet hours


def test_what_falls_in_quiet_hours_comes_when_they_end() -> None:
    one = stage("x", "opened + 7 hours", Tell("finance", ("sms",)))
    (step,) = the_plan(one, now=OPENED).steps

    assert step.at == beijing(3, 8)


def test_what_would_come_too_late_after_quiet_hours_comes_a_scan_before_them() -> None:
    of = record(beijing(3, 6))
    one = stage("x", "due - 3 hours", Tell("finance", ("sms",)))
    (step,) = the_plan(one, now=OPENED, of=of).steps

    assert step.at == beijing(2, 20, 54)


def test_a_record_that_comes_at_night_with_a_deadline_before_morning_wakes_nobody() -> None:
    of = record(beijing(3, 6))
    one = stage("x", "due - 12 hours", BOTH)
    planned = the_plan(one, now=beijing(3, 1), of=of)

    assert seen(planned) == [("x", "mail", "A", "due"), ("x", "sms", "A", "void")]
    assert planned.steps[1].why == "quiet hours last until the deadline"


def test_a_late_step_waits_for_the_quiet_hours_of_now() -> None:
    one = stage("x", "due - 2 working days", Tell("finance", ("sms",)))
    planned = the_plan(one, now=beijing(25, 23))

    assert seen(planned) == [("x", "sms", "A", "coming")]
    assert planned.next_due_at == beijing(26, 8)


def test_a_contacts_own_quiet_hours_go_before_the_channels() -> None:
    one = stage("x", "due - 2 working days", BOTH)
    planned = the_plan(one, now=OPENED, people=[person(quiet="08:30-10:15")])

    assert [step.at for step in planned.steps] == [beijing(25, 10, 15)] * 2


def test_who_wants_no_quiet_hours_has_none() -> None:
    one = stage("x", "opened + 7 hours", Tell("finance", ("sms",)))
    (step,) = the_plan(one, now=OPENED, people=[person(quiet="none")]).steps

    assert step.at == OPENED + 7 * HOUR


# --- the ladder


def test_after_a_downtime_only_the_latest_stage_is_told() -> None:
    planned = the_plan(*LADDER, now=beijing(27, 10))

    assert [(step.stage, step.channel) for step in planned.due] == [("T-0", "mail"), ("T-0", "sms")]
    assert {step.verdict for step in planned.steps if step.stage in {"T-5", "T-2"}} == {
        Verdict.OVERTAKEN
    }


def test_a_stage_that_was_told_overtakes_the_earlier_ones() -> None:
    told = {Told("T-2", "mail", "A"): "a@example.com"}
    planned = the_plan(*LADDER, now=beijing(25, 8), told=told)

    assert ("T-5", "mail", "A", "overtaken") in seen(planned)


def test_it_overtakes_them_though_its_address_is_gone_since() -> None:
    told = {Told("T-2", "sms", "A"): "+8613800138000"}
    masked = person(mobile="138****0000")
    planned = the_plan(*LADDER, now=beijing(25, 10), told=told, people=[masked])

    assert ("T-5", "mail", "A", "overtaken") in seen(planned)
    assert ("T-2", "sms", "A", "told") in seen(planned)


def test_at_the_deadline_what_comes_before_it_is_void() -> None:
    last = the_plan(*LADDER, now=DUE - MINUTE)
    over = the_plan(*LADDER, now=DUE)

    assert last.due != ()
    assert over.due == ()
    assert over.next_due_at == beijing(30)


def test_a_closed_record_is_told_nothing_and_says_why() -> None:
    of = record(assessment=Assessment(State.CLOSED, "it is confirmed"))
    planned = the_plan(*LADDER, now=beijing(27, 10), of=of)

    assert {step.verdict for step in planned.steps} == {Verdict.OFF}
    assert planned.steps[0].why == "the record is closed: it is confirmed"
    assert planned.next_due_at is None


def test_a_stage_that_isnt_for_the_record_says_why() -> None:
    planned = the_plan(*LADDER, now=beijing(27, 10), of=record(None))

    assert {step.why for step in planned.steps} == {"the record has no deadline"}


def test_a_snoozed_record_is_told_when_the_snooze_ends() -> None:
    of = record(snoozed_until=beijing(26, 14))
    planned = the_plan(*LADDER, now=beijing(25, 10), of=of)
    later = the_plan(*LADDER, now=beijing(26, 14), of=of)

    assert planned.due == ()
    assert planned.next_due_at == beijing(26, 14)
    assert {step.stage for step in later.due} == {"T-2"}


def test_a_snooze_isnt_cut_short_by_quiet_hours_before_a_deadline() -> None:
    of = record(beijing(3, 6), snoozed_until=beijing(2, 22))
    one = stage("x", "due - 20 hours", Tell("finance", ("sms",)))
    (step,) = the_plan(one, now=OPENED, of=of).steps

    assert step.verdict is Verdict.VOID


def test_a_repeating_stage_goes_on_until_the_record_closes() -> None:
    one = stage("+7", "opened + 7 working days, then every 5 working days", FINANCE)
    of = record(None)
    found = forecast(of, [person()], {}, OPENED, OPENED + 40 * DAY, around(one))

    assert [(moment, step.stage) for moment, step in found] == [
        (beijing(11), "+7"),
        (beijing(18), "+7#2"),
        (beijing(25), "+7#3"),
        (beijing(2, month=12), "+7#4"),
        (beijing(9, month=12), "+7#5"),
    ]


def test_after_a_long_downtime_a_repeating_stage_is_told_once() -> None:
    one = stage("+7", "opened + 7 working days, then every 5 working days", FINANCE)
    planned = the_plan(one, now=beijing(3, 10, month=12), of=record(None))

    assert [step.stage for step in planned.due] == ["+7#4"]


# --- whom


def test_a_masked_address_is_never_written_to() -> None:
    masked = person(mail="a***@example.com", mobile="138****8000")
    planned = the_plan(*LADDER, now=beijing(27, 10), people=[masked])

    assert planned.due == ()
    assert planned.unheard is not None
    assert "contact A has a masked mail address: import the full one" in planned.unheard


def test_where_nobody_has_the_role_another_is_told_instead() -> None:
    planned = the_plan(*LADDER, now=beijing(25, 10), people=[person("B", "administrator")])

    assert {(step.contact.ref if step.contact else "") for step in planned.due} == {"B"}


def test_where_nobody_of_the_role_can_be_reached_another_is_told_instead() -> None:
    people = [person(mail=None, mobile="138****8000"), person("B", "administrator")]
    planned = the_plan(*LADDER, now=beijing(25, 10), people=people)

    assert {(step.contact.ref if step.contact else "") for step in planned.due} == {"B"}


def test_where_there_is_nobody_at_all_it_says_whom_to_import() -> None:
    planned = the_plan(*LADDER, now=beijing(25, 10), people=[])

    assert planned.unheard == (
        "partner P1 has no contact with the role finance or administrator: import one"
    )


def test_before_a_stages_time_nobody_is_missed() -> None:
    assert the_plan(*LADDER, now=OPENED, people=[]).unheard is None


def test_one_address_of_two_contacts_is_told_once() -> None:
    people = [person(), person("B", mail="a@example.com")]
    planned = the_plan(*LADDER, now=beijing(20, 10), people=people)

    assert seen(planned)[:2] == [("T-5", "mail", "A", "due"), ("T-5", "mail", "B", "twice")]


def test_an_address_isnt_told_again_when_its_contact_was_entered_anew() -> None:
    told = {Told("T-5", "mail", "gone"): "a@example.com"}
    planned = the_plan(*LADDER, now=beijing(20, 10), told=told)

    assert seen(planned)[:1] == [("T-5", "mail", "A", "twice")]


def test_an_address_told_before_its_contact_was_corrected_isnt_told_again() -> None:
    told = {Told("T-5", "mail", "A"): "b@example.com"}
    people = [person(), person("B")]
    planned = the_plan(*LADDER, now=beijing(20, 10), people=people, told=told)

    assert seen(planned)[:2] == [("T-5", "mail", "A", "told"), ("T-5", "mail", "B", "twice")]


def test_an_address_that_was_told_isnt_told_again_as_another_contacts() -> None:
    told = {Told("T-5", "mail", "B"): "b@example.com"}
    people = [person(mail="b@example.com"), person("B")]
    planned = the_plan(*LADDER, now=beijing(20, 10), people=people, told=told)

    assert seen(planned)[:2] == [("T-5", "mail", "A", "twice"), ("T-5", "mail", "B", "told")]


def test_a_channel_that_isnt_wished_isnt_used() -> None:
    people = [person(channels=frozenset({"sms"}))]
    planned = the_plan(*LADDER, now=beijing(25, 10), people=people)

    assert [step.channel for step in planned.due] == ["sms"]
    assert ("T-2", "mail", "A", "unwanted") in seen(planned)


def test_who_unsubscribed_isnt_told() -> None:
    gone = frozenset({("mail", "a@example.com")})
    planned = the_plan(*LADDER, now=beijing(25, 10), unsubscribed=gone)

    assert [step.channel for step in planned.due] == ["sms"]


def test_a_forecast_goes_on_where_one_is_told_and_another_is_missing() -> None:
    stages = (
        stage("a", "opened + 1 working day", Tell("finance"), Tell("sales", or_else="")),
        stage("b", "opened + 1 working day", Tell("sales", or_else="")),
        stage("c", "opened + 5 working days", Tell("finance")),
    )
    found = forecast(record(), [person()], {}, OPENED, DUE, around(*stages))

    assert [step.stage for _, step in found] == ["a", "c"]
