"""What the payment rule says: each programme's trigger, what closes it, what is held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schedules.calendar import WorkingCalendar
from schedules.rule import Deadline, Effect, Partner, Record, State
from schedules.rules.payment import (
    PROGRAMMES,
    InvoiceLine,
    Payment,
    PaymentData,
    Phase,
    Programme,
)

RULE = Payment()
SENT = datetime(2026, 11, 20, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def line(number: int = 1, amount: str = "106.00", **changes: Any) -> InvoiceLine:
    row = {
        "payment": "SF1",
        "line": number,
        "item_name": "*信息技术服务*推广",
        "tax_rate": "6%",
        "amount_incl_tax": amount,
    }
    return InvoiceLine(**{**row, **changes})


def payment(lines: Sequence[InvoiceLine] | None = None, **changes: Any) -> Record:
    data = {
        "ref": "SF1",
        "partner": "P1",
        "programme": "FH",
        "status": "付款申请审核通过",
        "approved_at": SENT,
        "amount_incl_tax": "106.00",
    }
    found = PaymentData(**{**data, **changes})
    rows = [line()] if lines is None else lines
    return RULE.record(
        found,
        Partner(found.partner, "青禾云", account_authenticated=False),
        WorkingCalendar.load(),
        rows,
    )


@pytest.mark.parametrize(
    ("programme", "status"),
    [
        ("FH", "付款申请审核通过"),
        ("DELIVERY", "付款申请审核通过"),
        ("MDF", "兑现申报审核通过"),
        ("KOOGALLERY", "待开票"),
        ("INCENTIVE", "待开票"),
        ("EI_PROCUREMENT", "待开票"),
        ("OPP_INCENTIVE", "已支付"),
    ],
)
def test_each_programme_has_a_trigger_of_its_own(programme: str, status: str) -> None:
    assert payment(programme=programme, status=status).assessment.state is State.OPEN
    assert payment(programme=programme, status="approved").assessment.state is State.OPEN


def test_a_paid_bill_is_the_trigger_in_one_programme_and_the_end_in_another() -> None:
    assert payment(programme="OPP_INCENTIVE", status="已支付").assessment.state is State.OPEN
    assert payment(programme="FH", status="已支付").assessment.state is State.CLOSED


@pytest.mark.parametrize(
    ("programme", "status", "state"),
    [
        ("FH", "付款申请审核中", State.WAITING),
        ("FH", "审核不通过", State.WAITING),
        ("KOOGALLERY", "会签驳回", State.WAITING),
        ("KOOGALLERY", "申付单创建失败", State.WAITING),
        ("KOOGALLERY", "发票待审核", State.CLOSED),
        ("INCENTIVE", "申请处理中", State.WAITING),
        ("INCENTIVE", "支付中", State.CLOSED),
        ("FH", "已取消", State.CLOSED),
        ("MDF", "兑现申报审核中", State.WAITING),
    ],
)
def test_before_the_trigger_it_waits_and_after_it_closes(
    programme: str, status: str, state: State
) -> None:
    assert payment(programme=programme, status=status).assessment.state is state


def test_every_programme_is_in_the_table_with_every_phase() -> None:
    assert set(PROGRAMMES) == set(Programme)
    assert all(set(statuses.values()) == set(Phase) for statuses in PROGRAMMES.values())


def test_a_status_of_another_programme_is_held_with_what_it_should_be() -> None:
    record = payment(programme="MDF", status="付款申请审核通过")

    assert record.assessment.state is State.HELD
    assert "兑现申报审核通过" in record.assessment.why


def test_reported_and_received_closes_and_reported_alone_says_post_them() -> None:
    number = "26522000000012345678"

    closed = payment(invoice_numbers=number, invoices_received_at=SENT + DAY)
    open_ = payment(invoice_numbers=number)
    assert closed.assessment.state is State.CLOSED
    assert open_.assessment.state is State.OPEN
    assert "post them" in open_.assessment.why
    assert RULE.view(open_)["next_step"] == "post"


def test_numbers_on_every_line_count_as_reported() -> None:
    rows = [line(1, "53.00", invoice_number="26522"), line(2, "53.00", invoice_number="26523")]

    assert RULE.view(payment(rows))["next_step"] == "post"
    rows[1] = line(2, "53.00")
    assert RULE.view(payment(rows))["next_step"] == "report"


def test_received_without_numbers_stays_open() -> None:
    assert payment(invoices_received_at=SENT).assessment.state is State.OPEN


def test_invoices_sent_back_open_the_payment_again_on_a_new_ladder() -> None:
    done = payment(invoice_numbers="26522", invoices_received_at=SENT)
    back = payment(
        status="发票审核不通过",
        invoice_numbers="26522",
        invoices_received_at=SENT,
        rejected_count=1,
        rejected_at=SENT + 9 * DAY,
    )

    assert done.assessment.state is State.CLOSED
    assert back.assessment.state is State.OPEN
    assert back.ladder != done.ladder
    assert back.opened_at == SENT + 9 * DAY
    assert RULE.view(back)["next_step"] == "correct"


@pytest.mark.parametrize("total", ["0", "-106.00"])
def test_a_total_of_nothing_or_less_has_nothing_to_invoice(total: str) -> None:
    record = payment([line(amount=total)], amount_incl_tax=total)

    assert record.assessment.state is State.CLOSED
    assert "nothing to invoice" in record.assessment.why


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "no lines"),
        ([line(amount="105.99")], "105.99"),
        ([line(tax="6.01")], "line 1"),
        ([line(1, "53.00"), line(2, "53.00", tax="9.99")], "line 2"),
        ([line(payment="SF2")], "SF2"),
    ],
)
def test_a_list_that_doesnt_add_up_is_held_and_named(lines: list[InvoiceLine], words: str) -> None:
    record = payment(lines)

    assert record.assessment.state is State.HELD
    assert words in record.assessment.why


def test_masked_print_is_held_but_the_asterisks_of_an_item_name_arent_a_mask() -> None:
    record = payment(buyer_account="6222****8888")

    assert payment().assessment.state is State.OPEN
    assert record.assessment.state is State.HELD
    assert "buyer_account: is masked" in record.assessment.why


def test_an_approval_without_a_date_counts_from_the_update_or_is_held() -> None:
    assert payment(approved_at=None, updated_at=SENT).opened_at == SENT
    assert payment(approved_at=None).assessment.state is State.HELD


def test_a_payment_has_no_deadline_and_escalates_from_the_third_stage_on() -> None:
    record = payment()

    assert record.deadline == Deadline(None, Effect.NONE)
    applying = [one.name for one in RULE.cadence.stages if RULE.applies(one, record) is None]
    assert applying == ["+1", "+3", "+7", "+12"]
    escalated = {
        one.name: {tell.role for tell in one.tell if tell.message == "escalation"}
        for one in RULE.cadence.stages
    }
    assert escalated["+1"] == escalated["+3"] == set()
    assert escalated["+7"] == escalated["+12"] == {"administrator", "partner_manager"}


def test_the_list_goes_along_and_the_view_shows_all_of_it() -> None:
    rows = [line(2, "113.00", tax_rate="13%"), line(1, "106.00"), line(3, "-53.00")]
    record = payment(rows, amount_incl_tax="166.00", programme="MDF", status="兑现申报审核通过")

    view = RULE.view(record)
    (document,) = RULE.documents(record)
    assert record.assessment.state is State.OPEN
    assert [row["line"] for row in view["lines"]] == [1, 2, 3]  # type: ignore[union-attr,call-overload,index]
    assert view["totals_by_rate"] == [
        {
            "tax_rate": Decimal("0.13"),
            "line_count": 1,
            "amount_ex_tax": Decimal("100.00"),
            "tax": Decimal("13.00"),
            "amount_incl_tax": Decimal("113.00"),
        },
        {
            "tax_rate": Decimal("0.06"),
            "line_count": 2,
            "amount_ex_tax": Decimal("50.00"),
            "tax": Decimal("3.00"),
            "amount_incl_tax": Decimal("53.00"),
        },
    ]
    assert document.payment == "SF1"
    assert RULE.amount(record) == (Decimal("166.00"), "CNY")


@pytest.mark.parametrize(("own", "shown"), [(None, False), ("已认证", True), ("no", False)])
def test_the_payments_own_word_on_authentication_beats_the_partners(
    own: str | None, shown: bool
) -> None:
    assert RULE.view(payment(account_authenticated=own))["account_authenticated"] is shown
