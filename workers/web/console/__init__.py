"""The console: one file an area, found by being here; each declares its routes and its menu entry.

To add one, write `<area>.py` with `ROUTES`, a sequence of Route, and `NAV`, its place in the menu
or None; its templates are in templates/console/pages/. Who may, the check of forms and the language
follow from the declaration. It may have `SAID`, what a page says after something was done, and
`TABLES`, what can be exported.
"""

from __future__ import annotations

import asyncio
import hmac
import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from aiohttp import web

from schedules.fields import BEIJING
from workers.app import App
from workers.errors import CallerError, HeldError
from workers.jobs import Jobs
from workers.render.console import ConsolePages
from workers.render.formats import N_
from workers.render.pages import Pages
from workers.tokens import Scope
from workers.web.access import Access, require
from workers.web.console._foresight import Foreseen
from workers.web.console._said import SAID
from workers.web.console._visit import Look, Nav, Route, Visit
from workers.web.problems import LANGUAGE_COOKIE, ProblemError, of_caller, read_body

MAX_FORM_BYTES = 64 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
LOOK_COOKIE = "__Host-duewatch-look"
_GROUPS = ("watch", "people", "doors", "system")
_OTHERS = (
    Nav("doors", 30, "/inbox", N_("Inbox"), Scope.PEOPLE_READ),
    Nav("system", 90, "/docs", N_("API"), Scope.NOTIFICATIONS_READ),
)
"""Pages that aren't the console's and stand in its menu."""


def find_areas() -> tuple[list[Route], list[Nav]]:
    """All routes, and the menu in its order. Raises ValueError when two have the same route."""
    routes: list[Route] = []
    menu: list[Nav] = [*_OTHERS]
    for module in _modules():
        routes.extend(module.ROUTES)
        if module.NAV is not None:
            menu.append(module.NAV)
    keys = [(one.method, one.path) for one in routes]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"declared twice in workers/web/console: {sorted(twice)}")
    return routes, sorted(menu, key=lambda one: (_GROUPS.index(one.group), one.order))


def _modules() -> list[Any]:
    names = sorted(one.name for one in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{one}") for one in names if one[0] != "_"]


def _all_of(name: str) -> dict[str, Any]:
    """What the areas have under a name that they may leave out, together."""
    found: dict[str, Any] = {}
    for module in _modules():
        for key, value in getattr(module, name, {}).items():
            if key in found:
                raise ValueError(f"{name} {key} is in workers/web/console twice")
            found[key] = value
    return found


class Console:
    """The console's pages, and what they share: words, jobs, the forecast."""

    def __init__(self, app: App, access: Access, folder: Path, pages: Pages) -> None:
        self.app = app
        self.access = access
        self.pages = ConsolePages(folder, BEIJING, pages.addresses)
        self.jobs = Jobs(app.store.jobs, app.clock)
        self.foreseen = Foreseen(app)
        self._short = pages
        self.routes, self._menu = find_areas()
        self.said = {**_all_of("SAID"), **SAID}
        self.tables = _all_of("TABLES")

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/view", self._view)
        for route in self.routes:
            router.add_route(route.method, route.path, self._answering(route))

    async def close(self) -> None:
        """Ends the jobs that are running."""
        await self.jobs.close()
        await self.foreseen.close()

    async def in_thread(self, work: Callable[[], bytes]) -> bytes:
        """Does what takes long without holding up the pages."""
        return await asyncio.to_thread(work)

    def menu(self, visit: Visit) -> list[tuple[str, list[Nav]]]:
        """What the visitor may open, by group."""
        mine = [one for one in self._menu if visit.caller.may(one.scope)]
        found = [(group, [one for one in mine if one.group == group]) for group in _GROUPS]
        return [(group, entries) for group, entries in found if entries]

    def _answering(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            caller = await self.access.caller(request, pages=True)
            require(caller, route.scope)
            visit = Visit(
                app=self.app,
                console=self,
                request=request,
                caller=caller,
                language=self._language(request),
                look=_look(request),
                mark=self.access.sessions.form_mark(caller.id),
            )
            if route.method == "GET":
                return await route.work(visit)
            self.access.check_page(request)
            await self._read(visit)
            try:
                return await route.work(visit)
            except (CallerError, HeldError) as error:
                problem = of_caller(error)
                return visit.page(
                    "refused.html",
                    status=problem.status,
                    detail=str(error),
                    back=within(visit.said("back")),
                )

        return answer

    async def _read(self, visit: Visit) -> None:
        """What the form sent. Raises ProblemError where it isn't a page of ours that sends it."""
        if visit.request.content_type == "multipart/form-data":
            await self._read_parts(visit)
        else:
            body = await read_body(visit.request, MAX_FORM_BYTES)
            visit.form = parse_qs(
                body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=2000
            )
        if not hmac.compare_digest(visit.said("mark").encode(), visit.mark.encode()):
            raise ProblemError("cross-site", "Open the page again, then send it from there.")

    async def _read_parts(self, visit: Visit) -> None:
        if (visit.request.content_length or 0) > MAX_FILE_BYTES:
            raise ProblemError("too-large", f"At most {MAX_FILE_BYTES} bytes: split the file.")
        form: dict[str, list[str]] = {}
        async for part in await visit.request.multipart():
            assert not isinstance(part, web.StreamResponse)
            limit = MAX_FILE_BYTES if part.filename else MAX_FORM_BYTES  # type: ignore[union-attr]
            content = bytearray()
            while chunk := await part.read_chunk(64 * 1024):  # type: ignore[union-attr]
                content += chunk
                if len(content) > limit:
                    raise ProblemError("too-large", f"At most {limit} bytes: split the file.")
            if part.filename:  # type: ignore[union-attr]
                visit.file = (Path(part.filename).name[:200], bytes(content))  # type: ignore[union-attr]
            else:
                name = part.name or ""  # type: ignore[union-attr]
                form.setdefault(name, []).append(content.decode("utf-8", "replace"))
        visit.form = form

    # --- language and look ----------------------------------------------------------------

    def _language(self, request: web.Request) -> str:
        chosen = request.cookies.get(LANGUAGE_COOKIE, "")
        if chosen in self.pages.catalogues:
            return chosen
        found = self._short.language(request.headers.get("Accept-Language", ""))
        return found if found in self.pages.catalogues else self.pages.languages[0]

    async def _view(self, request: web.Request) -> web.Response:
        """Remembers in which language and colours somebody reads; changes nothing else."""
        answer = web.Response(
            status=303, headers={"Location": within(request.query.get("to", "/"))}
        )
        language, look = request.query.get("language"), request.query.get("look")
        chosen = [(LANGUAGE_COOKIE, language)] if language in self.pages.catalogues else []
        if look in {"light", "dark", "own"}:
            chosen.append((LOOK_COOKIE, look))
        for name, value in chosen:
            answer.set_cookie(
                name,
                str(value),
                path="/",
                secure=True,
                httponly=True,
                samesite="Lax",
                max_age=365 * 24 * 3600,
            )
        return answer


def _look(request: web.Request) -> Look:
    found: Any = request.cookies.get(LOOK_COOKIE, "")
    return found if found in {"light", "dark"} else ""


def within(to: str) -> str:
    """A path of this server: never another's page (an open redirect)."""
    fine = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return quote(to, safe="/?&=%+-._~:,@#") if fine else "/"


__all__ = ["Console", "Nav", "Route", "Sequence", "Visit"]
