"""The invoice list (开票清单) of one payment: what to invoice, to whom, and whether it adds up.

One list belongs to one payment and one currency. Amounts are `Decimal` to the cent, rounded half
up; the amount including tax is authoritative, so for every line ex = round(incl / (1 + rate), 2)
and tax = incl - ex. A list with findings must not be sent. Pure: it knows no rule, clock or file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Protocol

CENT = Decimal("0.01")
MAX_LINES = 10_000
MAX_FINDINGS = 50
"""So many findings are spelt out; the rest is counted, since a broken export breaks every line."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who buys or sells, as it is to stand on the invoice. What isn't known is ""."""

    title: str
    tax_no: str = ""
    address: str = ""
    phone: str = ""
    bank: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class PostTo:
    """Where the invoices go: by post to an address, or to a mailbox. What isn't known is ""."""

    recipient: str = ""
    phone: str = ""
    address: str = ""
    mailbox: str = ""


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """One line. Amounts are in the list's currency; `tax_rate` is a fraction (0.06 is 6%).

    A negative line is an offset against others. `invoice_number` is "" until it was issued.
    """

    payment: str
    line: int
    bill_id: str
    item_name: str
    spec: str
    unit: str
    quantity: Decimal | None
    unit_price: Decimal | None
    amount_ex_tax: Decimal
    tax_rate: Decimal
    tax: Decimal
    amount_incl_tax: Decimal
    invoice_number: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over some lines."""

    line_count: int
    amount_ex_tax: Decimal
    tax: Decimal
    amount_incl_tax: Decimal

    @classmethod
    def of(cls, rows: Sequence[InvoiceRow]) -> Total:
        """The sums over `rows`; zero for none."""
        zero = Decimal("0.00")
        return cls(
            len(rows),
            sum((row.amount_ex_tax for row in rows), zero),
            sum((row.tax for row in rows), zero),
            sum((row.amount_incl_tax for row in rows), zero),
        )


@dataclass(frozen=True, slots=True)
class RateTotal:
    """Sums over the lines of one tax rate (a fraction)."""

    rate: Decimal
    total: Total


class PaymentLike(Protocol):
    """What a list is built from: the payment's data. None and "" both mean: not known."""

    @property
    def ref(self) -> str: ...
    @property
    def programme(self) -> str | None: ...
    @property
    def periods(self) -> Sequence[str] | None: ...
    @property
    def bill_ids(self) -> Sequence[str] | None: ...
    @property
    def currency(self) -> str: ...
    @property
    def amount_incl_tax(self) -> Decimal: ...
    @property
    def approved_at(self) -> datetime | None: ...
    @property
    def invoice_type(self) -> str | None: ...
    @property
    def medium(self) -> str | None: ...
    @property
    def buyer_title(self) -> str | None: ...
    @property
    def buyer_tax_no(self) -> str | None: ...
    @property
    def buyer_address(self) -> str | None: ...
    @property
    def buyer_phone(self) -> str | None: ...
    @property
    def buyer_bank(self) -> str | None: ...
    @property
    def buyer_account(self) -> str | None: ...
    @property
    def seller_title(self) -> str | None: ...
    @property
    def seller_tax_no(self) -> str | None: ...
    @property
    def seller_address(self) -> str | None: ...
    @property
    def seller_phone(self) -> str | None: ...
    @property
    def seller_bank(self) -> str | None: ...
    @property
    def seller_account(self) -> str | None: ...
    @property
    def post_recipient(self) -> str | None: ...
    @property
    def post_phone(self) -> str | None: ...
    @property
    def post_address(self) -> str | None: ...
    @property
    def post_mailbox(self) -> str | None: ...


