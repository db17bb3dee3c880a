"""Events: CloudEvents 1.0 in JSON become partners, contacts, records and lists.

    duewatch.<kind>.opened.v1 | updated.v1 | closed.v1 | upserted.v1   data: the rule's model
    duewatch.partner.upserted.v1, contact, customer, spend   data: PartnerData, ContactData, …

A record's `data` may carry `lines`, its whole list: lines that aren't in it are dropped. The four
verbs all bring the record's present state; `closed` is refused while its data still say otherwise.

An event and its effect are one transaction. The same (source, id) with the same content is
repeated without effect, with other content it is a conflict. Without `updated_at` in the data the
event's `time` orders it. Sources: CloudEvents 1.0.2 and its JSON format; RFC 7493 (I-JSON).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from schedules.fields import read_instant
from schedules.people import CustomerData, SpendData
from schedules.rule import ContactData, LineData, PartnerData, State
from workers.errors import InputError
from workers.intake import Incoming, Intake, Taken
from workers.records import Registry
from workers.store import AsyncConnection, Store

MAX_EVENT_BYTES = 64 * 1024
"""Of one event, as compact JSON; longer lists come in files."""
MAX_DEPTH = 16
MAX_FAULTS = 20
"""Named of one event; the rest shows once these are mended."""
MAX_LINES = 10_000
MAX_ATTRIBUTE = 200
"""Characters of `source`, `id` and other attributes."""
MAX_INTEGER = 2**53 - 1
"""Beyond it a number isn't the same in every JSON library (RFC 7493, 2.2)."""

Status = Literal["taken", "repeat", "conflict", "refused"]
_TYPE = re.compile(r"duewatch\.(?P<kind>[a-z_]+)\.(?P<verb>[a-z_]+)\.v1")
_VERBS = ("opened", "updated", "closed", "upserted")
_PEOPLE: Mapping[str, type[BaseModel]] = {
    "contact": ContactData,
    "partner": PartnerData,
    "customer": CustomerData,
    "spend": SpendData,
}
_NAME = re.compile(r"[a-z0-9]{1,40}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_KNOWN = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"}
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in an event. `field` is a JSON pointer (RFC 6901) within the event."""

    field: str
    detail: str


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


class _RefusedError(Exception):
    """Ends an event's transaction without effect."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults[:MAX_FAULTS]


@dataclass(frozen=True, slots=True)
class _Event:
    source: str
    id: str
    type: str
    kind: str
    verb: str
    mark: str
    thing: Incoming
    lines: tuple[Incoming, ...] | None = None


@dataclass(slots=True)
class _Effect:
    outcome: Taken
    kinds: set[str] = field(default_factory=set)


