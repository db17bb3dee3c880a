"""Made-up invitations and statements: each stage, outcome, origin and state there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random

from schedules.calendar import WorkingCalendar
from schedules.fields import BEIJING
from workers.demo.people import MadePartner, Numbers, customer
from workers.demo.tables import Row

_WEEK = timedelta(days=7)
_ORIGINS_ZH = {
    "ONLINE": "线上邀请",
    "ACTIVITY": "活动邀请链接",
    "OFFLINE_UNIVERSAL": "通用邀请链接",
    "OFFLINE_CUSTOM": "自定义邀请链接",
    "QR": "二维码",
}
_STATUS_ZH = {
    "PENDING": "待接受",
    "ACCEPTED": "已关联",
    "EXPIRED": "已失效",
    "FAILED": "关联失败",
    "REVOKED": "已撤销",
}
# (how many, origin, hours from now to its end or None, what else): an end in the past has expired.
_INVITATIONS: tuple[tuple[int, str, tuple[int, int] | None, Row], ...] = (
    (22, "ONLINE", (27, 70), {}),
    (16, "ONLINE", (2, 22), {}),
    (14, "ONLINE", (-20, -1), {}),
    (30, "ONLINE", (80, 160), {}),
    (22, "ONLINE", (-60, 90), {"status": "ACCEPTED"}),
    (4, "ONLINE", (10, 90), {"status": "REVOKED"}),
    (8, "ACTIVITY", (30, 70), {}),
    (6, "ACTIVITY", (200, 400), {}),
    (1, "ACTIVITY", None, {"link_label": "生态大会"}),
    (8, "OFFLINE_UNIVERSAL", (30, 70), {}),
    (4, "OFFLINE_CUSTOM", (4, 22), {"link_label": "展会A馆"}),
    (6, "QR", None, {}),
    (3, "QR", (-40, -2), {}),
    (4, "ONLINE", (40, 90), {"status": "FAILED", "failure_reason": "again", "attempt_no": 2}),
    (3, "ONLINE", (40, 90), {"status": "FAILED", "failure_reason": "final"}),
    (2, "ONLINE", (40, 90), {"status": "FAILED", "failure_reason": "unknown"}),
)
_REASONS = {
    "again": ("邀请链接已失效", "The invitation link has expired"),
    "final": ("客户已关联其他伙伴", "The customer belongs to another partner"),
    "unknown": ("系统繁忙 (E-3017)", "Try later (E-3017)"),
}


def invitations(
    rng: Random, now: datetime, partners: Sequence[MadePartner], numbers: Numbers
) -> Iterator[tuple[MadePartner, Row]]:
    """About 150, spread over the partners that have people."""
    serial = 0
    for count, origin, hours, extra in _INVITATIONS:
        for _ in range(count):
            serial += 1
            partner = partners[serial * 7 % (len(partners) - 2)]
            yield partner, _invitation(rng, now, partner, numbers, serial, origin, hours, extra)


def _invitation(
    rng: Random,
    now: datetime,
    partner: MadePartner,
    numbers: Numbers,
    serial: int,
    origin: str,
    hours: tuple[int, int] | None,
    extra: Row,
) -> Row:
    chinese = partner.chinese
    name, mail = customer(rng, chinese, serial)
    ends = None if hours is None else now + timedelta(minutes=rng.randint(*hours) * 60 - 17)
    row: Row = {
        "ref": f"{'YQ' if chinese else 'INV'}-{now:%Y%m}-{serial:04}",
        "partner": partner.ref,
        "customer_name": name,
        "customer_mail": mail,
        "customer_mobile": numbers.mobile(partner.time_zone),
        "customer_language": partner.language,
        "customer_time_zone": partner.time_zone,
        "association_type": rng.choice(("顾问销售", "代售") if chinese else ("REFERRAL", "RESALE")),
        "sent_at": now - timedelta(days=rng.randint(2, 12), minutes=serial),
        "status": "PENDING",
        "inviter": partner.sales if serial % 3 else None,
    } | extra
    row["url"] = f"https://partner.example.com/i/{row['ref'].lower()}"
    row |= _ends(origin, ends, row["sent_at"])
    if reason := extra.get("failure_reason"):
        row["failure_reason"] = _REASONS[reason][0 if chinese else 1]
        row["updated_at"] = now - timedelta(hours=2)
    if chinese and serial % 19 == 4:  # as exports hide them
        row["customer_mobile"] = "138****" + f"{serial:04}"
        row["customer_mail"] = "i***@" + mail.split("@")[1]
    row["origin"] = _ORIGINS_ZH[origin] if chinese else origin
    row["status"] = _STATUS_ZH[row["status"]] if chinese else row["status"]
    return row


def _ends(origin: str, ends: datetime | None, sent_at: datetime) -> Row:
    if ends is None:
        return {}
    if origin == "ONLINE":
        return {"sent_at": ends - _WEEK}
    if origin == "ACTIVITY":
        return {"activity_ends_at": ends}
    # What never dies by itself ends with the customer's registration.
    return {"registered_at": ends - timedelta(days=15), "sent_at": ends - timedelta(days=14)}


def refused_invitations(now: datetime) -> Iterator[Row]:
    """Rows that must be refused: a day that doesn't exist, an unknown origin, no customer."""
    good = {
        "partner": "P-1003",
        "customer_name": "望澜木棉职业教育有限公司",
        "customer_mobile": "13800006666",
        "origin": "线上邀请",
        "sent_at": now - timedelta(days=1),
        "status": "待接受",
    }
    month = f"{now:%Y%m}"
    yield good | {"ref": f"YQ-{month}-9001", "sent_at": f"{now:%Y}年2月30日"}
    yield good | {"ref": f"YQ-{month}-9002", "origin": "飞鸽传书"}
    yield good | {"ref": f"YQ-{month}-9003", "customer_name": None}


