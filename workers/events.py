"""Events: CloudEvents 1.0 in JSON become partners, contacts, records and lists.

    duewatch.<kind>.opened.v1 | updated.v1 | closed.v1 | upserted.v1   data: the rule's model
    duewatch.partner.upserted.v1, contact, customer, spend   data: PartnerData, ContactData, …
    duewatch.scan.requested.v1   data: the kind whose records are to be looked at now

A record's `data` may carry `lines`, its whole list: lines that aren't in it are dropped. The four
verbs all bring the record's present state; `closed` is refused while its data still say otherwise.

An event and its effect are one transaction. The same (source, id) with the same content is
repeated without effect, with other content it is a conflict. Without `updated_at` in the data the
event's `time` orders it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from schedules.rule import LineData, State
from workers.envelope import (
    Fault,
    RefusedError,
    Seals,
    Sender,
    check,
    pointer_part,
    read_json,
    shown,
)
from workers.event_types import MAX_LINES, SCAN, EventType, EventTypes
from workers.intake import Incoming, Intake, Taken, key_of
from workers.records import Registry
from workers.store import AsyncConnection, Store

TOGETHER = 250
"""Events taken in one transaction, as long as they are of different things."""

Status = Literal["taken", "repeat", "conflict", "refused"]


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of one event.

    taken      its effect is stored; `outcome` is new, changed, unchanged or stale
    repeat     it was taken before; `outcome` is what it was then
    conflict   its (source, id) was taken with other content
    refused    nothing of it was stored; `faults` say why
    """

    status: Status
    source: str = ""
    id: str = ""
    type: str = ""
    outcome: str = ""
    kinds: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()

    @property
    def well(self) -> bool:
        """Whether the event needn't be sent again."""
        return self.status in {"taken", "repeat"}

    @property
    def why(self) -> str:
        """What is wrong with it, in one line."""
        return "; ".join(f"{fault.field or 'event'} {fault.detail}" for fault in self.faults)


@dataclass(frozen=True, slots=True)
class _Event:
    source: str
    id: str
    type: EventType
    mark: str
    thing: Incoming | None
    wished: str = ""
    lines: tuple[LineData, ...] | None = None

    @property
    def ref(self) -> str | None:
        return _ref(self.thing.model) if self.thing and self.type.is_record else None

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.id


@dataclass(frozen=True, slots=True)
class _Effect:
    outcome: Taken
    kinds: frozenset[str] = frozenset()


