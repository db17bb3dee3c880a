"""/v1/forecast: who will get what in the coming days, if nothing changes until then."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from heapq import nsmallest
from typing import Any

from pydantic import Field

from workers.outlook import Foretold, foretell
from workers.tokens import Scope
from workers.web.api._cursors import read_cursor, write_cursor
from workers.web.api._operation import (
    Answer,
    Call,
    Instant,
    Kind,
    Number,
    Operation,
    PageAsked,
    page_of,
)
from workers.web.problems import ProblemError

LATEST = timedelta(days=3660)
"""How far from now a forecast may begin."""


class ForecastAsked(PageAsked):
    """Of which rule, from when, for how long."""

    kind: Kind | None = None
    days: Number = Field(7, ge=1, le=92)
    start: Instant | None = Field(None, description="From when; now, if left out.")


class Forecast(Answer):
    """One message to come, of `refs`, to one contact."""

    kind: str
    day: date = Field(description="Beijing's.")
    at: Instant
    channel: str
    message: str
    contact: str
    name: str
    address: str
    language: str
    refs: list[str]
    stages: list[str]


async def _list(call: Call) -> dict[str, Any]:
    app, asked = call.app, call.query
    now = app.clock()
    # A page begins where the one before did, however late it is asked for.
    place = read_cursor(call, list)
    start = asked.start or now
    if place is not None:
        if len(place) != 2 or not all(isinstance(one, str) for one in place):
            raise ProblemError("cursor")
        start = start if asked.start else _start(place[0])
    if abs(start - now) > LATEST:
        raise ProblemError(
            "invalid-parameter",
            f"start must be within {LATEST.days} days of now.",
            errors=[{"parameter": "start", "detail": "is too far from now"}],
        )
    told = await foretell(app.store, app.registry, start, asked.days, asked.kind)
    # In a thread: a hundred thousand messages take a while, and others wait for this loop.
    after = await asyncio.to_thread(_first, told, place[1] if place else "", asked.limit + 1)
    items = after[: asked.limit]
    more = len(after) > len(items)
    return {
        "items": [{slot: _plain(getattr(one, slot)) for slot in one.__slots__} for one in items],
        "next": write_cursor(call, [start.isoformat(), _key(items[-1])]) if more else None,
    }


def _first(told: list[Foretold], after: str, limit: int) -> list[Foretold]:
    """The first messages after a place, in order."""
    return nsmallest(limit, (one for one in told if _key(one) > after), key=_key)


def _start(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError("cursor") from None
    if found.tzinfo is None:
        raise ProblemError("cursor")
    return found


def _key(one: Foretold) -> str:
    """Of a message, unlike any other's, in the order of time."""
    parts = (one.at.isoformat(), one.kind, one.contact, one.channel, one.message, one.address)
    return "|".join(parts)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


OPERATIONS = (
    Operation(
        "GET",
        "/v1/forecast",
        "showForecast",
        "Who will get what in the coming days",
        _list,
        scope=Scope.RECORDS_READ,
        query=ForecastAsked,
        answer=page_of(Forecast),
        text="The planner that the scan uses, in virtual time over all open records.",
        problems=("not-found", "cursor"),
    ),
)
