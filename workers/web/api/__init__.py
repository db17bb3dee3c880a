"""The HTTP API: one file a resource, found by being here; each declares its operations.

To add one, write `<resource>.py` with `OPERATIONS`, a sequence of Operation. Its route, the check
of who may, the reading of its request, its OpenAPI and its place on /docs follow from the
declaration.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from workers.web.access import Access, Caller, require
from workers.web.api._documents import Documents
from workers.web.api._once import key_of, once
from workers.web.api._operation import Call, Doors, Operation
from workers.web.api._reading import read_place, read_query, read_request_body
from workers.web.problems import ProblemError, json_answer

MAX_AT_A_TIME = 200
"""Requests of one caller that are worked on at a time, by this process."""


def find_operations() -> list[Operation]:
    """All operations by path. Raises ValueError when two have the same route or name."""
    found: list[Operation] = []
    for module in sorted(one.name for one in pkgutil.iter_modules(__path__)):
        if not module.startswith("_"):
            found.extend(importlib.import_module(f"{__name__}.{module}").OPERATIONS)
    for what in ([(one.method, one.path) for one in found], [one.name for one in found]):
        twice = [str(key) for key, count in Counter(what).items() if count > 1]
        if twice:
            raise ValueError(f"declared twice in workers/web/api: {', '.join(twice)}")
    return found


class Api:
    """The operations' routes, and the documents made from them."""

    def __init__(self, doors: Doors, access: Access) -> None:
        self._doors = doors
        self._access = access
        self._at_work: Counter[str] = Counter()
        self.operations: Sequence[Operation] = find_operations()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        for operation in self.operations:
            router.add_route(operation.method, operation.path, self._answering(operation))
        Documents(self._doors.app, self._access, self.operations).add_to(router)

    def _answering(
        self, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            if operation.open:
                return await _done(operation, Call(self._doors, request, _NOBODY))
            caller = await self._access.caller(request)
            if request.method not in {"GET", "HEAD"}:
                self._access.check_sender(request)
            require(caller, operation.scope)
            if self._at_work[caller.id] >= MAX_AT_A_TIME:
                raise ProblemError("too-many", headers={"Retry-After": "1"})
            self._at_work[caller.id] += 1
            try:
                return await self._answer(operation, request, caller)
            finally:
                self._at_work[caller.id] -= 1

        return answer

    async def _answer(
        self, operation: Operation, request: web.Request, caller: Caller
    ) -> web.StreamResponse:
        place, query = read_place(operation, request), read_query(operation, request)
        if operation.raw is not None and operation.raw.bodies:
            return await _done(operation, Call(self._doors, request, caller, place, query))
        key = key_of(request) if operation.method == "POST" else None
        if key is not None and not operation.repeats:
            raise ProblemError("idempotency-key", operation.text)
        body, content = await read_request_body(operation, request)
        call = Call(self._doors, request, caller, place, query, body)
        if key is None:
            return await _done(operation, call)
        return await once(
            self._doors.app, caller, request, key, content, lambda: _done(operation, call)
        )


_NOBODY = Caller("nobody", "nobody", frozenset())


async def _done(operation: Operation, call: Call) -> web.Response:
    found: Any = await operation.work(call)
    if isinstance(found, web.Response):
        return found
    assert operation.answer is not None, f"{operation.name} declares no answer"
    said: BaseModel = operation.answer.model_validate(found, from_attributes=True)
    answer = json_answer(said.model_dump(mode="json"), status=operation.status)
    if operation.tag:
        assert isinstance(answer.body, bytes)
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
        if call.request.method in {"GET", "HEAD"} and _has(call.request, tag):
            answer = web.Response(status=304)
        answer.headers["ETag"] = tag
    return answer


def _has(request: web.Request, tag: str) -> bool:
    """Whether the caller has what would be answered (RFC 9110, 13.1.2: weak comparison)."""
    wished = request.headers.get("If-None-Match", "")
    return wished.strip() == "*" or tag in {
        one.strip().removeprefix("W/") for one in wished.split(",")
    }
