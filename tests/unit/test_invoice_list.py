"""An invoice list adds up, or says which figure is off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.invoice_list import (
    MAX_FINDINGS,
    MAX_LINES,
    InvoiceList,
    InvoiceRow,
    amount_ex_tax,
    findings,
)

PARTIES = {
    f"{who}_{what}": None
    for who in ("buyer", "seller")
    for what in ("title", "tax_no", "address", "phone", "bank", "account")
}


def payment(amount: str, **changes: Any) -> Any:
    known = {
        "ref": "PAY-1",
        "programme": "云经销商激励",
        "periods": ("2026-10",),
        "bill_ids": (),
        "currency": "CNY",
        "amount_incl_tax": Decimal(amount),
        "approved_at": datetime(2026, 11, 20, 2, tzinfo=UTC),
        "invoice_type": "SPECIAL",
        "medium": "DIGITAL",
        "post_recipient": None,
        "post_phone": None,
        "post_address": None,
        "post_mailbox": "invoices@example.com",
    }
    return SimpleNamespace(**(PARTIES | {"buyer_title": "华为云计算"} | known | changes))


def line(number: int, incl: str, rate: str = "0.06", **changes: Any) -> Any:
    known = {
        "payment": "PAY-1",
        "line": number,
        "bill_id": f"B-{number}",
        "item_name": "云服务",
        "spec": None,
        "unit": "项",
        "quantity": None,
        "unit_price": None,
        "amount_ex_tax": None,
        "tax_rate": Decimal(rate),
        "tax": None,
        "amount_incl_tax": Decimal(incl),
        "invoice_number": None,
    }
    return SimpleNamespace(**(known | changes))


def invoice_list(amount: str, *lines: Any, **changes: Any) -> InvoiceList:
    return InvoiceList.build(payment(amount, **changes), lines, "杭州云帆")


def with_row(built: InvoiceList, index: int = 0, **changes: Any) -> InvoiceList:
    rows: list[InvoiceRow] = list(built.rows)
    rows[index] = replace(rows[index], **changes)
    return replace(built, rows=tuple(rows))


def test_a_list_that_adds_up_has_no_findings() -> None:
    assert findings(invoice_list("319.00", line(1, "106.00"), line(2, "213.00", "0.13"))) == []


def test_missing_amounts_are_worked_out_from_the_amount_including_tax() -> None:
    row = invoice_list("100.00", line(1, "100.00", "0.13")).rows[0]

    assert (row.amount_ex_tax, row.tax) == (Decimal("88.50"), Decimal("11.50"))


def test_half_a_cent_is_rounded_up_and_offsets_cancel() -> None:
    assert amount_ex_tax(Decimal("0.03"), Decimal("0.2")) == Decimal("0.03")  # 0.025
    assert amount_ex_tax(Decimal("-0.03"), Decimal("0.2")) == Decimal("-0.03")


@given(st.lists(st.tuples(st.integers(-(10**9), 10**11), st.sampled_from([0, 1, 3, 6, 9, 13]))))
def test_lines_worked_out_always_add_up(amounts: list[tuple[int, int]]) -> None:
    lines = [
        line(n, str(Decimal(cents) / 100), str(Decimal(rate) / 100))
        for n, (cents, rate) in enumerate([(10**13, 6), *amounts], start=1)
    ]
    built = invoice_list(str(sum(one.amount_incl_tax for one in lines)), *lines)

    assert findings(built) == []
    assert built.total.amount_ex_tax + built.total.tax == built.total.amount_incl_tax
    assert sum(p.total.amount_incl_tax for p in built.rate_totals) == built.total.amount_incl_tax
    assert sum(part.total.line_count for part in built.rate_totals) == len(lines)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amount_ex_tax": Decimal("99.99")}, "excluding tax is 99.99 and should be 100.00"),
        ({"tax": Decimal("6.01")}, "the tax is 6.01 and should be 6.00"),
        ({"tax": Decimal("6.01")}, "make 106.01 and should be the amount including tax 106.00"),
        ({"tax_rate": Decimal("0.09")}, "excluding tax is 100.00 and should be 97.25"),
        ({"payment": "PAY-2"}, "belongs to payment PAY-2, not to PAY-1"),
        ({"line": 2}, "line 2 is there twice"),
        ({"quantity": Decimal(2), "unit_price": Decimal("51.00")},
         "2 × 51.00 is 102.00 and should be 100.00 excluding or 106.00 including tax: "
         "the unit price should be 50.00 or 53.00"),
        ({"quantity": Decimal(0), "unit_price": Decimal(5)}, "0 × 5 is 0.00"),
    ],
)  # fmt: skip
def test_a_wrong_figure_is_named_with_its_line_and_what_it_should_be(
    changes: dict[str, Any], said: str
) -> None:
    built = with_row(invoice_list("212.00", line(1, "106.00"), line(2, "106.00")), **changes)

    found = findings(built)

    assert any(said in sentence for sentence in found), found
    assert all("line " in sentence for sentence in found)


@pytest.mark.parametrize(
    ("quantity", "price"),
    [
        ("3", "33.33"),  # ex 100.00
        ("3", "35.33"),  # incl 106.00
        ("1000", "0.1"),
        ("7", "14.285714"),
        ("-3", "-33.33"),
    ],
)
def test_a_unit_price_may_be_rounded_and_with_or_without_tax(quantity: str, price: str) -> None:
    one = line(1, "106.00", quantity=Decimal(quantity), unit_price=Decimal(price))

    assert findings(invoice_list("106.00", one)) == []


def test_a_price_with_many_decimals_is_held_to_them() -> None:
    one = line(1, "106.00", quantity=Decimal(10000), unit_price=Decimal("0.0102"))

    assert "10000 × 0.0102 is 102.00" in findings(invoice_list("106.00", one))[0]


def test_a_total_that_differs_by_a_cent_is_found() -> None:
    assert findings(invoice_list("106.01", line(1, "106.00"))) == [
        "the lines add up to 106.00 including tax and should be the approved 106.01: "
        "the difference is -0.01"
    ]


def test_offsets_are_allowed_and_counted() -> None:
    assert findings(invoice_list("80.00", line(1, "100.00"), line(2, "-20.00"))) == []


def test_nothing_to_invoice_is_found() -> None:
    assert "nothing to invoice" in findings(invoice_list("0.00", line(1, "0.00")))[0]


def test_a_list_without_lines_is_found() -> None:
    assert findings(invoice_list("1.00")) == [
        "payment PAY-1 has no lines: import its invoice lines"
    ]


def test_the_longest_list_passes_and_one_line_more_does_not() -> None:
    lines = [line(n, "1.06") for n in range(1, MAX_LINES + 2)]

    assert findings(invoice_list("10600.00", *lines[:-1])) == []
    assert findings(invoice_list("10601.06", *lines)) == [
        "the list has 10001 lines: at most 10000, split the payment"
    ]


def test_a_list_broken_in_every_line_is_told_in_a_readable_length() -> None:
    lines = [line(n, "1.06", tax=Decimal(5)) for n in range(1, 501)]

    found = findings(invoice_list("530.00", *lines))

    assert len(found) == MAX_FINDINGS + 1
    assert found[-1] == f"{1000 - MAX_FINDINGS} more of this list's figures are off"


def test_rows_stand_in_the_order_of_their_lines_and_bills_come_from_them() -> None:
    built = invoice_list("3.00", line(2, "2.00"), line(1, "1.00"))

    assert [row.line for row in built.rows] == [1, 2]
    assert built.bill_ids == ("B-1", "B-2")
    assert built.seller.title == "杭州云帆"


def test_totals_by_rate_start_with_the_highest() -> None:
    built = invoice_list("3.00", line(1, "1.00"), line(2, "1.00", "0.13"), line(3, "1.00", "0.060"))

    assert [(part.rate, part.total.line_count) for part in built.rate_totals] == [
        (Decimal("0.13"), 1),
        (Decimal("0.06"), 2),
    ]
