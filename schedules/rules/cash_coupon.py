"""Cash coupons: a customer has one with something left on it, and it expires.

Opens:      it is issued and can be used
Closes:     nothing is left of it, it is used, expired or reclaimed
Deadline:   its end; until then the partner can reclaim what is left
Tells:      the customer a month, a week and a day before; the partner's sales from the week on
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, ClassVar

from schedules.fields import Column, Ref
from schedules.rule import Sample
from schedules.rules._coupons import Coupon, CouponData, coupon_sample


class CashCouponData(CouponData):
    """One cash coupon (现金券) of a customer."""

    ref: Annotated[Ref, Column("现金券ID", "cash_coupon_id")]


class CashCoupon(Coupon):
    """A cash coupon that expires with something left on it."""

    kind = "cash_coupon"
    title: ClassVar[Mapping[str, str]] = {"en": "Cash coupon", "zh-CN": "现金券"}
    Data = CashCouponData

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Due in a week, in a month (English), and tomorrow."""
        return (
            coupon_sample(
                "XJQ-20260915-008",
                now,
                70,
                7,
                face_value="20000",
                balance="7342.18",
            ),
            coupon_sample(
                "CC-2026-0412",
                now,
                45,
                30,
                face_value="3000.00",
                balance="450.00",
                currency="USD",
                customer="KH-30077",
                customer_name="Northwind Traders GmbH",
                customer_language="en",
                customer_time_zone="Europe/Berlin",
            ),
            coupon_sample(
                "XJQ-20261020-003",
                now,
                35,
                1,
                face_value="1000",
                balance="1000",
                customer="KH-20544",
                customer_name="云帆示例教育科技有限公司",
            ),
        )
