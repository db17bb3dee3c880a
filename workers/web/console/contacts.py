"""/contacts: who is told, by which channel and how; and choosing in their name."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from schedules.people import ContactData
from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit, safe
from workers.wishes import CHANNELS, choose, person, wishes

PAGE = 50
TOLD = 20


async def _list(visit: Visit) -> web.Response:
    text, partner = visit.query("text"), visit.query("partner")
    after = visit.query("after")
    rows = await visit.app.store.lists.contacts(
        partner=partner or None, text=text or None, after=after or None, limit=PAGE + 1
    )
    return visit.page(
        "contacts.html",
        rows=[(row, ContactData.model_validate(row.data)) for row in rows[:PAGE]],
        older=visit.again(after=rows[PAGE - 1].ref) if len(rows) > PAGE else "",
        newest=visit.again(after=None) if after else "",
        text=text,
        partner=partner,
    )


async def _one(visit: Visit) -> web.Response:
    app, ref = visit.app, visit.place("ref")
    one = await person(app, ref)
    told = await app.store.operations.notifications(contact=ref, limit=TOLD)
    off = {(row.kind, row.channel): row for row in one.off}
    kinds = [kind for kind in sorted(app.registry.enabled()) if kind in app.rules]
    return visit.page(
        "contact.html",
        one=one,
        wishes=wishes(app, one),
        told=told,
        off=off,
        kinds=kinds,
        channels=[to for to in CHANNELS if one.address(to)],
    )


def _pairs(texts: Iterable[str]) -> set[tuple[str, str]]:
    return {(kind, channel) for kind, _, channel in (text.partition(":") for text in texts)}


async def _choose(visit: Visit) -> web.Response:
    ref = visit.place("ref")
    shown, ticked = _pairs(visit.form.get("shown", ())), _pairs(visit.form.get("on", ()))
    one = await person(visit.app, ref)
    stopped = {(row.kind, row.channel) for row in one.off}
    # Where nothing comes at all, boxes can't be ticked: they say nothing of what is wished.
    shown = {(kind, to) for kind, to in shown if ("*", to) not in stopped}
    digest = visit.said("digest")
    await choose(
        visit.app,
        ref,
        digest=digest if digest != wishes(visit.app, one)["digest"] else None,
        off=sorted((shown - ticked) - stopped),
        on=sorted(shown & ticked & stopped),
        by=visit.by,
        reason=visit.reason(needed=True),
    )
    return visit.to(f"/contacts/{safe(ref)}", "chosen")


ROUTES = (
    Route("GET", "/contacts", _list, Scope.PEOPLE_READ),
    Route("GET", "/contacts/{ref}", _one, Scope.PEOPLE_READ),
    Route("POST", "/contacts/{ref}/choose", _choose, Scope.PEOPLE_WRITE),
)
NAV = Nav("people", 10, "/contacts", N_("Contacts"), Scope.PEOPLE_READ)
