"""What is told of role certifications: to be applied for, ending, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from schedules.planner import Circumstances, Verdict, forecast, plan
from schedules.rule import Contact, Deadline, Effect, Partner, Record, State, end_of_day
from schedules.rules.certification import Certification, CertificationData
from schedules.rules.statement import Statement
from tests.unit.planning import BEIJING, CALENDAR, DAY, NIGHT, beijing, person

RULE = Certification()
SINCE = beijing(2, 15)  # a Monday
ADMIN, MANAGER = person("A", "administrator"), person("M", "partner_manager")
AROUND = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
Told = tuple[datetime, str, str, str, str]


def certification(status: str = "MET", **changes: Any) -> Record:
    data = CertificationData(
        **{
            "ref": "RZ1",
            "partner": "P1",
            "role_name": "高级软件伙伴",
            "since": SINCE,
            "status": status,
            **changes,
        }
    )
    return RULE.record(data, Partner("P1", "青禾云"), CALENDAR)


def foretold(
    record: Record, start: datetime, end: datetime, people: Sequence[Contact] = (ADMIN, MANAGER)
) -> list[Told]:
    return [
        (at, step.stage, step.channel, step.contact.ref if step.contact else "", step.message)
        for at, step in forecast(record, people, {}, start, end, AROUND)
    ]


def at_nine(*day: int) -> datetime:
    return datetime(*day, 9, tzinfo=BEIJING).astimezone(UTC)  # type: ignore[arg-type,misc]


def applying(record: Record) -> list[str]:
    return [one.name for one in RULE.cadence.stages if RULE.applies(one, record) is None]


# --- its state, deadline and ladder


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("未达标", State.WAITING),
        ("已达标", State.OPEN),
        ("待申请", State.OPEN),
        ("已申请", State.PAUSED),
        ("审核中", State.PAUSED),
        ("已认证", State.OPEN),
        ("认证通过", State.OPEN),
        ("已失效", State.CLOSED),
        ("已取消", State.CLOSED),
    ],
)
def test_a_role_is_open_where_the_administrator_can_act(status: str, state: State) -> None:
    assert certification(status).assessment.state is state


def test_a_role_without_a_status_is_refused() -> None:
    with pytest.raises(ValueError, match="status"):
        CertificationData(ref="RZ1", partner="P1", role_name="R", since=SINCE)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "day", [date(2026, 12, 24), date(2026, 2, 18), date(2026, 9, 20), date(2027, 1, 1)]
)
def test_a_certified_role_holds_through_its_last_day(day: date) -> None:
    record = certification("CERTIFIED", ends_on=day.isoformat())

    assert record.deadline == Deadline(end_of_day(day, BEIJING), Effect.ENDS)
    assert record.ladder == f"end:{day.isoformat()}"
    assert applying(record) == ["T-60d", "T-30d", "T-7d", "ended"]


@pytest.mark.parametrize("status", ["NOT_MET", "MET", "APPLIED", "ENDED", "CANCELLED"])
def test_only_a_certified_role_has_a_deadline(status: str) -> None:
    assert certification(status, ends_on="2026-12-24").deadline == Deadline(None)


def test_a_certified_role_without_an_end_tells_nothing() -> None:
    record = certification("CERTIFIED")

    assert (record.deadline, record.ladder) == (Deadline(None), "1")
    assert applying(record) == []
    assert foretold(record, SINCE, SINCE + 300 * DAY) == []


@pytest.mark.parametrize(
    ("status", "ladder"), [("MET", "apply"), ("APPLIED", "1"), ("ENDED", "1"), ("NOT_MET", "1")]
)
def test_applying_is_a_climb_of_its_own(status: str, ladder: str) -> None:
    assert certification(status, ends_on="2026-12-24").ladder == ladder


def test_each_stage_that_is_off_says_why() -> None:
    by_name = {one.name: one for one in RULE.cadence.stages}
    certified = certification("CERTIFIED", ends_on="2026-12-24")

    assert RULE.applies(by_name["+1"], certified) == "there is nothing to apply for"
    assert RULE.applies(by_name["T-7d"], certification()) == "the record has no deadline"
    assert applying(certification()) == ["+1", "+5"]


# --- who is told, and when


def test_the_administrator_is_told_that_a_role_can_be_applied_for() -> None:
    assert foretold(certification(), SINCE, beijing(1, month=12)) == [
        (beijing(3), "+1", "mail", "A", "apply"),
        (beijing(9), "+5", "mail", "A", "apply"),
        (beijing(23), "+5#2", "mail", "A", "apply"),
    ]


@pytest.mark.parametrize(
    ("met", "expected"),
    [
        # Spring Festival is from the 15th to the 23rd; the Saturday before it is worked.
        ((2026, 2, 13), {"+1": (2026, 2, 14), "+5": (2026, 2, 27)}),
        # The day after is a Sunday that is worked.
        ((2026, 9, 19), {"+1": (2026, 9, 20), "+5": (2026, 9, 24)}),
        # 2027 isn't announced: Monday to Friday is assumed, so early rather than late.
        ((2026, 12, 31), {"+1": (2027, 1, 1), "+5": (2027, 1, 7)}),
    ],
)
def test_days_since_the_requirements_were_met_are_working_days(
    met: tuple[int, int, int], expected: dict[str, tuple[int, int, int]]
) -> None:
    record = certification(since=at_nine(*met))
    told = foretold(record, record.opened_at, record.opened_at + 16 * DAY)

    assert {row[1]: row[0] for row in told} == {
        name: at_nine(*day) for name, day in expected.items()
    }


def test_an_end_is_told_two_months_one_month_and_a_week_before_and_once_after() -> None:
    record = certification("CERTIFIED", ends_on="2026-12-24")

    assert foretold(record, at_nine(2026, 10, 1), at_nine(2027, 2, 1)) == [
        (at_nine(2026, 10, 25), "T-60d", "mail", "A", "ending"),
        (at_nine(2026, 11, 24), "T-30d", "mail", "A", "ending"),
        (at_nine(2026, 12, 17), "T-7d", "mail", "A", "ending"),
        (at_nine(2026, 12, 17), "T-7d", "sms", "A", "ending"),
        (at_nine(2026, 12, 17), "T-7d", "mail", "M", "ending"),
        (at_nine(2026, 12, 25), "ended", "mail", "A", "ended"),
    ]


@pytest.mark.parametrize(
    ("ends_on", "ended"),
    [
        ((2026, 2, 18), (2026, 2, 24)),  # within Spring Festival
        ((2026, 9, 19), (2026, 9, 20)),  # the Sunday after it is worked
        ((2026, 12, 31), (2027, 1, 1)),  # 2027 isn't announced
    ],
)
def test_that_it_has_ended_is_told_on_the_next_working_day(
    ends_on: tuple[int, int, int], ended: tuple[int, int, int]
) -> None:
    day = date(*ends_on)
    record = certification("CERTIFIED", since=at_nine(2025, 3, 3), ends_on=day)
    due = end_of_day(day, BEIJING)

    assert [row[:2] for row in foretold(record, due, due + 20 * DAY)] == [
        (at_nine(*ended), "ended")
    ]


def test_without_a_partner_manager_nobody_else_is_told_in_their_place() -> None:
    record = certification("CERTIFIED", ends_on="2026-12-24")
    planned = plan(record, (ADMIN,), {}, at_nine(2026, 12, 17), AROUND)

    assert [(s.role, s.channel, s.verdict) for s in planned.steps if s.stage == "T-7d"] == [
        ("administrator", "mail", Verdict.DUE),
        ("administrator", "sms", Verdict.DUE),
        ("partner_manager", "mail", Verdict.UNREACHABLE),
    ]


@pytest.mark.parametrize("status", ["NOT_MET", "APPLIED", "ENDED", "CANCELLED"])
def test_a_role_that_waits_or_is_over_tells_nobody(status: str) -> None:
    record = certification(status, ends_on="2026-12-24")

    assert foretold(record, SINCE, SINCE + 90 * DAY) == []


def test_a_role_has_to_do_with_no_other_record() -> None:
    record = certification()

    assert RULE.links(record.data) == ()
    assert RULE.in_light_of(record.data, [], record.assessment, record.deadline) == (
        record.assessment,
        record.deadline,
    )


def test_a_record_of_another_kind_is_refused() -> None:
    sample = Statement().samples(SINCE)[0]
    other = replace(certification(), kind="statement", data=Statement.Data(**sample.data))

    with pytest.raises(TypeError, match="of kind statement, not a certification"):
        RULE.view(other)
