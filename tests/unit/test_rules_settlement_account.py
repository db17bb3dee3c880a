"""What the settlement account rule makes of a partner's payments and statements."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.planner import Circumstances, plan
from schedules.rule import Deadline, Partner, Record, RecordData, Related, State
from schedules.rules.settlement_account import SettlementAccount, SettlementAccountData
from tests.unit.planning import BEIJING, CALENDAR, NIGHT, person

RULE = SettlementAccount()
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
DAY = timedelta(days=1)
PARTNER = Partner("P1", "青禾云", account_authenticated=False)


def watched(kind: str, ref: str, state: State = State.OPEN) -> Related:
    return Related(kind, ref, state, NOW - 9 * DAY, None, RecordData(ref=ref, partner="P1"))


def derived(*records: Related, partner: Partner = PARTNER, **changes: Any) -> Any:
    return RULE.derive(partner, records, changes.get("present"), changes.get("now", NOW))


def record_of(data: SettlementAccountData) -> Record:
    return RULE.record(data, PARTNER, CALENDAR)


def told_on(since: datetime, now: datetime) -> dict[str, str]:
    """When each stage so far is told to finance by mail, as Beijing's clocks show it."""
    record = record_of(SettlementAccountData(ref="P1", partner="P1", since=since))
    around = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
    return {
        step.stage: f"{step.at.astimezone(BEIJING):%Y-%m-%d %H:%M}"
        for step in plan(record, [person()], {}, now, around).steps
        if step.at is not None and step.channel == "mail" and step.role == "finance"
    }


def test_payments_and_statements_that_wait_make_a_record_of_the_partner() -> None:
    data = derived(
        watched("payment", "SF2"), watched("statement", "DZ1"), watched("payment", "SF1")
    )

    assert isinstance(data, SettlementAccountData)
    assert (data.ref, data.partner, data.since) == ("P1", "P1", NOW)
    assert data.payments == ("SF1", "SF2")
    assert data.statements == ("DZ1",)
    assert (data.payment_count, data.statement_count) == (2, 1)


@pytest.mark.parametrize("authenticated", [True, None])
def test_nothing_is_made_unless_authentication_is_known_to_be_missing(
    authenticated: bool | None,
) -> None:
    partner = replace(PARTNER, account_authenticated=authenticated)

    assert derived(watched("payment", "SF1"), partner=partner) is None


@pytest.mark.parametrize(
    ("kind", "state", "counts"),
    [
        ("payment", State.OPEN, True),
        ("payment", State.HELD, True),
        ("payment", State.WAITING, False),
        ("payment", State.PAUSED, False),
        ("payment", State.CLOSED, False),
        ("statement", State.OPEN, True),
        ("statement", State.HELD, False),
        ("statement", State.WAITING, False),
        ("statement", State.PAUSED, False),
        ("statement", State.CLOSED, False),
        ("incentive", State.OPEN, False),
    ],
)
def test_only_what_really_waits_for_the_account_counts(
    kind: str, state: State, counts: bool
) -> None:
    assert (derived(watched(kind, "R1", state)) is not None) is counts


def test_without_anything_watched_there_is_no_record() -> None:
    assert derived() is None


def test_it_goes_on_from_when_something_began_to_wait() -> None:
    first = derived(watched("payment", "SF1"))
    later = derived(watched("payment", "SF2"), present=first, now=NOW + 5 * DAY)

    assert later.since == NOW
    assert later.payments == ("SF2",)
    assert RULE.ladder(later) == RULE.ladder(first) == "20261124T020000Z"


def test_one_that_was_closed_begins_again_on_a_new_ladder() -> None:
    first = derived(watched("payment", "SF1"))
    again = derived(watched("payment", "SF1"), now=NOW + 5 * DAY)

    assert again.since == NOW + 5 * DAY
    assert RULE.ladder(again) != RULE.ladder(first)


def test_twenty_of_each_are_named_and_all_are_counted() -> None:
    data = derived(
        *(watched("payment", f"SF{number:02}") for number in range(25, 0, -1)),
        *(watched("statement", f"DZ{number:02}") for number in range(21)),
    )

    assert len(data.payments) == len(data.statements) == 20
    assert (data.payments[0], data.payments[-1]) == ("SF01", "SF20")
    assert (data.payment_count, data.statement_count) == (25, 21)


def test_it_is_open_without_a_deadline_as_long_as_it_is_there() -> None:
    record = record_of(derived(watched("payment", "SF1")))

    assert record.assessment.state is State.OPEN
    assert record.deadline == Deadline(None)
    assert record.opened_at == NOW
    assert [one.name for one in RULE.cadence.stages if not RULE.applies(one, record)] == [
        "first",
        "+3",
    ]
    assert RULE.amount(record) is None


def test_it_is_made_of_payments_and_statements_alone() -> None:
    assert RULE.derives_from == ("payment", "statement")


def test_it_is_told_at_once_and_again_on_working_days() -> None:
    assert told_on(NOW, NOW) == {"first": "2026-11-24 10:00", "+3": "2026-11-27 09:00"}
    assert told_on(NOW, NOW + 4 * DAY)["+3#2"] == "2026-12-04 09:00"


@pytest.mark.parametrize(
    ("since", "again"),
    [
        (datetime(2026, 2, 13, 2, tzinfo=UTC), "2026-02-25 09:00"),  # over Spring Festival
        (datetime(2026, 9, 17, 2, tzinfo=UTC), "2026-09-21 09:00"),  # over a worked Sunday
        (datetime(2026, 12, 30, 2, tzinfo=UTC), "2027-01-04 09:00"),  # into 2027
    ],
)
def test_three_working_days_later_it_is_told_again(since: datetime, again: str) -> None:
    assert told_on(since, since)["+3"] == again


def test_the_first_word_is_urgent_required_and_by_sms_too() -> None:
    first, again = RULE.cadence.stages

    assert [(tell.role, tell.by) for tell in first.tell] == [
        ("finance", ("mail", "sms")),
        ("administrator", ("mail",)),
    ]
    assert (first.urgent, first.required) == (True, True)
    assert [(tell.role, tell.by) for tell in again.tell] == [
        ("finance", ("mail",)),
        ("administrator", ("mail",)),
    ]
    assert (again.urgent, again.required) == (False, False)


def test_the_view_says_what_waits() -> None:
    view = RULE.view(record_of(derived(watched("payment", "SF1"), watched("statement", "DZ1"))))

    assert view["ref"] == "P1"
    assert (view["payments"], view["statements"]) == (["SF1"], ["DZ1"])
    assert (view["payment_count"], view["statement_count"], view["since"]) == (1, 1, NOW)


def test_a_record_of_another_kind_is_refused_by_name() -> None:
    wrong = Record("payment", RecordData(ref="R1", partner="P1"), NOW, Deadline(None), PARTNER)

    with pytest.raises(TypeError, match="record R1 is of kind payment, not a settlement account"):
        RULE.view(wrong)
