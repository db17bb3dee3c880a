"""/: what waits for a person, the queue and the last runs, with the way to everything else."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from workers.app import App
from workers.model import NotificationState
from workers.render.pages import STATIC
from workers.tokens import Scope
from workers.web.access import Access, require
from workers.web.problems import PAGES, page, reader_language


class Home:
    """The landing page, and the files that all pages share."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/", self._show)
        router.add_get("/static/{name}", self._static)
        router.add_get("/favicon.ico", self._icon)
        router.add_get("/robots.txt", self._robots)

    async def _show(self, request: web.Request) -> web.Response:
        caller = await self._access.caller(request, pages=True)
        require(caller, Scope.NOTIFICATIONS_READ)
        operations = self._app.store.operations
        states: Counter[str] = Counter()
        for (_, _, state), count in (await operations.counts()).items():
            states[state] += count
        now = self._app.clock()
        return page(
            request,
            "home.html",
            needs=await operations.needs_a_person(),
            states=[(state.value, states[state.value]) for state in NotificationState],
            total=sum(states.values()),
            oldest=await operations.oldest_pending(now),
            runs=await self._runs(reader_language(request)),
            kept=sum((await operations.kept_count()).values()),
            now=now,
            user=caller.name if caller.role else "",
            mark=self._access.sessions.form_mark(caller.id),
            reads_mail=caller.may(Scope.PEOPLE_READ),
        )

    async def _runs(self, language: str) -> list[dict[str, Any]]:
        last = await self._app.store.operations.last_runs()
        paused = await self._app.store.operations.paused()
        enabled = self._app.registry.enabled()
        counts = await self._app.store.records.count()
        return [
            {
                "title": rule.title.get(language) or rule.title.get("en") or kind,
                "run": last.get(kind),
                "paused": kind in paused,
                "off": kind not in enabled,
                "open": counts.get((kind, "open"), 0),
                "held": counts.get((kind, "held"), 0),
            }
            for kind, rule in sorted(self._app.rules.items())
        ]

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in STATIC:
            raise web.HTTPNotFound
        return _file(request, name)

    async def _icon(self, request: web.Request) -> web.Response:
        return _file(request, "icon.svg")

    async def _robots(self, request: web.Request) -> web.Response:
        return web.Response(text="User-agent: *\nDisallow: /\n")


def _file(request: web.Request, name: str) -> web.Response:
    # Its address changes with its content, so it may be kept for long.
    return web.Response(
        body=request.app[PAGES].static[name],
        content_type=STATIC[name],
        charset="utf-8",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )
