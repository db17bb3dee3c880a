"""What the incentive rule says: what lapses, what is confirmed, what is paid and not invoiced."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.planner import Circumstances, plan
from schedules.rule import Assessment, Deadline, Effect, Partner, Record, RecordData, Related, State
from schedules.rules.incentive import Incentive, IncentiveData
from schedules.rules.payment import PaymentData
from tests.unit.planning import BEIJING, CALENDAR, NIGHT, person

RULE = Incentive()
GENERATED = datetime(2026, 11, 2, 3, tzinfo=UTC)
LISTED = datetime(2026, 11, 20, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def incentive(**changes: Any) -> Record:
    data = {
        "ref": "JL1",
        "partner": "P1",
        "programme": "INCENTIVE",
        "generated_at": GENERATED,
        "publication_ends_on": date(2026, 11, 27),
        "total_incl_tax": "106.00",
    }
    found = IncentiveData(**{**data, **changes})
    return RULE.record(found, Partner("P1", "青禾云"), CALENDAR)


def stages_of(record: Record) -> list[str]:
    return [one.name for one in RULE.cadence.stages if RULE.applies(one, record) is None]


def told_on(record: Record, *stages: str) -> dict[str, str]:
    """When each stage is told to finance by mail, as Beijing's clocks show it."""
    around = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
    steps = plan(record, [person()], {}, record.opened_at, around).steps
    found = {
        step.stage: f"{step.at.astimezone(BEIJING):%Y-%m-%d %H:%M}"
        for step in steps
        if step.at is not None and step.channel == "mail" and step.role == "finance"
    }
    return {name: found[name] for name in stages}


def judged(record: Record, *related: Related) -> tuple[Assessment, Deadline]:
    assert isinstance(record.data, IncentiveData)
    return RULE.in_light_of(record.data, related, record.assessment, record.deadline)


def payment(ref: str = "SF1", status: str = "已支付") -> Related:
    data = PaymentData.model_validate(
        {
            "ref": ref,
            "partner": "P1",
            "programme": "FH",
            "status": status,
            "amount_incl_tax": "106.00",
        }
    )
    return Related("payment", ref, State.OPEN, GENERATED, None, data)


# --- the deadline


@pytest.mark.parametrize(
    ("programme", "generated_at", "last_day", "provisional"),
    [
        ("FH", "2026-11-02 11:00", date(2026, 11, 20), False),  # ordinary days
        ("ACTIVITY", "2026-08-03 10:00", date(2026, 9, 28), False),
        ("FH", "2026-02-12 23:30", date(2026, 3, 10), False),  # over Spring Festival
        ("FH", "2026-02-05 09:00", date(2026, 3, 3), False),  # counts Saturday 28 February
        ("ACTIVITY", "2026-01-05 09:00", date(2026, 3, 6), False),
        ("FH", "2026-09-01 09:00", date(2026, 9, 20), False),  # ends on a Sunday that is worked
        ("FH", "2026-12-20 10:00", date(2027, 1, 7), True),  # 2027 isn't announced
        ("ACTIVITY", "2026-11-24 10:00", date(2027, 1, 19), True),
    ],
)
def test_what_lapses_counts_working_days_from_generation(
    programme: str, generated_at: str, last_day: date, provisional: bool
) -> None:
    record = incentive(programme=programme, generated_at=generated_at)

    end = datetime(last_day.year, last_day.month, last_day.day, 16, tzinfo=UTC)
    assert record.deadline == Deadline(end, Effect.FORFEIT, provisional)
    assert RULE.view(record)["provisional"] is provisional


def test_the_day_of_generation_is_beijings() -> None:
    evening = incentive(programme="FH", generated_at=datetime(2026, 11, 1, 17, tzinfo=UTC))

    assert evening.deadline == incentive(programme="FH", generated_at="2026-11-02").deadline


