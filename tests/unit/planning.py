"""A made-up rule, its records and people, and what the planner says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from schedules.calendar import QuietHours, WorkingCalendar
from schedules.planner import Circumstances, Plan, Told, plan
from schedules.rule import (
    Assessment,
    Cadence,
    Contact,
    Deadline,
    Effect,
    Partner,
    Plain,
    Record,
    RecordData,
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    end_of_day,
    stage,
)
from schedules.rules import load_rules

CALENDAR = WorkingCalendar.load()
RULES = load_rules()
BEIJING = ZoneInfo("Asia/Shanghai")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NIGHT = {"mail": None, "sms": QuietHours(time(21), time(8))}
ZONES = (
    *("Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "UTC"),
    *("Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kolkata", "Asia/Tehran"),
    *("Africa/Cairo", "Asia/Gaza"),
)


class Chore(Rule):
    """A made-up kind with nothing of its own."""

    kind = "chore"
    title: ClassVar[Mapping[str, str]] = {"en": "Chore"}
    Data = RecordData
    cadence = Cadence(())

    def opened_at(self, data: Any) -> datetime:
        return OPENED

    def deadline(self, data: Any, calendar: WorkingCalendar) -> Deadline:
        return Deadline(None)

    def assess(self, data: Any, lines: Sequence[Any]) -> Assessment:
        return Assessment(State.OPEN)

    def view(self, record: Record) -> dict[str, Plain]:
        return {}

    def samples(self, now: datetime) -> Sequence[Sample]:
        return ()


def beijing(day: int, hour: int = 9, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=BEIJING).astimezone(UTC)


OPENED = beijing(2, 15)
DUE = end_of_day(date(2026, 11, 27), BEIJING)  # a Friday


def record(due: datetime | None = DUE, **changes: Any) -> Record:
    effect = Effect.NONE if due is None else Effect.BLOCK
    made = Record(
        kind="chore",
        data=RecordData(ref="R1", partner="P1"),
        opened_at=OPENED,
        deadline=Deadline(due, effect),
        partner=Partner("P1", "Partner"),
    )
    return replace(made, **changes)


def person(ref: str = "A", role: str = "finance", **changes: Any) -> Contact:
    made = Contact(ref, "P1", role, ref, f"{ref}@example.com".lower(), f"+86138001380{ord(ref[0])}")
    return replace(made, **changes)


def around(*stages: Stage, send_at: time = time(9), **changes: Any) -> Circumstances:
    made = Circumstances(Chore(), Cadence(stages, send_at), CALENDAR, NIGHT)
    return replace(made, **changes)


def the_plan(
    *stages: Stage,
    now: datetime,
    people: Sequence[Contact] = (person(),),
    told: Mapping[Told, str] | None = None,
    of: Record | None = None,
    **changes: Any,
) -> Plan:
    return plan(of or record(), people, told or {}, now, around(*stages, **changes))


def seen(planned: Plan) -> list[tuple[str, str, str, str]]:
    return [
        (step.stage, step.channel, step.contact.ref if step.contact else "", step.verdict.value)
        for step in planned.steps
    ]


FINANCE, BOTH = Tell("finance"), Tell("finance", ("mail", "sms"))
LADDER = (
    stage("T-5", "due - 5 working days", FINANCE),
    stage("T-2", "due - 2 working days", BOTH),
    stage("T-0", "due - 0 working days", BOTH),
    stage("ended", "due + 1 working day", FINANCE, after_deadline=True),
)
