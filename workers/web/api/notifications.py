"""/v1/notifications: what is, was or won't be sent, and what an operator does about it."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from schedules.fields import BEIJING
from workers import by_hand
from workers.errors import InputError, UnknownThingError
from workers.shown import row_dict
from workers.store.operations import Whole
from workers.tokens import Scope
from workers.web.api._cursors import page, read_cursor
from workers.web.api._operation import (
    Answer,
    Asked,
    Call,
    Instant,
    Kind,
    Nothing,
    Operation,
    PageAsked,
    Raw,
    Reason,
    Ref,
    Way,
    page_of,
)

StateAsked = Literal[
    "pending",
    "sending",
    "accepted",
    "delivered",
    "failed",
    "suppressed",
    "cancelled",
    "parked",
    "unknown",
]


class Notification(Answer):
    """One message to one recipient by one channel."""

    uid: str
    kind: str = Field(description="Its rule, or digest: a person's day, of several rules.")
    message: str
    channel: str
    contact: str
    name: str
    role: str
    address: str
    language: str
    urgent: bool
    state: str
    reason: str
    not_before: Instant
    attempt_count: int
    provider: str | None
    reference: str | None
    created_at: Instant
    changed_at: Instant
    accepted_at: Instant | None


class Carried(Answer):
    """A record that it tells of. `dropped` says why it was left out before the send, or is null."""

    kind: str
    ref: str
    record_state: str
    stage: str
    ladder: str
    dropped: str | None


class Attempt(Answer):
    """One try to hand it to a provider. `outcome` is null while it is under way."""

    number: int
    provider: str
    began_at: Instant
    ended_at: Instant | None
    outcome: str | None
    reply: str


class Receipt(Answer):
    """The provider's later word."""

    status: str
    detail: str
    part: int
    parts: int
    at: Instant


class WholeNotification(Notification):
    """A notification with all that belongs to it."""

    lines: list[Carried]
    attempts: list[Attempt]
    receipts: list[Receipt]


class NotificationsAsked(PageAsked):
    """Which notifications."""

    state: StateAsked | None = Field(
        None, description="unknown: nobody knows what came of the last attempt."
    )
    kind: Kind | None = Field(None, description="A rule's, or digest.")
    channel: Way | None = None
    address: str | None = Field(None, min_length=3, max_length=254)
    contact: str | None = Field(None, min_length=1, max_length=200)
    day: str | None = Field(
        None,
        pattern=r"^20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
        description="Planned on that day (Beijing).",
        json_schema_extra={"format": "date"},
    )
    record: Ref | None = Field(None, description="Of the record with that ref; give kind too.")


class NotificationPlace(Asked):
    """Which notification."""

    uid: str = Field(pattern=r"^[0-9a-f]{32}$")


class MoveNotification(Asked):
    """Why."""

    reason: Reason = ""


class Rung(Answer):
    """Workers were told that there is something to send."""

    pending: int = Field(description="How many wait, those for later too.")


async def _list(call: Call) -> dict[str, Any]:
    asked: NotificationsAsked = call.query
    store = call.app.store
    since, until, record_id = None, None, None
    if asked.day is not None:
        since, until = _day(asked.day)
    kind = asked.kind
    if asked.record is not None:
        if kind is None:
            raise InputError("record: give the kind of the record too")
        row = await store.lists.record(kind, asked.record)
        if row is None:
            raise UnknownThingError(f"there is no {kind} {asked.record}")
        # What tells of it may be a digest of several kinds.
        record_id, kind = row.id, None
    rows = await store.operations.notifications(
        state=asked.state,
        kind=kind,
        channel=asked.channel,
        address=asked.address,
        contact=asked.contact,
        record_id=record_id,
        since=since,
        until=until,
        before=read_cursor(call, int),
        limit=asked.limit + 1,
    )
    return page(call, rows, "id")


def _day(text: str) -> tuple[datetime, datetime]:
    try:
        begin = datetime.combine(date.fromisoformat(text), time(), BEIJING)
    except ValueError as error:
        raise InputError(f"day {text}: {error}") from None
    return begin, begin + timedelta(days=1)


async def _show(call: Call) -> dict[str, Any]:
    return _whole(await call.app.store.operations.whole(call.place.uid))


def _whole(whole: Whole) -> dict[str, Any]:
    return row_dict(whole.row) | {
        "lines": whole.lines,
        "attempts": whole.attempts,
        "receipts": whole.receipts,
    }


async def _source(call: Call) -> web.Response:
    store, uid = call.app.store, call.place.uid
    await store.operations.whole(uid)
    kept = await store.inbox.one(uid)
    if kept is None:
        raise UnknownThingError(
            f"the source of {uid} isn't kept: only what the local inbox carried is"
        )
    media = "message/rfc822" if kept.channel == "mail" else "text/plain"
    charset = None if kept.channel == "mail" else "utf-8"
    return web.Response(body=kept.source, content_type=media, charset=charset)


def _mover(action: by_hand.Move) -> Any:
    async def move(call: Call) -> dict[str, Any]:
        app, uid = call.app, call.place.uid
        await by_hand.move(app, uid, action, call.caller.name, call.body.reason)
        app.bell.ring()
        return _whole(await app.store.operations.whole(uid))

    return move


async def _deliver(call: Call) -> dict[str, Any]:
    await by_hand.refuse_while_shut(call.app)
    call.app.bell.ring()
    counts = await call.app.store.operations.counts()
    return {"pending": sum(n for (_, _, state), n in counts.items() if state == "pending")}


_ONE = "/v1/notifications/{uid}"


def _move(action: by_hand.Move, summary: str, text: str) -> Operation:
    return Operation(
        "POST",
        f"{_ONE}/{action}",
        f"{action}Notification",
        summary,
        _mover(action),
        scope=Scope.NOTIFICATIONS_WRITE,
        place=NotificationPlace,
        body=MoveNotification,
        answer=WholeNotification,
        text=text,
        problems=("not-found", "state"),
    )


OPERATIONS = (
    Operation(
        "GET",
        "/v1/notifications",
        "listNotifications",
        "Notifications, newest first",
        _list,
        scope=Scope.NOTIFICATIONS_READ,
        query=NotificationsAsked,
        answer=page_of(Notification),
        problems=("cursor", "not-found"),
    ),
    Operation(
        "GET",
        _ONE,
        "showNotification",
        "One notification with its lines, attempts and receipts",
        _show,
        scope=Scope.NOTIFICATIONS_READ,
        place=NotificationPlace,
        answer=WholeNotification,
        problems=("not-found",),
    ),
    Operation(
        "GET",
        f"{_ONE}/source",
        "showNotificationSource",
        "A notification as it was sent",
        _source,
        scope=Scope.NOTIFICATIONS_READ,
        place=NotificationPlace,
        raw=Raw(answers={"message/rfc822": {"type": "string"}, "text/plain": {"type": "string"}}),
        text="Only what the local inbox carried is kept.",
        problems=("not-found",),
    ),
    _move("retry", "Send what failed or was suppressed again", "If what it says is still due."),
    _move(
        "release",
        "Send what is parked after all",
        "One whose outcome isn't known may then arrive twice.",
    ),
    _move(
        "cancel",
        "Stop what is pending or parked for good",
        "Its stages count as told.",
    ),
    Operation(
        "POST",
        "/v1/deliveries",
        "deliver",
        "Have the workers look at once for what is pending",
        _deliver,
        scope=Scope.NOTIFICATIONS_WRITE,
        query=Nothing,
        answer=Rung,
        status=202,
        text="They do so every few seconds anyway.",
        problems=("state",),
    ),
)
