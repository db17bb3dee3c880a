"""What is told of projects: to be registered, and their delivery to be reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from schedules.planner import Circumstances, Verdict, forecast, plan
from schedules.rule import (
    Assessment,
    Contact,
    Deadline,
    Effect,
    Link,
    Partner,
    Record,
    RecordData,
    Related,
    Rule,
    State,
    end_of_day,
)
from schedules.rules.delivery_feedback import DeliveryFeedback, DeliveryFeedbackData
from schedules.rules.project_registration import ProjectRegistration
from tests.unit.planning import BEIJING, CALENDAR, DAY, NIGHT, beijing, person

REGISTRATION, FEEDBACK = ProjectRegistration(), DeliveryFeedback()
MONDAY = beijing(2, 15)
DELIVERY, ADMIN = person("A", "delivery"), person("D", "administrator")
LEAD = person("L", "project")
PEOPLE = (DELIVERY, ADMIN, LEAD)
Told = tuple[datetime, str, str, str, str]


def made(rule: Rule, **data: Any) -> Record:
    found = rule.Data(**data)
    return rule.record(found, Partner("P1", "青禾云"), CALENDAR)


def registration(**changes: Any) -> Record:
    data = {"ref": "XM1", "partner": "P1", "project_name": "迁移", "appeared_at": MONDAY}
    return made(REGISTRATION, **{**data, **changes})


def feedback(**changes: Any) -> Record:
    data = {"ref": "XM1", "partner": "P1", "project_name": "迁移", "registered_at": MONDAY}
    return made(FEEDBACK, **{**data, **changes})


def foretold(
    rule: Rule, record: Record, until: datetime, people: Sequence[Contact] = PEOPLE
) -> list[Told]:
    around = Circumstances(rule, rule.cadence, CALENDAR, NIGHT)
    found = forecast(record, people, {}, record.opened_at, until, around)
    return [
        (at, step.stage, step.channel, step.contact.ref if step.contact else "", step.message)
        for at, step in found
    ]


def at_nine(*day: int) -> datetime:
    return datetime(*day, 9, tzinfo=BEIJING).astimezone(UTC)  # type: ignore[arg-type,misc]


def moments(told: Sequence[Told], contact: str = "A", channel: str = "mail") -> dict[str, datetime]:
    return {row[1]: row[0] for row in told if (row[3], row[2]) == (contact, channel)}


def related(kind: str, **changes: Any) -> Related:
    data = RecordData(ref="XM1", partner="P1")
    return replace(Related(kind, "XM1", State.OPEN, MONDAY, None, data), **changes)


def applying(rule: Rule, record: Record) -> list[str]:
    return [one.name for one in rule.cadence.stages if rule.applies(one, record) is None]


# --- a project to register


def test_a_project_to_register_has_no_deadline() -> None:
    record = registration()

    assert record.deadline == Deadline(None, Effect.NONE)
    assert (record.opened_at, record.ladder) == (MONDAY, "1")
    assert applying(REGISTRATION, record) == ["+3", "+5", "+10"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("待登记", State.OPEN),
        ("已登记", State.CLOSED),
        ("已取消", State.CLOSED),
        ("已关闭", State.CLOSED),
    ],
)
def test_a_project_is_open_until_it_is_registered(status: str, state: State) -> None:
    assert registration(status=status).assessment.state is state


def test_delivery_is_told_by_working_days_and_the_administrator_from_the_tenth() -> None:
    assert foretold(REGISTRATION, registration(), beijing(24)) == [
        (beijing(5), "+3", "mail", "A", "reminder"),
        (beijing(9), "+5", "mail", "A", "reminder"),
        (beijing(9), "+5", "sms", "A", "reminder"),
        (beijing(16), "+10", "mail", "A", "reminder"),
        (beijing(16), "+10", "mail", "D", "escalation"),
        (beijing(23), "+10#2", "mail", "A", "reminder"),
        (beijing(23), "+10#2", "mail", "D", "escalation"),
    ]


@pytest.mark.parametrize(
    ("appeared", "expected"),
    [
        # Spring Festival is from the 15th to the 23rd; the Saturday before it is worked.
        ((2026, 2, 11), {"+3": (2026, 2, 14), "+5": (2026, 2, 25), "+10": (2026, 3, 3)}),
        # The Sunday before Mid-Autumn is worked, the Friday of it isn't.
        ((2026, 9, 17), {"+3": (2026, 9, 21), "+5": (2026, 9, 23), "+10": (2026, 10, 8)}),
        # 2027 isn't announced: Monday to Friday is assumed, so early rather than late.
        ((2026, 12, 29), {"+3": (2027, 1, 1), "+5": (2027, 1, 5), "+10": (2027, 1, 12)}),
    ],
)
def test_holidays_and_make_up_days_count_as_they_are_worked(
    appeared: tuple[int, int, int], expected: dict[str, tuple[int, int, int]]
) -> None:
    record = registration(appeared_at=at_nine(*appeared))
    told = moments(foretold(REGISTRATION, record, record.opened_at + 28 * DAY))

    assert {name: told[name] for name in expected} == {
        name: at_nine(*day) for name, day in expected.items()
    }


def test_a_make_up_sunday_is_a_day_to_tell_on() -> None:
    record = registration(appeared_at=at_nine(2026, 9, 16))

    assert moments(foretold(REGISTRATION, record, record.opened_at + 9 * DAY))["+3"] == at_nine(
        2026, 9, 20
    )


def test_without_a_delivery_lead_the_administrator_is_told() -> None:
    told = foretold(REGISTRATION, registration(), beijing(6), people=(ADMIN,))

    assert told == [(beijing(5), "+3", "mail", "D", "reminder")]


@pytest.mark.parametrize("state", list(State))
def test_a_project_whose_delivery_is_reported_on_is_registered(state: State) -> None:
    record = registration()
    found = REGISTRATION.in_light_of(
        record.data,
        [related("invitation"), related("delivery_feedback", state=state)],
        record.assessment,
        record.deadline,
    )

    assert found == (
        Assessment(State.CLOSED, "its delivery is reported on already"),
        record.deadline,
    )


def test_other_records_of_the_same_number_dont_close_a_project() -> None:
    record = registration()
    light = REGISTRATION.in_light_of(
        record.data, [related("opportunity")], record.assessment, record.deadline
    )

    assert light == (record.assessment, record.deadline)


def test_a_project_closed_by_itself_keeps_its_own_reason() -> None:
    record = registration(status="CANCELLED")
    light = REGISTRATION.in_light_of(
        record.data, [related("delivery_feedback")], record.assessment, record.deadline
    )

    assert light[0] == Assessment(State.CLOSED, "it is cancelled")


# --- the delivery to report: state, deadline, ladder


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("已登记", State.OPEN),
        ("交付中", State.OPEN),
        ("交付材料提交", State.OPEN),
        ("待提交材料", State.OPEN),
        ("驳回", State.OPEN),
        ("已驳回", State.OPEN),
        ("评价中", State.PAUSED),
        ("审核中", State.PAUSED),
        ("已验收", State.CLOSED),
        ("已评价", State.CLOSED),
        ("已终止", State.CLOSED),
        ("已中止", State.CLOSED),
    ],
)
def test_a_delivery_is_open_while_it_is_the_partners_turn(status: str, state: State) -> None:
    assert feedback(status=status).assessment.state is state


@pytest.mark.parametrize("status", ["REGISTERED", "EVIDENCE"])
@pytest.mark.parametrize(
    "planned", [date(2026, 11, 27), date(2026, 2, 18), date(2026, 9, 20), date(2027, 1, 4)]
)
def test_a_planned_day_counts_to_its_end_and_is_then_overdue(status: str, planned: date) -> None:
    record = feedback(status=status, planned_on=planned.isoformat())

    assert record.deadline == Deadline(end_of_day(planned, BEIJING), Effect.OVERDUE)
    assert record.ladder == planned.isoformat()
    assert applying(FEEDBACK, record) == ["T-3", "T-0", "overdue"]


@pytest.mark.parametrize("status", ["REVIEWING", "ACCEPTED", "ENDED", "REJECTED"])
def test_a_planned_day_is_no_deadline_once_feedback_was_given(status: str) -> None:
    assert feedback(status=status, planned_on="2026-11-27").deadline == Deadline(None)


def test_without_a_planned_day_there_is_no_deadline_but_a_ladder() -> None:
    record = feedback()

    assert (record.deadline, record.ladder) == (Deadline(None), "1")
    assert applying(FEEDBACK, record) == ["+10"]


def test_what_was_sent_back_opens_anew_with_a_ladder_of_its_own() -> None:
    sent_back = beijing(18, 11)
    record = feedback(
        status="REJECTED", rejected_at=sent_back, rejected_count=2, planned_on="2026-11-27"
    )

    assert (record.opened_at, record.ladder) == (sent_back, "rejected-2:20261118T030000Z")
    assert applying(FEEDBACK, record) == ["rejected", "rejected+3"]


def test_what_was_sent_back_on_an_unknown_day_counts_from_the_registration() -> None:
    record = feedback(status="REJECTED")

    assert (record.opened_at, record.ladder) == (MONDAY, "rejected-0")


def test_an_earlier_return_doesnt_move_the_opening_of_what_is_delivered_again() -> None:
    assert feedback(status="REGISTERED", rejected_at=beijing(18)).opened_at == MONDAY


def test_each_stage_that_is_off_says_why() -> None:
    by_name = {one.name: one for one in FEEDBACK.cadence.stages}
    dated, sent_back = feedback(planned_on="2026-11-27"), feedback(status="REJECTED")

    assert FEEDBACK.applies(by_name["rejected"], dated) == "no evidence was sent back"
    assert FEEDBACK.applies(by_name["T-3"], feedback()) == "the record has no deadline"
    assert (
        FEEDBACK.applies(by_name["+10"], dated)
        == "the project has a planned day, and the days around it are told instead"
    )
    assert (
        FEEDBACK.applies(by_name["+10"], sent_back)
        == "the evidence was sent back, and that is told instead"
    )


# --- the delivery to report: who is told, and when


def test_the_lead_is_told_before_the_planned_day_and_the_administrator_after_it() -> None:
    record = feedback(planned_on="2026-11-27", lead="L")

    assert foretold(FEEDBACK, record, beijing(8, month=12)) == [
        (beijing(24), "T-3", "mail", "L", "reminder"),
        (beijing(27), "T-0", "mail", "L", "reminder"),
        (beijing(27), "T-0", "sms", "L", "reminder"),
        (beijing(30), "overdue", "mail", "L", "overdue"),
        (beijing(30), "overdue", "mail", "D", "overdue"),
        (beijing(7, month=12), "overdue#2", "mail", "L", "overdue"),
        (beijing(7, month=12), "overdue#2", "mail", "D", "overdue"),
    ]


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        # Within Spring Festival: the last working days are before it, the next after it.
        (
            (2026, 2, 20),
            {"T-3": (2026, 2, 11), "T-0": (2026, 2, 14), "overdue": (2026, 2, 24)},
        ),
        # On a Sunday that is worked.
        (
            (2026, 9, 20),
            {"T-3": (2026, 9, 16), "T-0": (2026, 9, 20), "overdue": (2026, 9, 21)},
        ),
        # 2027 isn't announced, but 1 January is off by law: reminders lean to the early side.
        (
            (2027, 1, 4),
            {"T-3": (2026, 12, 29), "T-0": (2027, 1, 4), "overdue": (2027, 1, 5)},
        ),
    ],
)
def test_the_days_around_a_planned_day_are_working_days(
    planned: tuple[int, int, int], expected: dict[str, tuple[int, int, int]]
) -> None:
    day = date(*planned)
    opened = end_of_day(day, BEIJING) - 30 * DAY
    record = feedback(registered_at=opened, planned_on=day)
    told = moments(foretold(FEEDBACK, record, end_of_day(day, BEIJING) + 6 * DAY))

    assert {name: told[name] for name in expected} == {
        name: at_nine(*at) for name, at in expected.items()
    }


def test_a_project_without_a_planned_day_is_called_to_mind_every_ten_working_days() -> None:
    assert foretold(FEEDBACK, feedback(lead="L"), beijing(1, month=12)) == [
        (beijing(16), "+10", "mail", "L", "reminder"),
        (beijing(30), "+10#2", "mail", "L", "reminder"),
    ]


def test_what_was_sent_back_is_told_the_next_working_day_and_later_to_the_administrator() -> None:
    record = feedback(status="REJECTED", rejected_at=beijing(13, 16), rejected_count=1, lead="L")

    assert foretold(FEEDBACK, record, beijing(26)) == [
        (beijing(16), "rejected", "mail", "L", "rejected"),
        (beijing(16), "rejected", "sms", "L", "rejected"),
        (beijing(18), "rejected+3", "mail", "L", "rejected"),
        (beijing(18), "rejected+3", "mail", "D", "rejected"),
        (beijing(25), "rejected+3#2", "mail", "L", "rejected"),
        (beijing(25), "rejected+3#2", "mail", "D", "rejected"),
    ]


@pytest.mark.parametrize("status", ["REVIEWING", "ACCEPTED"])
def test_a_delivery_under_review_or_accepted_tells_nobody(status: str) -> None:
    record = feedback(status=status, planned_on="2026-11-27", lead="L")
    around = Circumstances(FEEDBACK, FEEDBACK.cadence, CALENDAR, NIGHT)
    planned = plan(record, PEOPLE, {}, beijing(30), around)

    assert {step.verdict for step in planned.steps} == {Verdict.OFF}


@pytest.mark.parametrize(("lead", "told"), [("L", ["L"]), (None, ["A"]), ("gone", ["A"])])
def test_the_named_lead_is_told_or_else_all_of_delivery(lead: str | None, told: list[str]) -> None:
    found = FEEDBACK.recipients("lead", feedback(lead=lead), PEOPLE)

    assert [one.ref for one in found] == told
    assert FEEDBACK.recipients("administrator", feedback(lead=lead), PEOPLE) == [ADMIN]


def test_without_anybody_of_delivery_the_administrator_hears_the_reminder() -> None:
    told = foretold(FEEDBACK, feedback(), beijing(17), people=(ADMIN,))

    assert told == [(beijing(16), "+10", "mail", "D", "reminder")]


def test_a_delivery_has_to_do_with_the_registration_of_the_same_number() -> None:
    data = feedback().data
    assert isinstance(data, DeliveryFeedbackData)

    assert FEEDBACK.links(data) == (Link("project_registration", "XM1"),)


def test_a_registered_project_changes_nothing_for_its_delivery() -> None:
    record = feedback(planned_on="2026-11-27")
    light = FEEDBACK.in_light_of(
        record.data, [related("project_registration")], record.assessment, record.deadline
    )

    assert light == (record.assessment, record.deadline)


@pytest.mark.parametrize(
    ("rule", "other", "words"),
    [
        (REGISTRATION, feedback(), "of kind delivery_feedback, not a project to register"),
        (FEEDBACK, registration(), "of kind project_registration, not a delivery's feedback"),
    ],
)
def test_a_record_of_the_other_kind_is_refused(rule: Rule, other: Record, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        rule.view(other)


@pytest.mark.parametrize(
    ("rule", "headings"),
    [
        (
            REGISTRATION,
            {"项目编号", "项目ID", "项目名称", "客户名称", "方案名称", "待登记时间", "状态"},
        ),
        (
            FEEDBACK,
            {
                *("项目编号", "项目名称", "登记时间", "计划验收日期", "计划交付日期"),
                *("项目经理ID", "负责人ID", "驳回时间", "驳回次数", "驳回原因"),
            },
        ),
    ],
)
def test_files_may_carry_chinese_headings(rule: Rule, headings: set[str]) -> None:
    known = {
        name
        for field in rule.Data.model_fields.values()
        for column in field.metadata
        for name in getattr(column, "names", ())
    }

    assert headings <= known
