"""/inbox: what would have been sent, to be looked at. Reading changes nothing and needs no script.

A mail is shown in a frame that runs nothing and loads nothing: sandboxed by attribute and by the
frame's own policy.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from workers.app import App
from workers.sms import count_parts
from workers.tokens import Scope
from workers.web.access import Access, require
from workers.web.mails import (
    FRAME_POLICY,
    LINKS_LEAD_OUT,
    Look,
    OpenedMail,
    framed,
    open_mail,
)
from workers.web.problems import download, page, reader_language

PAGE = 50
MAX_SHOWN = 200_000
"""Characters of a source that the page shows; the file has all."""
VIEWS = ("html", "text", "headers", "source")
_UID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InboxViews:
    """The pages of the inbox."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/inbox", self._list)
        router.add_get("/inbox/{uid}", self._one)
        router.add_get("/inbox/{uid}/frame", self._frame)
        router.add_get("/inbox/{uid}/source", self._source)
        router.add_get("/inbox/{uid}/files/{number}", self._file)

    async def _let_in(self, request: web.Request) -> None:
        caller = await self._access.caller(request, pages=True)
        for scope in (Scope.NOTIFICATIONS_READ, Scope.PEOPLE_READ):
            require(caller, scope)

    async def _list(self, request: web.Request) -> web.Response:
        await self._let_in(request)
        return await self._page(request, None)

    async def _one(self, request: web.Request) -> web.Response:
        return await self._page(request, await self._row(request))

    async def _page(self, request: web.Request, chosen: Any) -> web.Response:
        filters = _filters(request.query)
        store = self._app.store
        rows = await store.inbox.page(**_wanted(filters), limit=PAGE + 1)
        more = len(rows) > PAGE
        rows = rows[:PAGE]
        opened = chosen
        if opened is None and rows:
            # A wide screen has room for the newest beside the list.
            opened = await store.inbox.one(rows[0].uid)
        language = reader_language(request)
        values: dict[str, Any] = {
            "rows": [self._entry(row, filters, language) for row in rows],
            "older": _address("/inbox", {**filters, "before": str(rows[-1].id)}) if more else "",
            "newest": _address("/inbox", {**filters, "before": ""}) if filters["before"] else "",
            "filters": filters,
            "tabs": [
                (name, _address("/inbox", {**filters, "channel": name, "before": ""}))
                for name in ("", "mail", "sms")
            ],
            "counts": await store.operations.kept_count(),
            "kinds": [(kind, self._title(kind, language)) for kind in sorted(self._app.rules)],
            "chosen": chosen.uid if chosen is not None else "",
            "back": _address("/inbox", filters),
            "mail": None,
            "sms": None,
            "opened": opened,
            "kind_title": self._title(opened.kind, language) if opened is not None else "",
            "now": self._app.clock(),
        }
        if opened is not None and opened.channel == "mail":
            values["mail"] = await asyncio.to_thread(_mail_values, request, opened, filters)
        elif opened is not None:
            values["sms"] = await self._conversation(opened, language)
        return page(request, "inbox.html", **values)

    def _entry(self, row: Any, filters: Mapping[str, str], language: str) -> Mapping[str, Any]:
        sms = row.channel == "sms"
        text = (row.text or b"").decode("utf-8", "replace") if sms else row.subject
        return {
            "uid": row.uid,
            "channel": row.channel,
            "to": row.name or row.recipient,
            "text": text,
            "kind": self._title(row.kind, language),
            "kind_id": row.kind or "",
            "parts": _parts(text, row.recipient) if sms else 0,
            "at": row.kept_at,
            # A conversation may be long: its page opens at the chosen message.
            "url": _address(f"/inbox/{row.uid}", filters) + (f"#{row.uid}" if sms else ""),
        }

    def _title(self, kind: str | None, language: str) -> str:
        rule = self._app.rules.get(kind or "")
        if rule is None:
            return kind or ""
        return rule.title.get(language) or rule.title.get("en") or rule.kind

    async def _conversation(self, opened: Any, language: str) -> Mapping[str, Any]:
        bubbles = []
        for row in await self._app.store.inbox.conversation(opened.recipient):
            text = row.source.decode("utf-8", "replace")
            bubbles.append(
                {
                    "uid": row.uid,
                    "text": text,
                    "at": row.kept_at,
                    "characters": len(text),
                    "parts": _parts(text, row.recipient),
                    "kind": self._title(row.kind, language),
                }
            )
        return {"bubbles": bubbles, "parts": sum(int(one["parts"]) for one in bubbles)}

    async def _row(self, request: web.Request) -> Any:
        await self._let_in(request)
        uid = request.match_info["uid"]
        row = await self._app.store.inbox.one(uid) if _UID.fullmatch(uid) else None
        if row is None:
            raise web.HTTPNotFound
        return row

    async def _mail(self, request: web.Request) -> OpenedMail:
        row = await self._row(request)
        if row.channel != "mail":
            raise web.HTTPNotFound
        return await asyncio.to_thread(open_mail, row.source)

    async def _frame(self, request: web.Request) -> web.Response:
        mail = await self._mail(request)
        return web.Response(
            text=framed(mail.html, _look(request.query)),
            content_type="text/html",
            headers={"Content-Security-Policy": FRAME_POLICY},
        )

    async def _source(self, request: web.Request) -> web.Response:
        row = await self._row(request)
        suffix = "eml" if row.channel == "mail" else "txt"
        return download(row.source, f"{row.uid}.{suffix}")

    async def _file(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        mail = await self._mail(request)
        if not re.fullmatch(r"[0-9]{1,4}", number) or int(number) >= len(mail.files):
            raise web.HTTPNotFound
        file = mail.files[int(number)]
        return download(file.content, file.name)


def _mail_values(request: web.Request, row: Any, filters: Mapping[str, str]) -> Mapping[str, Any]:
    mail = open_mail(row.source)
    query = request.query
    view = query.get("view", "html")
    view = view if view in VIEWS else "html"
    if view == "html" and not mail.html:
        view = "text"
    state = {"view": view, "width": "360" if query.get("width") == "360" else "full"}
    state["look"] = _look(query)

    def with_(**changed: str) -> str:
        return _address(f"/inbox/{row.uid}", {**filters, **state, **changed})

    base = f"/inbox/{row.uid}"
    return {
        "subject": mail.header("Subject"),
        "sender": mail.header("From"),
        "recipient": mail.header("To"),
        "headers": mail.headers,
        "text": mail.text,
        "source": row.source[:MAX_SHOWN].decode("utf-8", "replace"),
        "cut": len(row.source) > MAX_SHOWN,
        "size": len(row.source),
        "files": [
            (f"{base}/files/{number}", file.name, len(file.content))
            for number, file in enumerate(mail.files)
        ],
        **state,
        "frame": f"{base}/frame?look={state['look']}",
        "sandbox": LINKS_LEAD_OUT,
        "download": f"{base}/source",
        "views": [(name, with_(view=name)) for name in VIEWS],
        "widths": [(name, with_(view="html", width=name)) for name in ("360", "full")],
        "looks": [(name, with_(view="html", look=name)) for name in ("light", "dark")],
    }


def _look(query: Mapping[str, str]) -> Look:
    look = query.get("look")
    return "dark" if look == "dark" else "light" if look == "light" else "own"


def _parts(text: str, number: str) -> int:
    return count_parts(text, mainland=number.startswith("+86")).parts


def _filters(query: Mapping[str, str]) -> dict[str, str]:
    """What the list is narrowed to, as text; what can't be meant is left out."""
    channel, before = query.get("channel", ""), query.get("before", "")
    kind = query.get("kind", "")
    recipient = "".join(c for c in query.get("to", "") if c.isprintable())[:100].strip()
    return {
        "channel": channel if channel in {"mail", "sms"} else "",
        "kind": kind if re.fullmatch(r"[a-z_]{1,40}", kind) else "",
        "to": recipient,
        "before": before if re.fullmatch(r"[0-9]{1,18}", before) else "",
    }


def _wanted(filters: Mapping[str, str]) -> dict[str, Any]:
    return {
        "channel": filters["channel"] or None,
        "kind": filters["kind"] or None,
        "recipient": filters["to"] or None,
        "before": int(filters["before"]) if filters["before"] else None,
    }


def _address(path: str, values: Mapping[str, str]) -> str:
    said = {key: value for key, value in values.items() if value and (key, value) not in _USUAL}
    return f"{path}?{urlencode(said)}" if said else path


_USUAL: Sequence[tuple[str, str]] = (("view", "html"), ("width", "full"), ("look", "own"))
