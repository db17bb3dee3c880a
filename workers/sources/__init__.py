"""Sources: where records come from. One file each, found by itself; none knows the database.

A source file defines one subclass of `Source`; its module docstring says what it reads, how it
knows what changed and what is gone, and its limits. A file that starts with an underscore is a
shared part. What a source reads is checked and taken in by `workers.syncing`, like all else.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schedules.clock import Cron
from schedules.fields import Zone
from schedules.rule import Rule
from workers.errors import SettingsError
from workers.sources._rows import Problem, Row, RowError, Shape, row_model, shapes

__all__ = [
    "Part",
    "PartDone",
    "Problem",
    "Reading",
    "Row",
    "RowError",
    "Source",
    "SourceSettings",
    "build_sources",
    "find_sources",
    "row_model",
]

NAME = r"[a-z][a-z0-9_-]{0,39}"
"""What a source is called in settings, commands and reports."""
Gone = Literal["ignore", "report", "close"]


class SourceSettings(BaseModel):
    """What every source's settings share; a source's own model extends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_s: int | None = Field(
        None, ge=10, le=7 * 86400, description="Seconds between two syncs by the scheduler."
    )
    cron: str | None = Field(
        None,
        description='Or its times: "30 2 * * mon-fri" (minute hour day month weekday); with '
        "neither it is synced by hand only.",
    )
    time_zone: Zone = Field(
        "Asia/Shanghai", description="Zone of `cron`, and of times that come without one."
    )
    gone: Gone = Field(
        "report",
        description="What a record that a whole listing no longer holds is: ignore it, report it, "
        "or close it.",
    )
    most_gone: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Where more than this share of 10 or more known records is gone at once, the "
        "listing is taken for broken and none is closed.",
    )

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.every_s is not None and self.cron is not None:
            raise ValueError("has both every_s and cron: leave one of them out")
        self.schedule()
        return self

    def schedule(self) -> timedelta | Cron | None:
        """When the scheduler syncs it; None for by hand only. Raises ValueError for bad times."""
        if self.cron is not None:
            return Cron.parse(self.cron, self.time_zone)
        return None if self.every_s is None else timedelta(seconds=self.every_s)

    def overdue(self, last: datetime, now: datetime) -> timedelta:
        """How long ago the sync was due that hasn't begun; `last` is when the latest began."""
        timing = self.schedule()
        if isinstance(timing, Cron):
            due = timing.latest(now)
            return now - due if due is not None and due > last else timedelta(0)
        return timedelta(0) if timing is None else max(timedelta(0), now - last - timing)


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a source.

    `state` is what the source remembered of its last whole reading; `full` asks for all there is,
    whatever was read before. `now` is business time, aware UTC. On a `trial` nothing is moved or
    marked. `stored` gives the data of the records of a kind that aren't closed.
    """

    state: Mapping[str, Any]
    now: datetime
    full: bool = False
    trial: bool = False
    stored: Callable[[str], AsyncIterator[Mapping[str, Any]]] | None = None


@dataclass(slots=True)
class PartDone:
    """What became of one part: outcomes by shape, what was refused and why.

    `fault` is why the rest of it couldn't be read; what came before it stands. At most MOST_KEPT
    `problems` are kept; `counts` has all.
    """

    name: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    fault: str = ""

    @property
    def refused(self) -> int:
        """How many rows were refused."""
        return sum(counts.get("refused", 0) for counts in self.counts.values())


async def nothing() -> AsyncGenerator[Row, None]:
    """No rows."""
    rows: tuple[Row, ...] = ()
    for row in rows:
        yield row


@dataclass(slots=True)
class Part:
    """A part of what a source has, taken by itself: one that can't be read harms no other.

    Once `rows` is at its end, `whole` has the kinds of which the rows were all there is, and
    `state` what the source wants to remember. `settle` is called with what became of it, but not
    on a trial. Rows may raise InputError, or UnavailableError where trying again helps.
    """

    name: str
    rows: AsyncGenerator[Row, None] = field(default_factory=nothing)
    whole: set[str] = field(default_factory=set)
    state: dict[str, Any] = field(default_factory=dict)
    settle: Callable[[PartDone], Awaitable[None]] | None = None


class Source(ABC):
    """Reads from somewhere else, and never writes there. `name` is that of its settings' table.

    `kind_of_source` is the `type` in the settings.
    """

    kind_of_source: ClassVar[str]
    Settings: ClassVar[type[SourceSettings]]

    def __init__(self, name: str, settings: SourceSettings, rules: Mapping[str, Rule]) -> None:
        """Opens nothing. Raises SettingsError, its key relative to the source's table."""
        self.name = name
        self.settings = settings
        self.rules = rules

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it reads from, as it may be shown: without passwords and keys."""

    @abstractmethod
    def parts(self, reading: Reading) -> AsyncGenerator[Part, None]:
        """Its parts, one after the other: each is read to its end before the next is asked for.

        Raises UnavailableError where nothing can be read now.
        """

    async def look(self, reading: Reading) -> None:
        """Reads as little as shows that it can be read, and that its columns are what is needed.

        Raises UnavailableError or InputError that says what is missing.
        """
        async with aclosing(self.parts(reading)) as parts:
            async for part in parts:
                async with aclosing(part.rows) as rows:
                    await anext(rows, None)
                return

    async def close(self) -> None:
        """Gives back connections; called after each reading."""
        return


def shape_of(
    rules: Mapping[str, Rule],
    kind: str,
    more: Mapping[str, str],
    given: Mapping[str, Any],
) -> Shape:
    """What rows of `kind` are. Raises SettingsError for an unknown kind or field."""
    found = {one.name: one for one in shapes(rules, more, given)}
    if kind not in found:
        raise SettingsError(f"kind: there is no {kind!r}; there are {', '.join(found)}")
    check_fields([found[kind]], more, given)
    return found[kind]


def check_fields(known: list[Shape], more: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Raises SettingsError where settings name a field that none of the shapes has."""
    fields = {name for shape in known for name in shape.model.model_fields}
    for key, names in (("columns", more.values()), ("values", given)):
        for name in names:
            if name and name not in fields:
                near = ", ".join(sorted(fields)) if len(known) == 1 else "its kinds' pages show all"
                raise SettingsError(f"{key}: there is no field {name!r}: {near}")