class EventIntake:
    """Takes events in. `clock` is business time, an aware UTC instant."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        intake: Intake,
        clock: Callable[[], datetime],
        seals: Seals,
        has_words: Callable[[str, str], bool],
    ) -> None:
        self.store = store
        self.registry = registry
        self.intake = intake
        self.clock = clock
        self.seals = seals
        self.has_words = has_words
        self.types = EventTypes(registry.rules)

    async def take(self, events: Sequence[Any], sender: Sender | None = None) -> list[EventResult]:
        """Takes events in order, many in one transaction, and says what became of each.

        `sender` is whom the door knows to be sending, None where it can't know (a queue): then an
        event may come sealed, and must where `events.require_signature` is set. An event that is
        wrong harms only itself. Raises what the database raises when it is away: those before are
        taken, and sending the same again is safe.
        """
        results: list[EventResult] = []
        for first in range(0, len(events), TOGETHER):
            results += await self._take(events[first : first + TOGETHER], sender)
            await asyncio.sleep(0)  # reading so many takes a while: others have their turn
        return results

    async def _take(self, raw: Sequence[Any], sender: Sender | None) -> list[EventResult]:
        read = [self._opened(one, sender) for one in raw]
        taken: dict[int, EventResult] = {}
        for part in _apart([(at, one) for at, one in enumerate(read) if isinstance(one, _Event)]):
            stored = await self._store_part([one for _, one in part])
            taken |= {at: result for (at, _), result in zip(part, stored, strict=True)}
        return [one if isinstance(one, EventResult) else taken[at] for at, one in enumerate(read)]

    def _opened(self, raw: Any, sender: Sender | None) -> _Event | EventResult:
        said = raw
        try:
            if sender is None:
                said, sender = self.seals.open(raw, self.clock())
                if sender is None and self.seals.required:
                    raise RefusedError(
                        Fault("", "isn't sealed: sign it with a key of [producers.<name>]")
                    )
            return self._read(said, sender)
        except RefusedError as refused:
            named = said if isinstance(said, Mapping) else {}
            source, number, name = (shown(named.get(key)) for key in ("source", "id", "type"))
            return EventResult("refused", source, number, name, faults=refused.faults)

    # --- reading --------------------------------------------------------------------------

    def _read(self, said: Any, sender: Sender | None) -> _Event:
        raw, mark = check(said)
        type_ = self.types.named(str(raw["type"]))
        data = raw.get("data")
        if not isinstance(data, Mapping):
            raise RefusedError(
                Fault("/data", f"must be an object with the fields of a {type_.kind}")
            )
        thing, lines, wished = None, None, ""
        if type_.kind == SCAN:
            wished = self._wished(_validated(type_.data, data, "/data").kind)
        if sender is not None:
            sender.check(raw, wished or type_.kind)
        if type_.kind != SCAN:
            thing, lines = _thing(type_, data, raw.get("time"))
            self._check_words(type_, thing)
        return _Event(str(raw["source"]), str(raw["id"]), type_, mark, thing, wished, lines)

    def _check_words(self, type_: EventType, thing: Incoming) -> None:
        chosen = None
        if type_.is_record:
            chosen = self.registry.rule(type_.kind).chosen_words(thing.model)
        if chosen is not None and not self.has_words(type_.kind, chosen):
            where = f"messages/<language>/{type_.kind}/{chosen}.words.txt"
            raise RefusedError(
                Fault("/data", f"there are no words {chosen}: add {where} to the templates")
            )

    def _wished(self, kind: str) -> str:
        if kind not in self.registry.enabled():
            known = ", ".join(sorted(self.registry.enabled()))
            raise RefusedError(Fault("/data/kind", f"there is no such kind: there are {known}"))
        return kind

    # --- storing --------------------------------------------------------------------------

    async def _store_part(self, events: Sequence[_Event]) -> list[EventResult]:
        """Stores events of different things: together, or one by one where that fails."""
        if len(events) > 1:
            # One that can't be taken, or that somebody else takes just now, harms only itself.
            with suppress(Exception):
                return await self._store(events)
        return [await self._store_alone(event) for event in events]

    async def _store_alone(self, event: _Event) -> EventResult:
        try:
            try:
                (result,) = await self._store([event])
            except RefusedError:
                raise
            except Exception:
                # Two senders of the same event at once: the one that lost finds it there now.
                (result,) = await self._store([event])
        except RefusedError as refused:
            said = shown(event.source), shown(event.id), shown(event.type.name)
            return EventResult("refused", *said, faults=refused.faults)
        return result

    async def _store(self, events: Sequence[_Event]) -> list[EventResult]:
        operations = self.store.operations
        async with self.store.database.write() as connection:
            before = await operations.events_taken(connection, [event.key for event in events])
            fresh = [event for event in events if event.key not in before]
            effects = dict(
                zip(
                    [event.key for event in fresh],
                    await self._apply(connection, fresh),
                    strict=True,
                )
            )
            now = self.clock()
            await operations.remember_events(
                connection,
                [
                    {
                        "source": event.source,
                        "event_id": event.id,
                        "type": event.type.name,
                        "hash": event.mark,
                        "outcome": effects[event.key].outcome.value,
                        "ref": event.ref,
                        "received_at": now,
                    }
                    for event in fresh
                ],
            )
        return [
            _again(event, before[event.key])
            if event.key in before
            else _taken(event, effects[event.key])
            for event in events
        ]

    async def _apply(self, connection: AsyncConnection, events: Sequence[_Event]) -> list[_Effect]:
        bringing = [event for event in events if event.thing is not None]
        lists = {at: event.lines for at, event in enumerate(bringing) if event.lines is not None}
        things = [event.thing for event in bringing if event.thing is not None]
        batch = await self.intake.take_in(connection, things, lists)
        outcomes = {
            event.key: outcome for event, outcome in zip(bringing, batch.outcomes, strict=True)
        }
        await self._check_closed(
            connection, [event for event in bringing if outcomes[event.key] is not Taken.STALE]
        )
        return [self._effect(event, outcomes.get(event.key), batch.kinds) for event in events]

    def _effect(self, event: _Event, outcome: Taken | None, kinds: Collection[str]) -> _Effect:
        if outcome is None:
            return _Effect(Taken.UNCHANGED, frozenset({event.wished}))
        if outcome not in {Taken.NEW, Taken.CHANGED}:
            return _Effect(outcome)
        if not event.type.is_record:
            # Whoever could be told of nothing may be told now, of any kind.
            return _Effect(outcome, frozenset(self.registry.enabled()))
        return _Effect(outcome, frozenset(kinds))

    async def _check_closed(self, connection: AsyncConnection, events: Sequence[_Event]) -> None:
        """Raises RefusedError for the first that says closed while its data say otherwise."""
        closed: dict[str, list[str]] = {}
        for event in events:
            if event.type.verb == "closed" and event.ref is not None:
                closed.setdefault(event.type.kind, []).append(event.ref)
        for kind, refs in closed.items():
            for row in (await self.store.records.present(connection, kind, refs)).values():
                if row.state != State.CLOSED:
                    why = f" ({row.why})" if row.why else ""
                    raise RefusedError(
                        Fault(
                            "/data",
                            f"by its data the {kind} is {row.state}{why}, not closed: send the "
                            "fields that close it, or send the event as updated",
                        )
                    )


class Gathering:
    """Events that come one by one, taken together: those that come while others are stored."""

    def __init__(self, intake: EventIntake) -> None:
        self._intake = intake
        self._waiting: list[tuple[Any, asyncio.Future[EventResult]]] = []
        self._task: asyncio.Task[None] | None = None

    async def take(self, event: Any) -> EventResult:
        """What became of one event. Raises what the database raises when it is away."""
        done: asyncio.Future[EventResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            try:
                results = await self._intake.take([event for event, _ in some])
            except Exception:
                # What one of them does to the database isn't its neighbours' fault.
                for event, done in some:
                    await self._take_alone(event, done)
                continue
            for (_, done), result in zip(some, results, strict=True):
                if not done.done():
                    done.set_result(result)

    async def _take_alone(self, event: Any, done: asyncio.Future[EventResult]) -> None:
        try:
            (result,) = await self._intake.take([event])
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(result)


def _apart(events: Sequence[tuple[int, _Event]]) -> list[list[tuple[int, _Event]]]:
    """Parts in which no event and no thing is there twice, in order: a later word comes later."""
    parts: list[list[tuple[int, _Event]]] = []
    seen: set[Any] = set()
    for at, event in events:
        marks = {event.key, (event.type.kind, key_of(event.thing)) if event.thing else event.key}
        if not parts or marks & seen:
            parts.append([])
            seen = set()
        seen |= marks
        parts[-1].append((at, event))
    return parts


def _again(event: _Event, before: Any) -> EventResult:
    same = before.hash == event.mark
    return EventResult(
        "repeat" if same else "conflict",
        event.source,
        event.id,
        event.type.name,
        str(before.outcome) if same else "",
        faults=() if same else (_conflict(event),),
    )


def _taken(event: _Event, effect: _Effect) -> EventResult:
    return EventResult(
        "taken", event.source, event.id, event.type.name, effect.outcome.value, effect.kinds
    )


def _thing(
    type_: EventType, data: Mapping[str, Any], time: Any
) -> tuple[Incoming, tuple[LineData, ...] | None]:
    if not type_.is_record:
        return Incoming(_validated(type_.data, data, "/data")), None
    content = dict(data)
    given = content.pop("lines", None)
    if content.get("updated_at") is None and time is not None:
        content["updated_at"] = time
    thing = Incoming(_validated(type_.data, content, "/data"), type_.kind)
    if given is None:
        return thing, None
    if type_.line is None:
        raise RefusedError(Fault("/data/lines", f"a {type_.kind} has no list: leave it out"))
    return thing, _lines(type_.kind, type_.line, thing.model, given)


def _validated(model: type[BaseModel], data: Mapping[str, Any], place: str) -> Any:
    if (time := data.get("updated_at")) is not None and isinstance(time, str):
        data = {**data, "updated_at": time.upper()}
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RefusedError(*(_fault(one, model, place) for one in error.errors())) from None
    except (ValueError, ArithmeticError) as error:
        raise RefusedError(Fault(place, f"can't be read: {error}")) from None


def _fault(one: Any, model: type[BaseModel], place: str) -> Fault:
    where = place + "".join(f"/{pointer_part(str(part))}" for part in one["loc"])
    said = str(one["msg"]).removeprefix("Value error, ")
    if one["type"] == "extra_forbidden":
        said = f"there is no such field; there are {', '.join(model.model_fields)}"
    elif one["type"] == "missing":
        said = "is missing: add it"
    return Fault(where, said)


def _lines(kind: str, model: type[LineData], record: BaseModel, given: Any) -> tuple[LineData, ...]:
    """The list's rows; `line` is the place in the list where it isn't given."""
    if not isinstance(given, list | tuple) or len(given) > MAX_LINES:
        raise RefusedError(Fault("/data/lines", f"must be a list of at most {MAX_LINES} lines"))
    found: dict[int, LineData] = {}
    for index, row in enumerate(given):
        place = f"/data/lines/{index}"
        if not isinstance(row, Mapping):
            raise RefusedError(Fault(place, "must be an object with the fields of a line"))
        line = _validated(model, {kind: _ref(record), "line": index + 1, **row}, place)
        number = int(line.line)
        if str(getattr(line, kind)) != _ref(record):
            raise RefusedError(Fault(f"{place}/{kind}", f"must be {_ref(record)}, or be left out"))
        if not 1 <= number <= MAX_LINES or number in found:
            raise RefusedError(
                Fault(f"{place}/line", f"must be from 1 to {MAX_LINES}, each number once")
            )
        found[number] = line
    return tuple(found.values())


def _conflict(event: _Event) -> Fault:
    return Fault(
        "/id",
        f"source {event.source} sent id {event.id} before with other content: "
        "give what changed an id of its own",
    )


def _ref(model: Any) -> str:
    return str(model.ref)


__all__ = ["EventIntake", "EventResult", "Fault", "Gathering", "read_json"]
