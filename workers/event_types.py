"""Which events there are, what each carries, and that as JSON Schema (2020-12).

    duewatch.<kind>.opened.v1 | updated.v1 | closed.v1 | upserted.v1   the rule's record
    duewatch.partner.upserted.v1, contact, customer, spend             people and figures
    duewatch.notification.requested.v1                                 a `request`, by another name
    duewatch.scan.requested.v1                                         a wish: look at a kind now

The schemas say what producers should write. What is read is wider: Chinese words for the values of
a list, dates as files have them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from schedules.fields import Line
from schedules.people import ContactData, CustomerData, Data, PartnerData, SpendData
from schedules.rule import LineData, Rule
from workers.envelope import MAX_ATTRIBUTE, Fault, RefusedError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
RECORD_VERBS = ("opened", "updated", "closed", "upserted")
MAX_LINES = 10_000
SCAN = "scan"
_VERSION = "v1"


class ScanData(Data):
    """A wish that the records of a kind be looked at now; the clock does so anyway."""

    kind: Line


_OTHER_NAMES: Mapping[str, str] = {"request": "notification.requested"}
"""What producers would look for a kind's events under."""
_PEOPLE: Mapping[str, type[BaseModel]] = {
    "contact": ContactData,
    "partner": PartnerData,
    "customer": CustomerData,
    "spend": SpendData,
}


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event. `kind` is a rule's, or partner, contact, customer, spend, scan."""

    kind: str
    verb: str
    data: type[BaseModel]
    line: type[LineData] | None
    title: str
    is_record: bool
    other_name: str = ""

    @property
    def name(self) -> str:
        """`duewatch.payment.opened.v1`"""
        return f"duewatch.{self.other_name or f'{self.kind}.{self.verb}'}.{_VERSION}"

    @property
    def schema(self) -> str:
        """The name of the schema of its data, which several types share."""
        return f"{self.kind}.{_VERSION}"