def build_sources(
    tables: Mapping[str, Mapping[str, Any]], rules: Mapping[str, Rule]
) -> dict[str, Source]:
    """The sources that the settings name, opened by none. Raises SettingsError naming each key."""
    built: dict[str, Source] = {}
    found = find_sources() if tables else {}
    for name, table in tables.items():
        where = f"sources.{name}"
        if not re.fullmatch(NAME, name):
            raise SettingsError(f"{where}: a name is a-z first, then a-z, 0-9, - and _, at most 40")
        content = dict(table)
        kind = str(content.pop("type", name))
        if kind not in found:
            known = ", ".join(found)
            raise SettingsError(f"{where}.type: there is no source {kind!r}; there are {known}")
        try:
            settings = found[kind].Settings.model_validate(content)
            built[name] = found[kind](name, settings, rules)
        except ValidationError as error:
            raise SettingsError(_faults(where, error, found[kind].Settings)) from None
        except SettingsError as error:
            raise SettingsError(f"{where}.{error}") from None
    return built


def _faults(where: str, error: ValidationError, model: type[SourceSettings]) -> str:
    """What is wrong, a line a key. What was written isn't shown: it may be a password."""
    lines = []
    for one in error.errors(include_input=False):
        key = ".".join(str(part) for part in (where, *one["loc"]))
        said = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            said = f"there is no such setting; there are {', '.join(model.model_fields)}"
        elif one["type"] == "missing":
            said = "is missing: set it"
        lines.append(f"{key}: {said}")
    return "\n".join(lines)


def find_sources() -> dict[str, type[Source]]:
    """All source classes by type.

    Raises RuntimeError when a file defines none, or two files claim one type.
    """
    found: dict[str, type[Source]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if name.startswith("_"):
            continue
        classes = list(_own_sources(f"{__name__}.{name}"))
        if len(classes) != 1:
            raise RuntimeError(f"{name}.py defines {len(classes)} sources: one file, one Source")
        source = classes[0]
        if found.setdefault(source.kind_of_source, source) is not source:
            raise RuntimeError(f"the source type {source.kind_of_source} is claimed twice")
    return found


def _own_sources(module: str) -> Iterator[type[Source]]:
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and issubclass(value, Source) and value.__module__ == module:
            yield value