@pytest.mark.parametrize("programme", ["INCENTIVE", "云商店机会点专项激励"])
def test_what_is_published_is_confirmed_when_the_publication_ends(programme: str) -> None:
    record = incentive(programme=programme)

    assert record.deadline == Deadline(datetime(2026, 11, 27, 16, tzinfo=UTC), Effect.AUTO_CONFIRM)
    assert RULE.view(record)["effect"] == "auto_confirm"


def test_without_an_end_of_publication_nothing_ends_by_itself() -> None:
    assert incentive(publication_ends_on=None).deadline == Deadline(None, Effect.NONE)


@pytest.mark.parametrize("programme", ["INCENTIVE", "FH"])
@pytest.mark.parametrize("status", ["预估", "已提交申请", "已支付", "已开票", "已失效", "已作废"])
def test_only_what_waits_for_the_partner_has_a_deadline(programme: str, status: str) -> None:
    record = incentive(programme=programme, status=status, list_available_at=LISTED)

    assert record.deadline == Deadline(None)


# --- the state


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"status": "激励审核中"}, State.WAITING),
        ({"status": "预估"}, State.WAITING),
        ({}, State.OPEN),
        ({"status": "激励公示待确认"}, State.OPEN),
        ({"status": "待申付"}, State.OPEN),
        ({"status": "已申付"}, State.CLOSED),
        ({"status": "申请处理中"}, State.CLOSED),
        ({"status": "已支付"}, State.WAITING),
        ({"status": "已支付", "list_available_at": LISTED}, State.OPEN),
        ({"status": "已开票", "list_available_at": LISTED}, State.CLOSED),
        ({"status": "激励失效"}, State.CLOSED),
        ({"status": "CANCELLED"}, State.CLOSED),
    ],
)
def test_the_status_of_an_incentive_decides_its_state(
    changes: dict[str, Any], state: State
) -> None:
    assert incentive(**changes).assessment.state is state


@pytest.mark.parametrize("total", ["0", "-318.00"])
@pytest.mark.parametrize("status", ["预估", "待申付", "已支付"])
def test_a_total_of_nothing_or_less_sends_no_message_whatever_the_status(
    total: str, status: str
) -> None:
    record = incentive(total_incl_tax=total, status=status, list_available_at=LISTED)

    assert record.assessment.state is State.CLOSED
    assert "nothing to invoice" in record.assessment.why


@pytest.mark.parametrize("status", ["付款申请审核通过", "发票审核不通过", "支付中", "已支付"])
def test_an_approved_payment_that_names_it_closes_it(status: str) -> None:
    record = incentive()

    assert judged(record, payment("SF2", status), payment("SF1")) == (
        Assessment(State.CLOSED, "payment SF1 bills it"),
        record.deadline,
    )


@pytest.mark.parametrize("status", ["付款申请审核中", "已取消", "审核不通过"])
def test_a_payment_that_is_withdrawn_or_not_approved_leaves_it_open(status: str) -> None:
    record = incentive()

    assert judged(record, payment("SF1", status)) == (record.assessment, record.deadline)


def test_other_kinds_leave_it_open_and_a_closed_one_keeps_its_reason() -> None:
    record, done = incentive(), incentive(status="已开票")
    data = RecordData(ref="JL1", partner="P1")
    other = Related("statement", "JL1", State.OPEN, GENERATED, None, data)

    assert judged(record, other) == (record.assessment, record.deadline)
    assert judged(done, payment()) == (done.assessment, done.deadline)


# --- the ladder and its stages


def test_each_kind_of_incentive_climbs_its_own_stages() -> None:
    dated, undated = incentive(), incentive(publication_ends_on=None)
    paid = incentive(status="PAID", list_available_at=LISTED)

    assert stages_of(dated) == ["T-5", "T-2", "T-0", "ended"]
    assert stages_of(incentive(programme="FH", publication_ends_on=None)) == stages_of(dated)
    assert stages_of(undated) == ["+3", "+7"]
    assert stages_of(paid) == ["list", "list+5"]


