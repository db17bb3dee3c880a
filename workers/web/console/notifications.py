"""/notifications: what is, was or will be sent; one as it reads; retry, cancel, release, resend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any, Final, cast

from aiohttp import web

from schedules.fields import BEIJING
from workers import bulk, by_hand
from workers.errors import InputError, TemplateError, UnknownThingError
from workers.jobs import Progress
from workers.providers import Mail, Sms
from workers.render.formats import N_
from workers.store.operations import Whole
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit
from workers.web.mails import FRAME_POLICY, OpenedMail, abridged, framed, open_mail
from workers.web.problems import ProblemError, download

PAGE = 50
STATES: Final = (
    *("pending", "sending", "accepted", "delivered", "failed", "suppressed", "cancelled"),
    *("parked", "unknown"),
)
MOST_SOURCE = MOST_TEXT = 40_000
"""Bytes of a mail's source, characters of its text, that the page shows; the file has all."""
_DONE = {"retry": "retried", "release": "released", "cancel": "cancelled"}


def filters(query: Mapping[str, str], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """What a list is narrowed to, for the store; what can't be meant is left out."""
    state, channel, kind = (query.get(name, "") for name in ("state", "channel", "kind"))
    found: dict[str, Any] = {
        "state": state if state in STATES else None,
        "channel": channel if channel in {"mail", "sms"} else None,
        "kind": kind if kind in kinds or kind == "digest" else None,
        "text": query.get("to", "").strip()[:100] or None,
    }
    try:
        begin = datetime.combine(datetime.fromisoformat(query.get("day", "")), time(), BEIJING)
    except ValueError:
        return found
    return {**found, "since": begin, "until": begin + timedelta(days=1)}


async def _list(visit: Visit) -> web.Response:
    query = {name: visit.query(name) for name in ("state", "channel", "kind", "to", "day")}
    before = visit.number("before")
    wanted = filters(query, visit.app.rules)
    if wanted["text"] and not visit.sees_people:
        wanted["text"] = None  # whoever may not see an address may not look for one
    rows = await visit.app.store.operations.notifications(**wanted, before=before, limit=PAGE + 1)
    live = visit.query("live") == "1" and before is None
    return visit.page(
        "notifications.html",
        rows=rows[:PAGE],
        asked=query,
        live=live,
        older=visit.again(before=rows[PAGE - 1].id, live=None) if len(rows) > PAGE else "",
        newest=visit.again(before=None) if before else "",
        kinds=[(one, visit.kind(one)) for one in [*sorted(visit.app.rules), "digest"]],
        states=STATES,
        moves=_moves_for(query["state"]),
    )


def _moves_for(state: str) -> list[str]:
    """What may be done with many in a state; with all of them where it isn't narrowed."""
    wanted = "parked" if state == "unknown" else state
    return [name for name, (_, only) in by_hand.MOVES.items() if not wanted or wanted in only]


# --- one ------------------------------------------------------------------------------------


async def _one(visit: Visit) -> web.Response:
    whole = await visit.app.store.operations.whole(visit.place("uid"))
    view = visit.choice("view", "text", "headers", "source") or "html"
    mail, text, kept, fault = None, "", False, ""
    if visit.sees_people:
        try:
            mail, text, kept = await _read(visit, whole)
        except TemplateError as error:
            fault = str(error)
    return visit.page(
        "notification.html",
        row=whole.row,
        whole=whole,
        moves=[name for name, (_, only) in by_hand.MOVES.items() if whole.row.state in only],
        diverts=whole.row.state in by_hand.DIVERTED_FROM,
        view=view if mail is not None else "text",
        mail=mail,
        text=text[:MOST_TEXT],
        cut=len(text) > MOST_TEXT,
        kept=kept,
        fault=fault,
        source=_source(visit, mail) if mail is not None and view == "source" else "",
        parts_of=visit.app.settings,
    )


def _source(visit: Visit, mail: OpenedMail) -> str:
    return abridged(mail.source, MOST_SOURCE, visit.t("[ %(n)s bytes: the whole mail has them ]"))


async def _read(visit: Visit, whole: Whole) -> tuple[OpenedMail | None, str, bool]:
    """(the mail, or the SMS' text; whether it is as it was sent).

    What a relay carried isn't kept: it is written anew, as it would read now.
    """
    row = whole.row
    inbox = await visit.app.store.inbox.one(row.uid)
    if inbox is not None:
        source, kept = inbox.source, True
    else:
        message, kept = await _anew(visit, whole), False
        if message is None:
            return None, "", False
        source = message.source if isinstance(message, Mail) else message.text.encode()
    if row.channel == "mail":
        mail = await asyncio.to_thread(open_mail, source)
        return mail, mail.text, kept
    return None, source.decode("utf-8", "replace"), kept


async def _anew(visit: Visit, whole: Whole) -> Mail | Sms | None:
    app, row = visit.app, whole.row
    lines = {line.record_id: line for line in whole.lines}
    async with app.store.database.read() as connection:
        rows = await app.store.records.by_ids(connection, list(lines))
        known = [one for one in rows if one.kind in app.rules]
        watched, _ = await app.records.revive(connection, known, with_lines=True)
    items = [(one, lines[record]) for record, one in watched.items()]
    if not items:
        return None
    notice = app.delivery.look.notice(row, items, visit.now)
    return await asyncio.to_thread(app.renderer.render, notice)


async def _mail(visit: Visit) -> OpenedMail:
    whole = await visit.app.store.operations.whole(visit.place("uid"))
    mail, _, _ = await _read(visit, whole)
    if mail is None:
        raise web.HTTPNotFound
    return mail


async def _frame(visit: Visit) -> web.Response:
    mail = await _mail(visit)
    return web.Response(
        text=framed(mail.html, visit.look or "own"),
        content_type="text/html",
        headers={"Content-Security-Policy": FRAME_POLICY},
    )


async def _file(visit: Visit) -> web.Response:
    mail, number = await _mail(visit), visit.place("number")
    if number == "source":
        return download(mail.source, f"{visit.place('uid')}.eml")
    if not number.isascii() or not number.isdigit() or int(number) >= len(mail.files):
        raise web.HTTPNotFound
    file = mail.files[int(number)]
    return download(file.content, file.name)


async def _move(visit: Visit) -> web.Response:
    action, uid = _action(visit.place("action")), visit.place("uid")
    needed = action == "cancel"
    await by_hand.move(visit.app, uid, action, visit.by, visit.reason(needed=needed))
    visit.app.bell.ring()
    return visit.to(f"/notifications/{uid}", _DONE[action])


def _action(text: str) -> by_hand.Move:
    if text not in by_hand.MOVES:
        raise UnknownThingError(f"there is no action {text!r}: {', '.join(by_hand.MOVES)}")
    return cast(by_hand.Move, text)


async def _resend(visit: Visit) -> web.Response:
    uid = visit.place("uid")
    await by_hand.resend(visit.app, uid, visit.said("address"), visit.by, visit.reason(needed=True))
    visit.app.bell.ring()
    return visit.to(f"/notifications/{uid}", "resent")


# --- many -----------------------------------------------------------------------------------


def _chosen(visit: Visit) -> tuple[by_hand.Move, dict[str, Any], list[str], dict[str, str]]:
    """(what to do, the filters, the chosen, and the filters as the form has them)."""
    action = _action(visit.said("action"))
    query = {
        name.removeprefix("q."): values[0]
        for name, values in visit.form.items()
        if name.startswith("q.") and values
    }
    uids = [one for one in visit.form.get("uid", ()) if len(one) == 32 and one.isalnum()]
    if visit.said("which") != "all" and not uids:
        raise InputError("nothing is chosen: tick some, or choose all that fit the filter")
    if visit.said("which") == "all":
        uids = []
    return action, filters(query, visit.app.rules), uids, query


async def _many(visit: Visit) -> web.Response:
    """What it would do, to be confirmed."""
    action, wanted, uids, query = _chosen(visit)
    found = await bulk.effect(visit.app, action, wanted, uids)
    return visit.page(
        "notifications_many.html",
        action=action,
        found=found,
        uids=uids,
        query=query,
        undo_s=int(bulk.UNDO_WITHIN.total_seconds()),
    )


async def _do_many(visit: Visit) -> web.Response:
    action, wanted, uids, _ = _chosen(visit)
    reason = visit.reason(needed=True)
    found = await bulk.effect(visit.app, action, wanted, uids)

    async def work(progress: Progress) -> None:
        await bulk.move_all(visit.app, action, found.uids, visit.by, reason, progress)

    about = {"action": action, "count": len(found.uids)}
    uid = await visit.console.jobs.begin("move", about, visit.by, work)
    return visit.to(f"/jobs/{uid}")


async def _look(visit: Visit) -> web.Response:
    await by_hand.refuse_while_shut(visit.app)
    visit.app.bell.ring()
    return visit.to("/notifications?state=pending", "looked")


def _needs_people(work: Any) -> Any:
    """Of routes that show what a message says: that is its reader's own."""

    async def checked(visit: Visit) -> web.StreamResponse:
        if not visit.sees_people:
            raise ProblemError("scope", "It needs the scope people:read.")
        answer: web.StreamResponse = await work(visit)
        return answer

    return checked


_ONE = "/notifications/{uid:[0-9a-f]{32}}"
_WRITE = Scope.NOTIFICATIONS_WRITE
ROUTES = (
    Route("GET", "/notifications", _list, Scope.NOTIFICATIONS_READ),
    Route("POST", "/notifications/many", _many, _WRITE),
    Route("POST", "/notifications/many/do", _do_many, _WRITE),
    Route("POST", "/notifications/look", _look, _WRITE),
    Route("GET", _ONE, _one, Scope.NOTIFICATIONS_READ),
    Route("GET", f"{_ONE}/frame", _needs_people(_frame), Scope.NOTIFICATIONS_READ),
    Route("GET", f"{_ONE}/files/{{number}}", _needs_people(_file), Scope.NOTIFICATIONS_READ),
    Route("POST", f"{_ONE}/resend", _resend, _WRITE),
    Route("POST", f"{_ONE}/{{action}}", _move, _WRITE),
)
NAV = Nav("watch", 50, "/notifications", N_("Notifications"), Scope.NOTIFICATIONS_READ)
