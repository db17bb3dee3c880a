"""Coupon quotas: what a partner may still issue to its customers, and it expires.

Opens:      the quota is granted
Closes:     nothing is left of it, or it is invalid; while it is adjusted or frozen nobody is told
Deadline:   its end; what is left then can't be issued any more
Tells:      the partner's sales a month, a week and a day before; the administrator from the week on
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.fields import Amount, Column, Ref, choice
from schedules.rule import (
    Assessment,
    Cadence,
    Plain,
    Record,
    Sample,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._coupons import BalanceData, Expiring, last_day
from schedules.rules._samples import sample_of


class QuotaType(StrEnum):
    """What is issued from a quota."""

    VOUCHER = "VOUCHER"
    CASH = "CASH"
    PICKUP = "PICKUP"


class Status(StrEnum):
    """Where a quota stands; the numbers of the vendor's interface are read too."""

    NORMAL = "NORMAL"
    INVALID = "INVALID"
    ADJUSTING = "ADJUSTING"
    FROZEN = "FROZEN"


class CouponQuotaData(BalanceData):
    """One quota (额度) of a partner. `balance` is what hasn't been issued yet."""

    ref: Annotated[Ref, Column("额度编号", "额度ID", "quota_id")]
    quota_type: Annotated[
        QuotaType,
        choice(
            QuotaType,
            VOUCHER="0|代金券额度",
            CASH="1|现金券额度",
            PICKUP="提货券额度",
        ),
        Column("额度类型"),
    ]
    face_value: Annotated[Amount, Column("额度", "总额度")]
    balance: Annotated[Amount, Column("余额", "可用额度")]
    status: Annotated[
        Status,
        choice(
            Status,
            NORMAL="0|正常",
            INVALID="3|失效|已失效",
            ADJUSTING="4|调整中",
            FROZEN="5|冻结",
        ),
        Column("状态"),
    ] = Status.NORMAL


_SALES = Tell("sales")
_ADMINISTRATOR = Tell("administrator")


class CouponQuota(Expiring):
    """A quota that expires with something left to issue."""

    kind = "coupon_quota"
    title: ClassVar[Mapping[str, str]] = {"en": "Coupon quota", "zh-CN": "提货券额度"}
    Data = CouponQuotaData
    cadence = Cadence(
        stages=(
            stage("T-30d", "due - 30 days", _SALES),
            stage("T-7d", "due - 7 days", _SALES, _ADMINISTRATOR),
            stage(
                "T-1d", "due - 1 day", Tell("sales", ("mail", "sms")), _ADMINISTRATOR, urgent=True
            ),
        )
    )

    def assess(self, data: CouponQuotaData, lines: Sequence[Any]) -> Assessment:
        """Open while something can be issued from it; paused while the vendor holds it back."""
        if data.balance <= 0:
            return Assessment(State.CLOSED, "nothing is left of it")
        if data.status is Status.INVALID:
            return Assessment(State.CLOSED, "it is invalid")
        if data.status is not Status.NORMAL:
            return Assessment(State.PAUSED, f"it is {data.status.value.lower()}")
        return Assessment(State.OPEN, "something is left to issue")

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds what is issued from it."""
        data = data_of(record, CouponQuotaData)
        return {
            **super().view(record),
            "quota_type": data.quota_type.value,
            "status": data.status.value,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """A pick-up quota due in a week, vouchers in a month (English), cash coupons tomorrow."""
        return (
            _sample("ED-2026-0088", "提货券额度", now, 160, 7, "186000.00"),
            _sample("QT-2026-0417", "VOUCHER", now, 90, 30, "42500.00", True),
            _sample("ED-2026-0051", "现金券额度", now, 20, 1, "3200.75"),
        )


def _sample(
    ref: str,
    quota_type: str,
    now: datetime,
    age: int,
    days_left: int,
    balance: str,
    english: bool = False,
) -> Sample:
    data = {
        "quota_type": quota_type,
        "face_value": "200000.00",
        "balance": balance,
        "issued_at": (now - timedelta(days=age)).isoformat(),
        "expires_at": last_day(now, days_left),
        "status": "NORMAL" if english else "正常",
    }
    return sample_of(ref, english, "quotas", data, "sales", "administrator")
