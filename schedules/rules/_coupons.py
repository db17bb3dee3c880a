"""What vouchers, cash coupons and quotas share: a balance that is of no use from an instant on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import BEIJING, Amount, Column, Currency, End, Instant, choice
from schedules.rule import (
    Assessment,
    Cadence,
    Contact,
    CustomerRecordData,
    Deadline,
    Effect,
    Plain,
    Record,
    RecordData,
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    customer_of,
    data_of,
    stage,
)
from schedules.rules._samples import sample_of

EARLY = timedelta(days=30)
"""What lives for less than this isn't told of as soon as it is there: 30 x 24 hours."""


class BalanceData(RecordData):
    """What is left of an amount, and until when. `expires_at` is the first instant too late.

    A bare date as `expires_at` includes that day (Beijing). `balance` is what can still be used.
    """

    face_value: Annotated[Amount, Column("面额", "面值")]
    balance: Annotated[Amount, Column("余额")]
    currency: Annotated[Currency, Column("币种")] = "CNY"
    issued_at: Annotated[Instant, Column("生效时间", "发放时间")]
    expires_at: Annotated[End, Column("失效时间", "到期时间", "有效期至")]


class Expiring(Rule):
    """A balance that expires, whoever holds it."""

    def opened_at(self, data: BalanceData) -> datetime:
        """When it began to be valid."""
        return data.issued_at

    def ladder(self, data: BalanceData) -> str:
        """An end that is put off starts a new climb."""
        return data.expires_at.astimezone(UTC).date().isoformat()

    def deadline(self, data: BalanceData, calendar: WorkingCalendar) -> Deadline:
        """Its end, given."""
        return Deadline(data.expires_at, Effect.EXPIRES)

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Nothing is said a month before of what was issued within that month."""
        data = data_of(record, BalanceData)
        if stage.name == "T-30d" and data.issued_at > data.expires_at - EARLY:
            return "it was issued less than 30 days before its end"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds what it was worth and what is left of it."""
        data = data_of(record, BalanceData)
        return {
            **super().view(record),
            "face_value": data.face_value,
            "balance": data.balance,
            "currency": data.currency,
            "issued_at": data.issued_at,
        }

    def amount(self, record: Record) -> tuple[Decimal, str]:
        """What is left of it."""
        data = data_of(record, BalanceData)
        return data.balance, data.currency


class CouponStatus(StrEnum):
    """Where a coupon stands; the numbers of the vendor's interface are read too."""

    INACTIVE = "INACTIVE"
    USABLE = "USABLE"
    USED = "USED"
    EXPIRED = "EXPIRED"
    RECLAIMED = "RECLAIMED"


class CouponData(BalanceData, CustomerRecordData):
    """A coupon that a partner issued to one of its customers, who stands in the record."""

    status: Annotated[
        CouponStatus,
        choice(
            CouponStatus,
            INACTIVE="1|未激活",
            USABLE="2|可使用|未使用",
            USED="3|已使用",
            EXPIRED="4|已过期",
            RECLAIMED="5|已回收",
        ),
        Column("状态"),
    ] = CouponStatus.USABLE


# `or_else` names the role itself: words for a customer must not reach anybody else.
_CUSTOMER_MAIL = Tell("customer", ("mail",), "customer", or_else="customer")
_CUSTOMER = Tell("customer", ("mail", "sms"), "customer", or_else="customer")
_SALES = Tell("sales", ("mail",), "partner")


class Coupon(Expiring):
    """A coupon with something left on it: its customer is told, later the partner's sales too."""

    cadence: ClassVar[Cadence] = Cadence(
        stages=(
            stage("T-30d", "due - 30 days", _CUSTOMER_MAIL),
            stage("T-7d", "due - 7 days", _CUSTOMER, _SALES),
            stage("T-1d", "due - 1 day", _CUSTOMER, _SALES, urgent=True),
        )
    )

    def assess(self, data: CouponData, lines: Sequence[Any]) -> Assessment:
        """Open while it can be used and something is left of it."""
        if data.balance <= 0:
            return Assessment(State.CLOSED, "nothing is left of it")
        if data.status is CouponStatus.INACTIVE:
            return Assessment(State.WAITING, "it isn't active yet and can't be used")
        if data.status is not CouponStatus.USABLE:
            return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")
        return Assessment(State.OPEN, "something is left of it")

    def recipients(self, role: str, record: Record, contacts: Sequence[Contact]) -> list[Contact]:
        """`customer` is in the record itself."""
        if role == "customer":
            return [customer_of(data_of(record, CouponData))]
        return super().recipients(role, record, contacts)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds whose it is."""
        data = data_of(record, CouponData)
        return {
            **super().view(record),
            "customer_name": data.customer_name,
            "status": data.status.value,
        }


def coupon_sample(ref: str, now: datetime, age: int, days_left: int, **extra: Any) -> Sample:
    """A coupon as a file gives it, with its customer and a sales person of its partner.

    It was issued `age` days before `now` (aware UTC) and lasts through the day `days_left` days
    after. `extra` are fields of the data; a `customer_language` of en makes the people English.
    """
    english = extra.get("customer_language") == "en"
    data = {
        "customer": "KH-20418",
        "customer_name": "星岸示例制造有限公司",
        "customer_mail": "it@example.com",
        "customer_mobile": "+4915123456789" if english else "13800138000",
        "face_value": "5000.00",
        "balance": "5000.00",
        "issued_at": (now - timedelta(days=age)).isoformat(),
        "expires_at": last_day(now, days_left),
        "status": "USABLE" if english else "可使用",
        **extra,
    }
    return sample_of(ref, english, None, data, "sales")


def last_day(now: datetime, days_left: int) -> str:
    """The day (Beijing) that is `days_left` days after `now`, as files give it."""
    return (now.astimezone(BEIJING).date() + timedelta(days=days_left)).isoformat()
