"""Exclusive offers: when they begin and end, whom that is told, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.planner import Circumstances, forecast, plan
from schedules.rule import Contact, Deadline, Effect, Partner, Record, RecordData, State
from schedules.rules.exclusive_offer import ExclusiveOffer, ExclusiveOfferData
from tests.unit.planning import CALENDAR, NIGHT, person
from workers.sources.files import read_file, row_model

RULE = ExclusiveOffer()
AROUND = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
CREATED = datetime(2026, 11, 2, 2, tzinfo=UTC)
STARTS = datetime(2026, 11, 9, 16, tzinfo=UTC)  # Tuesday, 10 November, 00:00 in Beijing
ENDS = datetime(2026, 11, 27, 16, tzinfo=UTC)  # with Friday, 27 November, in Beijing
OWNER, SALES = person("O", "project"), person("S", "sales")
ADMINISTRATOR = person("A", "administrator")
STAGES = {"PENDING": ["start"], "EFFECTIVE": ["T-7d", "T-1d"]}


def offer(**changes: Any) -> Record:
    fields = {
        "ref": "ZS1",
        "partner": "P1",
        "product": "协同办公套件",
        "customer_name": "星岸",
        "discount": "8.5 折",
        "created_at": CREATED,
        "starts_at": "2026-11-10",
        "ends_at": "2026-11-27",
        "owner": "O",
    }
    data = ExclusiveOfferData(**{**fields, **changes})
    return RULE.record(data, Partner("P1", "青禾云"), CALENDAR)


def told(
    record: Record, people: Sequence[Contact] = (OWNER, SALES, ADMINISTRATOR)
) -> list[tuple[str, str, str, str]]:
    """All that is ever told of a record watched from its creation: when (UTC), what, to whom."""
    start = record.opened_at
    found = forecast(record, people, {}, start, start + timedelta(days=400), AROUND)
    return [
        (f"{moment:%m-%d %H:%M}", f"{step.stage} {step.channel}", step.message, step.contact.ref)
        for moment, step in found
        if step.contact
    ]


# --- deadlines and ladders


@pytest.mark.parametrize("ends_at", ["2026-11-27", None])
def test_a_pending_offer_waits_for_its_start(ends_at: str | None) -> None:
    record = offer(status="待生效", ends_at=ends_at)

    assert record.deadline == Deadline(STARTS, Effect.STARTS)
    assert (record.ladder, record.opened_at) == ("start", CREATED)


def test_an_offer_in_force_waits_for_its_end() -> None:
    record = offer(status="已生效")

    assert record.deadline == Deadline(ENDS, Effect.ENDS)
    assert (record.ladder, record.opened_at) == ("2026-11-27", CREATED)


def test_an_end_with_a_time_is_that_time() -> None:
    assert offer(ends_at="2026-11-27 18:00").deadline.at == ENDS - timedelta(hours=6)


def test_an_offer_that_never_ends_is_open_and_told_of_never() -> None:
    record = offer(ends_at=None)

    assert record.deadline == Deadline(None)
    assert (record.ladder, record.assessment.state) == ("end", State.OPEN)
    assert told(record) == []


def test_an_end_that_is_moved_starts_a_new_climb() -> None:
    assert offer(ends_at="2026-12-31").ladder == "2026-12-31"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", State.OPEN),
        ("待生效", State.OPEN),
        ("EFFECTIVE", State.OPEN),
        ("已生效", State.OPEN),
        ("ENDED", State.CLOSED),
        ("失效", State.CLOSED),
        ("已失效", State.CLOSED),
        ("已删除", State.CLOSED),
    ],
)
def test_the_status_of_an_offer_decides_its_state(status: str, state: State) -> None:
    record = offer(status=status)

    assert record.assessment.state is state
    assert bool(told(record)) is (state is State.OPEN)


def test_an_unknown_status_lists_what_may_be_written() -> None:
    with pytest.raises(ValidationError, match=r"must be one of PENDING \(待生效\)"):
        offer(status="审核中")


@pytest.mark.parametrize("status", ["PENDING", "EFFECTIVE"])
def test_before_the_start_only_that_is_told_and_after_it_only_the_end(status: str) -> None:
    record = offer(status=status)

    assert [s.name for s in RULE.cadence.stages if not RULE.applies(s, record)] == STAGES[status]


# --- who is told, and when


def test_a_start_at_midnight_is_told_at_nine_of_the_day_before() -> None:
    assert told(offer(status="PENDING")) == [("11-09 01:00", "start mail", "starting", "O")]


@pytest.mark.parametrize(
    ("starts_at", "moment"),
    [
        ("2026-11-10", "11-09 01:00"),  # at midnight: told at nine the day before
        ("2026-11-10 06:00", "11-09 07:00"),
        ("2026-11-10 14:00", "11-09 15:00"),
    ],
)
def test_a_start_at_any_hour_is_told_fifteen_hours_before(starts_at: str, moment: str) -> None:
    record = offer(status="PENDING", starts_at=starts_at)

    assert told(record) == [(moment, "start mail", "starting", "O")]


def test_an_end_is_told_a_week_and_a_day_before() -> None:
    assert told(offer()) == [
        ("11-20 01:00", "T-7d mail", "ending", "O"),
        ("11-26 01:00", "T-1d mail", "ending", "O"),
        ("11-26 01:00", "T-1d sms", "ending", "O"),
    ]


def test_the_holidays_of_spring_festival_move_nothing() -> None:
    long_ago = datetime(2026, 1, 5, 2, tzinfo=UTC)
    start = offer(status="PENDING", created_at=long_ago, starts_at="2026-02-18")
    end = offer(created_at=long_ago, ends_at="2026-02-24")

    assert [moment for moment, *_ in told(start)] == ["02-17 01:00"]
    assert [moment for moment, *_ in told(end)] == ["02-17 01:00", *["02-23 01:00"] * 2]


def test_an_owner_elsewhere_is_told_at_nine_there() -> None:
    owner = replace(OWNER, time_zone="America/New_York")

    assert [moment for moment, *_ in told(offer(), (owner,))] == [
        "11-20 14:00",
        *["11-26 14:00"] * 2,
    ]


def test_the_start_is_told_at_one_instant_wherever_the_owner_lives() -> None:
    owner = replace(OWNER, time_zone="America/New_York")
    record = offer(status="PENDING", starts_at="2026-11-10 18:00")

    assert told(record, (owner,)) == told(record)


@pytest.mark.parametrize("owner", [None, "gone"])
def test_without_its_owner_the_sales_are_told(owner: str | None) -> None:
    record = offer(owner=owner)

    assert {ref for *_, ref in told(record)} == {"S"}
    assert {ref for *_, ref in told(record, (ADMINISTRATOR,))} == {"A"}


def test_an_owner_without_an_address_leaves_it_to_the_administrator() -> None:
    silent = replace(OWNER, mail="o***@example.com", mobile=None)

    assert {ref for *_, ref in told(offer(), (silent, SALES, ADMINISTRATOR))} == {"A"}


def test_other_roles_are_those_of_the_contacts() -> None:
    assert RULE.recipients("administrator", offer(), [OWNER, ADMINISTRATOR]) == [ADMINISTRATOR]
    assert RULE.recipients("owner", offer(), [OWNER, SALES]) == [OWNER]


def test_nothing_is_told_from_the_end_on() -> None:
    def count(now: datetime) -> int:
        return len(plan(offer(), (OWNER,), {}, now, AROUND).due)

    assert count(ENDS - timedelta(hours=4)) == 2
    assert count(ENDS) == 0


def test_only_the_last_day_before_the_end_is_urgent() -> None:
    assert [one.name for one in RULE.cadence.stages if one.urgent] == ["T-1d"]


# --- what is said


def test_the_view_says_what_is_offered_to_whom_and_for_how_long() -> None:
    view = RULE.view(offer(status="PENDING"))

    assert (view["product"], view["customer_name"], view["discount"]) == (
        "协同办公套件",
        "星岸",
        "8.5 折",
    )
    assert (view["starts_at"], view["ends_at"]) == (STARTS, ENDS)
    assert (view["deadline"], view["effect"], view["partner"]) == (STARTS, "starts", "青禾云")
    assert RULE.view(offer(ends_at=None))["effect"] == "none"
    assert RULE.amount(offer()) is None


def test_a_record_of_another_kind_is_a_mistake_that_is_named() -> None:
    foreign = replace(offer(), data=RecordData(ref="X1", partner="P1"), kind="voucher")

    with pytest.raises(TypeError, match="record X1 is of kind voucher, not an exclusive offer"):
        RULE.view(foreign)


def test_the_samples_hold_each_message_and_both_languages() -> None:
    samples = RULE.samples(datetime(2026, 11, 24, 1, tzinfo=UTC))
    records = [offer(**dict(sample.data)) for sample in samples]

    found = {
        tell.message
        for record in records
        for one in RULE.cadence.stages
        if RULE.applies(one, record) is None
        for tell in one.tell
    }
    assert found == {"starting", "ending"}
    assert {str(c["language"]) for one in samples for c in one.contacts} == {"en", "zh-CN"}
    assert all(record.deadline.at and record.opened_at < record.deadline.at for record in records)


def test_a_file_with_chinese_headings_is_read(tmp_path: Path) -> None:
    path = tmp_path / "offers.csv"
    path.write_text(
        "优惠编号,伙伴ID,商品名称,客户名称,客户折扣,创建时间,生效时间,失效时间,客户经理ID,状态\n"
        "ZS1,P1,协同办公套件,星岸,85%,2026-11-02 10:00,2026-11-10,2026-11-27,O,待生效\n",
        encoding="utf-8-sig",
    )

    (row,) = read_file(path, [ExclusiveOffer])
    data = row_model(row)
    assert isinstance(data, ExclusiveOfferData)
    assert (data.starts_at, data.ends_at, data.owner) == (STARTS, ENDS, "O")
