"""The schemas that producers write by: true, written down, and never broken without a new version.

`released_schemas.json` is what producers have been given. It is renewed with a release; until then
a change that would trip a producer fails here, and has to become a type of the next version.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from schedules.rules import load_rules
from workers.asyncapi import asyncapi
from workers.event_types import EventTypes, breaking

RULES = load_rules()
TYPES = EventTypes(RULES)
SCHEMAS = TYPES.schemas()
RELEASED = json.loads((Path(__file__).parent / "released_schemas.json").read_text("utf-8"))
NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("kind", sorted(k for k, rule in RULES.items() if not rule.made_here))
def test_each_rules_samples_are_written_as_its_schema_says(kind: str) -> None:
    rule, valid = RULES[kind], Draft202012Validator(SCHEMAS[f"{kind}.v1"])
    for sample in rule.samples(NOW):
        data = rule.Data.model_validate(sample.data)
        said = json.loads(data.model_dump_json())
        if sample.lines:
            assert rule.Line is not None
            parsed = [rule.Line.model_validate(one) for one in sample.lines]
            said["lines"] = [json.loads(one.model_dump_json()) for one in parsed]
        valid.validate(said)
        said.pop("lines", None)
        assert rule.Data.model_validate(said) == data, "what is written so is read the same"


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_nothing_that_a_producer_writes_is_broken(name: str) -> None:
    assert name in SCHEMAS, "a version that producers use is no longer there"

    assert list(breaking(RELEASED[name], SCHEMAS[name])) == []


def test_every_schema_is_released_or_new() -> None:
    assert set(RELEASED) <= set(SCHEMAS)


Change = Callable[[dict[str, Any]], Any]
CHANGES: dict[str, Change] = {
    "a field is gone": lambda s: s["properties"].pop("currency"),
    "a field must be there": lambda s: s["required"].append("url"),
    "a value of a list is gone": lambda s: s["$defs"]["Medium"]["enum"].remove("PAPER"),
    "another type": lambda s: s["properties"]["amount_incl_tax"].update(anyOf=[{"type": "number"}]),
    "null isn't taken": lambda s: s["properties"].update(url={"type": "string"}),
    "shorter": lambda s: s["properties"]["currency"].update(maxLength=2),
    "a pattern": lambda s: s["properties"]["currency"].update(pattern="^[A-Z]+$"),
    "fewer lines": lambda s: s["properties"]["lines"].update(maxItems=10),
    "a line's field is gone": lambda s: s["$defs"]["Line"]["properties"].pop("unit"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_each_kind_of_breaking_change_is_noticed(change: Change) -> None:
    old = SCHEMAS["payment.v1"]
    new = copy.deepcopy(old)
    change(new)

    assert len(list(breaking(old, new))) == 1
    assert list(breaking(old, copy.deepcopy(old))) == []


def test_what_widens_a_schema_breaks_nobody() -> None:
    old = SCHEMAS["payment.v1"]
    new = copy.deepcopy(old)
    new["properties"]["remark"] = {"type": "string"}
    new["$defs"]["Medium"]["enum"].append("FAX")
    new["required"].remove("amount_incl_tax")

    assert list(breaking(old, new)) == []


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    for one in part if isinstance(part, list) else ():
        yield from _references(one)


def test_the_queues_document_leads_nowhere_wrong() -> None:
    document = asyncapi(TYPES, "1")
    for reference in set(_references(document)):
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/")]
        assert isinstance(found, dict), reference

    assert document["asyncapi"].startswith("3.")
    assert {one.name for one in TYPES} <= set(document["channels"]["events"]["messages"])


def test_an_event_holds_by_the_queues_document_and_by_no_other_types() -> None:
    document = asyncapi(TYPES, "1")
    payment = next(iter(RULES["payment"].samples(NOW)))
    data = RULES["payment"].Data.model_validate(payment.data)
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "billing",
        "type": "duewatch.payment.opened.v1",
        "data": json.loads(data.model_dump_json()),
    }

    def holds(name: str) -> bool:
        payload = document["components"]["messages"][name]["payload"]
        whole = {**payload, "components": document["components"]}
        return bool(Draft202012Validator(whole).is_valid(event))

    assert holds("duewatch.payment.opened.v1")
    assert not holds("duewatch.payment.closed.v1")
    assert not holds("duewatch.statement.opened.v1")
