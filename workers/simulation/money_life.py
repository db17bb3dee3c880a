"""What happens to a partner's money: statements, incentives, payments, coupons and quotas."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from workers.simulation.days import DAY, here
from workers.simulation.events import LINE, Event
from workers.simulation.pen import History, Pen

DUE_WORDS = {
    "FH": ("付款申请审核中", "付款申请审核通过"),
    "DELIVERY": ("付款申请审核中", "付款申请审核通过"),
    "MDF": ("兑现申报审核中", "兑现申报审核通过"),
    "KOOGALLERY": ("待会签", "待开票"),
    "INCENTIVE": ("付款申请审核中", "待开票"),
    "EI_PROCUREMENT": ("待确认", "待开票"),
    "OPP_INCENTIVE": ("激励审核中", "已支付"),
}
BUYER = {
    "buyer_title": "示例云计算技术有限公司",
    "buyer_tax_no": "91520900MA6J6CBN9Q",
    "buyer_address": "贵州省贵安新区示例大道1号",
    "buyer_phone": "0851-88880000",
    "buyer_bank": "示例银行贵阳分行",
    "buyer_account": "8888012345678901234",
}
ITEMS = ("*信息技术服务*云服务推广服务", "*研发和技术服务*迁移实施", "*会展服务*场地搭建")


def bills(pen: Pen, size: float) -> Iterator[Event]:
    """Month by month: statements as the month ends, incentives, and the payments that bill them."""
    monthly = pen.happens(0.08 * size)
    for month in pen.months():
        made: list[History] = []
        flood = round(size * pen.chance.choice((1, 1, 2, 3))) if monthly else int(pen.happens(0.05))
        for _ in range(max(flood, int(monthly))):
            made.append(_statement(pen, month))
        if pen.happens(0.03 * size) or (month.month % 3 == 0 and pen.happens(0.1)):
            made.append(_incentive(pen, month))
        for history in made:
            yield from history.events
        quarter = month.month % 3 == 0
        if pen.happens(0.15 if quarter else 0.03 * size):
            yield from _payment(pen, month, made, "FH" if quarter and pen.maybe(0.6) else None)


def _statement(pen: Pen, month: date) -> History:
    made = pen.month_end(month)
    kind = pen.chance.choice(
        ("INCENTIVE", "OPP_INCENTIVE", "FH", "ACTIVITY", "EI_PROCUREMENT", "KOOGALLERY")
    )
    confirm_by = None
    if kind != "KOOGALLERY" and pen.maybe(0.7):
        confirm_by = here(made) + pen.chance.randint(2, 20) * DAY
    data = {
        "ref": pen.ref("S"),
        "statement_kind": kind,
        "period": f"{month:%Y-%m}",
        "generated_at": made,
        "confirm_by": confirm_by,
        "amount_incl_tax": pen.amount(10, 400_000),
        "status": "ESTIMATED" if pen.maybe(0.1) else "PENDING",
    }
    history = History(pen, "statement", data)
    at = history.at(made)
    if data["status"] == "ESTIMATED":
        at = pen.after(at, 1, 3)
        history.at(at, status="PENDING")
    for _ in range(pen.chance.choice((0, 1, 1, 1, 2, 3))):
        at = pen.after(at, 1, 9)
        word = pen.chance.choices(
            ("CONFIRMED", "DISPUTED", "PENDING", "moved", "CANCELLED"), (9, 2, 2, 1, 1)
        )[0]
        if word == "moved" and confirm_by:
            history.at(at, confirm_by=confirm_by + pen.chance.randint(1, 10) * DAY)
        elif word != "moved":
            history.at(at, status=word, feedback_open=word == "PENDING" and pen.maybe(0.3))
        if word in {"CONFIRMED", "CANCELLED"}:
            return history
    if pen.maybe(0.93):
        history.at(pen.after(at, 4, 40), status="CONFIRMED")
    return history


def _incentive(pen: Pen, month: date) -> History:
    made = pen.month_end(month)
    programme = pen.chance.choice(("OPP_INCENTIVE", "INCENTIVE", "FH", "ACTIVITY"))
    negative = pen.maybe(0.08)
    data = {
        "ref": pen.ref("B"),
        "programme": programme,
        "period": f"{month:%Y-%m}",
        "generated_at": made,
        "publication_ends_on": here(made) + pen.chance.randint(5, 20) * DAY
        if pen.maybe(0.7)
        else None,
        "total_incl_tax": f"-{pen.amount(1, 900)}" if negative else pen.amount(100, 90_000),
        "status": "REVIEWING" if pen.maybe(0.2) else "PENDING",
    }
    history = History(pen, "incentive", data)
    at = history.at(made)
    if data["status"] == "REVIEWING":
        at = pen.after(at, 1, 4)
        history.at(at, status="PENDING")
    end = pen.chance.choices(("APPLIED", "PAID", "LAPSED", "CANCELLED", ""), (7, 4, 2, 1, 3))[0]
    at = pen.after(at, 1, 30)
    if end:
        history.at(at, status=end)
    if end == "PAID":
        at = pen.after(at, 1, 10)
        history.at(at, list_available_at=at)
        if pen.maybe(0.7):
            history.at(pen.after(at, 1, 25), status="INVOICED")
    return history


def _payment(pen: Pen, month: date, made: list[History], programme: str | None) -> Iterator[Event]:
    programme = programme or pen.chance.choice(tuple(DUE_WORDS))
    not_yet, due = DUE_WORDS[programme]
    ref = pen.ref("F")
    approved = pen.after(pen.month_end(month), 2, 18)
    lines = [_line(pen, ref, number + 1) for number in range(pen.chance.choice((1, 1, 2, 3, 8)))]
    total = sum((Decimal(line["amount_incl_tax"]) for line in lines), Decimal(0))
    wrong = pen.maybe(0.08)
    bill_ids = [one.data["ref"] for one in made if pen.maybe(0.6)]
    data = {
        "ref": ref,
        "programme": programme,
        "status": not_yet if pen.maybe(0.4) else due,
        "approved_at": approved,
        "amount_incl_tax": str(total + (100 if wrong else 0)),
        "periods": [f"{month:%Y-%m}"],
        "bill_ids": [*bill_ids, *(["ZD-unknown"] if pen.maybe(0.1) else [])],
        "post_mailbox": "invoices@example.com",
        **BUYER,
    }
    history = History(pen, "payment", data)
    came = pen.after(approved, 0, 1) if data["status"] == due else pen.after(approved, -3, 0)
    at = history.at(came)
    arrives = max(at, pen.start)
    for line in lines:
        yield Event(arrives, LINE, line)
    if wrong and pen.maybe(0.6):
        rest = {**lines[0], "line": len(lines) + 1, "amount_incl_tax": "100.00"}
        yield Event(pen.after(max(at, pen.start), 1, 9), LINE, rest)
    if data["status"] == not_yet:
        at = pen.after(max(at, approved), 0, 4)
        history.at(at, status=due, approved_at=at)
    _invoiced(pen, history, at)
    yield from history.events


def _line(pen: Pen, ref: str, number: int) -> dict[str, Any]:
    return {
        "payment": ref,
        "line": number,
        "item_name": pen.chance.choice(ITEMS),
        "quantity": "1",
        "unit": "项",
        "tax_rate": "6%",
        "amount_incl_tax": pen.amount(100, 30_000),
    }


def _invoiced(pen: Pen, history: History, at: datetime) -> None:
    if pen.maybe(0.05):
        history.at(pen.after(at, 1, 20), status="已取消")
        return
    if pen.maybe(0.02):
        return
    at = pen.after(at, 1, 20)
    due = history.data["status"]
    history.at(at, invoice_numbers=["26522000000012345678"])
    at = pen.after(at, 1, 9)
    if pen.maybe(0.2):
        history.at(at, status="发票审核不通过", rejected_count=1, rejected_at=at)
        if pen.maybe(0.92):
            at = pen.after(at, 1, 15)
            history.at(at, status=due, invoices_received_at=at)
    elif pen.maybe(0.97):
        history.at(at, invoices_received_at=at)


def coupons(pen: Pen) -> Iterator[Event]:
    """Vouchers and cash coupons of customers; most end as a month ends, some are used up before."""
    for kind, rate in (("voucher", 0.9), ("cash_coupon", 0.5)):
        for _ in range(pen.times(rate)):
            issued = pen.some_time()
            day = here(issued) + pen.chance.choice((20, 45, 60, 90, 180)) * DAY
            if pen.maybe(0.6):
                day = (day.replace(day=1) + 32 * DAY).replace(day=1) - DAY
            value = pen.amount(100, 20_000)
            data = {
                "ref": pen.ref("V" if kind == "voucher" else "X"),
                "customer": f"K-{pen.partner}-{pen.chance.randrange(4)}"
                if pen.maybe(0.5)
                else None,
                **pen.customer(),
                "face_value": value,
                "balance": value,
                "issued_at": issued,
                "expires_at": day if pen.maybe(0.7) else pen.moment(day),
                "status": "INACTIVE" if pen.maybe(0.1) else "USABLE",
            }
            yield from _spent(pen, History(pen, kind, data), issued, "USED", "RECLAIMED")


def quotas(pen: Pen) -> Iterator[Event]:
    """Quotas from which coupons are issued; held back by the vendor now and then."""
    for _ in range(pen.times(0.3)):
        issued = pen.some_time()
        day = here(issued) + pen.chance.choice((25, 60, 90, 180)) * DAY
        value = pen.amount(1_000, 200_000)
        data = {
            "ref": pen.ref("Q"),
            "quota_type": pen.chance.choice(("VOUCHER", "CASH", "PICKUP")),
            "face_value": value,
            "balance": value,
            "issued_at": issued,
            "expires_at": day if pen.maybe(0.7) else pen.moment(day),
            "status": "NORMAL",
        }
        history = History(pen, "coupon_quota", data)
        if pen.maybe(0.25):
            held = pen.after(issued, 5, 40)
            word = pen.chance.choice(("ADJUSTING", "FROZEN"))
            yield from _spent(pen, history, issued, "INVALID", "INVALID")
            history.events.clear()
            history.at(held, status=word)
            if pen.maybe(0.8):
                history.at(pen.after(held, 1, 20), status="NORMAL")
            yield from history.events
        else:
            yield from _spent(pen, history, issued, "INVALID", "INVALID")


def _spent(pen: Pen, history: History, at: datetime, *ends: str) -> Iterator[Event]:
    history.at(at)
    if history.data["status"] == "INACTIVE":
        at = pen.after(at, 1, 20)
        history.at(at, status="USABLE")
    left = Decimal(history.data["balance"])
    for _ in range(pen.chance.choice((0, 0, 1, 2))):
        at = pen.after(at, 3, 60)
        left = (left * Decimal("0.6")).quantize(Decimal("0.01")) if pen.maybe(0.7) else Decimal(0)
        history.at(at, balance=f"{left:.2f}")
    if pen.maybe(0.3):
        history.at(pen.after(at, 3, 60), status=pen.chance.choice(ends))
    yield from history.events
