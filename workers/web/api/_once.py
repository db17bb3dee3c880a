"""Idempotency-Key: the same request again gets the same answer, and does nothing again.

As in draft-ietf-httpapi-idempotency-key-header-07. A key belongs to its caller and is known for a
day. What came to nothing by our fault (5xx, 429) may be sent again with its key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from workers.app import App
from workers.errors import CallerError, HeldError
from workers.web.access import Caller
from workers.web.problems import ProblemError, json_answer, of_caller

log = structlog.get_logger("api")

HEADER: Final = "Idempotency-Key"
REPEATED: Final = "Idempotency-Replayed"
MAX_KEY = 255
_KEPT_HEADERS = ("Content-Type", "ETag", "Location")


def key_of(request: web.Request) -> str | None:
    """The request's key, or None. Raises ProblemError 400 for one that can't be used.

    The draft has it in double quotes (a string of RFC 9651); it is taken without them too.
    """
    given = request.headers.getall(HEADER, [])
    if not given:
        return None
    key = given[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or not 1 <= len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise ProblemError("idempotency-key")
    return key


async def once(
    app: App,
    caller: Caller,
    request: web.Request,
    key: str,
    body: bytes,
    work: Callable[[], Awaitable[web.Response]],
) -> web.Response:
    """The answer of `work`, or that of the first request with this key.

    Raises ProblemError 409 while the first is being worked on, 422 when it was another request.
    """
    answers = app.store.answers
    marked = hashlib.sha256(key.encode()).hexdigest()
    mark = hashlib.sha256(f"{request.method} {request.path_qs}\n".encode() + body).hexdigest()
    before = await answers.begin(caller.id, marked, mark, app.clock())
    if before is not None:
        if before.mark != mark:
            raise ProblemError("idempotency-reused")
        if before.status is None:
            raise ProblemError("idempotency-in-progress", headers={"Retry-After": "1"})
        return web.Response(
            status=before.status, text=before.body, headers={**before.headers, REPEATED: "true"}
        )
    try:
        answer = await _answered(work)
    except BaseException:
        await answers.forget(caller.id, marked)
        raise
    kept = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    await answers.end(caller.id, marked, answer.status, answer.text or "", kept)
    return answer


async def _answered(work: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """The answer of the work, the caller's faults too: those would be the same again."""
    try:
        return await work()
    except (CallerError, HeldError) as error:
        problem = of_caller(error)
    except ProblemError as error:
        if error.status in {429} or error.status >= 500:
            raise
        problem = error
    answer = json_answer(problem.body, status=problem.status, media="application/problem+json")
    answer.headers.update(problem.headers)
    return answer
