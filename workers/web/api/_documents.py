"""/openapi.json, and /docs: the same as a page for people, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from workers.app import App
from workers.tokens import MEANING
from workers.web.access import Access
from workers.web.api._openapi import openapi, problems_of, tag_of
from workers.web.api._operation import Operation
from workers.web.problem_types import PROBLEM, PROBLEM_TYPES
from workers.web.problems import json_answer, page


class Documents:
    """What the API says of itself. Both need a token like the rest, of whatever scope."""

    def __init__(self, app: App, access: Access, operations: Sequence[Operation]) -> None:
        self._access = access
        self._operations = operations
        self._document = openapi(operations, app.settings.public_url.rstrip("/"))

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/openapi.json", self._openapi)
        router.add_get("/docs", self._page)

    async def _openapi(self, request: web.Request) -> web.Response:
        await self._access.caller(request, pages=True)
        return json_answer(self._document)

    async def _page(self, request: web.Request) -> web.Response:
        await self._access.caller(request, pages=True)
        groups: dict[str, list[dict[str, Any]]] = {}
        for one in self._operations:
            groups.setdefault(tag_of(one), []).append(self._shown(one))
        return page(
            request,
            "api.html",
            groups=groups,
            scopes=[(scope.value, words) for scope, words in MEANING.items()],
            problems=[(PROBLEM + name, one) for name, one in PROBLEM_TYPES.items()],
            version=self._document["info"]["version"],
        )

    def _shown(self, one: Operation) -> dict[str, Any]:
        said = self._document["paths"][one.path][one.method.lower()]
        schemas = self._document["components"]["schemas"]
        answer = schemas.get(one.answer.__name__, {}) if one.answer else {}
        return {
            "id": one.name,
            "method": one.method,
            "path": one.path,
            "summary": one.summary,
            "text": one.text,
            "scope": one.scope.value if one.scope else "",
            "open": one.open,
            "parameters": [
                (
                    part["name"],
                    part["in"],
                    part["required"],
                    _words(part["schema"], schemas),
                    part.get("description", ""),
                )
                for part in said.get("parameters", ())
            ],
            "body": _fields(schemas.get(one.body.__name__, {}), schemas) if one.body else [],
            "media": [*one.raw.bodies] if one.raw else [],
            "status": one.status,
            "answer": _fields(_item(answer, schemas), schemas),
            "many": _item(answer, schemas) is not answer,
            "problems": [
                (name, PROBLEM_TYPES[name].status)
                for name in problems_of(one)
                if name in one.problems
            ],
        }


def _item(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Of a list's answer the item, else the answer itself."""
    properties = schema.get("properties", {})
    if {*properties} != {"items", "next"}:
        return schema
    found: dict[str, Any] = schemas[properties["items"]["items"]["$ref"].rpartition("/")[2]]
    return found


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[tuple[str, bool, str, str]]:
    needed = schema.get("required", ())
    return [
        (name, name in needed, _words(part, schemas), part.get("description", ""))
        for name, part in schema.get("properties", {}).items()
    ]


def _words(part: dict[str, Any], schemas: dict[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        found = schemas.get(name, {})
        return _words(found, schemas) if "enum" in found else name
    if "enum" in part:
        return " | ".join(str(one) for one in part["enum"])
    if "const" in part:
        return str(part["const"])
    if "anyOf" in part:
        return " | ".join(dict.fromkeys(_words(one, schemas) for one in part["anyOf"]))
    if part.get("type") == "array":
        return f"list of {_words(part.get('items', {}), schemas)}"
    kind = {"string": "text", "integer": "number", "boolean": "true | false"}
    word = str(part.get("type", "anything"))
    return "time" if part.get("format") == "date-time" else kind.get(word, word)
