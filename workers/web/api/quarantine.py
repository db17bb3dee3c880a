"""/v1/quarantine: what producers sent and couldn't be taken, with the reason."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workers.by_hand import replay
from workers.store.quarantine import Quarantine
from workers.tokens import Scope
from workers.web.api._cursors import page, read_cursor
from workers.web.api._operation import (
    Answer,
    Asked,
    Call,
    Instant,
    Number,
    Operation,
    PageAsked,
    Text,
    Why,
    page_of,
)


class Letter(Answer):
    """A message that couldn't be taken. The same one, come again, is one letter."""

    id: int
    door: str = Field(description="Where it came in.")
    received_at: Instant = Field(description="The last time.")
    times: int
    size: int = Field(description="Bytes of the whole.")
    hash: str = Field(description="SHA-256 of the whole; empty where it wasn't read.")
    reason: str


class WholeLetter(Letter):
    """A letter with what it said; of a long one the beginning."""

    body: str


class LettersAsked(PageAsked):
    """Which letters."""

    door: Text | None = None


class LetterPlace(Asked):
    """Which letter."""

    id: Number = Field(ge=1, le=2**53)


class Drop(Asked):
    """Why it isn't wanted."""

    reason: Why


class Replayed(Answer):
    """What came of it. `refused` says why it couldn't be taken this time either, or is empty."""

    outcome: str
    scanned: list[str]
    refused: str


class Dropped(Answer):
    """It is gone."""

    id: int


async def _list(call: Call) -> dict[str, Any]:
    rows = await call.app.store.lists.newest(
        "letters", before=read_cursor(call, int), limit=call.query.limit + 1, door=call.query.door
    )
    return page(call, rows, "id")


async def _show(call: Call) -> Any:
    return await Quarantine(call.app.store.database).one(call.place.id)


async def _replay(call: Call) -> Any:
    return await replay(call.app, call.place.id, call.caller.name)


async def _drop(call: Call) -> dict[str, Any]:
    letters = Quarantine(call.app.store.database)
    await letters.remove(
        call.place.id, call.caller.name, "drop", call.body.reason, call.app.clock()
    )
    return {"id": call.place.id}


_ONE = "/v1/quarantine/{id}"
OPERATIONS = (
    Operation(
        "GET",
        "/v1/quarantine",
        "listQuarantine",
        "What couldn't be taken, newest first, without the bodies",
        _list,
        scope=Scope.QUARANTINE_READ,
        query=LettersAsked,
        answer=page_of(Letter),
        problems=("cursor",),
    ),
    Operation(
        "GET",
        _ONE,
        "showQuarantined",
        "One such message, whole",
        _show,
        scope=Scope.QUARANTINE_READ,
        place=LetterPlace,
        answer=WholeLetter,
        problems=("not-found",),
    ),
    Operation(
        "POST",
        f"{_ONE}/replay",
        "replayQuarantined",
        "Take it in after all, once what was wrong is mended here",
        _replay,
        scope=Scope.QUARANTINE_WRITE,
        place=LetterPlace,
        answer=Replayed,
        text="What is refused again stays, with its new reason.",
        problems=("not-found", "state"),
    ),
    Operation(
        "POST",
        f"{_ONE}/drop",
        "dropQuarantined",
        "Throw it away",
        _drop,
        scope=Scope.QUARANTINE_WRITE,
        place=LetterPlace,
        body=Drop,
        answer=Dropped,
        problems=("not-found",),
    ),
)
