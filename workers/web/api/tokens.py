"""/v1/tokens, /v1/audit: who may ask, and what was done by hand."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workers.shown import row_dict
from workers.tokens import Scope, make, standing
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
    page_of,
)


class Token(Answer):
    """A token, without its secret. `used_at` is at most a minute late."""

    prefix: str = Field(description="It begins with dw_<prefix>_.")
    name: str
    scopes: list[str]
    kinds: list[str] | None = Field(description="Whose events it may send; null: all.")
    state: str = Field(description="live, expired or revoked.")
    by: str
    created_at: Instant
    expires_at: Instant | None
    used_at: Instant | None
    revoked_at: Instant | None


class NewToken(Token):
    """A token that was just made."""

    token: str = Field(description="Told once, here: nothing of the secret is kept.")


class MakeToken(Asked):
    """What it may do, and until when."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@\-]*$")
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    kinds: list[Kind] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Only events of these, with the scopes of events alone.",
    )
    expires_at: Instant | None = Field(None, description="Left out, it doesn't expire.")


class TokenPlace(Asked):
    """Which token."""

    prefix: str = Field(pattern=r"^[0-9a-f]{12}$")


class RevokeToken(Asked):
    """Why."""

    reason: Reason = ""


class Done(Answer):
    """What somebody did by hand."""

    at: Instant
    by: str
    action: str
    target: str
    reason: str
    origin: str = Field(description="The address it was asked from; empty at the command line.")


def _token(row: Any, now: Any) -> dict[str, Any]:
    return row_dict(row, "hash", "id") | {"state": standing(row, now)}


async def _list(call: Call) -> dict[str, Any]:
    app = call.app
    rows = await app.store.tokens.all(call.query.limit + 1, read_cursor(call, int))
    found = page(call, rows, "id")
    return found | {"items": [_token(row, app.clock()) for row in found["items"]]}


async def _make(call: Call) -> dict[str, Any]:
    app, body = call.app, call.body
    scopes = [scope.value for scope in body.scopes]
    made = await make(app, body.name, scopes, body.kinds, body.expires_at, call.caller.name)
    return _token(made.row, app.clock()) | {"token": made.text}


async def _revoke(call: Call) -> dict[str, Any]:
    app = call.app
    row = await app.store.tokens.revoke(
        call.place.prefix, call.caller.name, call.body.reason, app.clock()
    )
    return _token(row, app.clock())


async def _audit(call: Call) -> dict[str, Any]:
    rows = await call.app.store.lists.newest(
        "audit", before=read_cursor(call, int), limit=call.query.limit + 1
    )
    return page(call, rows, "id")


OPERATIONS = (
    Operation(
        "GET",
        "/v1/tokens",
        "listTokens",
        "Tokens, newest first",
        _list,
        scope=Scope.ADMIN,
        query=PageAsked,
        answer=page_of(Token),
        problems=("cursor",),
    ),
    Operation(
        "POST",
        "/v1/tokens",
        "makeToken",
        "Make a token",
        _make,
        scope=Scope.ADMIN,
        body=MakeToken,
        answer=NewToken,
        status=201,
        repeats=False,
        text="It takes no Idempotency-Key, as the answer isn't kept; a second token of the same "
        "name is refused instead.",
        problems=("state",),
    ),
    Operation(
        "POST",
        "/v1/tokens/{prefix}/revoke",
        "revokeToken",
        "End a token at once",
        _revoke,
        scope=Scope.ADMIN,
        place=TokenPlace,
        body=RevokeToken,
        answer=Token,
        problems=("not-found", "state"),
    ),
    Operation(
        "GET",
        "/v1/audit",
        "listAudit",
        "What was done by hand, newest first",
        _audit,
        scope=Scope.ADMIN,
        query=PageAsked,
        answer=page_of(Done),
        problems=("cursor",),
    ),
)
