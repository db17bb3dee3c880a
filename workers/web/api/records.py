"""/v1/records: what is watched, why its people were told, and what an operator changes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from workers import by_hand
from workers.errors import UnknownThingError
from workers.outlook import explain
from workers.shown import explained
from workers.tokens import Scope
from workers.web.api._cursors import page, read_cursor
from workers.web.api._operation import (
    Answer,
    Asked,
    Call,
    Instant,
    Kind,
    Operation,
    PageAsked,
    Reason,
    Ref,
    Text,
    Why,
    page_of,
)

RecordState = Literal["waiting", "open", "paused", "held", "closed"]


class Record(Answer):
    """A record as it is stored. `data` is what its kind's model says (docs/rules.md)."""

    kind: str
    ref: str
    partner: str
    state: str
    why: str = Field(description="Why it is in that state, where that needs a word.")
    version: int | None
    updated_at: Instant | None
    opened_at: Instant
    due_at: Instant | None
    effect: str = Field(description="What happens at the deadline.")
    next_due_at: Instant | None = Field(description="When it is looked at next.")
    snoozed_until: Instant | None
    closed_by_hand: str | None
    closed_at: Instant | None
    created_at: Instant
    changed_at: Instant
    data: dict[str, JsonValue]


class RecordsAsked(PageAsked):
    """Which records."""

    kind: Kind | None = None
    ref: Ref | None = None
    partner: Ref | None = Field(None, description="Its partner's ref.")
    state: RecordState | None = None
    text: Text | None = Field(
        None, description="Part of a ref, of the reason of a state, of a partner's ref or name."
    )


class RecordPlace(Asked):
    """Which record."""

    kind: Kind
    ref: Ref


class ExplainAsked(Asked):
    """As of when."""

    at: Instant | None = Field(None, description="As it will stand then; now, if left out.")


class Snooze(Asked):
    """Until when, and why."""

    until: Instant = Field(description="Not before then, but the stage that stands is told then.")
    reason: Reason = ""


class CloseRecord(Asked):
    """Why it is closed."""

    reason: Why


class ReopenRecord(Asked):
    """Why it is opened again."""

    reason: Reason = ""


class Changed(Answer):
    """A record after an operator's change."""

    kind: str
    ref: str
    state: str
    snoozed_until: Instant | None


class ExplainedPartner(Answer):
    """The record's partner."""

    ref: str
    name: str


class Step(Answer):
    """One stage for one person by one channel. `verdict` says what the planner makes of it."""

    stage: str
    role: str
    channel: str
    contact: str | None
    name: str | None
    at: Instant | None = Field(description="When it was told, is to be told, or would have been.")
    verdict: str
    why: str
    notification: str | None = Field(description="The uid of what told it.")
    state: str | None
    reply: str | None


class Occurrence(Answer):
    """What was planned for one person, whatever came of it."""

    stage: str
    channel: str
    contact: str
    ladder: str
    dropped: str | None
    uid: str
    state: str
    reason: str
    created_at: Instant
    accepted_at: Instant | None
    not_before: Instant
    reply: str | None


class Explanation(Answer):
    """A record's story: every stage, told, to come, or skipped and why."""

    kind: str
    ref: str
    partner: ExplainedPartner
    state: str
    why: str
    opened_at: Instant
    deadline: Instant | None
    effect: str
    ladder: str
    next_due_at: Instant | None
    steps: list[Step]
    history: list[Occurrence]


async def _list(call: Call) -> dict[str, Any]:
    asked: RecordsAsked = call.query
    if asked.kind is not None:
        call.app.registry.rule(asked.kind)
    rows = await call.app.store.records.search(
        kind=asked.kind,
        state=asked.state,
        partner=asked.partner,
        ref=asked.ref,
        text=asked.text,
        after=read_cursor(call, int) or 0,
        limit=asked.limit + 1,
    )
    return page(call, rows, "id")


async def _show(call: Call) -> Any:
    return await _row(call)


async def _row(call: Call) -> Any:
    place: RecordPlace = call.place
    row = await call.app.store.lists.record(place.kind, place.ref)
    if row is None:
        raise UnknownThingError(f"there is no {place.kind} {place.ref}")
    return row


async def _explain(call: Call) -> dict[str, Any]:
    place: RecordPlace = call.place
    app = call.app
    at = call.query.at or app.clock()
    return explained(await explain(app.store, app.registry, place.ref, place.kind, at))


async def _snooze(call: Call) -> Any:
    place, body = call.place, call.body
    await by_hand.snooze(call.app, place.ref, place.kind, body.until, call.caller.name, body.reason)
    return await _row(call)


async def _close(call: Call) -> Any:
    place = call.place
    await by_hand.close(call.app, place.ref, place.kind, call.caller.name, call.body.reason)
    return await _row(call)


async def _reopen(call: Call) -> Any:
    place = call.place
    await by_hand.reopen(call.app, place.ref, place.kind, call.caller.name, call.body.reason)
    return await _row(call)


_ONE = "/v1/records/{kind}/{ref}"
_CHANGES = ("not-found", "state", "held")
OPERATIONS = (
    Operation(
        "GET",
        "/v1/records",
        "listRecords",
        "Records by kind, state, partner or text, oldest first",
        _list,
        scope=Scope.RECORDS_READ,
        query=RecordsAsked,
        answer=page_of(Record),
        problems=("cursor", "not-found"),
    ),
    Operation(
        "GET",
        _ONE,
        "showRecord",
        "One record",
        _show,
        scope=Scope.RECORDS_READ,
        place=RecordPlace,
        answer=Record,
        tag=True,
        problems=("not-found",),
    ),
    Operation(
        "GET",
        f"{_ONE}/explanation",
        "explainRecord",
        "Why a record's people were, or weren't, told",
        _explain,
        scope=Scope.RECORDS_READ,
        place=RecordPlace,
        query=ExplainAsked,
        answer=Explanation,
        problems=("not-found", "held"),
    ),
    Operation(
        "POST",
        f"{_ONE}/snooze",
        "snoozeRecord",
        "Remind of a record later",
        _snooze,
        scope=Scope.RECORDS_WRITE,
        place=RecordPlace,
        body=Snooze,
        answer=Changed,
        problems=_CHANGES,
    ),
    Operation(
        "POST",
        f"{_ONE}/close",
        "closeRecord",
        "Close a record by hand",
        _close,
        scope=Scope.RECORDS_WRITE,
        place=RecordPlace,
        body=CloseRecord,
        answer=Changed,
        text="Nobody is reminded until it is reopened or a new ladder begins.",
        problems=_CHANGES,
    ),
    Operation(
        "POST",
        f"{_ONE}/reopen",
        "reopenRecord",
        "Undo a close by hand: the rule judges the record again",
        _reopen,
        scope=Scope.RECORDS_WRITE,
        place=RecordPlace,
        body=ReopenRecord,
        answer=Changed,
        problems=_CHANGES,
    ),
)
