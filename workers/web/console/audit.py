"""/audit: who did what, when and from where; nothing is ever taken out of it here."""

from __future__ import annotations

from aiohttp import web

from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit

PAGE = 100
FIELDS = ("by", "action", "target", "origin")


async def _list(visit: Visit) -> web.Response:
    asked = {name: visit.query(name) for name in FIELDS}
    before = visit.number("before")
    rows = await visit.app.store.lists.newest(
        "audit",
        before=before,
        limit=PAGE + 1,
        holds={name: text or None for name, text in asked.items()},
    )
    return visit.page(
        "audit.html",
        rows=rows[:PAGE],
        asked=asked,
        older=visit.again(before=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        newest=visit.again(before=None) if before else "",
    )


ROUTES = (Route("GET", "/audit", _list, Scope.ADMIN),)
NAV = Nav("system", 50, "/audit", N_("Audit"), Scope.ADMIN)
