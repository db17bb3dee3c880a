"""How an operation of the API is declared: everything else about it is made from this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from aiohttp import web
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    create_model,
)

from schedules.fields import read_instant
from workers.app import App
from workers.envelope import time_fault
from workers.tokens import Scope
from workers.web.access import Caller

if TYPE_CHECKING:
    from workers.web.callbacks import Callbacks
    from workers.web.events import Events

Method = Literal["GET", "POST"]
MAX_BODY_BYTES = 64 * 1024
MAX_PAGE = 200
_RFC3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)$"


def _instant(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if fault := time_fault(value):
        raise ValueError(fault)
    return read_instant(value.upper()).astimezone(UTC)


def _said(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _number(value: Any) -> Any:
    if isinstance(value, str):
        if not (value.isascii() and value.removeprefix("-").isdigit()) or len(value) > 18:
            raise ValueError("must be a whole number")
        return int(value)
    return value


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(_said),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _RFC3339}),
]
"""An instant with its zone; UTC inside and in answers."""
Number = Annotated[int, BeforeValidator(_number)]
"""A whole number, from the address too."""
Kind = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$", examples=["payment"])]
Ref = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(max_length=500, description="Why; kept in the audit.")]
Why = Annotated[str, Field(min_length=1, max_length=500, description="Why; kept in the audit.")]
Way = Annotated[Literal["mail", "sms"], Field(description="The channel.")]


class Asked(BaseModel):
    """What a request says: unknown names are refused, nothing is turned into another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(BaseModel):
    """What an answer says."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Nothing(Asked):
    """No parameters."""


class PageAsked(Asked):
    """A page of a list."""

    limit: Number = Field(50, ge=1, le=MAX_PAGE, description="How many at most.")
    cursor: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,4000}$",
        description="`next` of the page before, for what follows it.",
    )


T = TypeVar("T", bound=BaseModel)


class Page(Answer, Generic[T]):
    """A page of a list. `next` is the cursor of the page after it, or null at the end."""

    items: list[T]
    next: str | None


@dataclass(frozen=True, slots=True)
class Doors:
    """What the operations work with, beside the product itself."""

    app: App
    events: Events
    callbacks: Callbacks


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read and checked: by whom, and what it asks."""

    doors: Doors
    request: web.Request
    caller: Caller
    place: Any = None
    query: Any = None
    body: Any = None

    @property
    def app(self) -> App:
        """The product."""
        return self.doors.app


@dataclass(frozen=True, slots=True)
class Raw:
    """What OpenAPI says of an operation that reads its request, or writes its answer, itself.

    `bodies` and `answers` are schemas by media type (of the request, of the answer that is well).
    """

    bodies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `work` returns what `answer` is made of, or a whole web.Response.

    `scope` None lets everybody who may ask at all; `open` even those without a token (the path
    itself is the secret). `problems` are those of its own, by name; what follows from reading and
    access is added. `tag` says whether answers have an ETag. `repeats` says whether a POST takes an
    Idempotency-Key.
    """

    method: Method
    path: str
    name: str
    summary: str
    work: Callable[[Call], Awaitable[Any]]
    scope: Scope | None = None
    answer: type[BaseModel] | None = None
    place: type[Asked] = Nothing
    query: type[Asked] = Nothing
    body: type[BaseModel] | None = None
    text: str = ""
    problems: Sequence[str] = ()
    status: int = 200
    tag: bool = False
    repeats: bool = True
    open: bool = False
    raw: Raw | None = None


def page_of(item: type[T]) -> type[BaseModel]:
    """The answer of a list of these, under a name of its own."""
    return create_model(f"{item.__name__}s", __base__=Page[item])  # type: ignore[valid-type]
