"""/calendar: what goes out in the coming days if nothing changes, and who gets what on a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from aiohttp import web

from schedules.fields import BEIJING
from workers.errors import InputError
from workers.outlook import Foretold
from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._foresight import DAYS
from workers.web.console._visit import Nav, Route, Visit

SHADES = 5
SHOWN = 80
"""Messages of a day that are listed at a time."""
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Square:
    """One day of the heat map. `shade` is 0 to SHADES; `rest` a day off, `made_up` a day worked
    in exchange for one off.
    """

    day: date
    count: int
    shade: int
    rest: bool
    made_up: bool


async def _calendar(visit: Visit) -> web.Response:
    forecast = await visit.console.foreseen.get()
    kind, channel = visit.query("rule"), visit.choice("channel", "mail", "sms")
    today = visit.now.astimezone(BEIJING).date()
    days = [today + timedelta(days=more) for more in range(DAYS)]
    told = [] if forecast is None else _fitting(forecast.told, kind, channel)
    counts = Counter(one.day for one in told)
    most = max(counts.values(), default=0)
    calendar = visit.app.registry.calendar
    squares = [
        Square(
            day=day,
            count=counts[day],
            shade=-(-counts[day] * SHADES // most) if most else 0,
            rest=not calendar.is_working(day),
            made_up=day.weekday() >= _SATURDAY and calendar.is_working(day),
        )
        for day in days
    ]
    by_kind: dict[str, Counter[str]] = {}
    for one in told:
        by_kind.setdefault(one.kind, Counter())[one.channel] += 1
    return visit.page(
        "calendar.html",
        forecast=forecast,
        squares=squares,
        before=days[0].weekday(),
        total=len(told),
        by_kind=sorted(by_kind.items(), key=lambda one: -one[1].total()),
        kinds=_kinds(visit),
        rule=kind,
        channel=channel,
    )


def _fitting(told: Iterable[Foretold], kind: str, channel: str) -> list[Foretold]:
    return [one for one in told if kind in {"", one.kind} and channel in {"", one.channel}]


def _kinds(visit: Visit) -> list[tuple[str, str]]:
    return [(kind, visit.kind(kind)) for kind in [*sorted(visit.app.rules), "digest"]]


async def _day(visit: Visit) -> web.Response:
    try:
        day = date.fromisoformat(visit.place("day"))
    except ValueError as error:
        raise InputError(f"day {visit.place('day')!r}: {error}") from None
    forecast = await visit.console.foreseen.get()
    kind, channel = visit.query("rule"), visit.choice("channel", "mail", "sms")
    told = [] if forecast is None else _fitting(forecast.told, kind, channel)
    theirs = [one for one in told if one.day == day]
    begin = visit.number("after") or 0
    return visit.page(
        "calendar_day.html",
        forecast=forecast,
        day=day,
        told=theirs[begin : begin + SHOWN],
        total=len(theirs),
        begin=begin,
        more=begin + SHOWN if begin + SHOWN < len(theirs) else None,
        working=visit.app.registry.calendar.is_working(day),
        kinds=_kinds(visit),
        rule=kind,
        channel=channel,
        refs=_refs,
    )


def _refs(one: Foretold) -> Mapping[str, Any]:
    """The records that a message tells of: a few, and how many more."""
    return {"first": one.refs[:3], "more": max(len(one.refs) - 3, 0)}


ROUTES = (
    Route("GET", "/calendar", _calendar, Scope.RECORDS_READ),
    Route("GET", "/calendar/{day}", _day, Scope.RECORDS_READ),
)
NAV = Nav("watch", 20, "/calendar", N_("Calendar"), Scope.RECORDS_READ)
