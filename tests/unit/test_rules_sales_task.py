"""What the sales task rule says: its last day, large renewals, and whose task it is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schedules.planner import Circumstances, plan
from schedules.rule import Deadline, Effect, Partner, Record, RecordData, State
from schedules.rules.sales_task import SalesTask, SalesTaskData
from tests.unit.planning import BEIJING, CALENDAR, NIGHT, person

RULE = SalesTask()
ASSIGNED = datetime(2026, 11, 2, 3, tzinfo=UTC)
DAY = timedelta(days=1)


def task(partner: Partner | None = None, **changes: Any) -> Record:
    data = {
        "ref": "XS1",
        "partner": "P1",
        "name": "云服务器续费",
        "task_type": "RENEWAL",
        "customer_name": "星岸",
        "assigned_at": ASSIGNED,
        "due_on": date(2026, 11, 27),
    }
    found = SalesTaskData(**{**data, **changes})
    return RULE.record(found, partner or Partner("P1", "青禾云"), CALENDAR)


def stages_of(record: Record) -> list[str]:
    return [one.name for one in RULE.cadence.stages if RULE.applies(one, record) is None]


def told_on(record: Record, *stages: str) -> dict[str, str]:
    """When each stage is told to sales by mail, as Beijing's clocks show it."""
    around = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)
    found = {
        step.stage: f"{step.at.astimezone(BEIJING):%Y-%m-%d %H:%M}"
        for step in plan(record, [person(role="sales")], {}, record.opened_at, around).steps
        if step.at is not None and step.channel == "mail" and step.role == "sales"
    }
    return {name: found[name] for name in stages}


def ends(year: int, month: int, day: int) -> Deadline:
    return Deadline(datetime(year, month, day, 16, tzinfo=UTC), Effect.OVERDUE)


# --- the deadline


@pytest.mark.parametrize(
    ("changes", "deadline"),
    [
        ({}, ends(2026, 11, 27)),
        ({"due_on": "2026-02-18"}, ends(2026, 2, 18)),  # a day off is a last day all the same
        ({"due_on": "2026-09-20"}, ends(2026, 9, 20)),  # a Sunday that is worked
        ({"due_on": "2027-01-01"}, ends(2027, 1, 1)),  # given, so nothing is provisional
        ({"due_on": None}, Deadline(None, Effect.NONE)),
        ({"large": "是"}, ends(2026, 11, 30)),
        ({"large": True, "due_on": "2026-02-10"}, ends(2026, 2, 28)),
        ({"large": True, "due_on": "2028-02-10"}, ends(2028, 2, 29)),
        ({"large": True, "due_on": "2026-12-31"}, ends(2026, 12, 31)),
        ({"large": True, "due_on": None}, ends(2026, 11, 30)),
        ({"large": True, "task_type": "LEAD"}, ends(2026, 11, 27)),
        ({"large": True, "task_type": "LEAD", "due_on": None}, Deadline(None, Effect.NONE)),
    ],
)
def test_the_last_day_is_the_tasks_or_for_large_renewals_the_months(
    changes: dict[str, Any], deadline: Deadline
) -> None:
    assert task(**changes).deadline == deadline


def test_the_month_of_assignment_is_beijings() -> None:
    record = task(large=True, due_on=None, assigned_at=datetime(2026, 10, 31, 17, tzinfo=UTC))

    assert record.deadline == ends(2026, 11, 30)


def test_a_last_day_that_is_moved_starts_a_new_climb() -> None:
    assert task().ladder == "2026-11-27"
    assert task(due_on="2026-12-04").ladder == "2026-12-04"
    assert task(large=True).ladder == "2026-11-30"
    assert task(due_on=None).ladder == "1"


# --- the state


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("待处理", State.OPEN),
        ("未处理", State.OPEN),
        ("处理中", State.OPEN),
        ("已处理", State.CLOSED),
        ("已完成", State.CLOSED),
        ("CLOSED", State.CLOSED),
    ],
)
def test_a_task_is_open_until_it_is_done_or_closed(status: str, state: State) -> None:
    assert task(status=status).assessment.state is state


# --- the ladder


def test_each_kind_of_task_climbs_its_own_stages() -> None:
    assert stages_of(task()) == ["T-3", "T-0", "overdue"]
    assert stages_of(task(large=True)) == ["M-15", "T-3", "T-0", "overdue"]
    assert stages_of(task(large=True, task_type="SCENARIO")) == ["T-3", "T-0", "overdue"]
    assert stages_of(task(due_on=None)) == ["+5"]


def test_the_days_before_the_last_skip_weekends() -> None:
    assert task().opened_at == ASSIGNED
    assert told_on(task(large=True), "M-15", "T-3", "T-0", "overdue") == {
        "M-15": "2026-11-15 09:00",
        "T-3": "2026-11-25 09:00",
        "T-0": "2026-11-30 09:00",
        "overdue": "2026-12-01 09:00",
    }


