"""/suppressions: who isn't written to, and why."""

from __future__ import annotations

from aiohttp import web

from workers.addresses import address_of
from workers.errors import UnknownThingError
from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit

PAGE = 50


async def _list(visit: Visit) -> web.Response:
    channel, kind = visit.choice("channel", "mail", "sms"), visit.query("kind")
    text, before = visit.query("text"), visit.number("before")
    rows = await visit.app.store.lists.newest(
        "suppressions",
        before=before,
        limit=PAGE + 1,
        channel=channel or None,
        kind=kind or None,
        holds={"address": text or None},
    )
    return visit.page(
        "suppressions.html",
        rows=rows[:PAGE],
        older=visit.again(before=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        newest=visit.again(before=None) if before else "",
        kinds=[(one, visit.kind(one)) for one in sorted(visit.app.rules)],
        channel=channel,
        kind=kind,
        text=text,
    )


async def _add(visit: Visit) -> web.Response:
    app, kind = visit.app, visit.said("kind")
    channel, address = address_of(visit.said("address"))
    if kind:
        app.registry.rule(kind)
    reason = visit.reason(needed=True)
    made = await app.store.operations.suppress(
        channel, address, kind or "*", reason, visit.by, visit.now
    )
    return visit.to("/suppressions", "suppressed" if made else "suppressed_before")


async def _lift(visit: Visit) -> web.Response:
    channel, address = address_of(visit.said("address"))
    ended = await visit.app.store.operations.lift(
        channel,
        address,
        visit.by,
        visit.reason(needed=True),
        visit.now,
        visit.said("kind") or None,
    )
    if not ended:
        raise UnknownThingError(f"{address} isn't suppressed")
    return visit.to("/suppressions", "lifted")


ROUTES = (
    Route("GET", "/suppressions", _list, Scope.PEOPLE_READ),
    Route("POST", "/suppressions", _add, Scope.PEOPLE_WRITE),
    Route("POST", "/suppressions/lift", _lift, Scope.PEOPLE_WRITE),
)
NAV = Nav("people", 20, "/suppressions", N_("Suppressions"), Scope.PEOPLE_READ)