def test_a_paid_one_counts_from_its_list_and_climbs_anew() -> None:
    paid = incentive(status="PAID", list_available_at=LISTED)
    without = incentive(status="PAID")

    assert paid.opened_at == LISTED
    assert without.opened_at == GENERATED == incentive().opened_at
    assert (paid.ladder, incentive().ladder) == ("list", "2026-11-27")
    assert incentive(publication_ends_on=None).ladder == "1"
    assert incentive(publication_ends_on="2026-12-04").ladder == "2026-12-04"


def test_the_days_before_the_end_skip_weekends_and_nine_o_clock_is_the_readers() -> None:
    assert told_on(incentive(), "T-5", "T-2", "T-0", "ended") == {
        "T-5": "2026-11-20 09:00",
        "T-2": "2026-11-25 09:00",
        "T-0": "2026-11-27 09:00",
        "ended": "2026-11-30 09:00",
    }


def test_over_spring_festival_the_last_reminder_is_on_the_last_day_worked() -> None:
    record = incentive(
        generated_at="2026-01-20 10:00", publication_ends_on="2026-02-20"
    )  # the festival is 15 to 23 February, Saturday 14 is worked

    assert told_on(record, "T-2", "T-0", "ended") == {
        "T-2": "2026-02-12 09:00",
        "T-0": "2026-02-14 09:00",
        "ended": "2026-02-24 09:00",
    }


def test_a_make_up_sunday_is_a_last_day_like_any_other() -> None:
    record = incentive(generated_at="2026-09-01 10:00", publication_ends_on="2026-09-20")

    assert told_on(record, "T-2", "T-0", "ended") == {
        "T-2": "2026-09-17 09:00",
        "T-0": "2026-09-20 09:00",
        "ended": "2026-09-21 09:00",
    }


def test_at_a_year_end_that_isnt_announced_new_year_isnt_a_day_to_tell() -> None:
    record = incentive(generated_at="2026-12-10 10:00", publication_ends_on="2027-01-01")

    assert told_on(record, "T-0", "T-2") == {
        "T-0": "2026-12-31 09:00",
        "T-2": "2026-12-29 09:00",
    }


def test_the_list_is_told_of_on_the_next_working_day_and_every_five_after_the_fifth() -> None:
    record = incentive(status="PAID", list_available_at=LISTED)  # a Friday

    assert told_on(record, "list", "list+5") == {
        "list": "2026-11-23 09:00",
        "list+5": "2026-11-27 09:00",
    }


def test_finance_is_told_and_the_administrator_joins_at_the_end() -> None:
    tells = {
        one.name: [(tell.role, tell.by, tell.message) for tell in one.tell]
        for one in RULE.cadence.stages
    }

    assert tells["T-5"] == tells["+3"] == [("finance", ("mail",), "reminder")]
    assert tells["T-2"] == [("finance", ("mail", "sms"), "reminder")]
    assert tells["T-0"][1] == tells["+7"][1] == ("administrator", ("mail",), "reminder")
    assert [role for role, _, _ in tells["ended"]] == ["finance", "administrator"]
    assert {message for _, _, message in tells["ended"]} == {"ended"}
    assert tells["list"] == [("finance", ("mail", "sms"), "list")]
    flags = {one.name: (one.urgent, one.required) for one in RULE.cadence.stages}
    assert [name for name, flag in flags.items() if any(flag)] == ["T-0"]
    assert flags["T-0"] == (True, True)


# --- what is read and shown


def test_chinese_headings_words_and_the_total_are_read() -> None:
    record = incentive(programme="专职人员激励（FH）", status="待核对", total_incl_tax="1,060.5")

    view = RULE.view(record)
    assert (view["programme"], view["status"]) == ("FH", "PENDING")
    assert RULE.amount(record) == (Decimal("1060.50"), "CNY")


def test_an_unknown_programme_lists_what_may_be_written() -> None:
    with pytest.raises(ValidationError, match=r"must be one of OPP_INCENTIVE"):
        incentive(programme="MDF")


def test_a_record_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="record R1 is of kind payment, not an incentive"):
        RULE.view(
            Record(
                "payment",
                RecordData(ref="R1", partner="P1"),
                GENERATED,
                Deadline(None),
                Partner("P1", "青禾云"),
            )
        )
