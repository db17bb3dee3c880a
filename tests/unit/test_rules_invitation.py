"""Invitations beside their registration, and those that have failed for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.planner import Circumstances, plan
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
    State,
)
from schedules.rules.invitation import Invitation, InvitationData
from schedules.rules.pre_registration import PreRegistration, PreRegistrationData
from tests.unit.planning import CALENDAR, DAY, HOUR, NIGHT

INVITATION, REGISTRATION = Invitation(), PreRegistration()
SENT = datetime(2026, 11, 20, 2, tzinfo=UTC)
SEVEN_DAYS = Deadline(SENT + 7 * DAY, Effect.LINK_DIES)
FINAL = {"status": "关联失败", "failure_reason": "客户已与其他伙伴关联"}


def invitation(**changes: Any) -> InvitationData:
    data = {
        "ref": "YQ1",
        "partner": "P1",
        "customer_name": "星岸",
        "customer_mail": "it@example.com",
        "customer_mobile": "13800138000",
        "origin": "ONLINE",
        "sent_at": SENT,
        "url": "https://partner.example.com/i/YQ1",
        "registration": "BB1",
    }
    return InvitationData(**{**data, **changes})


def registration(**changes: Any) -> Related:
    values = {"ref": "BB1", "partner": "P1", "customer_name": "星岸", "registered_at": SENT - DAY}
    data = PreRegistrationData(**{**values, **changes})
    state = REGISTRATION.assess(data, ()).state
    due_at = REGISTRATION.deadline(data, CALENDAR).at
    return Related(REGISTRATION.kind, data.ref, state, data.registered_at, due_at, data)


def judged(data: InvitationData, *related: Related) -> tuple[Assessment, Deadline]:
    own = INVITATION.assess(data, ()), INVITATION.deadline(data, CALENDAR)
    return INVITATION.in_light_of(data, related, *own)


def record_of(data: InvitationData, *related: Related) -> Record:
    assessment, deadline = judged(data, *related)
    return Record(
        kind="invitation",
        data=data,
        opened_at=INVITATION.opened_at(data),
        deadline=deadline,
        partner=Partner("P1", "青禾云"),
        ladder=INVITATION.ladder(data),
        assessment=assessment,
        related=related,
    )


def told(record: Record, now: datetime) -> set[tuple[str, str, str, str]]:
    people = (
        Contact("S1", "P1", "sales", "S1", "s1@example.com", "+8613800138001"),
        Contact("S2", "P1", "sales", "S2", "s2@example.com", "+8613800138002"),
    )
    around = Circumstances(INVITATION, INVITATION.cadence, CALENDAR, NIGHT)
    due = plan(record, people, {}, now, around).due
    return {
        (one.stage, one.channel, one.contact.ref if one.contact else "", one.message) for one in due
    }


# --- the registration that it names


def test_an_invitation_has_to_do_with_the_registration_it_names() -> None:
    assert INVITATION.links(invitation()) == (Link("pre_registration", "BB1"),)
    assert INVITATION.links(invitation(registration=None)) == ()


@pytest.mark.parametrize(
    ("origin", "registered_at", "deadline"),
    [
        ("ONLINE", SENT - DAY, SEVEN_DAYS),
        ("ONLINE", SENT - 8 * DAY, SEVEN_DAYS),
        ("ONLINE", SENT - 9 * DAY, Deadline(SENT + 6 * DAY, Effect.REGISTRATION_ENDS)),
        ("QR", SENT - DAY, Deadline(SENT + 14 * DAY, Effect.REGISTRATION_ENDS)),
    ],
)
def test_the_earlier_of_the_link_and_the_watched_registration_counts(
    origin: str, registered_at: datetime, deadline: Deadline
) -> None:
    data = invitation(origin=origin)

    assert judged(data, registration(registered_at=registered_at))[1] == deadline


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("REVIEWING", State.OPEN),
        ("REGISTERED", State.OPEN),
        ("EXPIRED", State.OPEN),
        ("ASSOCIATED", State.CLOSED),
        ("CANCELLED", State.CLOSED),
    ],
)
def test_a_registration_associated_or_cancelled_closes_its_invitations(
    status: str, state: State
) -> None:
    assessment, _ = judged(invitation(), registration(status=status))

    assert assessment.state is state
    assert ("registration BB1" in assessment.why) is (state is State.CLOSED)


def test_an_invitation_that_is_closed_keeps_its_own_reason() -> None:
    assessment, _ = judged(invitation(status="ACCEPTED"), registration(status="ASSOCIATED"))

    assert assessment.why == "it is accepted"


def test_a_registration_that_ended_early_ends_the_invitation_then() -> None:
    ended = registration(status="EXPIRED", updated_at=SENT + DAY)
    record = record_of(invitation(), ended)

    assert record.deadline == Deadline(SENT + DAY, Effect.REGISTRATION_ENDS)
    assert {one[3] for one in told(record, SENT + DAY)} == {"expired"}


def test_a_record_of_another_kind_says_nothing_of_an_invitation() -> None:
    alien = Related("payment", "BB1", State.CLOSED, SENT, SENT, RecordData(ref="BB1", partner="P1"))

    assert judged(invitation(), alien) == judged(invitation())


def test_the_view_names_the_end_of_the_registration_that_counts() -> None:
    early = record_of(invitation(), registration(registered_at=SENT - 9 * DAY))
    late = record_of(invitation(registered_at=SENT - DAY), registration())

    assert INVITATION.view(early)["ends"] == "registration"
    assert INVITATION.view(early)["registration_ends_at"] == SENT + 6 * DAY
    assert INVITATION.view(late)["ends"] == "link"
    assert INVITATION.view(late)["registration_ends_at"] == SENT + 14 * DAY


# --- over holidays and the year's end: a link counts hours, whatever the calendar


@pytest.mark.parametrize(
    "sent_at",
    [
        datetime(2026, 2, 14, 2, tzinfo=UTC),  # dies within Spring Festival
        datetime(2026, 9, 13, 2, tzinfo=UTC),  # dies on a make-up Sunday
        datetime(2026, 12, 28, 2, tzinfo=UTC),  # dies in a year not announced
    ],
)
def test_a_link_dies_after_seven_days_whatever_the_calendar(sent_at: datetime) -> None:
    data = invitation(sent_at=sent_at)

    assert judged(data)[1] == Deadline(sent_at + 7 * DAY, Effect.LINK_DIES, provisional=False)
    assert {one[0] for one in told(record_of(data), sent_at + 7 * DAY - 72 * HOUR)} == {"T-72h"}


# --- failed for good, or not


def test_what_failed_for_good_is_told_once_to_who_invited_and_to_nobody_else() -> None:
    record = record_of(invitation(**FINAL, inviter="S2"))

    assert record.assessment.state is State.OPEN
    assert record.assessment.last_word
    assert "客户已与其他伙伴关联" in record.assessment.why
    for now in (SENT + HOUR, SENT + 5 * DAY, SENT + 30 * DAY):
        assert told(record, now) == {("failed", "mail", "S2", "failed")}


def test_what_failed_for_good_without_an_inviter_is_told_to_the_sales() -> None:
    seen = told(record_of(invitation(**FINAL)), SENT + HOUR)

    assert {ref for _, _, ref, _ in seen} == {"S1", "S2"}


def test_what_failed_but_can_be_sent_again_is_told_as_ended() -> None:
    again = {"status": "FAILED", "failure_reason": "邀请链接已失效", "updated_at": SENT}
    record = record_of(invitation(**again, inviter="S1"))

    assert not record.assessment.last_word
    assert told(record, SENT + HOUR) == {("expired", "mail", "S1", "expired")}


def test_a_final_reason_alone_is_no_failure() -> None:
    record = record_of(invitation(failure_reason="客户已与其他伙伴关联"))

    assert not record.assessment.last_word
    assert {one[0] for one in told(record, SENT + 7 * DAY - 72 * HOUR)} == {"T-72h"}


def test_every_stage_of_an_invitation_says_why_it_isnt_told() -> None:
    def reasons(data: InvitationData) -> dict[str, str | None]:
        record = record_of(data)
        return {one.name: INVITATION.applies(one, record) for one in INVITATION.cadence.stages}

    good = "it failed for good"
    assert reasons(invitation(**FINAL)) == {
        **dict.fromkeys(("T-72h", "T-24h", "expired"), good),
        "failed": None,
    }
    assert reasons(invitation()) == {
        **dict.fromkeys(("T-72h", "T-24h", "expired")),
        "failed": "it hasn't failed for good",
    }
    assert reasons(invitation(status="EXPIRED"))["T-24h"] == "the link is already dead"
    assert reasons(invitation(origin="QR"))["expired"] == "the record has no deadline"


def test_a_link_known_to_be_dead_is_shown_to_nobody() -> None:
    def url(**changes: Any) -> object:
        return INVITATION.view(record_of(invitation(**changes)))["url"]

    assert url() == "https://partner.example.com/i/YQ1"
    assert url(status="EXPIRED") is None
    assert url(**FINAL) is None


def test_several_invitations_of_one_customer_are_the_same_persons() -> None:
    def ref(**changes: Any) -> str:
        record = record_of(invitation(**changes))
        return INVITATION.recipients("customer", record, ())[0].ref

    assert ref() == "customer:YQ1"
    assert ref(customer="K7") == ref(customer="K7", ref="YQ2") == "customer:K7"


def test_samples_of_invitations_show_every_message_in_both_languages() -> None:
    samples = INVITATION.samples(SENT + timedelta(days=4))

    languages: dict[str, set[str]] = {}
    for sample in samples:
        record = record_of(InvitationData(**sample.data))
        for one in INVITATION.cadence.stages:
            if INVITATION.applies(one, record) is None:
                for tell in one.tell:
                    found = languages.setdefault(tell.message, set())
                    found.update(person["language"] for person in sample.contacts)
    assert languages.keys() == {"customer", "partner", "expired", "failed"}
    assert all(found == {"zh-CN", "en"} for found in languages.values())
