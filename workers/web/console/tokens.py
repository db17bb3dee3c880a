"""/tokens: which programs may ask, and what; making and revoking."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from workers.errors import InputError
from workers.event_types import EventTypes
from workers.render.formats import N_
from workers.tokens import MEANING, Scope, make, standing
from workers.web.console._visit import Nav, Route, Visit

DAYS = (30, 90, 365)


async def _page(visit: Visit, made: str = "") -> web.Response:
    rows = await visit.app.store.tokens.all()
    return visit.page(
        "tokens.html",
        rows=[(row, standing(row, visit.now)) for row in rows],
        made=made,
        scopes=[(scope.value, visit.t(words)) for scope, words in MEANING.items()],
        kinds=sorted({one.kind for one in EventTypes(visit.app.rules)}),
        days=DAYS,
    )


async def _list(visit: Visit) -> web.Response:
    return await _page(visit)


async def _make(visit: Visit) -> web.Response:
    days = visit.said("days")
    if days and not (days.isascii() and days.isdigit() and int(days) in DAYS):
        raise InputError(f"days {days!r}: one of {', '.join(map(str, DAYS))}, or none")
    expires_at = visit.now + timedelta(days=int(days)) if days else None
    scopes = list(visit.form.get("scope", ()))
    kinds = list(visit.form.get("only", ())) or None
    made = await make(visit.app, visit.said("name"), scopes, kinds, expires_at, visit.by)
    return await _page(visit, made.text)


async def _revoke(visit: Visit) -> web.Response:
    reason = visit.reason(needed=True)
    await visit.app.store.tokens.revoke(visit.place("prefix"), visit.by, reason, visit.now)
    return visit.to("/tokens", "revoked")


ROUTES = (
    Route("GET", "/tokens", _list, Scope.ADMIN),
    Route("POST", "/tokens", _make, Scope.ADMIN),
    Route("POST", "/tokens/{prefix:[0-9a-f]{12}}/revoke", _revoke, Scope.ADMIN),
)
NAV = Nav("system", 30, "/tokens", N_("Tokens"), Scope.ADMIN)