class EventTypes:
    """All types of events that the rules make possible."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._types = {one.name: one for one in _types(rules)}

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._types.values())

    def named(self, text: str) -> EventType:
        """Raises RefusedError that says which there are."""
        if found := self._types.get(text):
            return found
        kinds = {one.kind: one for one in self._types.values()}
        kind = text.split(".")[1] if text.count(".") else text
        if known := [one.verb for one in self._types.values() if one.kind == kind]:
            raise RefusedError(
                Fault("/type", f"{kind} events end in {', '.join(known)} before .{_VERSION}")
            )
        near = difflib.get_close_matches(kind, kinds, 1)
        hint = f"did you mean {kinds[near[0]].name}? " if near else ""
        raise RefusedError(
            Fault(
                "/type",
                f"there is no such type: {hint}It is duewatch.<kind>.upserted.{_VERSION}, and the "
                f"kinds are {', '.join(sorted(kinds))}",
            )
        )

    def schemas(self) -> dict[str, dict[str, Any]]:
        """The data's schemas by name (`payment.v1`), and the envelope's (`cloudevent`)."""
        found = {one.schema: _data_schema(one) for one in self._types.values()}
        found["cloudevent"] = envelope_schema([*self._types])
        return dict(sorted(found.items()))


def _types(rules: Mapping[str, Rule]) -> Iterator[EventType]:
    for kind, rule in sorted(rules.items()):
        if not rule.made_here:
            for verb in RECORD_VERBS:
                yield EventType(kind, verb, rule.Data, rule.Line, rule.title["en"], True)
            if other := _OTHER_NAMES.get(kind):
                verb = other.rpartition(".")[2]
                yield EventType(kind, verb, rule.Data, rule.Line, rule.title["en"], True, other)
    for kind, model in _PEOPLE.items():
        yield EventType(kind, "upserted", model, None, kind.capitalize(), False)
    yield EventType(SCAN, "requested", ScanData, None, "Scan", False)


def _data_schema(one: EventType) -> dict[str, Any]:
    schema = TypeAdapter(one.data).json_schema()
    if one.line is not None:
        line = TypeAdapter(one.line).json_schema()
        schema.setdefault("$defs", {}).update(line.pop("$defs", {}))
        # Which record a line is of stands above it, and its number is its place in the list.
        line["required"] = [
            name for name in line.get("required", []) if name not in {one.kind, "line"}
        ]
        schema["$defs"]["Line"] = line
        schema["properties"]["lines"] = {
            "type": "array",
            "maxItems": MAX_LINES,
            "items": {"$ref": "#/$defs/Line"},
            "description": "The whole list: what isn't in it is dropped.",
        }
    return {"$schema": DIALECT, "$id": schema_id(one.schema), **_plain(schema)}


def envelope_schema(names: list[str]) -> dict[str, Any]:
    """CloudEvents 1.0 as it is read here."""
    attribute = {"type": "string", "minLength": 1, "maxLength": MAX_ATTRIBUTE}
    return {
        "$schema": DIALECT,
        "$id": schema_id("cloudevent"),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**attribute, "description": "With `source`, what makes a repeat one."},
            "source": attribute,
            "type": {"enum": names},
            "time": {
                "type": "string",
                "format": "date-time",
                "description": "Orders the events of a record whose data carry no version.",
            },
            "datacontenttype": {"const": "application/json"},
            "data": {"type": "object"},
        },
    }


def schema_id(name: str) -> str:
    """A schema's identifier; it isn't an address."""
    return f"urn:duewatch:schema:{name}"


def _plain(schema: Any) -> Any:
    """Without the titles that Pydantic makes of field names."""
    if isinstance(schema, dict):
        return {
            key: {name: _plain(part) for name, part in value.items()}
            if key in {"properties", "$defs"}
            else _plain(value)
            for key, value in schema.items()
            if key != "title"
        }
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema


def breaking(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """What a producer that writes by `old` could stumble over in `new`, a sentence each.

    New optional fields, new values of a list and wider limits break nothing.
    """
    yield from _breaking_types(old, new, place or "/")
    now = new.get("properties", {})
    for name, was in old.get("properties", {}).items():
        if name not in now:
            yield f"{place}/{name}: is no longer there"
        else:
            yield from breaking(_resolved(was, old), _resolved(now[name], new), f"{place}/{name}")
    for name in set(new.get("required", ())) - set(old.get("required", ())):
        yield f"{place}/{name}: must be there now"
    if "items" in old and "items" in new:
        yield from breaking(
            _resolved(old["items"], old), _resolved(new["items"], new), f"{place}/*"
        )
    for name, narrower in (("maxLength", min), ("maximum", min), ("maxItems", min)):
        if name in new and narrower(new[name], old.get(name, float("inf"))) != old.get(name):
            yield f"{place}: {name} is {new[name]}, was {old.get(name, 'without limit')}"
    for name in ("minLength", "minimum", "minItems"):
        if new.get(name, float("-inf")) > old.get(name, float("-inf")):
            yield f"{place}: {name} is {new[name]}, was {old.get(name, 'without limit')}"


def _breaking_types(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[str]:
    was, now = set(_kinds(old)), set(_kinds(new))
    if (now and (gone := was - now)) or (now and not was):
        yield f"{place}: {', '.join(sorted(gone)) if was else 'anything'} isn't taken any more"
    if "enum" in old and "enum" in new and (lost := {*old["enum"]} - {*new["enum"]}):
        yield f"{place}: {', '.join(map(str, sorted(lost)))} isn't a value any more"
    if "pattern" in new and new.get("pattern") != old.get("pattern"):
        yield f"{place}: must match {new['pattern']} now"


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    """The JSON types that a schema allows; a number allows whole ones."""
    for one in schema.get("anyOf", [schema]):
        kinds = one.get("type", "string" if "enum" in one else ())
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield kind
            if kind == "number":
                yield "integer"


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A part with its reference followed, and what may be left empty as the one thing it is."""
    found: dict[str, Any] = dict(schema)
    if reference := found.pop("$ref", None):
        found = {**root["$defs"][reference.rpartition("/")[2]], **found}
    options = [one for one in found.get("anyOf", ()) if one.get("type") != "null"]
    if len(options) == 1:
        nullable = len(found.pop("anyOf")) > 1
        only = _resolved(options[0], root)
        kinds = [*_kinds(only), "null"] if nullable else [*_kinds(only)]
        found = {**found, **only, "type": kinds}
    return {**found, "$defs": root.get("$defs", {})}
