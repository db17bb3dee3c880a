"""/quarantine: what producers sent and couldn't be taken; taking it after all, or dropping it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
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
MOST = 20_000


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
    doors = Counter(row.door for row in await lists.newest("letters", before=None, limit=1000))
    return visit.page(
        "quarantine.html",
        rows=rows[:PAGE],
        older=visit.again(before=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        newest=visit.again(before=None) if before else "",
        doors=[(one, one) for one in sorted(doors)],
        door=door,
        text=text,
    )


async def _one(visit: Visit) -> web.Response:
    row = await Quarantine(visit.app.store.database).one(_number(visit))
    return visit.page("letter.html", row=row, body=_readable(row.body))


def _number(visit: Visit) -> int:
    return int(visit.place("id"))


def _readable(body: str) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return body


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
    rows = await visit.app.store.lists.newest("letters", before=None, limit=MOST, door=door or None)
    letters = [int(row.id) for row in rows]

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
                taken = not (await by_hand.replay(app, letter, by)).refused
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
