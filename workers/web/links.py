"""What signed links open: /l/{token} the list with its files, /u/{token} the unsubscription.

Mail scanners follow links, so GET and HEAD change nothing. The token is in the path and the path
is a secret: it is neither logged nor sent on (no-referrer), nor kept by caches or search engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qs, quote

import structlog
from aiohttp import web

from workers.app import App
from workers.errors import UnknownThingError
from workers.links import Links, Purpose
from workers.model import Notice
from workers.store.operations import Whole
from workers.web.problems import PAGES, notice, read_body, reader_language

log = structlog.get_logger("links")

T = TypeVar("T")

MAX_FORM_BYTES = 4096
BUSY = 2
"""Files and pages made at a time: a list of 10,000 lines takes seconds of a core."""
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# Mails and pages share their looks, which are inline because mail programs drop style sheets.
_LIST_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_PRIVATE = {"X-Robots-Tag": "noindex, nofollow"}


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a token leads to: a notification, or (status, words) of the page that says why not."""

    whole: Whole | None
    refusal: tuple[int, str] | None = None


class LinkViews:
    """The pages behind signed links."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._room = asyncio.Semaphore(BUSY)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/l/{token}", self._list)
        router.add_get("/l/{token}/{filename}", self._file)
        router.add_get("/u/{token}", self._ask)
        router.add_post("/u/{token}", self._unsubscribe)

    # --- the list -------------------------------------------------------------------------

    async def _list(self, request: web.Request) -> web.Response:
        opened = await self._open(request, "list")
        if opened.refusal is not None:
            return self._refused(request, opened)
        told = await self._notice(opened)
        if told is None:
            return self._said(request, 200, "done", opened)
        # Relative to the address the reader came by, which a proxy may have changed.
        base = f"/l/{quote(request.match_info['token'])}"
        text = await self._make(lambda: self._app.renderer.list_page(told, base))
        headers = {**_PRIVATE, "Content-Security-Policy": _LIST_POLICY}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _file(self, request: web.Request) -> web.Response:
        opened = await self._open(request, "list")
        if opened.refusal is not None:
            return self._refused(request, opened)
        told = await self._notice(opened)
        if told is None:
            return self._said(request, 200, "done", opened)
        name = request.match_info["filename"]
        made = await self._make(lambda: self._app.renderer.document(told, name))
        if made is None:
            return self._said(request, 404, "no_file", opened)
        found, media, content = made
        return web.Response(
            body=content,
            content_type=media,
            headers={
                **_PRIVATE,
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found, safe='')}",
            },
        )

    async def _notice(self, opened: _Opened) -> Notice | None:
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

    # --- the unsubscription ---------------------------------------------------------------

    async def _ask(self, request: web.Request) -> web.Response:
        opened = await self._open(request, "unsubscribe")
        if opened.refusal is not None:
            return self._refused(request, opened)
        return self._said(request, 200, "unsubscribe", opened)

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        """By the page's button, or by a mail program without cookies (RFC 8058, 3.1)."""
        body = await read_body(request, MAX_FORM_BYTES)
        opened = await self._open(request, "unsubscribe")
        if opened.refusal is not None:
            return self._refused(request, opened)
        assert opened.whole is not None
        if not _is_one_click(body):
            return self._said(request, 400, "unsubscribe", opened)
        row = opened.whole.row
        new = await self._app.store.operations.suppress(
            row.channel,
            row.address,
            row.kind,
            "unsubscribed by its link",
            "recipient",
            self._app.clock(),
        )
        log.info("unsubscribed", kind=row.kind, channel=row.channel, new=new)
        return self._said(request, 200, "unsubscribed", opened)

    # --- both -----------------------------------------------------------------------------

    async def _open(self, request: web.Request, purpose: Purpose) -> _Opened:
        token = request.match_info["token"]
        number = Links.notification_id(token) if token.isascii() else None
        if number is None:
            return _Opened(None, (404, "bad_link"))
        try:
            whole = await self._app.store.operations.whole(str(number))
        except UnknownThingError:
            return _Opened(None, (404, "bad_link"))
        until, links = whole.row.link_until, self._app.links
        # First the signature alone: whoever holds a real link may hear that it has expired.
        if whole.row.id != number or not links.is_good(purpose, token, until, _LONG_AGO):
            return _Opened(None, (404, "bad_link"))
        if not links.is_good(purpose, token, until, self._app.clock()):
            return _Opened(whole, (410, "expired"))
        return _Opened(whole)

    def _refused(self, request: web.Request, opened: _Opened) -> web.Response:
        assert opened.refusal is not None
        status, words = opened.refusal
        return self._said(request, status, words, opened)

    def _said(self, request: web.Request, status: int, words: str, opened: _Opened) -> web.Response:
        language = reader_language(request)
        kind = ""
        if opened.whole is not None:
            row = opened.whole.row
            language = request.app[PAGES].nearest(row.language)
            rule = self._app.rules.get(row.kind)
            kind = (rule.title.get(language) or rule.title.get("en", "")) if rule else row.kind
        answer = notice(
            request,
            status,
            words,
            language=language,
            kind=kind,
            contact=self._app.settings.brand.contact,
        )
        answer.headers.update(_PRIVATE)
        return answer


def _is_one_click(body: bytes) -> bool:
    """RFC 8058's form, urlencoded or multipart: both spell the name and the value."""
    text = body.decode("utf-8", "replace")
    try:
        fields = parse_qs(text, max_num_fields=20)
    except ValueError:
        fields = {}
    if fields.get("List-Unsubscribe") == ["One-Click"]:
        return True
    return 'name="List-Unsubscribe"' in text and "One-Click" in text
