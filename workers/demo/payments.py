"""Made-up payments and their invoice lists, which add up to the cent but for two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random

from schedules.calendar import WorkingCalendar
from schedules.fields import BEIJING
from schedules.invoice_list import amount_ex_tax
from schedules.rules.payment import PROGRAMMES, Phase, Programme
from workers.demo.people import WITHOUT_CONTACTS, MadePartner
from workers.demo.tables import Row
from workers.demo.watched import days_off, morning
from workers.demo.words import FORMULA_ITEMS, ITEMS, ITEMS_EN

CENT = Decimal("0.01")
LONGEST_LIST = 500
_PROGRAMMES_ZH = {
    Programme.FH: "专职人员激励",
    Programme.KOOGALLERY: "云商店分账",
    Programme.OPP_INCENTIVE: "机会点激励",
    Programme.MDF: "市场发展基金",
    Programme.DELIVERY: "交付能力提升支持",
    Programme.INCENTIVE: "伙伴激励",
    Programme.EI_PROCUREMENT: "采购介入类",
}
# (how many, working days since approval, what its status means)
_PAYMENTS = (
    (18, 1, Phase.DUE),
    (12, 3, Phase.DUE),
    (8, 7, Phase.DUE),
    (5, 12, Phase.DUE),
    (3, 17, Phase.DUE),
    (10, 0, Phase.DUE),
    (4, 1, Phase.SENT_BACK),
    (14, 2, Phase.BEFORE),
    (22, 9, Phase.AFTER),
    (3, 5, Phase.ENDED),
)
_LENGTHS = (1, 1, 2, 3, 3, 4, 5, 7, 9, 12, 18, 26, 41)
_BUYER = {
    "buyer_title": "示例云计算技术有限公司",
    "buyer_tax_no": "91000000MA00000188",
    "buyer_address": "青屿市示例大道1号",
    "buyer_phone": "0000-88880000",
    "buyer_bank": "示例银行青屿分行",
    "buyer_account": "8888012345678901234",
}
_POST = (
    {"medium": "数电", "post_mailbox": "fapiao@vendor.example"},
    {
        "medium": "纸质",
        "post_recipient": "发票组",
        "post_phone": "0000-88880001",
        "post_address": "青屿市示例大道1号3栋发票组",
    },
)
_POST_EN = (
    {"medium": "DIGITAL", "post_mailbox": "invoices@vendor.example"},
    {
        "medium": "PAPER",
        "post_recipient": "Invoice desk",
        "post_phone": "0000-88880001",
        "post_address": "1 Example Avenue, Building 3, Qingyu",
    },
)


@dataclass(frozen=True, slots=True)
class MadePayment:
    """A payment and its list."""

    partner: MadePartner
    row: Row
    lines: tuple[Row, ...]


def payments(
    rng: Random, now: datetime, partners: Sequence[MadePartner], calendar: WorkingCalendar
) -> Iterator[MadePayment]:
    """About 110: every rung of the ladder, every programme, lists of 1 to 500 lines."""
    serial = 0
    for count, age, phase in _PAYMENTS:
        for number in range(count):
            serial += 1
            # The second partner has six at once, which make one mail.
            at = 1 if serial <= 6 else serial * 16 % (len(partners) - 1)
            approved = morning(
                days_off(calendar, now.astimezone(BEIJING).date(), -age), 9, serial % 60
            )
            if age == 0:
                approved = now - timedelta(minutes=serial)
            length = rng.choice(_LENGTHS)
            if (phase, age, number) in _LONG:
                length = _LONG[phase, age, number]
            made = _payment(rng, now, partners[at], serial, approved, phase, length)
            yield made
    yield from _broken(rng, now, partners, serial)


_LONG = {(Phase.DUE, 1, 7): LONGEST_LIST, (Phase.DUE, 3, 2): 240, (Phase.DUE, 3, 5): 96}


def _payment(
    rng: Random,
    now: datetime,
    partner: MadePartner,
    serial: int,
    approved: datetime,
    phase: Phase,
    length: int,
) -> MadePayment:
    chinese = partner.chinese
    programme = list(Programme)[serial % len(Programme)]
    ref = f"{'SF' if chinese else 'PAY'}{now:%Y%m}-{serial:04}"
    month = f"{approved - timedelta(days=approved.day):%Y%m}"
    bills = [f"ZD{month}-{serial:04}{letter}" for letter in "ABC"[: 1 + serial % 3]]
    lines = _lines(rng, ref, bills, chinese, length)
    row: Row = {
        "ref": ref,
        "partner": partner.ref,
        "programme": _PROGRAMMES_ZH[programme] if chinese else programme.value,
        "status": _status(programme, phase, chinese),
        "approved_at": None if phase is Phase.BEFORE else approved,
        "amount_incl_tax": sum((line["amount_incl_tax"] for line in lines), Decimal(0)),
        "currency": "CNY" if chinese or serial % 2 else "USD",
        "periods": f"{month[:4]}-{month[4:]}",
        "bill_ids": ",".join(bills),
        "invoice_type": "专票" if chinese else "SPECIAL",
        "seller_tax_no": _tax_number(int(partner.ref[2:])) if chinese else None,
        "url": f"https://partner.example.com/payments/{ref}",
        **_BUYER,
        **(_POST if chinese else _POST_EN)[serial % 2],
    }
    if phase is Phase.SENT_BACK:
        row |= {"rejected_count": 1, "rejected_at": approved, "approved_at": approved - _WEEKS}
    if phase in {Phase.SENT_BACK, Phase.AFTER}:
        row["invoice_numbers"] = f"26{serial:018}"
    if serial % 9 == 2:
        row["account_authenticated"] = "否" if chinese else "no"
    return MadePayment(partner, row, tuple(lines))


_WEEKS = timedelta(days=21)


def _status(programme: Programme, phase: Phase, chinese: bool) -> str:
    """The first word of a phase in the language of the file."""
    words = [word for word, means in PROGRAMMES[programme].items() if means is phase]
    return next(word for word in words if word.isascii() != chinese)


def _lines(rng: Random, ref: str, bills: Sequence[str], chinese: bool, length: int) -> list[Row]:
    items = ITEMS if chinese else ITEMS_EN
    return [
        _line(rng, ref, number, bills[number * len(bills) // (length + 1)], rng.choice(items))
        for number in range(1, length + 1)
    ]


def _line(
    rng: Random, ref: str, number: int, bill: str, item: tuple[str, str, int, int, int]
) -> Row:
    name, unit, percent, low, high = item
    rate = Decimal(percent) / 100
    quantity = rng.choice((1, 1, 1, 2, 3, 5, 10, 22))
    price = Decimal(rng.randint(low * 100, high * 100)) / 100
    ex = (price * quantity).quantize(CENT)
    incl = (ex * (1 + rate)).quantize(CENT, ROUND_HALF_UP)
    assert amount_ex_tax(incl, rate) == ex
    return {
        "payment": ref,
        "line": number,
        "bill_id": bill,
        "item_name": name,
        "unit": unit,
        "quantity": quantity,
        "unit_price": price,
        "amount_ex_tax": ex,
        "tax_rate": f"{percent}%",
        "tax": incl - ex,
        "amount_incl_tax": incl,
    }


def _broken(
    rng: Random, now: datetime, partners: Sequence[MadePartner], serial: int
) -> Iterator[MadePayment]:
    """Payments that are taken in and held, and one whose items look like formulas."""
    by_ref = {partner.ref: partner for partner in partners}
    approved = now - timedelta(days=8)

    def due(ref: str, length: int) -> MadePayment:
        nonlocal serial
        serial += 1
        return _payment(rng, now, by_ref[ref], serial, approved, Phase.DUE, length)

    short = due("P-1011", 4)
    short.row["amount_incl_tax"] += Decimal("0.01")
    yield short
    wrong_tax = due("P-1030", 3)
    wrong_tax.lines[1]["tax"] += Decimal("0.02")
    yield wrong_tax
    unknown = due("P-1013", 2)
    unknown.row["status"] = "财务共享复核"
    yield unknown
    yield MadePayment(by_ref["P-1014"], due("P-1014", 1).row, ())
    masked = due("P-1015", 2)
    masked.row["buyer_account"] = "8888********1234"
    yield masked
    yield due(WITHOUT_CONTACTS, 3)
    formulas = due("P-1016", len(FORMULA_ITEMS))
    for line, item in zip(formulas.lines, FORMULA_ITEMS, strict=True):
        line["item_name"] = item
    yield formulas


def refused_payments(now: datetime) -> Iterator[Row]:
    """Rows that must be refused: an amount in words, an unknown programme."""
    good = {
        "partner": "P-1017",
        "programme": "伙伴激励",
        "status": "待开票",
        "approved_at": now - timedelta(days=2),
        "amount_incl_tax": Decimal("8800.00"),
        "currency": "CNY",
    }
    month = f"{now:%Y%m}"
    yield good | {"ref": f"SF{month}-9001", "amount_incl_tax": "捌仟捌佰元"}
    yield good | {"ref": f"SF{month}-9002", "programme": "神秘计划"}


_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def _tax_number(number: int) -> str:
    """A unified social credit code of a region that doesn't exist, with its check digit.

    Source: GB 32100-2015, weights are the powers of 3 modulo 31.
    """
    body = f"91000000MA{number:07}"
    total = sum(_SIGNS.index(sign) * pow(3, at, 31) for at, sign in enumerate(body))
    return body + _SIGNS[(31 - total % 31) % 31]
