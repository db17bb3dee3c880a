"""Vouchers, cash coupons and quotas: when they expire, whom that is told, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.planner import Circumstances, Step, forecast, plan
from schedules.rule import Contact, Deadline, Effect, Partner, Record, State
from schedules.rules._coupons import BalanceData, Expiring
from schedules.rules.cash_coupon import CashCoupon
from schedules.rules.coupon_quota import CouponQuota
from schedules.rules.voucher import Voucher
from tests.unit.planning import CALENDAR, DAY, NIGHT, person
from workers.errors import InputError
from workers.sources.files import read_file, row_model

VOUCHER, CASH, QUOTA = Voucher(), CashCoupon(), CouponQuota()
COUPONS: tuple[Expiring, ...] = (VOUCHER, CASH)
ALL: tuple[Expiring, ...] = (VOUCHER, CASH, QUOTA)
each_coupon = pytest.mark.parametrize("rule", COUPONS, ids=lambda rule: rule.kind)
each = pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.kind)

ISSUED = datetime(2026, 9, 1, 2, tzinfo=UTC)
ENDS = datetime(2026, 11, 27, 16, tzinfo=UTC)  # with Friday, 27 November, in Beijing
SALES = person("S", "sales")
ADMINISTRATOR = person("A", "administrator")


def record_of(rule: Expiring, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "ref": "R1",
        "partner": "P1",
        "face_value": "500.00",
        "balance": "96.20",
        "issued_at": ISSUED,
        "expires_at": "2026-11-27",
    }
    if rule is QUOTA:
        fields["quota_type"] = "PICKUP"
    else:
        fields |= {
            "customer_name": "星岸",
            "customer_mail": "it@example.com",
            "customer_mobile": "13800138009",
        }
    data: Any = rule.Data(**{**fields, **changes})
    return rule.record(data, Partner("P1", "青禾云"), CALENDAR)


def around(rule: Expiring) -> Circumstances:
    return Circumstances(rule, rule.cadence, CALENDAR, NIGHT)


def due(
    rule: Expiring, record: Record, now: datetime, people: Sequence[Contact] = (SALES,)
) -> set[tuple[str, str, str, str]]:
    """What is told at `now` when nothing has been told before."""
    planned = plan(record, people, {}, now, around(rule))
    return {line(step) for step in planned.due}


def line(step: Step) -> tuple[str, str, str, str]:
    assert step.contact is not None
    return (step.stage, step.channel, step.contact.ref, step.message)


def told(
    rule: Expiring, record: Record, people: Sequence[Contact] = (SALES, ADMINISTRATOR)
) -> list[tuple[str, tuple[str, str, str, str]]]:
    """All that is ever told of a record watched from its issue, with the moment in UTC."""
    start = record.opened_at
    end = start + timedelta(days=400)
    found = forecast(record, people, {}, start, end, around(rule))
    return [(f"{moment:%m-%d %H:%M}", line(step)) for moment, step in found]


# --- when


@each
def test_a_bare_date_is_included_whole_in_beijing(rule: Expiring) -> None:
    assert record_of(rule).deadline == Deadline(ENDS, Effect.EXPIRES)
    assert record_of(rule, expires_at="2026年11月27日").deadline.at == ENDS


@each
def test_an_end_with_a_time_is_that_time(rule: Expiring) -> None:
    record = record_of(rule, expires_at="2026-11-27 18:00")

    assert record.deadline.at == datetime(2026, 11, 27, 10, tzinfo=UTC)


@each
@pytest.mark.parametrize("end", ["", None, "2026-02-30"])
def test_without_an_end_that_exists_it_is_refused(rule: Expiring, end: str | None) -> None:
    with pytest.raises(ValidationError, match=r"expires_at[\s\S]*(fill it in|doesn't exist)"):
        record_of(rule, expires_at=end)


@each
def test_a_new_end_starts_a_new_climb(rule: Expiring) -> None:
    assert record_of(rule).ladder == "2026-11-27"
    assert record_of(rule, expires_at="2026-12-31").ladder == "2026-12-31"
    assert record_of(rule, expires_at="2026-11-28 07:00").ladder == "2026-11-27", "the day of UTC"


@each
def test_it_opens_when_it_begins_to_be_valid(rule: Expiring) -> None:
    assert record_of(rule).opened_at == ISSUED


# --- coupons: who is told


@each_coupon
def test_a_coupon_is_told_to_its_customer_three_times_and_twice_to_the_sales(
    rule: Expiring,
) -> None:
    assert told(rule, record_of(rule)) == [
        ("10-28 01:00", ("T-30d", "mail", "customer:R1", "customer")),
        ("11-20 01:00", ("T-7d", "mail", "customer:R1", "customer")),
        ("11-20 01:00", ("T-7d", "sms", "customer:R1", "customer")),
        ("11-20 01:00", ("T-7d", "mail", "S", "partner")),
        ("11-26 01:00", ("T-1d", "mail", "customer:R1", "customer")),
        ("11-26 01:00", ("T-1d", "sms", "customer:R1", "customer")),
        ("11-26 01:00", ("T-1d", "mail", "S", "partner")),
    ]


@each_coupon
def test_the_holidays_of_spring_festival_move_nothing_forward(rule: Expiring) -> None:
    record = record_of(rule, expires_at="2026-02-20", issued_at="2025-12-01 10:00")

    moments = [moment for moment, (_, channel, _, _) in told(rule, record) if channel == "sms"]
    assert moments == ["02-13 01:00", "02-19 01:00"], "the 19th is a holiday"


@each_coupon
def test_each_person_is_told_at_nine_of_their_own_zone(rule: Expiring) -> None:
    record = record_of(rule, customer_time_zone="America/New_York", customer_language="en")
    berlin = replace(SALES, time_zone="Europe/Berlin")

    last = [entry for entry in told(rule, record, (berlin,)) if entry[1][0] == "T-1d"]
    assert last == [
        ("11-26 08:00", ("T-1d", "mail", "S", "partner")),
        ("11-26 14:00", ("T-1d", "mail", "customer:R1", "customer")),
        ("11-26 14:00", ("T-1d", "sms", "customer:R1", "customer")),
    ]


@each_coupon
def test_nine_in_the_west_is_too_late_for_an_end_before_it(rule: Expiring) -> None:
    record = record_of(
        rule, expires_at="2026-11-27 00:30", customer_time_zone="America/Los_Angeles"
    )

    last = {moment for moment, (stage, *_) in told(rule, record, ()) if stage == "T-1d"}
    assert last == {"11-26 01:00"}, "nine in Beijing instead"


@each_coupon
def test_words_for_a_customer_who_cant_be_reached_go_to_nobody_else(rule: Expiring) -> None:
    record = record_of(rule, customer_mail="i***@example.com", customer_mobile=None)

    assert due(rule, record, ENDS - 7 * DAY, (SALES, ADMINISTRATOR)) == {
        ("T-7d", "mail", "S", "partner")
    }


@each_coupon
def test_where_there_are_no_sales_the_administrator_hears_of_it(rule: Expiring) -> None:
    found = due(rule, record_of(rule, customer_mobile=None), ENDS - DAY, (ADMINISTRATOR,))

    assert found == {
        ("T-1d", "mail", "customer:R1", "customer"),
        ("T-1d", "mail", "A", "partner"),
    }


@each_coupon
def test_coupons_of_one_customer_go_to_one_person(rule: Expiring) -> None:
    one = record_of(rule, customer="KH1")
    other = record_of(rule, customer="KH1", ref="R2")

    (contact,) = rule.recipients("customer", one, [SALES])
    assert contact.ref == "customer:KH1"
    assert rule.recipients("customer", other, []) == [contact]
    assert rule.recipients("sales", one, [SALES, ADMINISTRATOR]) == [SALES]


@each
def test_nothing_is_told_from_the_end_on(rule: Expiring) -> None:
    record = record_of(rule)

    assert due(rule, record, ENDS - timedelta(hours=9))
    assert due(rule, record, ENDS) == set()


@each
@pytest.mark.parametrize(
    ("issued_at", "stages"),
    [
        (ENDS - 30 * DAY, ["T-30d", "T-7d", "T-1d"]),
        (ENDS - 30 * DAY + timedelta(seconds=1), ["T-7d", "T-1d"]),
        (ENDS - 3 * DAY, ["T-7d", "T-1d"]),
    ],
)
def test_what_is_issued_for_less_than_thirty_days_isnt_told_of_a_month_before(
    rule: Expiring, issued_at: datetime, stages: list[str]
) -> None:
    record = record_of(rule, issued_at=issued_at)

    assert [one.name for one in rule.cadence.stages if not rule.applies(one, record)] == stages


# --- states


@each
@pytest.mark.parametrize("balance", ["0", "0.00", "-1.50"])
def test_with_nothing_left_it_is_closed_and_nobody_is_told(rule: Expiring, balance: str) -> None:
    record = record_of(rule, balance=balance)

    assert record.assessment.state is State.CLOSED
    assert due(rule, record, ENDS - DAY, (SALES, ADMINISTRATOR)) == set()
    assert due(rule, record_of(rule, balance="0.01"), ENDS - DAY, (SALES, ADMINISTRATOR))


@each_coupon
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("1", State.WAITING),
        ("未激活", State.WAITING),
        (2, State.OPEN),
        ("可使用", State.OPEN),
        ("未使用", State.OPEN),
        ("3", State.CLOSED),
        ("已使用", State.CLOSED),
        ("4", State.CLOSED),
        ("EXPIRED", State.CLOSED),
        ("5", State.CLOSED),
        ("已回收", State.CLOSED),
    ],
)
def test_the_status_of_a_coupon_decides_its_state(
    rule: Expiring, status: str | int, state: State
) -> None:
    assert record_of(rule, status=status).assessment.state is state


@each_coupon
def test_a_coupon_that_isnt_active_yet_but_empty_is_closed(rule: Expiring) -> None:
    assert record_of(rule, status="INACTIVE", balance="0").assessment.state is State.CLOSED


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0, State.OPEN),
        ("正常", State.OPEN),
        ("3", State.CLOSED),
        ("失效", State.CLOSED),
        ("4", State.PAUSED),
        ("调整中", State.PAUSED),
        ("5", State.PAUSED),
        ("冻结", State.PAUSED),
    ],
)
def test_the_status_of_a_quota_decides_its_state(status: str | int, state: State) -> None:
    record = record_of(QUOTA, status=status)

    assert record.assessment.state is state
    assert bool(due(QUOTA, record, ENDS - DAY)) is (state is State.OPEN)


@each
def test_an_unknown_status_lists_what_may_be_written(rule: Expiring) -> None:
    with pytest.raises(ValidationError, match=r"must be one of (INACTIVE \(未激活|NORMAL \(正常)"):
        record_of(rule, status="9")


# --- quotas


def test_a_quota_is_told_to_the_sales_and_from_the_week_on_to_the_administrator() -> None:
    assert told(QUOTA, record_of(QUOTA)) == [
        ("10-28 01:00", ("T-30d", "mail", "S", "reminder")),
        ("11-20 01:00", ("T-7d", "mail", "S", "reminder")),
        ("11-20 01:00", ("T-7d", "mail", "A", "reminder")),
        ("11-26 01:00", ("T-1d", "mail", "S", "reminder")),
        ("11-26 01:00", ("T-1d", "sms", "S", "reminder")),
        ("11-26 01:00", ("T-1d", "mail", "A", "reminder")),
    ]


@pytest.mark.parametrize(
    ("word", "value"),
    [(0, "VOUCHER"), ("代金券额度", "VOUCHER"), ("1", "CASH"), ("提货券额度", "PICKUP")],
)
def test_the_type_of_a_quota_is_read_by_number_and_name(word: str | int, value: str) -> None:
    assert QUOTA.view(record_of(QUOTA, quota_type=word))["quota_type"] == value


# --- what is said


@each
def test_the_balance_is_what_is_counted_and_said(rule: Expiring) -> None:
    record = record_of(rule, currency="美元")

    assert rule.amount(record) == (Decimal("96.20"), "USD")
    view = rule.view(record)
    assert (view["balance"], view["face_value"]) == (Decimal("96.20"), Decimal("500.00"))
    assert (view["partner"], view["effect"], view["deadline"]) == ("青禾云", "expires", ENDS)


@each_coupon
def test_a_coupon_says_whose_it_is(rule: Expiring) -> None:
    assert rule.view(record_of(rule))["customer_name"] == "星岸"


@each
def test_only_the_last_day_is_urgent(rule: Expiring) -> None:
    assert [one.name for one in rule.cadence.stages if one.urgent] == ["T-1d"]


@each
def test_a_record_of_another_kind_is_a_mistake_that_is_named(rule: Expiring) -> None:
    foreign = record_of(VOUCHER if rule is QUOTA else QUOTA)

    with pytest.raises(TypeError, match=rf"record R1 is of kind {foreign.kind}"):
        rule.view(foreign)


@each
def test_the_samples_hold_each_stage_and_both_languages(rule: Expiring) -> None:
    now = datetime(2026, 11, 24, 1, tzinfo=UTC)
    samples = rule.samples(now)
    records = [record_of(rule, **dict(sample.data)) for sample in samples]

    assert {str(c["language"]) for one in samples for c in one.contacts} == {"en", "zh-CN"}
    assert {record.assessment.state for record in records} == {State.OPEN}
    left = {(record.deadline.at - now).days for record in records if record.deadline.at}
    assert {1, 7, 30} <= left, "each stage has one that is told by it now"


FILES = {
    "voucher": "代金券ID,合作伙伴ID,客户名称,客户邮箱,面额,余额,币种,生效时间,失效时间,状态\n"
    "DJQ1,P1,星岸,it@example.com,500,96.20,人民币,2026/9/1 10:00,2026-11-27,可使用\n",
    "cash_coupon": "现金券ID,伙伴ID,客户,客户手机,面值,余额,发放时间,有效期至,状态\n"
    "XJQ1,P1,星岸,13800138009,500,96.20,2026-09-01 10:00,2026年11月27日,2\n",
    "coupon_quota": "额度编号,伙伴ID,额度类型,总额度,可用额度,发放时间,到期时间,状态\n"
    "ED1,P1,现金券额度,500,96.20,2026-09-01 10:00,2026/11/27,正常\n",
}


@each
def test_a_file_with_chinese_headings_is_read(rule: Expiring, tmp_path: Path) -> None:
    path = tmp_path / f"{rule.kind}.csv"
    path.write_text(FILES[rule.kind], encoding="utf-8-sig")

    (row,) = read_file(path, [type(one) for one in ALL])
    data = row_model(row)
    assert type(data) is rule.Data
    assert isinstance(data, BalanceData)
    assert (data.balance, data.expires_at, data.issued_at) == (Decimal("96.20"), ENDS, ISSUED)


ENGLISH = (
    "{},partner,customer_name,face_value,balance,issued_at,expires_at\n"
    "R1,P1,Northwind,500,96.20,2026-09-01 10:00,2026-11-27\n"
)


@each_coupon
def test_an_english_file_says_which_coupons_it_holds_by_their_id(
    rule: Expiring, tmp_path: Path
) -> None:
    path = tmp_path / "coupons.csv"
    path.write_text(ENGLISH.format(f"{rule.kind}_id"))

    (row,) = read_file(path, [type(one) for one in ALL])
    assert row.shape.name == rule.kind


def test_a_file_that_may_hold_either_coupon_is_refused_unless_told_which(tmp_path: Path) -> None:
    path = tmp_path / "coupons.csv"
    path.write_text(ENGLISH.format("ref"))
    rules = [type(one) for one in ALL]

    with pytest.raises(InputError, match="may be voucher or cash_coupon: say which"):
        list(read_file(path, rules))
    (row,) = read_file(path, rules, only="cash_coupon")
    assert type(row_model(row)) is CASH.Data