@pytest.mark.parametrize(
    ("due_on", "told"),
    [
        # the festival is 15 to 23 February 2026, Saturday 14 is worked
        ("2026-02-18", {"T-3": "2026-02-11", "T-0": "2026-02-14", "overdue": "2026-02-24"}),
        ("2026-09-20", {"T-3": "2026-09-16", "T-0": "2026-09-20", "overdue": "2026-09-21"}),
        ("2027-01-01", {"T-3": "2026-12-28", "T-0": "2026-12-31", "overdue": "2027-01-04"}),
    ],
)
def test_days_off_and_days_made_up_for_move_what_is_told(due_on: str, told: dict[str, str]) -> None:
    record = task(due_on=due_on, assigned_at="2026-01-20 10:00")

    assert told_on(record, *told) == {name: f"{day} 09:00" for name, day in told.items()}


def test_without_a_last_day_it_is_called_to_mind_every_five_working_days() -> None:
    record = task(due_on=None)

    assert told_on(record, "+5") == {"+5": "2026-11-09 09:00"}
    (repeating,) = [one for one in RULE.cadence.stages if one.name == "+5"]
    assert (repeating.when.every, repeating.when.every_unit) == (5, "working day")


def test_once_overdue_the_supervisor_hears_too_and_only_the_last_day_is_urgent() -> None:
    tells = {one.name: [(t.role, t.by, t.message) for t in one.tell] for one in RULE.cadence.stages}

    assert tells["M-15"] == tells["T-3"] == tells["+5"]
    assert tells["T-3"] == [("account_manager", ("mail",), "reminder")]
    assert tells["T-0"] == [("account_manager", ("mail", "sms"), "reminder")]
    assert tells["overdue"] == [
        ("account_manager", ("mail",), "overdue"),
        ("supervisor", ("mail",), "overdue"),
    ]
    assert [one.name for one in RULE.cadence.stages if one.urgent] == ["T-0"]
    assert [one.name for one in RULE.cadence.stages if one.after_deadline] == ["overdue"]


# --- whose task it is


@pytest.mark.parametrize(
    ("type_", "parent", "told_at"),
    [
        ("", "P0", "P1"),
        ("总经销商", None, "P1"),
        ("云经销商", "P0", "P0"),
        (" Reseller ", "P0", "P0"),
        ("RESELLER", None, None),
    ],
)
def test_a_resellers_task_is_its_distributors_and_never_its_own(
    type_: str, parent: str | None, told_at: str | None
) -> None:
    record = task(Partner("P1", "青禾云", type_, parent))

    assert RULE.told_at(record) == told_at
    assert RULE.view(record)["reseller"] == (None if told_at == "P1" else "青禾云")


def test_the_planner_writes_to_the_distributors_people_alone() -> None:
    record = task(Partner("P1", "青禾云", "云经销商", "P0"))
    people = [person("A", "sales"), person("B", "sales", partner="P0")]
    around = Circumstances(RULE, RULE.cadence, CALENDAR, NIGHT)

    steps = plan(record, people, {}, ASSIGNED, around).steps
    assert {step.contact.ref for step in steps if step.contact is not None} == {"B"}


def test_the_account_manager_is_the_named_contact_or_else_all_of_sales() -> None:
    people = [person("A", "sales"), person("B", "finance"), person("C", "sales")]

    def managers(wanted: str | None) -> list[str]:
        found = RULE.recipients("account_manager", task(account_manager=wanted), people)
        return [one.ref for one in found]

    assert managers("B") == ["B"]
    assert managers("Z") == managers(None) == ["A", "C"]
    assert [one.ref for one in RULE.recipients("finance", task(), people)] == ["B"]


# --- what is shown


def test_the_view_names_customer_type_and_whether_the_month_counts() -> None:
    view = RULE.view(task(task_type="到期续费", large="1", status="处理中"))

    assert (view["customer_name"], view["name"]) == ("星岸", "云服务器续费")
    assert (view["task_type"], view["by_month"]) == ("RENEWAL", True)
    assert (view["status"], view["effect"]) == ("IN_PROGRESS", "overdue")
    assert RULE.view(task())["by_month"] is False


def test_the_amount_counts_where_there_is_one() -> None:
    assert RULE.amount(task(amount="1,280,000")) == (Decimal("1280000.00"), "CNY")
    assert RULE.amount(task()) is None


def test_a_record_of_another_kind_is_refused_by_name() -> None:
    wrong = Record(
        "payment", RecordData(ref="R1", partner="P1"), ASSIGNED, Deadline(None), Partner("P1", "")
    )

    with pytest.raises(TypeError, match="record R1 is of kind payment, not a sales task"):
        RULE.view(wrong)
