"""/users: who signs in to these pages, and what they may."""

from __future__ import annotations

from aiohttp import web

from workers import users
from workers.render.formats import N_
from workers.tokens import Scope
from workers.users import Role
from workers.web.console._visit import Nav, Route, Visit


async def _list(visit: Visit) -> web.Response:
    return visit.page(
        "users.html",
        rows=await visit.app.store.users.all(),
        roles=[role.value for role in Role],
        shortest=users.SHORTEST,
    )


async def _add(visit: Visit) -> web.Response:
    password = visit.form.get("password", ("",))[0]
    await users.add(visit.app, visit.said("name"), visit.said("role"), password, visit.by)
    return visit.to("/users", "user_added")


async def _role(visit: Visit) -> web.Response:
    await users.set_role(visit.app, visit.place("name"), visit.said("role"), visit.by)
    return visit.to("/users", "user_changed")


async def _password(visit: Visit) -> web.Response:
    password = visit.form.get("password", ("",))[0]
    await users.set_password(visit.app, visit.place("name"), password, visit.by)
    return visit.to("/users", "user_changed")


async def _disable(visit: Visit) -> web.Response:
    reason = visit.reason(needed=True)
    await users.disable(visit.app, visit.place("name"), visit.by, reason)
    return visit.to("/users", "user_changed")


async def _enable(visit: Visit) -> web.Response:
    await users.enable(visit.app, visit.place("name"), visit.by, visit.reason(needed=True))
    return visit.to("/users", "user_changed")


ROUTES = (
    Route("GET", "/users", _list, Scope.ADMIN),
    Route("POST", "/users", _add, Scope.ADMIN),
    Route("POST", "/users/{name}/role", _role, Scope.ADMIN),
    Route("POST", "/users/{name}/password", _password, Scope.ADMIN),
    Route("POST", "/users/{name}/disable", _disable, Scope.ADMIN),
    Route("POST", "/users/{name}/enable", _enable, Scope.ADMIN),
)
NAV = Nav("system", 40, "/users", N_("Users"), Scope.ADMIN)
