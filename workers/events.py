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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from workers.intake import Incoming, Intake, Taken
from workers.records import Registry
from workers.store import AsyncConnection, Store

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
    lines: tuple[Incoming, ...] | None = None


@dataclass(slots=True)
class _Effect:
    outcome: Taken
    kinds: set[str] = field(default_factory=set)


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
        """Takes each event by itself, in order, and says what became of each.

        `sender` is whom the door knows to be sending, None where it can't know (a queue): then an
        event may come sealed, and must where `events.require_signature` is set. An event that is
        wrong harms only itself. Raises what the database raises when it is away: those before are
        taken, and sending the same again is safe.
        """
        return [await self._take(event, sender) for event in events]

    async def _take(self, raw: Any, sender: Sender | None) -> EventResult:
        said = raw
        try:
            if sender is None:
                said, sender = self.seals.open(raw, self.clock())
                if sender is None and self.seals.required:
                    raise RefusedError(
                        Fault("", "isn't sealed: sign it with a key of [producers.<name>]")
                    )
            event = self._read(said, sender)
            try:
                return await self._store(event)
            except RefusedError:
                raise
            except Exception:
                # Two senders of the same event at once: the one that lost finds it there now.
                return await self._store(event)
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

    async def _store(self, event: _Event) -> EventResult:
        async with self.store.database.write() as connection:
            operations = self.store.operations
            before = await operations.event(connection, event.source, event.id)
            if before is not None:
                same = before.hash == event.mark
                return EventResult(
                    "repeat" if same else "conflict",
                    event.source,
                    event.id,
                    event.type.name,
                    str(before.outcome) if same else "",
                    faults=() if same else (_conflict(event),),
                )
            effect = await self._apply(connection, event)
            await operations.remember_event(
                connection,
                event.source,
                event.id,
                event.type.name,
                event.mark,
                effect.outcome.value,
                self.clock(),
                _ref(event.thing.model) if event.thing and event.type.is_record else None,
            )
        return EventResult(
            "taken",
            event.source,
            event.id,
            event.type.name,
            effect.outcome.value,
            frozenset(effect.kinds),
        )

    async def _apply(self, connection: AsyncConnection, event: _Event) -> _Effect:
        if event.thing is None:
            return _Effect(Taken.UNCHANGED, {event.wished})
        batch = await self.intake.take_in(connection, [event.thing])
        effect = _Effect(batch.outcomes[0])
        if event.thing.kind is None:
            # Whoever could be told of nothing may be told now, of any kind.
            if effect.outcome in {Taken.NEW, Taken.CHANGED}:
                effect.kinds.update(self.registry.enabled())
            return effect
        if effect.outcome is Taken.STALE:
            return effect
        if event.lines is not None and await self._replace(connection, event):
            effect.outcome = Taken.CHANGED if effect.outcome is Taken.UNCHANGED else effect.outcome
        if event.type.verb == "closed":
            await self._check_closed(connection, event)
        if effect.outcome in {Taken.NEW, Taken.CHANGED}:
            effect.kinds |= batch.kinds
        return effect

    async def _replace(self, connection: AsyncConnection, event: _Event) -> bool:
        """Makes the record's list what the event carries; true when that changed anything."""
        assert event.lines is not None
        assert event.thing is not None
        batch = await self.intake.take_in(connection, event.lines)
        keep = [int(getattr(line.model, "line", 0)) for line in event.lines]
        dropped = await self.intake.drop_lines_beyond(
            connection, event.type.kind, _ref(event.thing.model), keep
        )
        return bool(dropped) or any(one is not Taken.UNCHANGED for one in batch.outcomes)

    async def _check_closed(self, connection: AsyncConnection, event: _Event) -> None:
        assert event.thing is not None
        ref = _ref(event.thing.model)
        row = (await self.store.records.present(connection, event.type.kind, [ref]))[ref]
        if row.state != State.CLOSED:
            why = f" ({row.why})" if row.why else ""
            raise RefusedError(
                Fault(
                    "/data",
                    f"by its data the {event.type.kind} is {row.state}{why}, not closed: send the "
                    "fields that close it, or send the event as updated",
                )
            )


def _thing(
    type_: EventType, data: Mapping[str, Any], time: Any
) -> tuple[Incoming, tuple[Incoming, ...] | None]:
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


def _lines(kind: str, model: type[LineData], record: BaseModel, given: Any) -> tuple[Incoming, ...]:
    """The list's rows; `line` is the place in the list where it isn't given."""
    if not isinstance(given, list | tuple) or len(given) > MAX_LINES:
        raise RefusedError(Fault("/data/lines", f"must be a list of at most {MAX_LINES} lines"))
    found: dict[int, Incoming] = {}
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
        found[number] = Incoming(line, kind)
    return tuple(found.values())


def _conflict(event: _Event) -> Fault:
    return Fault(
        "/id",
        f"source {event.source} sent id {event.id} before with other content: "
        "give what changed an id of its own",
    )


def _ref(model: Any) -> str:
    return str(model.ref)


__all__ = ["EventIntake", "EventResult", "Fault", "read_json"]
