"""The queues as an AsyncAPI 3.0 document: what may be written where, and in which form."""

from __future__ import annotations

from typing import Any

from workers.envelope import MAX_EVENT_BYTES, SEALED
from workers.event_types import EventTypes
from workers.tasks.letters import ARGUMENTS, EVENT, EVENTS, MAX_LETTER_BYTES, QUEUES, SCAN

_TEXT = {"type": "string", "minLength": 1}


def asyncapi(types: EventTypes, version: str) -> dict[str, Any]:
    """The document. `version` is Duewatch's own; the data's schemas come from the rules."""
    schemas = types.schemas()
    events = {
        one.name: {
            "name": one.name,
            "title": f"{one.title}: {one.verb}",
            "contentType": "application/cloudevents+json",
            "payload": _event(one.name, one.schema),
        }
        for one in types
    }
    own = {
        "sealed": {
            "name": "sealed",
            "title": "A CloudEvent under a producer's seal",
            "contentType": "application/json",
            "payload": _sealed(),
        },
        "dramatiq": {
            "name": "dramatiq",
            "title": "A CloudEvent, or a sealed one, as a Dramatiq message",
            "contentType": "application/json",
            "payload": _dramatiq(EVENT, {"type": "object"}),
        },
        "scan": {
            "name": "scan",
            "title": "A wish that a kind be scanned, as a Dramatiq message",
            "contentType": "application/json",
            "payload": _dramatiq(SCAN, {"type": "string"}),
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Duewatch",
            "version": version,
            "license": {"name": "Apache-2.0"},
            "description": (
                "Events come by a queue of Redis or RabbitMQ, and are acknowledged once what they "
                "say is stored. The same (source, id) again has no effect. What can't be taken is "
                "put aside with the reason, and can be taken later."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": EVENTS,
                "title": "What producers say",
                "description": f"At most {MAX_EVENT_BYTES} bytes an event, "
                f"{MAX_LETTER_BYTES} a message.",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"}
                    for name in [*events, "sealed", "dramatiq"]
                },
            },
            "scans": {
                "address": QUEUES[SCAN],
                "title": "Wishes",
                "messages": {"scan": {"$ref": "#/components/messages/scan"}},
            },
        },
        "operations": {
            "takeEvent": {"action": "receive", "channel": {"$ref": "#/channels/events"}},
            "takeWish": {"action": "receive", "channel": {"$ref": "#/channels/scans"}},
        },
        "components": {
            "messages": {**events, **own},
            "schemas": {name: _within(schema, name) for name, schema in schemas.items()},
        },
    }


def _event(name: str, schema: str) -> dict[str, Any]:
    return {
        "allOf": [
            {"$ref": "#/components/schemas/cloudevent"},
            {
                "properties": {
                    "type": {"const": name},
                    "data": {"$ref": f"#/components/schemas/{schema}"},
                }
            },
        ]
    }


def _sealed() -> dict[str, Any]:
    named = ("producer", "key", "id", "body", "signature")
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["sealed", *named, "time"],
        "properties": {
            "sealed": {"const": SEALED},
            **dict.fromkeys(named, _TEXT),
            "time": {"type": "string", "format": "date-time"},
        },
    }


def _dramatiq(actor: str, argument: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["queue_name", "actor_name", "args", "kwargs", "options", "message_id"],
        "properties": {
            "queue_name": {"const": QUEUES[actor]},
            "actor_name": {"const": actor},
            "args": {"type": "array", "maxItems": 1, "items": argument},
            "kwargs": {"type": "object", "properties": {ARGUMENTS[actor]: argument}},
            "options": {"type": "object"},
            "message_id": _TEXT,
            "message_timestamp": {"type": "integer", "description": "Milliseconds since 1970."},
        },
    }


def _within(schema: Any, name: str) -> Any:
    """A schema moved into the document: its own definitions stay within it."""
    if isinstance(schema, dict):
        return {
            key: f"#/components/schemas/{name}{value[1:]}"
            if key == "$ref" and isinstance(value, str)
            else _within(value, name)
            for key, value in schema.items()
            if key not in {"$schema", "$id"}
        }
    return [_within(one, name) for one in schema] if isinstance(schema, list) else schema
