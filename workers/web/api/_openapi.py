"""OpenAPI 3.1, made from the declarations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from workers.tokens import MEANING
from workers.web.api._operation import Nothing, Operation
from workers.web.api._reading import is_needed
from workers.web.problem_types import PROBLEM, PROBLEM_TYPES

PROBLEM_MEDIA = "application/problem+json"
_AT_REF = "#/components/schemas/"
_EVERYWHERE = ("internal", "database-away", "unavailable")
_WITH_TOKEN = ("token", "token-in-query", "scope", "only-from-here", "too-many", "bad-request")
_INTRODUCTION = """\
Everything that is done by the command line, for programs. Instants are RFC 3339 with a zone and
come back as UTC; amounts are text, never floating point.

Errors are problem details (RFC 9457); `type` is stable. 4xx: correct the request, sending it again
as it is changes nothing. 429 and 503: send the same again after `Retry-After`; 500: once it is
mended. POSTs take an `Idempotency-Key`: the same request again gets the same answer for 24 hours
and does nothing again.

Lists go on by `cursor`: take `next` of the page before, with the same filters. What comes in
meanwhile neither repeats nor hides anything."""


def openapi(operations: Sequence[Operation], base_url: str = "") -> dict[str, Any]:
    """The document. `base_url` is where the server is reached; empty: where the document is."""
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    problems: dict[tuple[str, ...], str] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, problems)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Duewatch",
            "version": version("duewatch"),
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base_url or "/"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(tag_of(one) for one in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {name: _problem(names) for names, name in problems.items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "dw_…: `duewatch tokens create`, or the value of "
                    "web.api_token. Scopes: "
                    + "; ".join(f"`{scope}` {words}" for scope, words in MEANING.items())
                    + ".",
                }
            },
        },
    }


def tag_of(one: Operation) -> str:
    """The resource that an operation is about: the first word of its path."""
    return one.path.removeprefix("/v1/").strip("/").partition("/")[0]


def problems_of(one: Operation) -> list[str]:
    """The names of all problems that an operation may end with, by status."""
    return sorted({*_problems(one)}, key=lambda name: (PROBLEM_TYPES[name].status, name))


def _problems(one: Operation) -> Iterator[str]:
    yield from (*_EVERYWHERE, *one.problems)
    if one.open:
        return
    yield from (*_WITH_TOKEN, "invalid-parameter")
    if one.method != "POST":
        return
    yield "cross-site"
    if not (one.raw and one.raw.bodies):
        yield from ("invalid-body", "too-large", "too-slow", "bad-body", "content-encoding")
        yield from ("idempotency-key", "invalid-json", "media-type")
        if one.repeats:
            yield from ("idempotency-in-progress", "idempotency-reused")


def _operation(one: Operation, problems: dict[tuple[str, ...], str]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [tag_of(one)],
    }
    scope = f"Scope: `{one.scope}`." if one.scope else "" if one.open else "Any token will do."
    if text := "\n\n".join(part for part in (one.text, scope) if part):
        said["description"] = text
    if one.open:
        said["security"] = []
    if parameters := [*_parameters(one)]:
        said["parameters"] = parameters
    if one.raw is not None and one.raw.bodies:
        content = {media: {"schema": dict(body)} for media, body in one.raw.bodies.items()}
        said["requestBody"] = {"required": True, "content": content}
    elif one.body is not None:
        said["requestBody"] = {
            "required": is_needed(one.body),
            "content": {"application/json": {"schema": {"$ref": _AT_REF + one.body.__name__}}},
        }
    said["responses"] = _responses(one, problems)
    return said


def _parameters(one: Operation) -> Iterator[dict[str, Any]]:
    for where, model in (("path", one.place), ("query", one.query)):
        if model is Nothing:
            continue
        schema = model.model_json_schema(ref_template=_AT_REF + "{model}")
        for name, part in schema["properties"].items():
            part = {key: value for key, value in part.items() if key != "title"}
            description = part.pop("description", "")
            needed = where == "path" or name in schema.get("required", ())
            if not needed:
                part = _without_null(part)
            yield {
                "name": name,
                "in": where,
                "required": needed,
                **({"description": description} if description else {}),
                "schema": part,
            }
    if one.method == "POST" and one.repeats and not (one.raw and one.raw.bodies) and not one.open:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Another for each thing to be done; known for 24 hours.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    if one.tag:
        yield {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "The ETag of what you have: 304 while it is the same.",
            "schema": {"type": "string"},
        }


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """What may be left out isn't sent as null: an address has no such value."""
    options = [one for one in part.get("anyOf", ()) if one.get("type") != "null"]
    if len(options) == 1:
        part = {key: value for key, value in part.items() if key not in {"anyOf", "default"}}
        part |= {key: value for key, value in options[0].items() if key != "title"}
    if part.get("default", "") is None:
        part.pop("default")
    return part


