"""Registrations of customers: when they end, what closes them, and when too many are pending."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.planner import Circumstances, plan
from schedules.rule import Contact, Deadline, Effect, Partner, Record, RecordData, Related, State
from schedules.rules.invitation import Invitation, InvitationData
from schedules.rules.pre_registration import PreRegistration, PreRegistrationData
from schedules.rules.pre_registration_limit import PreRegistrationLimit, PreRegistrationLimitData
from tests.unit.planning import BEIJING, CALENDAR, DAY, HOUR, NIGHT

Rules = PreRegistration | PreRegistrationLimit
REGISTRATION, LIMIT, INVITATION = PreRegistration(), PreRegistrationLimit(), Invitation()
BEGUN = datetime(2026, 11, 9, 2, tzinfo=UTC)
PARTNER = Partner("P1", "青禾云")


def record_of(rule: Rules, data: Any) -> Record:
    return rule.record(data, PARTNER, CALENDAR)


def registration(**changes: Any) -> Record:
    data = {"ref": "BB1", "partner": "P1", "customer_name": "星岸", "registered_at": BEGUN}
    return record_of(REGISTRATION, PreRegistrationData(**{**data, **changes}))


def limit(**changes: Any) -> Record:
    data = {"ref": "P1", "partner": "P1", "pending": 90, "since": BEGUN}
    return record_of(LIMIT, PreRegistrationLimitData(**{**data, **changes}))


def contact(ref: str, role: str) -> Contact:
    return Contact(ref, "P1", role, ref, f"{ref}@example.com".lower(), "+8613800138000")


PEOPLE = (contact("S1", "sales"), contact("S2", "sales"), contact("A1", "administrator"))


def told(rule: Rules, record: Record, now: datetime) -> set[tuple[str, str, str, str]]:
    due = plan(record, PEOPLE, {}, now, Circumstances(rule, rule.cadence, CALENDAR, NIGHT))
    return {
        (one.stage, one.channel, one.contact.ref if one.contact else "", one.message)
        for one in due.due
    }


def stages_of(rule: Rules, record: Record) -> list[str]:
    return [one.name for one in rule.cadence.stages if rule.applies(one, record) is None]


def beijing(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BEIJING).astimezone(UTC)


# --- the deadline of a registration


@pytest.mark.parametrize(
    ("registered_at", "end"),
    [
        ("2026-11-09 10:00", "2026-11-24 10:00"),
        ("2026-02-06 18:30", "2026-02-21 18:30"),  # within Spring Festival
        ("2026-09-05 08:00", "2026-09-20 08:00"),  # a make-up Sunday
        ("2026-12-20 23:59", "2027-01-04 23:59"),  # the next calendar isn't announced
    ],
)
def test_a_registration_lives_fifteen_times_24_hours_whatever_the_calendar(
    registered_at: str, end: str
) -> None:
    record = registration(registered_at=registered_at)

    assert record.deadline == Deadline(beijing(end), Effect.REGISTRATION_ENDS, provisional=False)


@pytest.mark.parametrize(
    ("expires_at", "end"),
    [
        ("2026-11-20", "2026-11-21 00:00"),
        ("2026年11月20日", "2026-11-21 00:00"),
        (date(2026, 11, 20), "2026-11-21 00:00"),
        ("2026-11-20 18:00", "2026-11-20 18:00"),
    ],
)
def test_an_end_that_is_given_counts_and_a_bare_date_is_included(
    expires_at: object, end: str
) -> None:
    assert registration(expires_at=expires_at).deadline.at == beijing(end)


@pytest.mark.parametrize(
    ("updated_at", "end"),
    [(None, BEGUN + 15 * DAY), (BEGUN + DAY, BEGUN + DAY), (BEGUN + 20 * DAY, BEGUN + 15 * DAY)],
)
def test_one_reported_as_ended_did_so_no_later_than_that_was_known(
    updated_at: datetime | None, end: datetime
) -> None:
    assert registration(status="已失效", updated_at=updated_at).deadline.at == end


def test_news_of_a_living_registration_dont_move_its_end() -> None:
    assert registration(updated_at=BEGUN + DAY).deadline.at == BEGUN + 15 * DAY


# --- its states, people and messages


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("待审核", State.WAITING),
        ("已报备", State.OPEN),
        ("失效", State.OPEN),
        ("关联成功", State.CLOSED),
        ("已取消", State.CLOSED),
        ("审核不通过", State.CLOSED),
        ("已驳回", State.CLOSED),
    ],
)
def test_the_status_of_a_registration_decides_its_state(status: str, state: State) -> None:
    assessment = registration(status=status).assessment

    assert assessment.state is state
    assert assessment.why


def test_of_what_has_ended_only_the_end_is_told() -> None:
    assert stages_of(REGISTRATION, registration()) == ["T-5d", "T-48h", "ended"]
    assert stages_of(REGISTRATION, registration(status="EXPIRED")) == ["ended"]


def test_the_owner_is_told_five_days_before_then_48_hours_before_then_at_the_end() -> None:
    record, end = registration(owner="S2"), BEGUN + 15 * DAY

    morning = beijing("2026-11-19 09:00")
    assert told(REGISTRATION, record, morning - timedelta(minutes=1)) == set()
    assert told(REGISTRATION, record, morning) == {("T-5d", "mail", "S2", "reminder")}
    assert told(REGISTRATION, record, end - 48 * HOUR) == {
        ("T-48h", "mail", "S2", "reminder"),
        ("T-48h", "sms", "S2", "reminder"),
    }
    assert told(REGISTRATION, record, end) == {("ended", "mail", "S2", "ended")}


@pytest.mark.parametrize("owner", [None, "C9"])
def test_without_a_known_owner_all_the_sales_hear_of_the_registration(owner: str | None) -> None:
    record = registration(owner=owner)

    assert [one.ref for one in REGISTRATION.recipients("owner", record, PEOPLE)] == ["S1", "S2"]
    assert [one.ref for one in REGISTRATION.recipients("sales", record, PEOPLE)] == ["S1", "S2"]


def test_an_end_that_is_moved_starts_a_new_climb() -> None:
    assert registration().ladder == "1"
    assert registration(expires_at="2026-11-20").ladder == "20261120"
    assert registration(expires_at="2026-11-25").ladder == "20261125"


def test_the_mobile_number_is_one_that_exists() -> None:
    view = REGISTRATION.view(registration(customer_mobile="138 0013 8000"))

    assert view["customer_mobile"] == "+8613800138000"
    with pytest.raises(ValidationError, match="isn't a phone number"):
        registration(customer_mobile="unknown")


# --- what an invitation says of it


def invited(status: str) -> Related:
    data = InvitationData(
        ref="YQ1",
        partner="P1",
        customer_name="星岸",
        origin="ONLINE",
        sent_at=BEGUN,
        status=status,
        registration="BB1",
    )
    state = INVITATION.assess(data, ()).state
    due_at = INVITATION.deadline(data, CALENDAR).at
    return Related("invitation", data.ref, state, data.sent_at, due_at, data)


@pytest.mark.parametrize(
    ("status", "state"),
    [("ACCEPTED", State.CLOSED), ("PENDING", State.OPEN), ("REVOKED", State.OPEN)],
)
def test_an_accepted_invitation_closes_the_registration(status: str, state: State) -> None:
    record = registration()
    data: Any = record.data

    seen = REGISTRATION.in_light_of(
        data, [invited("EXPIRED"), invited(status)], record.assessment, record.deadline
    )
    assert seen[0].state is state
    assert ("invitation YQ1 was accepted" in seen[0].why) is (state is State.CLOSED)
    assert seen[1] == record.deadline


# --- how many are pending


def pending(count: int, **changes: Any) -> list[Related]:
    made = Related(
        kind="pre_registration",
        ref="BB",
        state=State.OPEN,
        opened_at=BEGUN,
        due_at=BEGUN + 15 * DAY,
        data=RecordData(ref="BB", partner="P1"),
    )
    fields = ("kind", "ref", "state", "opened_at", "due_at", "data")
    values = {name: getattr(made, name) for name in fields} | changes
    return [Related(**values) for _ in range(count)]


def test_from_ninety_pending_registrations_on_there_is_something_to_watch() -> None:
    assert LIMIT.derives_from == ("pre_registration",)
    assert LIMIT.derive(PARTNER, pending(89), None, BEGUN) is None

    made = LIMIT.derive(PARTNER, pending(90), None, BEGUN)
    assert made == PreRegistrationLimitData(ref="P1", partner="P1", pending=90, since=BEGUN)
    assert made is not None
    assert made.limit == 100


def test_it_stays_since_when_it_first_was_so_and_ends_when_fewer_are_pending() -> None:
    present = LIMIT.derive(PARTNER, pending(90), None, BEGUN)

    later = LIMIT.derive(PARTNER, pending(100), present, BEGUN + DAY)
    assert later is not None
    assert (later.pending, later.since) == (100, BEGUN)
    assert LIMIT.derive(PARTNER, pending(89), later, BEGUN + 2 * DAY) is None


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"state": State.WAITING}, True),
        ({"due_at": None}, True),
        ({"state": State.CLOSED}, False),
        ({"state": State.HELD}, False),
        ({"due_at": BEGUN}, False),
        ({"due_at": BEGUN + timedelta(seconds=1)}, True),
        ({"kind": "invitation"}, False),
    ],
)
def test_only_registrations_that_still_run_are_counted(
    changes: dict[str, Any], counts: bool
) -> None:
    made = LIMIT.derive(PARTNER, pending(90, **changes), None, BEGUN)

    assert (made is not None) is counts


def test_sales_and_administrator_are_told_near_the_limit_and_once_more_at_it() -> None:
    near, full = limit(pending=99), limit(pending=100)

    assert near.ladder.startswith("near:")
    assert full.ladder == limit(pending=104).ladder != near.ladder
    assert limit(pending=99, since=BEGUN + HOUR).ladder != near.ladder, "near it another time"
    for record in (near, full):
        assert record.assessment.state is State.OPEN
        assert record.deadline == Deadline(None)
        assert told(LIMIT, record, BEGUN - HOUR) == set()
        assert told(LIMIT, record, BEGUN) == {
            ("warn", "mail", "S1", "reminder"),
            ("warn", "mail", "S2", "reminder"),
            ("warn", "mail", "A1", "reminder"),
        }


def test_how_much_room_is_left_is_never_less_than_none() -> None:
    assert LIMIT.view(limit(pending=92))["left"] == 8
    assert LIMIT.view(limit(pending=104))["left"] == 0


# --- samples


@pytest.mark.parametrize("rule", [REGISTRATION, LIMIT], ids=lambda rule: rule.kind)
def test_samples_of_registrations_show_every_message_in_both_languages(rule: Rules) -> None:
    samples = rule.samples(datetime(2026, 11, 24, 2, tzinfo=UTC))

    messages = {tell.message for one in rule.cadence.stages for tell in one.tell}
    seen = set()
    for sample in samples:
        record = record_of(rule, rule.Data(**sample.data))
        fitting = [one for one in rule.cadence.stages if rule.applies(one, record) is None]
        seen |= {tell.message for one in fitting for tell in one.tell}
        assert sample.partner["ref"] == sample.data["partner"] == sample.contacts[0]["partner"]
    assert seen == messages
    assert {c["language"] for sample in samples for c in sample.contacts} == {"zh-CN", "en"}


def test_a_registration_and_a_count_are_refused_in_each_others_place() -> None:
    with pytest.raises(TypeError, match="not a registration"):
        REGISTRATION.view(limit())
    with pytest.raises(TypeError, match="not a count"):
        LIMIT.view(registration())