class LineLike(Protocol):
    """What a row is built from. An amount excluding tax or a tax of None is worked out."""

    @property
    def payment(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def bill_id(self) -> str | None: ...
    @property
    def item_name(self) -> str: ...
    @property
    def spec(self) -> str | None: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def quantity(self) -> Decimal | None: ...
    @property
    def unit_price(self) -> Decimal | None: ...
    @property
    def amount_ex_tax(self) -> Decimal | None: ...
    @property
    def tax_rate(self) -> Decimal: ...
    @property
    def tax(self) -> Decimal | None: ...
    @property
    def amount_incl_tax(self) -> Decimal: ...
    @property
    def invoice_number(self) -> str | None: ...


@dataclass(frozen=True)
class InvoiceList:
    """The list that goes along with a payment's message. Rows stand in the order of their lines.

    `approved_amount` includes tax; `approved_at` is aware UTC, or None while it isn't known.
    `invoice_type` is SPECIAL or GENERAL, `medium` DIGITAL or PAPER; other words are shown as
    they are.
    """

    payment: str
    programme: str
    periods: tuple[str, ...]
    partner: str
    bill_ids: tuple[str, ...]
    buyer: Party
    seller: Party
    invoice_type: str
    medium: str
    currency: str
    post_to: PostTo
    approved_amount: Decimal
    approved_at: datetime | None
    rows: tuple[InvoiceRow, ...]

    @classmethod
    def build(
        cls, payment: PaymentLike, lines: Iterable[LineLike], partner_name: str
    ) -> InvoiceList:
        """The list of `payment`. Never raises for wrong figures: ask `findings`.

        The bills are the payment's own, or else those that its lines name. A seller who isn't
        named is the partner.
        """
        rows = tuple(sorted((_row(line) for line in lines), key=lambda row: row.line))
        bills = tuple(payment.bill_ids or dict.fromkeys(r.bill_id for r in rows if r.bill_id))
        return cls(
            payment=payment.ref,
            programme=payment.programme or "",
            periods=_several(payment.periods),
            partner=partner_name,
            bill_ids=bills,
            buyer=_buyer(payment),
            seller=_seller(payment, partner_name),
            invoice_type=str(payment.invoice_type or ""),
            medium=str(payment.medium or ""),
            currency=payment.currency,
            post_to=PostTo(
                payment.post_recipient or "",
                payment.post_phone or "",
                payment.post_address or "",
                payment.post_mailbox or "",
            ),
            approved_amount=payment.amount_incl_tax,
            approved_at=payment.approved_at,
            rows=rows,
        )

    @cached_property
    def total(self) -> Total:
        """The sums over all lines."""
        return Total.of(self.rows)

    @cached_property
    def rate_totals(self) -> tuple[RateTotal, ...]:
        """The sums by tax rate, the highest rate first."""
        by_rate: defaultdict[Decimal, list[InvoiceRow]] = defaultdict(list)
        for row in self.rows:
            by_rate[row.tax_rate].append(row)
        return tuple(RateTotal(rate, Total.of(by_rate[rate])) for rate in sorted(by_rate)[::-1])


def amount_ex_tax(amount_incl_tax: Decimal, tax_rate: Decimal) -> Decimal:
    """The amount without tax, to the cent, half up (away from zero, so that offsets cancel)."""
    return (amount_incl_tax / (1 + tax_rate)).quantize(CENT, ROUND_HALF_UP)


def findings(invoice_list: InvoiceList) -> list[str]:
    """What keeps the list from being sent, one sentence each; empty when it adds up.

    At most MAX_FINDINGS sentences and one that counts the rest.
    """
    found = [*_list_findings(invoice_list)]
    numbers: set[int] = set()
    for row in invoice_list.rows[: MAX_LINES + 1]:
        found += _row_findings(row, invoice_list.payment)
        if row.line in numbers:
            found.append(f"line {row.line} is there twice: give every line its own number")
        numbers.add(row.line)
    if len(found) > MAX_FINDINGS:
        rest = len(found) - MAX_FINDINGS
        found[MAX_FINDINGS:] = [f"{rest} more of this list's figures are off"]
    return found


def _list_findings(invoice_list: InvoiceList) -> Iterator[str]:
    rows, approved = invoice_list.rows, invoice_list.approved_amount
    if not rows:
        yield f"payment {invoice_list.payment} has no lines: import its invoice lines"
        return
    if len(rows) > MAX_LINES:
        yield f"the list has {len(rows)} lines: at most {MAX_LINES}, split the payment"
    total = invoice_list.total.amount_incl_tax
    if total != approved:
        yield (
            f"the lines add up to {total} including tax and should be the approved {approved}: "
            f"the difference is {total - approved}"
        )
    elif total <= 0:
        yield f"the total is {total}: there is nothing to invoice, so no list may be sent"


def _row_findings(row: InvoiceRow, payment: str) -> Iterator[str]:
    where = f"line {row.line}"
    if row.payment != payment:
        yield f"{where} belongs to payment {row.payment}, not to {payment}: take it out"
    ex = amount_ex_tax(row.amount_incl_tax, row.tax_rate)
    tax = row.amount_incl_tax - ex
    if row.amount_incl_tax != row.amount_incl_tax.quantize(CENT):
        yield f"{where}: the amount including tax {row.amount_incl_tax} has more than two decimals"
    if row.amount_ex_tax != ex:
        yield (
            f"{where}: the amount excluding tax is {row.amount_ex_tax} and should be {ex} "
            f"({row.amount_incl_tax} at {percent(row.tax_rate)})"
        )
    if row.tax != tax:
        yield f"{where}: the tax is {row.tax} and should be {tax} ({row.amount_incl_tax} - {ex})"
    if row.amount_ex_tax + row.tax != row.amount_incl_tax:
        yield (
            f"{where}: {row.amount_ex_tax} and {row.tax} tax make {row.amount_ex_tax + row.tax} "
            f"and should be the amount including tax {row.amount_incl_tax}"
        )
    yield from _price_findings(row, where)


def _price_findings(row: InvoiceRow, where: str) -> Iterator[str]:
    if row.quantity is None or row.unit_price is None:
        return
    product = row.quantity * row.unit_price
    slack = abs(row.quantity) * _half_last_place(row.unit_price) + CENT / 2
    wanted = (row.amount_ex_tax, row.amount_incl_tax)
    if any(abs(product - amount) <= slack for amount in wanted):
        return
    text = (
        f"{where}: {row.quantity.normalize():f} × {row.unit_price} is "
        f"{product.quantize(CENT, ROUND_HALF_UP)} and should be {wanted[0]} excluding "
        f"or {wanted[1]} including tax"
    )
    if row.quantity:
        prices = [(amount / row.quantity).quantize(CENT, ROUND_HALF_UP) for amount in wanted]
        text += f": the unit price should be {prices[0]} or {prices[1]}"
    yield text


def _half_last_place(price: Decimal) -> Decimal:
    """How far the true price may lie from the one printed: half of its last decimal.

    Never more than half a cent, also for a price written without decimals.
    """
    exponent = price.normalize().as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return Decimal(5).scaleb(-places - 1)


def percent(rate: Decimal) -> str:
    """A rate as it stands on an invoice: 0.06 is 6%, 0.015 is 1.5%."""
    return f"{(rate * 100).normalize():f}%"


def _several(value: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(value or ())


def _row(line: LineLike) -> InvoiceRow:
    incl = line.amount_incl_tax
    ex = amount_ex_tax(incl, line.tax_rate) if line.amount_ex_tax is None else line.amount_ex_tax
    return InvoiceRow(
        payment=line.payment,
        line=line.line,
        bill_id=line.bill_id or "",
        item_name=line.item_name,
        spec=line.spec or "",
        unit=line.unit or "",
        quantity=line.quantity,
        unit_price=line.unit_price,
        amount_ex_tax=ex,
        tax_rate=line.tax_rate,
        tax=incl - ex if line.tax is None else line.tax,
        amount_incl_tax=incl,
        invoice_number=line.invoice_number or "",
    )


def _buyer(payment: PaymentLike) -> Party:
    return Party(
        payment.buyer_title or "",
        payment.buyer_tax_no or "",
        payment.buyer_address or "",
        payment.buyer_phone or "",
        payment.buyer_bank or "",
        payment.buyer_account or "",
    )


def _seller(payment: PaymentLike, partner_name: str) -> Party:
    return Party(
        payment.seller_title or partner_name,
        payment.seller_tax_no or "",
        payment.seller_address or "",
        payment.seller_phone or "",
        payment.seller_bank or "",
        payment.seller_account or "",
    )