def _responses(one: Operation, problems: dict[tuple[str, ...], str]) -> dict[str, Any]:
    """What it may answer; each set of problems stands once, in the components."""
    well: dict[str, Any] = {"description": one.summary}
    if one.raw is not None and one.raw.answers:
        well["content"] = {
            media: {"schema": dict(schema)} for media, schema in one.raw.answers.items()
        }
    elif one.answer is not None:
        schema = {"$ref": _AT_REF + one.answer.__name__}
        well["content"] = {"application/json": {"schema": schema}}
    if one.tag:
        well["headers"] = {"ETag": {"schema": {"type": "string"}}}
    found = {str(one.status): well}
    if one.tag:
        found["304"] = {"description": "What you have is as it stands."}
    by_status: dict[int, list[str]] = {}
    for name in problems_of(one):
        by_status.setdefault(PROBLEM_TYPES[name].status, []).append(name)
    for status, names in by_status.items():
        several = sum(PROBLEM_TYPES[known[0]].status == status for known in problems)
        usual = f"Problems{status}" + (f"_{several + 1}" if several else "")
        name = problems.setdefault(tuple(names), usual)
        found[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return found


def _problem(names: Sequence[str]) -> dict[str, Any]:
    status = PROBLEM_TYPES[names[0]].status
    lines = [f"- `{PROBLEM}{name}`: {PROBLEM_TYPES[name].title}" for name in names]
    said: dict[str, Any] = {
        "description": "\n".join(lines),
        "content": {
            PROBLEM_MEDIA: {
                "schema": {
                    "allOf": [
                        {"$ref": _AT_REF + "Problem"},
                        {"properties": {"type": {"enum": [PROBLEM + name for name in names]}}},
                    ]
                }
            }
        },
    }
    if status in {429, 503} or "idempotency-in-progress" in names:
        said["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
        }
    return said


_PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457. `type` is one of a fixed list and never changes its meaning.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [PROBLEM + name for name in PROBLEM_TYPES]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong this time, and the remedy."},
        "errors": {
            "type": "array",
            "description": "Each fault, by JSON pointer (`field`) or name (`parameter`).",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "field": {"type": "string"},
                    "parameter": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
        "quarantine": {
            "type": "integer",
            "description": "The number under which the event that was refused is kept.",
        },
    },
}


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    wanted: dict[tuple[type[BaseModel], Literal["validation", "serialization"]], None] = {}
    for one in operations:
        if one.body is not None:
            wanted[one.body, "validation"] = None
        if one.answer is not None:
            wanted[one.answer, "serialization"] = None
    _, found = models_json_schema([*wanted], ref_template=_AT_REF + "{model}")
    return {"Problem": dict(_PROBLEM), **_plain(found.get("$defs", {}))}


def _plain(schema: Any) -> Any:
    """Without the titles that are made of field names."""
    if isinstance(schema, dict):
        return {
            key: {name: _plain(part) for name, part in value.items()}
            if key == "properties"
            else _plain(value)
            for key, value in schema.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema
