"""What is told of an employee's invitation: when, to whom, and how many may be invited a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schedules.planner import Circumstances, Verdict, forecast, plan
from schedules.rule import Contact, Deadline, Effect, Partner, Record, State
from schedules.rules.member_invitation import MemberInvitation, MemberInvitationData
from schedules.rules.statement import Statement
from tests.unit.planning import CALENDAR, DAY, HOUR, NIGHT, beijing, person
from workers.model import Notice, NoticeItem, Recipient
from workers.render import Brand, Renderer

RULE = MemberInvitation()
SENT = beijing(16, 10)  # a Monday
ADMIN = person("D", "administrator")
AROUND = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)


def invitation(**changes: Any) -> Record:
    data = MemberInvitationData(
        **{
            "ref": "CY1",
            "partner": "P1",
            "member_name": "陈静",
            "member_mail": "chen@example.com",
            "member_mobile": "13800138005",
            "sent_at": SENT,
            **changes,
        }
    )
    return RULE.record(data, Partner("P1", "青禾云"), CALENDAR)


def foretold(
    record: Record, people: Sequence[Contact] = (ADMIN,), start: datetime = SENT
) -> list[tuple[datetime, str, str, str, str]]:
    found = forecast(record, people, {}, start, start + 60 * DAY, AROUND)
    return [
        (at, step.stage, step.channel, step.contact.ref if step.contact else "", step.message)
        for at, step in found
    ]


# --- the deadline


@pytest.mark.parametrize(
    "sent_at",
    [
        SENT,
        datetime(2026, 2, 12, 3, 30, tzinfo=UTC),  # over Spring Festival: hours, not working days
        datetime(2026, 9, 20, 1, tzinfo=UTC),  # on a make-up Sunday
        datetime(2026, 12, 29, 4, tzinfo=UTC),  # into a year not yet announced
    ],
)
def test_an_invitation_dies_seven_times_24_hours_after_it_was_sent(sent_at: datetime) -> None:
    assert invitation(sent_at=sent_at).deadline == Deadline(sent_at + 7 * DAY, Effect.LINK_DIES)


@pytest.mark.parametrize(
    ("updated_at", "ends"),
    [(SENT + 3 * DAY, SENT + 3 * DAY), (SENT + 9 * DAY, SENT + 7 * DAY), (None, SENT + 7 * DAY)],
)
def test_a_dead_invitation_ended_no_later_than_that_was_known(
    updated_at: datetime | None, ends: datetime
) -> None:
    assert invitation(status="已失效", updated_at=updated_at).deadline.at == ends


def test_news_of_a_pending_invitation_dont_move_its_end() -> None:
    assert invitation(updated_at=SENT + DAY).deadline.at == SENT + 7 * DAY


# --- its state


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("已邀请", State.OPEN),
        ("待绑定", State.OPEN),
        ("已失效", State.OPEN),
        ("已绑定", State.CLOSED),
        ("已撤销", State.CLOSED),
        ("已取消", State.CLOSED),
        ("已解绑", State.CLOSED),
    ],
)
def test_only_an_account_not_yet_bound_is_open(status: str, state: State) -> None:
    assert invitation(status=status).assessment.state is state


def test_a_closed_invitation_tells_nobody() -> None:
    assert foretold(invitation(status="已绑定")) == []


# --- who is told what, and when


def test_the_employee_is_told_twice_and_the_administrator_once_it_is_dead() -> None:
    due = SENT + 7 * DAY

    assert foretold(invitation()) == [
        (due - 72 * HOUR, "T-72h", "mail", "member:CY1", "member"),
        (due - 24 * HOUR, "T-24h", "mail", "member:CY1", "member"),
        (due - 24 * HOUR, "T-24h", "sms", "member:CY1", "member"),
        (due, "expired", "mail", "D", "expired"),
    ]


def test_an_sms_that_falls_into_the_night_comes_the_next_morning() -> None:
    night = datetime(2026, 11, 16, 15, tzinfo=UTC)  # 23:00 in Beijing
    texts = [row for row in foretold(invitation(sent_at=night), start=night) if row[2] == "sms"]

    assert [row[0] for row in texts] == [beijing(23, 8)]


def test_quiet_hours_are_those_of_the_employees_own_zone() -> None:
    record = invitation(member_time_zone="America/New_York", member_language="en")
    texts = [row for row in foretold(record) if row[2] == "sms"]

    # T-24h is 21:00 in New York; eight in the morning there is still before the end.
    assert [row[0] for row in texts] == [datetime(2026, 11, 22, 13, tzinfo=UTC)]


def test_of_a_dead_invitation_only_the_administrator_is_told() -> None:
    dead_at = SENT + 2 * DAY
    record = invitation(status="EXPIRED", updated_at=dead_at)

    assert foretold(record, start=dead_at) == [(dead_at, "expired", "mail", "D", "expired")]
    assert {stage.name: RULE.applies(stage, record) for stage in RULE.cadence.stages} == {
        "T-72h": "the invitation is already dead",
        "T-24h": "the invitation is already dead",
        "expired": None,
    }


def test_every_stage_is_for_a_pending_invitation() -> None:
    assert [RULE.applies(stage, invitation()) for stage in RULE.cadence.stages] == [None] * 3


def test_words_for_an_employee_without_addresses_reach_nobody_else() -> None:
    record = invitation(member_mail=None, member_mobile="138****0005")
    planned = plan(record, (ADMIN,), {}, SENT + 6 * DAY, AROUND)

    assert {(s.stage, s.contact.ref if s.contact else "") for s in planned.steps} == {
        ("T-72h", "member:CY1"),
        ("T-24h", "member:CY1"),
        ("expired", "D"),
    }
    assert {s.verdict for s in planned.steps if s.message == "member"} == {Verdict.UNREACHABLE}


def test_another_employee_of_the_partner_isnt_taken_for_the_invited_one() -> None:
    found = RULE.recipients("member", invitation(), [person("M", "member"), ADMIN])

    assert [(one.ref, one.role, one.name, one.mail, one.mobile) for one in found] == [
        ("member:CY1", "member", "陈静", "chen@example.com", "+8613800138005")
    ]
    assert RULE.recipients("administrator", invitation(), [person("M", "member"), ADMIN]) == [ADMIN]


def test_the_employees_language_and_zone_are_those_of_the_record() -> None:
    record = invitation(member_language="en", member_time_zone="Europe/Berlin")
    [one] = RULE.recipients("member", record, ())

    assert (one.language, one.time_zone, one.partner) == ("en", "Europe/Berlin", "P1")


def test_a_further_invitation_is_a_climb_of_its_own() -> None:
    assert (invitation().ladder, invitation(attempt_no="2").ladder) == ("1", "2")


def test_an_invitation_has_to_do_with_no_other_record() -> None:
    record = invitation()

    assert RULE.links(record.data) == ()
    assert RULE.amount(record) is None
    assert RULE.told_at(record) == "P1"


# --- what is said


def test_a_file_with_chinese_headings_and_words_is_read() -> None:
    names = {
        heading
        for name in ("ref", "member_name", "sent_at", "attempt_no", "status", "member_mail")
        for column in MemberInvitationData.model_fields[name].metadata
        for heading in getattr(column, "names", ())
    }

    assert {"邀请编号", "成员邀请ID", "成员姓名", "邀请时间", "邀请次数", "成员邮箱"} <= names


def test_a_record_of_another_kind_is_refused() -> None:
    sample = Statement().samples(SENT)[0]
    other = replace(invitation(), kind="statement", data=Statement.Data(**sample.data))

    with pytest.raises(TypeError, match="of kind statement, not a member's invitation"):
        RULE.view(other)


def expired_mail(count: int) -> str:
    items = tuple(
        NoticeItem(invitation(ref=f"CY{number}", status="EXPIRED"), "expired")
        for number in range(count)
    )
    notice = Notice(
        uid="n1",
        kind=RULE.kind,
        message="expired",
        channel="mail",
        recipient=Recipient("D", "Dee", "administrator", "d@example.com", "en", "Asia/Shanghai"),
        items=items,
        now=SENT + timedelta(days=8),
        list_url="https://due.example.com/l/1",
        list_token="1",
        unsubscribe_url="https://due.example.com/u/1",
    )
    brand = Brand("P", "P <p@example.com>", "c", "https://p.example.com", "example.com", "P")
    templates = Path(__file__).parents[2] / "templates"
    return Renderer(templates, {RULE.kind: RULE}, brand).parts(notice)["txt"]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (100, "At most 100 members can be invited a day."),
        (101, "inviting all 101 again takes 2 days."),
        (201, "inviting all 201 again takes 3 days."),
    ],
)
def test_the_administrator_reads_how_many_days_inviting_again_takes(count: int, said: str) -> None:
    assert said in expired_mail(count)
