"""What statements and payments make of each other."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from schedules.calendar import WorkingCalendar
from schedules.rule import (
    Assessment,
    Deadline,
    Link,
    Partner,
    Record,
    RecordData,
    Related,
    State,
)
from schedules.rules.incentive import IncentiveData
from schedules.rules.payment import InvoiceLine, Payment, PaymentData
from schedules.rules.statement import Statement, StatementData

PAYMENT, STATEMENT = Payment(), Statement()
SENT = datetime(2026, 11, 20, 2, tzinfo=UTC)
OPEN, NEVER = Assessment(State.OPEN, "it waits"), Deadline(None)


def statement(**changes: Any) -> StatementData:
    data = {
        "ref": "DZ1",
        "partner": "P1",
        "statement_kind": "INCENTIVE",
        "period": "2026-10",
        "generated_at": SENT,
        "confirm_by": date(2026, 12, 4),
        "amount_incl_tax": "100.00",
    }
    return StatementData(**{**data, **changes})


def payment(**changes: Any) -> PaymentData:
    data = {
        "ref": "SF1",
        "partner": "P1",
        "programme": "FH",
        "status": "付款申请审核通过",
        "approved_at": SENT,
        "amount_incl_tax": "106.00",
        "bill_ids": "DZ1",
    }
    return PaymentData(**{**data, **changes})


def related(kind: str, data: RecordData, state: State = State.OPEN) -> Related:
    return Related(kind, data.ref, state, SENT, None, data)


# --- a statement in the light of payments


@pytest.mark.parametrize(
    ("status", "closes"),
    [
        ("付款申请审核中", False),
        ("付款申请审核通过", True),
        ("发票审核不通过", True),
        ("支付中", True),
        ("已支付", True),
        ("已取消", False),
        ("a word that no table has", False),
    ],
)
def test_a_payment_that_is_past_its_review_closes_the_statements_it_names(
    status: str, closes: bool
) -> None:
    others = [related("payment", payment(status=status))]

    judged, deadline = STATEMENT.in_light_of(statement(), others, OPEN, NEVER)
    expected = Assessment(State.CLOSED, "payment SF1 bills it") if closes else OPEN
    assert (judged, deadline) == (expected, NEVER)


@pytest.mark.parametrize("state", [State.WAITING, State.PAUSED])
def test_a_statement_that_waits_or_is_disputed_is_closed_by_its_payment_too(state: State) -> None:
    judged, _ = STATEMENT.in_light_of(
        statement(), [related("payment", payment())], Assessment(state), NEVER
    )

    assert judged.state is State.CLOSED


def test_a_closed_statement_keeps_its_own_reason_and_other_kinds_say_nothing() -> None:
    done = Assessment(State.CLOSED, "it is confirmed")
    other = related("invitation", RecordData(ref="DZ1", partner="P1"))

    assert STATEMENT.in_light_of(statement(), [related("payment", payment())], done, NEVER) == (
        done,
        NEVER,
    )
    assert STATEMENT.in_light_of(statement(), [other], OPEN, NEVER) == (OPEN, NEVER)


def test_the_last_day_of_a_statement_cant_be_switched_off() -> None:
    assert [one.name for one in STATEMENT.cadence.stages if one.required] == ["T-0"]


def test_a_statement_links_nothing_by_itself() -> None:
    assert STATEMENT.links(statement()) == ()


# --- a payment in the light of its bills


def test_a_payment_is_linked_with_each_bill_as_statement_and_as_incentive() -> None:
    assert PAYMENT.links(payment(bill_ids="DZ1,DZ2,DZ1")) == [
        Link("statement", "DZ1"),
        Link("statement", "DZ2"),
        Link("incentive", "DZ1"),
        Link("incentive", "DZ2"),
    ]
    assert PAYMENT.links(payment(bill_ids="")) == []


def test_of_very_many_bills_the_first_two_hundred_are_linked() -> None:
    links = PAYMENT.links(payment(bill_ids=[f"DZ{number}" for number in range(250)]))

    assert len(links) == 400
    assert {link.ref for link in links} == {f"DZ{number}" for number in range(200)}


def test_a_cancelled_statement_holds_the_payment_and_names_bill_and_remedy() -> None:
    others = [
        related("statement", statement(ref="DZ2", status="已作废"), State.CLOSED),
        related("statement", statement(status="已确认"), State.CLOSED),
    ]

    judged, deadline = PAYMENT.in_light_of(payment(), others, OPEN, NEVER)
    assert judged.state is State.HELD
    assert "statement DZ2 was cancelled: take it out of the payment" in judged.why
    assert "DZ1" not in judged.why
    assert deadline == NEVER


def test_what_held_it_already_is_still_said() -> None:
    held = Assessment(State.HELD, "line 2: doesn't add up")
    others = [related("statement", statement(status="CANCELLED"), State.CLOSED)]

    judged, _ = PAYMENT.in_light_of(payment(), others, held, NEVER)
    assert judged.why.startswith("line 2: doesn't add up; bill_ids: statement DZ1")


@pytest.mark.parametrize("state", [State.WAITING, State.CLOSED])
def test_a_payment_that_isnt_due_or_is_done_isnt_held_for_a_bill(state: State) -> None:
    own = Assessment(state, "its own")
    others = [related("statement", statement(status="CANCELLED"), State.CLOSED)]

    assert PAYMENT.in_light_of(payment(), others, own, NEVER) == (own, NEVER)


def test_a_cancelled_incentive_or_a_lapsed_statement_doesnt_hold_the_payment() -> None:
    incentive = IncentiveData(
        ref="DZ1",
        partner="P1",
        programme="FH",
        generated_at=SENT,
        total_incl_tax="100.00",
        status="已作废",
    )
    others = [
        related("incentive", incentive, State.CLOSED),
        related("statement", statement(status="LAPSED"), State.CLOSED),
    ]

    assert PAYMENT.in_light_of(payment(), others, OPEN, NEVER) == (OPEN, NEVER)


def test_the_view_lists_the_bills_that_are_known_with_their_periods() -> None:
    data = payment(bill_ids="DZ1,DZ2,DZ9")
    row = InvoiceLine(
        payment="SF1", line=1, item_name="推广", tax_rate="6%", amount_incl_tax="106.00"
    )
    record = Record(
        kind="payment",
        data=data,
        opened_at=SENT,
        deadline=PAYMENT.deadline(data, WorkingCalendar.load()),
        partner=Partner("P1", "青禾云"),
        lines=(row,),
        related=(
            related("statement", statement(ref="DZ2", period=None)),
            related("statement", statement()),
            related("invitation", RecordData(ref="YQ1", partner="P1")),
        ),
    )

    view = PAYMENT.view(record)
    assert view["statements"] == [
        {"ref": "DZ1", "period": "2026-10"},
        {"ref": "DZ2", "period": None},
    ]
    assert view["bill_ids"] == ["DZ1", "DZ2", "DZ9"]


def test_the_first_word_on_an_approved_payment_cant_be_switched_off() -> None:
    assert [one.name for one in PAYMENT.cadence.stages if one.required] == ["+1"]
