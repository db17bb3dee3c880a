"""The files that all pages share, and what robots ask for."""

from __future__ import annotations

from aiohttp import web

from workers.render.pages import STATIC
from workers.web.problems import PAGES


class Statics:
    """/static/…, the icon, robots.txt: open to everybody."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/static/{name}", self._static)
        router.add_get("/favicon.ico", self._icon)
        router.add_get("/robots.txt", self._robots)

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
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    pages = request.app[PAGES]
    content = pages.static[name]
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        content = pages.packed[name]
        headers["Content-Encoding"] = "gzip"
    _, media = STATIC[name]
    return web.Response(body=content, content_type=media, charset="utf-8", headers=headers)
