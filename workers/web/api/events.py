"""/v1/events: what producers send, and what became of it."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import Field

from schedules.rules import load_rules
from workers.envelope import MAX_ATTRIBUTE
from workers.errors import UnknownThingError
from workers.event_types import EventTypes, envelope_schema
from workers.tokens import Scope
from workers.web.access import Caller
from workers.web.api._operation import Answer, Asked, Call, Instant, Operation, Raw
from workers.web.events import BATCH, MAX_EVENTS, SINGLE

NOTIFICATIONS = 200
"""Of an event's record, the newest."""


class EventAsked(Asked):
    """Which event."""

    source: str = Field(min_length=1, max_length=MAX_ATTRIBUTE, description="Its `source`.")
    id: str = Field(min_length=1, max_length=MAX_ATTRIBUTE, description="Its `id`.")


class ToldOf(Answer):
    """A notification that tells of the record."""

    uid: str
    kind: str
    message: str
    channel: str
    contact: str
    state: str
    reason: str
    created_at: Instant
    accepted_at: Instant | None


class EventRecord(Answer):
    """The record that the event brought, as it stands now."""

    kind: str
    ref: str
    partner: str
    state: str
    why: str
    due_at: Instant | None
    next_due_at: Instant | None


class EventStory(Answer):
    """What became of an event. `record` is null for people's, and for those of older versions."""

    source: str
    id: str
    type: str
    outcome: str = Field(description="new, changed, unchanged or stale: what it was when taken.")
    received_at: Instant
    record: EventRecord | None
    notifications: list[ToldOf] = Field(description="Those that tell of its record, newest first.")


async def _post(call: Call) -> web.Response:
    return await call.doors.events.post(call.request, call.caller)


async def _story(call: Call) -> dict[str, Any]:
    asked: EventAsked = call.query
    store = call.app.store
    event = await store.lists.event(asked.source, asked.id)
    kind = event.type.split(".")[1] if event is not None else ""
    if event is None or not _may_see(call.caller, kind):
        raise UnknownThingError(
            f"no event {asked.id} of {asked.source} was taken: what couldn't be is in the "
            "quarantine"
        )
    record = await store.lists.record(kind, event.ref) if event.ref else None
    told = (
        await store.operations.notifications(record_id=record.id, limit=NOTIFICATIONS)
        if record is not None
        else []
    )
    return {
        "source": event.source,
        "id": event.event_id,
        "type": event.type,
        "outcome": event.outcome,
        "received_at": event.received_at,
        "record": record,
        "notifications": told,
    }


def _may_see(caller: Caller, kind: str) -> bool:
    return caller.kinds is None or kind in caller.kinds


def _result() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["source", "id", "status"],
        "properties": {
            "source": {"type": "string"},
            "id": {"type": "string"},
            "status": {"enum": ["taken", "repeat", "conflict", "refused"]},
            "outcome": {"enum": ["new", "changed", "unchanged", "stale"]},
            "problem": {"$ref": "#/components/schemas/Problem"},
            "quarantine": {"type": "integer", "description": "Where one that was refused is kept."},
        },
    }


def _raw() -> Raw:
    single = envelope_schema([one.name for one in EventTypes(load_rules())])
    single = {key: value for key, value in single.items() if not key.startswith("$")}
    batch = {"type": "array", "maxItems": MAX_EVENTS, "items": single}
    taken = {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": _result()}},
    }
    return Raw(
        bodies={SINGLE: single, BATCH: batch},
        answers={"application/json": {"anyOf": [_result(), taken]}},
    )


OPERATIONS = (
    Operation(
        "POST",
        "/v1/events",
        "sendEvents",
        "Send an event, or a batch of them",
        _post,
        scope=Scope.EVENTS_WRITE,
        raw=_raw(),
        text="CloudEvents 1.0 in JSON. A single event may come in binary mode too: ce- headers, "
        "the data as application/json. An event is taken when its effect is stored; the same "
        "source and id again is a repeat. In a batch each event stands by itself, and `results` "
        "says what became of each.",
        problems=(
            "invalid-json",
            "invalid-event",
            "event-conflict",
            "invalid-batch",
            "partly-refused",
            "media-type",
            "content-encoding",
            "too-large",
            "too-slow",
            "bad-body",
        ),
    ),
    Operation(
        "GET",
        "/v1/events",
        "showEvent",
        "Whether an event was taken, and what became of it",
        _story,
        scope=Scope.EVENTS_READ,
        query=EventAsked,
        answer=EventStory,
        text="A token that is limited to kinds sees events of those alone.",
        problems=("not-found",),
    ),
)
