"""/providers: who carries, how they stand, what is used; and the webhooks that are told."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from workers import by_hand
from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit


async def _list(visit: Visit) -> web.Response:
    app = visit.app
    return visit.page(
        "providers.html",
        providers=await app.delivery.provider_states(),
        spent=await app.delivery.purse.spent_today(),
        sms=app.settings.sms,
        webhooks=sorted((await app.store.webhooks.standing()).items()),
    )


def _setter(action: Literal["open", "close"]) -> Route:
    async def work(visit: Visit) -> web.Response:
        reason = visit.reason(needed=True)
        await by_hand.set_provider(visit.app, visit.place("name"), action, visit.by, reason)
        return visit.to("/providers", "opened" if action == "open" else "in_use")

    return Route("POST", f"/providers/{{name}}/{action}", work, Scope.ADMIN)


async def _retry(visit: Visit) -> web.Response:
    store, name = visit.app.store.webhooks, visit.place("name")
    count = await store.retry(visit.by, visit.now, name=name)
    return visit.to("/providers", "told_again", n=count)


ROUTES = (
    Route("GET", "/providers", _list, Scope.NOTIFICATIONS_READ),
    _setter("open"),
    _setter("close"),
    Route("POST", "/webhooks/{name}/retry", _retry, Scope.ADMIN),
)
NAV = Nav("system", 10, "/providers", N_("Providers"), Scope.NOTIFICATIONS_READ)
