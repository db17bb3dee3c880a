"""Vouchers: a customer has one with something left on it, and it expires.

Opens:      it is issued and can be used
Closes:     nothing is left of it, it is used, expired or reclaimed
Deadline:   its end; what is left then is lost
Tells:      the customer a month, a week and a day before; the partner's sales from the week on
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, ClassVar

from schedules.fields import Column, Ref
from schedules.rule import Sample
from schedules.rules._coupons import Coupon, CouponData, coupon_sample


class VoucherData(CouponData):
    """One voucher (代金券) of a customer."""

    ref: Annotated[Ref, Column("代金券ID", "优惠券ID", "voucher_id")]


class Voucher(Coupon):
    """A voucher that expires with something left on it."""

    kind = "voucher"
    title: ClassVar[Mapping[str, str]] = {"en": "Voucher", "zh-CN": "代金券"}
    Data = VoucherData

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Due in a week, in a month (English), tomorrow, and a short-lived one."""
        return (
            coupon_sample("DJQ-20260902-017", now, 83, 7, balance="1860.50"),
            coupon_sample(
                "VC-2026-0931",
                now,
                60,
                30,
                face_value="12000.00",
                balance="12000.00",
                customer="KH-30077",
                customer_name="Northwind Traders GmbH",
                customer_language="en",
                customer_time_zone="Europe/Berlin",
            ),
            coupon_sample("DJQ-20260830-002", now, 86, 1, face_value="800", balance="96.20"),
            coupon_sample(
                "DJQ-20261112-105",
                now,
                12,
                8,
                customer="KH-20544",
                customer_name="云帆示例教育科技有限公司",
            ),
        )
