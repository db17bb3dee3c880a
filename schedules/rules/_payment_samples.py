"""The sample payments, as files give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from schedules.rule import Sample
from schedules.rules._samples import sample_of


def payment_samples(now: datetime) -> Sequence[Sample]:
    """A usual one, English by post, reported but not posted, and invoices sent back.

    `now` is aware UTC.
    """
    day = timedelta(days=1)
    reported = {"invoice_numbers": "26522000000012345678,26522000000012345679"}
    again = {"rejected_count": 1, "rejected_at": (now - day).isoformat()}
    return (
        _sample(now - day, "SFD20261100017", "付款申请审核通过", _ROWS[:3]),
        _sample(now - 4 * day, "SFD20261100023", "待开票", _ROWS, _BY_POST),
        _sample(now - 9 * day, "SFD20261100005", "付款申请审核通过", _ROWS[:2], reported),
        _sample(now - 20 * day, "SFD20261000008", "发票审核不通过", _ROWS[1:2], again),
    )


_ROWS = (
    ("ZD202607-0101", "*信息技术服务*云服务推广服务", "10600.00", "6%", "1"),
    ("ZD202608-0102", "*信息技术服务*专职人员技术支持", "15900.50", "6%", "3"),
    ("ZD202609-0103", "*研发和技术服务*迁移实施", "8888.88", "6%", "1"),
    ("ZD202609-0104", "*计算机配套产品*一体机", "22600.00", "13%", "2"),
    ("ZD202609-0105", "*信息技术服务*冲减", "-318.00", "6%", None),
)
_BUYER = {
    "buyer_title": "示例云计算技术有限公司",
    "buyer_tax_no": "91520900MA6J6CBN9Q",
    "buyer_address": "贵州省贵安新区示例大道1号",
    "buyer_phone": "0851-88880000",
    "buyer_bank": "示例银行贵阳分行",
    "buyer_account": "8888012345678901234",
}
_BY_POST = {
    "programme": "KOOGALLERY",
    "medium": "PAPER",
    "post_recipient": "Invoice desk",
    "post_phone": "+8675528780808",
    "post_address": "1 Example Road, Longgang District, Shenzhen 518000",
    "account_authenticated": False,
}


def _sample(
    approved_at: datetime,
    ref: str,
    status: str,
    rows: Sequence[tuple[str, str, str, str, str | None]],
    extra: Mapping[str, Any] | None = None,
) -> Sample:
    english = (extra or {}).get("medium") == "PAPER"
    data = {
        "programme": "FH",
        "status": status,
        "approved_at": approved_at.isoformat(),
        "amount_incl_tax": str(sum(Decimal(row[2]) for row in rows)),
        "currency": "CNY",
        "periods": "2026-07,2026-08,2026-09",
        "bill_ids": ",".join(row[0] for row in rows),
        "post_mailbox": "invoices@example.com",
        **_BUYER,
        **(extra or {}),
    }
    lines = tuple(
        {
            "payment": ref,
            "line": number,
            "bill_id": bill,
            "item_name": item,
            "unit": None if quantity is None else "项",
            "quantity": quantity,
            "amount_incl_tax": amount,
            "tax_rate": rate,
        }
        for number, (bill, item, amount, rate, quantity) in enumerate(rows, start=1)
    )
    return sample_of(ref, english, "payments", data, "finance", lines=lines)
