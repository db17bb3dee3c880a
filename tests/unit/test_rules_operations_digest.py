"""The operations digest's rule: when it is told, to whom, and which charts its figures make."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.calendar import WorkingCalendar
from schedules.figures import Chart, Series
from schedules.planner import Circumstances, plan
from schedules.rule import Contact, Partner, Record, State
from schedules.rules.operations_digest import OperationsDigest, month_before, months_up_to

RULE = OperationsDigest()
CALENDAR = WorkingCalendar.load()
MADE_AT = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
"""Monday 08:00 in Beijing, the first working day of November."""
BOSS = Contact("S", "P1", "supervisor", "S", "s@example.com", None)
ADMIN = Contact("A", "P1", "administrator", "A", "a@example.com", None)


def digest(**more: Any) -> Record:
    data = RULE.Data.model_validate(
        {"ref": "P1:2026-10", "partner": "P1", "month": "2026-10", "made_at": MADE_AT, **more}
    )
    return RULE.record(data, Partner("P1", "Partner One"), CALENDAR)


def told(now: datetime, *people: Contact) -> list[tuple[str, str, str]]:
    around = Circumstances(RULE, RULE.cadence, CALENDAR, {"mail": None, "sms": None})
    steps = plan(digest(), people, {}, now, around).due
    return [(step.stage, step.contact.ref, step.channel) for step in steps if step.contact]


def test_it_is_told_by_mail_as_soon_as_it_is_made() -> None:
    assert told(MADE_AT, BOSS, ADMIN) == [("monthly", "S", "mail")]


def test_without_a_supervisor_the_administrators_are_told() -> None:
    assert told(MADE_AT, ADMIN) == [("monthly", "A", "mail")]


def test_after_twenty_days_old_figures_are_not_sent_any_more() -> None:
    last = MADE_AT + timedelta(days=20)

    assert told(last - timedelta(seconds=1), BOSS) == [("monthly", "S", "mail")]
    assert told(last, BOSS) == []


def test_nothing_waits_once_it_is_told() -> None:
    record = digest()

    assert record.assessment.state is State.OPEN
    assert record.assessment.last_word


def test_figures_made_anew_on_demand_are_another_climb() -> None:
    assert digest().ladder == digest(made_at=MADE_AT + timedelta(days=1)).ladder
    assert digest().ladder != digest(edition="20261103T000000Z").ladder


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "2026-1", "26-10", "2026-10-01"])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(ValidationError):
        digest(month=month)


def test_a_month_before_is_counted_in_beijing() -> None:
    midnight = datetime(2026, 10, 31, 16, 0, tzinfo=UTC)  # 1 November 00:00 in Beijing

    assert month_before(midnight) == "2026-10"
    assert month_before(midnight - timedelta(seconds=1)) == "2026-09"
    assert month_before(datetime(2026, 1, 5, tzinfo=UTC)) == "2025-12"


def test_months_run_over_a_year_end() -> None:
    assert months_up_to("2026-02", 4) == ["2025-11", "2025-12", "2026-01", "2026-02"]


def test_a_chart_with_nothing_in_it_is_left_out() -> None:
    zero = {"month": "2026-10", "cash": "0.00", "other": "0.00"}
    months = [{"month": "2026-10", "customers": 2, "with_cash": 0}]
    figures = RULE.figures(digest(spends=[zero], months=months, customers=2))

    assert figures.charts == ()
    assert {one.name: one.value for one in figures.totals}["customers"] == 2


def test_each_currency_has_a_chart_of_its_own_with_every_month() -> None:
    months = [{"month": m, "customers": 1, "with_cash": 1} for m in ("2026-09", "2026-10")]
    spends = [
        {"month": "2026-10", "currency": "USD", "cash": "5.00", "other": "0.00"},
        {"month": "2026-09", "currency": "CNY", "cash": "7.10", "other": "1.00"},
        {"month": "2026-10", "currency": "CNY", "cash": "8.20", "other": "2.00"},
    ]
    charts = RULE.figures(digest(spends=spends, months=months)).charts
    money = {one.currency: one for one in charts if one.currency}

    assert list(money) == ["CNY", "USD"]
    assert money["USD"].categories == ("2026-09", "2026-10")
    assert money["USD"].series[0].values == (Decimal("0.00"), Decimal("5.00"))
    assert money["CNY"].series[1].values == (Decimal("1.00"), Decimal("2.00"))


def test_what_a_reminder_led_to_adds_up_to_what_was_told() -> None:
    stages = [
        {"kind": "statement", "stage": "T-5", "told": 9, "closed": 4, "early": 2},
        {"kind": "statement", "stage": "T-2", "told": 3, "closed": 3, "median_days": "0.4"},
    ]
    (chart,) = RULE.figures(digest(stages=stages)).charts
    parts = {one.name: one.values for one in chart.series}

    assert chart.categories == ("statement|T-5", "statement|T-2")
    assert parts == {"closed": (4, 3), "open": (3, 0), "early": (2, 0)}
    assert chart.extra[0].values == (None, Decimal("0.4"))


def test_a_series_has_one_value_for_each_category() -> None:
    with pytest.raises(ValueError, match=r"spend\.cash has 1 values for 2 categories"):
        Chart("spend", "stacked", "month", ("2026-09", "2026-10"), (Series("cash", (1,)),))


def test_what_is_viewed_is_what_is_drawn() -> None:
    record = digest(customers=3, years=[{"period": "2026-10", "customers": 3, "joined": 3}])
    view = RULE.view(replace(record))

    assert view["ref"] == "P1:2026-10"
    assert view["years"] == [{"period": "2026-10", "customers": 3, "joined": 3, "left": 0}]
    assert view["effect"] == "stale"
