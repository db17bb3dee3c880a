"""/quarantine: what producers sent and couldn't be taken; taking it after all, or dropping it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web

from workers import by_hand
from workers.app import App
from workers.errors import InputError, StateError, UnknownThingError
from workers.jobs import Progress
from workers.render.formats import N_
from workers.store.quarantine import Quarantine
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit

PAGE = 50
MOST_CHARACTERS = 200_000
"""Of a body that is shown."""
MOST_DEEP = 20
"""Levels of JSON that are set out in lines; what is deeper is shown as it came."""


async def _list(visit: Visit) -> web.Response:
    door, text, before = visit.query("door"), visit.query("text"), visit.number("before")
    lists = visit.app.store.lists
    rows = await lists.newest(
        "letters",
        before=before,
        limit=PAGE + 1,
        door=door or None,
        holds={"reason": text or None},
    )
    store = Quarantine(visit.app.store.database)
    doors = await store.doors()
    return visit.page(
        "quarantine.html",
        rows=rows[:PAGE],
        older=visit.again(before=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        newest=visit.again(before=None) if before else "",
        doors=[(one, f"{one} ({count})") for one, count in doors.items()],
        count=doors.get(door, 0) if door else sum(doors.values()),
        until=await store.newest(),
        door=door,
        text=text,
    )


async def _one(visit: Visit) -> web.Response:
    row = await Quarantine(visit.app.store.database).one(_number(visit))
    return visit.page("letter.html", row=row, body=_readable(row.body))


def _number(visit: Visit) -> int:
    return int(visit.place("id"))


def _readable(body: str) -> str:
    """JSON in lines, unless it is made to be long that way; anything else as it is."""
    depth = deepest = 0
    for one in body:
        depth += (one in "[{") - (one in "]}")
        deepest = max(deepest, depth)
    if deepest <= MOST_DEEP:
        with suppress(ValueError):
            body = json.dumps(json.loads(body), ensure_ascii=False, indent=2)
    return body[:MOST_CHARACTERS]


async def _replay(visit: Visit) -> web.Response:
    number = _number(visit)
    done = await by_hand.replay(visit.app, number, visit.by)
    if done.refused:
        raise InputError(f"message {number} is refused again: {done.refused}")
    return visit.to("/quarantine", "replayed")


async def _drop(visit: Visit) -> web.Response:
    reason = visit.reason(needed=True)
    await Quarantine(visit.app.store.database).remove(
        _number(visit), visit.by, "drop", reason, visit.now
    )
    return visit.to("/quarantine", "dropped")


async def _many(visit: Visit) -> web.Response:
    action, door = visit.said("action"), visit.said("door")
    if action not in {"replay", "drop"}:
        raise InputError(f"action {action!r}: it is replay or drop")
    reason = visit.reason(needed=True)
    # What came in since the page was opened was seen by nobody.
    until = visit.said("until")
    if not (until.isascii() and until.isdigit() and len(until) < 18):
        raise InputError("until: open the page again, then send it from there")
    store = Quarantine(visit.app.store.database)
    letters = await store.numbers(door or None, int(until))

    async def work(progress: Progress) -> None:
        await _each(visit.app, action, letters, visit.by, reason, progress)

    about = {"action": visit.t(_WORDS[action]), "count": len(letters)}
    return visit.to(f"/jobs/{await visit.console.jobs.begin('quarantine', about, visit.by, work)}")


_WORDS = {"replay": N_("take in after all"), "drop": N_("throw away")}


async def _each(
    app: App, action: str, letters: Sequence[int], by: str, reason: str, progress: Progress
) -> None:
    store: Any = Quarantine(app.store.database)
    for number, letter in enumerate(letters, 1):
        try:
            if action == "drop":
                await store.remove(letter, by, "drop", reason, app.clock())
                taken = True
            else:
                taken = not (await by_hand.replay(app, letter, by, reason)).refused
        except (StateError, UnknownThingError):
            taken = False
        progress.counts["moved" if taken else "left"] += 1
        progress.at(number, len(letters))


_ONE = "/quarantine/{id:[0-9]{1,15}}"
ROUTES = (
    Route("GET", "/quarantine", _list, Scope.QUARANTINE_READ),
    Route("POST", "/quarantine/many", _many, Scope.QUARANTINE_WRITE),
    Route("GET", _ONE, _one, Scope.QUARANTINE_READ),
    Route("POST", f"{_ONE}/replay", _replay, Scope.QUARANTINE_WRITE),
    Route("POST", f"{_ONE}/drop", _drop, Scope.QUARANTINE_WRITE),
)
NAV = Nav("doors", 20, "/quarantine", N_("Quarantine"), Scope.QUARANTINE_READ)