class EventIntake:
    """Takes events in. `clock` is business time, an aware UTC instant."""

    def __init__(
        self, store: Store, registry: Registry, intake: Intake, clock: Callable[[], datetime]
    ) -> None:
        self.store = store
        self.registry = registry
        self.intake = intake
        self.clock = clock

    async def take(self, events: Sequence[Any]) -> list[EventResult]:
        """Takes each event by itself, in order, and says what became of each.

        An event that is wrong harms only itself. Raises what the database raises when it is away:
        those before are taken, and sending the same again is safe.
        """
        return [await self._take(event) for event in events]

    async def _take(self, raw: Any) -> EventResult:
        said = raw if isinstance(raw, Mapping) else {}
        source, number, name = (_shown(said.get(key)) for key in ("source", "id", "type"))
        try:
            event = self._read(raw)
            try:
                return await self._store(event)
            except _RefusedError:
                raise
            except Exception:
                # Two senders of the same event at once: the one that lost finds it there now.
                return await self._store(event)
        except _RefusedError as refused:
            return EventResult("refused", source, number, name, faults=refused.faults)

    # --- reading --------------------------------------------------------------------------

    def _read(self, raw: Any) -> _Event:
        if not isinstance(raw, Mapping):
            raise _RefusedError(Fault("", "an event is a JSON object"))
        if faults := [*_shape_faults(raw)]:
            raise _RefusedError(*faults)
        content = _canonical(raw)
        if len(content) > MAX_EVENT_BYTES:
            raise _RefusedError(
                Fault(
                    "",
                    f"the event is {len(content)} bytes long, at most {MAX_EVENT_BYTES}: "
                    "bring a longer list in as a file with duewatch import",
                )
            )
        if faults := [*_attribute_faults(raw)]:
            raise _RefusedError(*faults)
        kind, verb = self._type(str(raw["type"]))
        thing, lines = self._thing(kind, verb, raw)
        mark = hashlib.sha256(content).hexdigest()
        source, number, name = str(raw["source"]), str(raw["id"]), str(raw["type"])
        return _Event(source, number, name, kind, verb, mark, thing, lines)

    def _type(self, text: str) -> tuple[str, str]:
        found = _TYPE.fullmatch(text)
        watched = [kind for kind, rule in self.registry.rules.items() if not rule.made_here]
        kinds = [*watched, *_PEOPLE]
        if found is None or found["kind"] not in kinds:
            near = difflib.get_close_matches(text.split(".")[1] if "." in text else text, kinds, 1)
            hint = f"did you mean duewatch.{near[0]}.upserted.v1? " if near else ""
            known = ", ".join(sorted(kinds))
            raise _RefusedError(
                Fault(
                    "/type",
                    f"there is no such type: {hint}It is duewatch.<kind>.upserted.v1, and the "
                    f"kinds are {known}",
                )
            )
        verbs = _VERBS if found["kind"] in watched else ("upserted",)
        if found["verb"] not in verbs:
            raise _RefusedError(
                Fault("/type", f"{found['kind']} events end in {', '.join(verbs)} before .v1")
            )
        return found["kind"], found["verb"]

    def _thing(
        self, kind: str, verb: str, raw: Mapping[str, Any]
    ) -> tuple[Incoming, tuple[Incoming, ...] | None]:
        data = raw.get("data")
        if not isinstance(data, Mapping):
            raise _RefusedError(Fault("/data", f"must be an object with the fields of a {kind}"))
        if model := _PEOPLE.get(kind):
            return Incoming(_validated(model, data, "/data")), None
        rule = self.registry.rule(kind)
        content = dict(data)
        given = content.pop("lines", None)
        if content.get("updated_at") is None and raw.get("time") is not None:
            content["updated_at"] = raw["time"]
        thing = Incoming(_validated(rule.Data, content, "/data"), kind)
        if given is None:
            return thing, None
        if rule.Line is None:
            raise _RefusedError(Fault("/data/lines", f"a {kind} has no list: leave it out"))
        return thing, _lines(kind, rule.Line, thing.model, given)

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
                    event.type,
                    str(before.outcome) if same else "",
                    faults=() if same else (_conflict(event),),
                )
            effect = await self._apply(connection, event)
            await operations.remember_event(
                connection,
                event.source,
                event.id,
                event.type,
                event.mark,
                effect.outcome.value,
                self.clock(),
            )
        return EventResult(
            "taken",
            event.source,
            event.id,
            event.type,
            effect.outcome.value,
            frozenset(effect.kinds),
        )

    async def _apply(self, connection: AsyncConnection, event: _Event) -> _Effect:
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
        if event.verb == "closed":
            await self._check_closed(connection, event)
        if effect.outcome in {Taken.NEW, Taken.CHANGED}:
            effect.kinds |= batch.kinds
        return effect

    async def _replace(self, connection: AsyncConnection, event: _Event) -> bool:
        """Makes the record's list what the event carries; true when that changed anything."""
        assert event.lines is not None
        batch = await self.intake.take_in(connection, event.lines)
        keep = [int(getattr(line.model, "line", 0)) for line in event.lines]
        dropped = await self.intake.drop_lines_beyond(
            connection, event.kind, _ref(event.thing.model), keep
        )
        return bool(dropped) or any(one is not Taken.UNCHANGED for one in batch.outcomes)

    async def _check_closed(self, connection: AsyncConnection, event: _Event) -> None:
        ref = _ref(event.thing.model)
        row = (await self.store.records.present(connection, event.kind, [ref]))[ref]
        if row.state != State.CLOSED:
            why = f" ({row.why})" if row.why else ""
            raise _RefusedError(
                Fault(
                    "/data",
                    f"by its data the {event.kind} is {row.state}{why}, not closed: send the "
                    "fields that close it, or send the event as updated",
                )
            )


def read_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no repeated keys, no NaN or Infinity. Numbers with a point are Decimal.

    Raises InputError saying what is wrong and where.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_float=Decimal,
        )
    except UnicodeDecodeError as error:
        raise InputError(f"isn't UTF-8 at byte {error.start}: encode it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"isn't JSON at {where}: {error.msg}") from None
    except RecursionError:
        raise InputError(f"is nested too deep: at most {MAX_DEPTH} levels") from None
    except (ValueError, ArithmeticError):
        raise InputError("a number is too long: shorten it") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"the key {key[:60]!r} is there twice: say which one counts")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise InputError(f"{name} isn't a number in JSON: leave the field out")