_KINDS_ZH = {
    "INCENTIVE": "伙伴激励",
    "OPP_INCENTIVE": "机会点激励",
    "FH": "专职人员激励",
    "ACTIVITY": "活动激励",
    "EI_PROCUREMENT": "采购介入类",
    "KOOGALLERY": "云商店分账",
}
_STATEMENT_ZH = {
    "ESTIMATED": "激励审核中",
    "PENDING": "待确认",
    "DISPUTED": "有异议",
    "CONFIRMED": "已确认",
    "PAID": "已发放",
    "LAPSED": "激励失效",
    "CANCELLED": "已作废",
}
_DATED = ("INCENTIVE", "OPP_INCENTIVE", "EI_PROCUREMENT", "KOOGALLERY")
# (how many, kinds, working days from today to the last day of confirming or None, working days
# since generation, status)
_STATEMENTS: tuple[tuple[int, tuple[str, ...], int | None, int, str], ...] = (
    (14, _DATED, 5, 6, "PENDING"),
    (2, ("FH",), None, 9, "PENDING"),
    (14, _DATED, 2, 9, "PENDING"),
    (2, ("ACTIVITY",), None, 38, "PENDING"),
    (8, _DATED, 0, 10, "PENDING"),
    (1, ("FH",), None, 14, "PENDING"),
    (3, ("INCENTIVE",), -1, 12, "PENDING"),
    (3, ("FH",), None, 15, "PENDING"),
    (1, ("ACTIVITY",), None, 41, "PENDING"),
    (3, ("EI_PROCUREMENT",), -1, 12, "PENDING"),
    (4, ("KOOGALLERY", "EI_PROCUREMENT"), -5, 16, "PENDING"),
    (5, ("KOOGALLERY",), None, 1, "PENDING"),
    (4, ("INCENTIVE",), None, 3, "PENDING"),
    (3, ("EI_PROCUREMENT",), None, 7, "PENDING"),
    (16, _DATED, 9, 2, "PENDING"),
    (20, _DATED, 3, 8, "CONFIRMED"),
    (10, _DATED, -10, 24, "PAID"),
    (6, _DATED, 2, 8, "DISPUTED"),
    (6, _DATED, None, 0, "ESTIMATED"),
    (3, ("FH",), None, 20, "LAPSED"),
    (2, _DATED, 4, 5, "CANCELLED"),
)
DIGEST = 12
"""So many statements of the first partner end on one day: they make one mail."""


def statements(
    rng: Random, now: datetime, partners: Sequence[MadePartner], calendar: WorkingCalendar
) -> Iterator[tuple[MadePartner, Row]]:
    """About 140: every outcome before, on and after its last day, and those without one."""
    serial = 0
    for count, kinds, due, age, status in ((DIGEST, _DATED, 5, 6, "PENDING"), *_STATEMENTS):
        for number in range(count):
            serial += 1
            one = 0 if serial <= DIGEST else serial * 11 % len(partners)
            kind = kinds[number % len(kinds)]
            yield (
                partners[one],
                _statement(rng, now, partners[one], calendar, serial, kind, due, age, status),
            )


def _statement(
    rng: Random,
    now: datetime,
    partner: MadePartner,
    calendar: WorkingCalendar,
    serial: int,
    kind: str,
    due: int | None,
    age: int,
    status: str,
) -> Row:
    chinese = partner.chinese
    today = now.astimezone(BEIJING).date()
    made = morning(days_off(calendar, today, -age), 8, serial % 60)
    ref = f"{'DZ' if chinese else 'ST'}{now:%Y%m}-{serial:04}"
    amount = Decimal(rng.randint(80_000, 48_000_000)) / 100
    if serial % 29 == 0:
        amount = -amount / 10  # a settlement that goes the other way
    return {
        "ref": ref,
        "partner": partner.ref,
        "statement_kind": _KINDS_ZH[kind] if chinese else kind,
        "period": f"{made - timedelta(days=made.day):%Y-%m}",
        "generated_at": made,
        "confirm_by": None if due is None else days_off(calendar, today, due),
        "amount_incl_tax": amount.quantize(Decimal("0.01")),
        "currency": "CNY" if chinese or serial % 2 else "USD",
        "status": _STATEMENT_ZH[status] if chinese else status,
        "settlement_entity": "示例云计算技术有限公司" if chinese else "Example Cloud Computing Ltd",
        "url": f"https://partner.example.com/statements/{ref}",
    }


def refused_statements(now: datetime) -> Iterator[Row]:
    """Rows that must be refused: a letter in the amount, no time of generation."""
    good = {
        "partner": "P-1012",
        "statement_kind": "伙伴激励",
        "period": f"{now:%Y-%m}",
        "generated_at": now - timedelta(days=3),
        "amount_incl_tax": Decimal("1234.50"),
        "status": "待确认",
    }
    month = f"{now:%Y%m}"
    yield good | {"ref": f"DZ{month}-9001", "amount_incl_tax": "1,234.5O"}
    yield good | {"ref": f"DZ{month}-9002", "generated_at": None}


def days_off(calendar: WorkingCalendar, day: date, count: int) -> date:
    """The day `count` working days after `day`, or before it."""
    if count == 0:
        return day
    return calendar.after(day, count).day if count > 0 else calendar.before(day, -count).day


def morning(day: date, hour: int, minute: int) -> datetime:
    """A time of day in Beijing."""
    return datetime.combine(day, time(hour, minute), tzinfo=BEIJING)
