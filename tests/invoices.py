"""Invoice lists that add up, of any length."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from schedules.invoice_list import (
    CENT,
    InvoiceList,
    InvoiceRow,
    Party,
    PostTo,
    Total,
    amount_ex_tax,
)

NAMES = (
    "云服务器 ECS 代售激励",
    "Cloud migration services",
    "数据库高可用版激励结算（季度，含尾差调整）",
)


def invoice_list(
    count: int, names: tuple[str, ...] = NAMES, first: int = 1, **changes: Any
) -> InvoiceList:
    """A list of so many lines, the `first` having that number: other numbers, other amounts."""
    rows = tuple(row(n, names[n % len(names)]) for n in range(first, first + count))
    known = InvoiceList(
        payment="SFD202611240001",
        programme="云经销商激励计划",
        periods=("2026-09", "2026-10"),
        partner="杭州云帆信息技术有限公司",
        bill_ids=tuple(one.bill_id for one in rows),
        buyer=Party("华为云计算技术有限公司", "91520900MA6J6CBN9Q", "贵州省贵安新区", "0755-1",
                    "工商银行", "4000027729200512345"),
        seller=Party("杭州云帆信息技术有限公司", "91330108MA2AAAAA1K"),
        invoice_type="SPECIAL",
        medium="PAPER",
        currency="CNY",
        post_to=PostTo("李明", "+86 755 2878 0808", "深圳市龙岗区坂田 F3 栋", ""),
        approved_amount=Total.of(rows).amount_incl_tax,
        approved_at=datetime(2026, 11, 19, 16, 30, tzinfo=UTC),
        rows=rows,
    )  # fmt: skip
    return replace(known, **changes)


def row(number: int, name: str) -> InvoiceRow:
    """A line, at one of four rates; some take money back."""
    rate = (Decimal("0.06"), Decimal("0.13"), Decimal(0), Decimal("0.015"))[number % 4]
    incl = (Decimal(1234567 + 98765 * number) / 100).quantize(CENT)
    incl = -incl / 10 if number % 11 == 7 else incl
    incl = incl.quantize(CENT)
    ex = amount_ex_tax(incl, rate)
    return InvoiceRow(
        payment="SFD202611240001",
        line=number,
        bill_id=f"BILL-202610-{number:05}",
        item_name=name,
        spec="s6.large.2",
        unit="项",
        quantity=Decimal(3),
        unit_price=(ex / 3).quantize(CENT),
        amount_ex_tax=ex,
        tax_rate=rate,
        tax=incl - ex,
        amount_incl_tax=incl,
    )