def _canonical(value: Any) -> bytes:
    """One form for equal content: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode()


def _shape_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """What no database or JSON library could keep as it is: depth, numbers, half characters."""
    left: list[tuple[str, Any, int]] = [("", raw, 1)]
    while left:
        place, value, depth = left.pop()
        if depth > MAX_DEPTH:
            yield Fault(place, f"is nested too deep: at most {MAX_DEPTH} levels")
            return
        if isinstance(value, Mapping):
            for key, part in value.items():
                if fault := _text_fault(str(key)):
                    yield Fault(place, f"has a key that {fault}")
                    return
                left.append((f"{place}/{_escaped(str(key))}", part, depth + 1))
        elif isinstance(value, list | tuple):
            left += [(f"{place}/{index}", part, depth + 1) for index, part in enumerate(value)]
        elif isinstance(value, str) and (fault := _text_fault(value)):
            yield Fault(place, fault)
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            yield Fault(place, "is a number of more than 53 bits: write it as text")


def _text_fault(text: str) -> str:
    if "\0" in text:
        return "contains the control character NUL: remove it"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "contains half a surrogate pair: encode the event as UTF-8 again"
    return ""


def _attribute_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    if raw.get("specversion") != "1.0":
        yield Fault("/specversion", 'must be "1.0"')
    for name in ("id", "source", "type"):
        value = raw.get(name)
        if not isinstance(value, str) or not value:
            yield Fault(f"/{name}", "must be text that isn't empty")
        elif len(value) > MAX_ATTRIBUTE or _UNPRINTABLE.search(value):
            yield Fault(f"/{name}", f"must be 1 to {MAX_ATTRIBUTE} characters without spaces")
    media = raw.get("datacontenttype", "application/json")
    if not isinstance(media, str) or media.partition(";")[0].strip().lower() != "application/json":
        yield Fault("/datacontenttype", "must be application/json, or be left out")
    if "data_base64" in raw:
        yield Fault("/data_base64", "isn't taken: put the JSON object into data")
    if raw.get("time") is not None and (said := _time_fault(raw["time"])):
        yield Fault("/time", said)
    yield from _extension_faults(raw)


def _extension_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    for name, value in raw.items():
        if name in _KNOWN or name in {"data", "data_base64"}:
            continue
        if not _NAME.fullmatch(name):
            yield Fault(f"/{_escaped(name)}", "an attribute's name is a-z and 0-9 only")
        elif not isinstance(value, str | int | bool | None):
            yield Fault(f"/{name}", "an attribute is text, a whole number, true or false")


def _time_fault(value: Any) -> str:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return "must be a time with its zone (RFC 3339), like 2026-11-20T10:00:00+08:00"
    try:
        read_instant(value.upper())
    except (ValueError, OverflowError) as error:
        return str(error)
    return ""


def _validated(model: type[BaseModel], data: Mapping[str, Any], place: str) -> Any:
    if (time := data.get("updated_at")) is not None and isinstance(time, str):
        data = {**data, "updated_at": time.upper()}
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _RefusedError(*(_fault(one, model, place) for one in error.errors())) from None
    except (ValueError, ArithmeticError) as error:
        raise _RefusedError(Fault(place, f"can't be read: {error}")) from None


def _fault(one: Any, model: type[BaseModel], place: str) -> Fault:
    where = place + "".join(f"/{_escaped(str(part))}" for part in one["loc"])
    said = str(one["msg"]).removeprefix("Value error, ")
    if one["type"] == "extra_forbidden":
        said = f"there is no such field; there are {', '.join(model.model_fields)}"
    elif one["type"] == "missing":
        said = "is missing: add it"
    return Fault(where, said)


def _lines(kind: str, model: type[LineData], record: BaseModel, given: Any) -> tuple[Incoming, ...]:
    """The list's rows; `line` is the place in the list where it isn't given."""
    if not isinstance(given, list | tuple) or len(given) > MAX_LINES:
        raise _RefusedError(Fault("/data/lines", f"must be a list of at most {MAX_LINES} lines"))
    found: dict[int, Incoming] = {}
    for index, row in enumerate(given):
        place = f"/data/lines/{index}"
        if not isinstance(row, Mapping):
            raise _RefusedError(Fault(place, "must be an object with the fields of a line"))
        line = _validated(model, {kind: _ref(record), "line": index + 1, **row}, place)
        number = int(line.line)
        if str(getattr(line, kind)) != _ref(record):
            raise _RefusedError(Fault(f"{place}/{kind}", f"must be {_ref(record)}, or be left out"))
        if not 1 <= number <= MAX_LINES or number in found:
            raise _RefusedError(
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


def _shown(value: Any) -> str:
    """What can be repeated in an answer: at most MAX_ATTRIBUTE printable characters."""
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text[:MAX_ATTRIBUTE] if c.isprintable())


def _escaped(name: str) -> str:
    """A name within a JSON pointer, shortened to what a person recognises."""
    return _shown(name[:60]).replace("~", "~0").replace("/", "~1")
