"""/v1/suppressions: who isn't written to, and why. Addresses are in bodies, never in the path."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workers.addresses import address_of
from workers.errors import UnknownThingError
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
    Way,
    Why,
    page_of,
)


class Suppression(Answer):
    """An address that isn't written to. `kind` is a rule's, or `*`: nothing at all."""

    channel: str
    address: str
    kind: str
    reason: str
    by: str
    created_at: Instant


class SuppressionsAsked(PageAsked):
    """Which suppressions."""

    channel: Way | None = None
    kind: Kind | None = None


class Suppress(Asked):
    """Which address, and why. `kind`: only what this rule says; left out, everything."""

    address: str = Field(min_length=3, max_length=254, description="Mail address or E.164 number.")
    reason: Why
    kind: Kind | None = None


class Lift(Asked):
    """Which address, and why."""

    address: str = Field(min_length=3, max_length=254)
    reason: Reason = ""


class Suppressed(Answer):
    """What is so now. `changed`: whether this request made it so."""

    channel: str
    address: str
    suppressed: bool
    changed: bool


async def _list(call: Call) -> dict[str, Any]:
    asked: SuppressionsAsked = call.query
    rows = await call.app.store.lists.newest(
        "suppressions",
        before=read_cursor(call, int),
        limit=asked.limit + 1,
        channel=asked.channel,
        kind=asked.kind,
    )
    return page(call, rows, "id")


async def _suppress(call: Call) -> dict[str, Any]:
    app, body = call.app, call.body
    channel, address = address_of(body.address)
    if body.kind is not None:
        app.registry.rule(body.kind)
    made = await app.store.operations.suppress(
        channel, address, body.kind or "*", body.reason, call.caller.name, app.clock()
    )
    return {"channel": channel, "address": address, "suppressed": True, "changed": made}


async def _lift(call: Call) -> dict[str, Any]:
    app, body = call.app, call.body
    channel, address = address_of(body.address)
    ended = await app.store.operations.lift(
        channel, address, call.caller.name, body.reason, app.clock()
    )
    if not ended:
        raise UnknownThingError(f"{address} isn't suppressed")
    return {"channel": channel, "address": address, "suppressed": False, "changed": True}


OPERATIONS = (
    Operation(
        "GET",
        "/v1/suppressions",
        "listSuppressions",
        "Who isn't written to, newest first",
        _list,
        scope=Scope.PEOPLE_READ,
        query=SuppressionsAsked,
        answer=page_of(Suppression),
        problems=("cursor",),
    ),
    Operation(
        "POST",
        "/v1/suppressions",
        "suppressAddress",
        "Stop writing to an address",
        _suppress,
        scope=Scope.PEOPLE_WRITE,
        body=Suppress,
        answer=Suppressed,
        problems=("not-found",),
    ),
    Operation(
        "POST",
        "/v1/suppressions/lift",
        "liftSuppression",
        "Write to an address again",
        _lift,
        scope=Scope.PEOPLE_WRITE,
        body=Lift,
        answer=Suppressed,
        text="What was suppressed isn't sent by itself: retry it.",
        problems=("not-found",),
    ),
)
