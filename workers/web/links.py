"""What signed links open: here how they are checked, and /l/{token}, the list with its files.

Mail scanners follow links, so GET and HEAD change nothing. The token is in the path and the path
is a secret: it is neither logged nor sent on (no-referrer), nor kept by caches or search engines.
What /u/{token} opens is in `preferences`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

from aiohttp import web

from workers.app import App
from workers.errors import UnknownThingError
from workers.links import Links, Purpose
from workers.model import Notice
from workers.store.operations import Whole
from workers.web.problems import PAGES, notice, reader_language

T = TypeVar("T")

BUSY = 2
"""Files and pages made at a time: a list of 10,000 lines takes seconds of a core."""
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# Mails and pages share their looks, which are inline because mail programs drop style sheets.
_LIST_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PRIVATE = {"X-Robots-Tag": "noindex, nofollow"}
"""Headers of every page behind a signed link, beside those that all pages have."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a token leads to: a notification, or (status, words) of the page that says why not."""

    whole: Whole | None
    refusal: tuple[int, str] | None = None


class SignedLinks:
    """Checks the tokens of signed links, and says what they don't open."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def open(self, request: web.Request, purpose: Purpose) -> Opened:
        """The notification that a request's token leads to, if the token is good for `purpose`."""
        token = request.match_info["token"]
        number = Links.notification_id(token) if token.isascii() else None
        if number is None:
            return Opened(None, (404, "bad_link"))
        try:
            whole = await self._app.store.operations.whole(str(number))
        except UnknownThingError:
            return Opened(None, (404, "bad_link"))
        until, links = whole.row.link_until, self._app.links
        # First the signature alone: whoever holds a real link may hear that it has expired.
        if whole.row.id != number or not links.is_good(purpose, token, until, _LONG_AGO):
            return Opened(None, (404, "bad_link"))
        if not links.is_good(purpose, token, until, self._app.clock()):
            return Opened(whole, (410, "expired"))
        return Opened(whole)

    def refused(self, request: web.Request, opened: Opened) -> web.Response:
        """The page that says why a link doesn't open."""
        assert opened.refusal is not None
        status, words = opened.refusal
        return self.said(request, status, words, opened)

    def said(self, request: web.Request, status: int, words: str, opened: Opened) -> web.Response:
        """A page that says one thing, in the recipient's language."""
        language = reader_language(request)
        if opened.whole is not None:
            language = request.app[PAGES].nearest(opened.whole.row.language)
        contact = self._app.settings.brand.contact
        answer = notice(request, status, words, language=language, contact=contact)
        answer.headers.update(PRIVATE)
        return answer


class LinkViews:
    """The list behind a signed link, with its files."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._links = SignedLinks(app)
        self._room = asyncio.Semaphore(BUSY)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/l/{token}", self._list)
        router.add_get("/l/{token}/{filename}", self._file)

    async def _list(self, request: web.Request) -> web.Response:
        opened = await self._links.open(request, "list")
        if opened.refusal is not None:
            return self._links.refused(request, opened)
        told = await self._notice(opened)
        if told is None:
            return self._links.said(request, 200, "done", opened)
        # Relative to the address the reader came by, which a proxy may have changed.
        base = f"/l/{quote(request.match_info['token'])}"
        text = await self._make(lambda: self._app.renderer.list_page(told, base))
        headers = {**PRIVATE, "Content-Security-Policy": _LIST_POLICY}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _file(self, request: web.Request) -> web.Response:
        opened = await self._links.open(request, "list")
        if opened.refusal is not None:
            return self._links.refused(request, opened)
        told = await self._notice(opened)
        if told is None:
            return self._links.said(request, 200, "done", opened)
        name = request.match_info["filename"]
        made = await self._make(lambda: self._app.renderer.document(told, name))
        if made is None:
            return self._links.said(request, 404, "no_file", opened)
        found, media, content = made
        return web.Response(
            body=content,
            content_type=media,
            headers={
                **PRIVATE,
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found, safe='')}",
            },
        )

    async def _notice(self, opened: Opened) -> Notice | None:
        """The notification with its records as they are now; None when none needs acting on."""
        assert opened.whole is not None
        store = self._app.store
        lines = [line for line in opened.whole.lines if line.dropped is None]
        async with store.database.read() as connection:
            rows = await store.records.by_ids(connection, {line.record_id for line in lines})
            watched, _ = await self._app.records.revive(connection, rows, with_lines=True)
        # A list that is held now doesn't add up, and what is closed is done.
        items = [
            (watched[line.record_id], line)
            for line in lines
            if line.record_id in watched
            and watched[line.record_id].record.assessment.state == "open"
        ]
        if not items:
            return None
        return self._app.delivery.look.notice(opened.whole.row, items, self._app.clock())

    async def _make(self, make: Callable[[], T]) -> T:
        async with self._room:
            return await asyncio.to_thread(make)
