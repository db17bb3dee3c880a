"""What goes wrong, said as RFC 9457 problems to programs and as pages to people; safe headers.

The caller's faults are 4xx and name the field and the remedy; ours are 5xx; a database that is
away is 503 with Retry-After, and sending the same again is safe. `type` is stable: a URN.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import web

from workers.errors import (
    CallerError,
    HeldError,
    StateError,
    UnavailableError,
    UnknownThingError,
)
from workers.render.pages import Pages
from workers.store import is_away
from workers.store.origin import ORIGIN
from workers.web.problem_types import PROBLEM, PROBLEM_TYPES

log = structlog.get_logger("web")

RETRY_AFTER_S = 5
BODY_TIMEOUT_S = 30.0
"""A sender that hasn't sent its whole body by then is refused."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

PAGES = web.AppKey("pages", Pages)
LANGUAGE_COOKIE = "__Host-duewatch-language"
REQUESTS = web.AppKey("requests", Counter[tuple[str, str, str]])
"""Answers by route, method and status: the route's pattern, never the path, which may be secret."""

SAFE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FOR_PROGRAMS = ("/v1", "/callbacks", "/openapi.json")
_BY_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    417: "expectation-failed",
}


class ProblemError(Exception):
    """Ends a request with a problem of PROBLEM_TYPES, by name.

    `detail` says what is wrong this time; without it the type's remedy stands there. `extra` are
    members beside those of the RFC.
    """

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        kind = PROBLEM_TYPES[name]
        super().__init__(kind.title)
        self.status = kind.status
        self.said = detail
        self.headers = dict(headers or {})
        self.body = {
            "type": PROBLEM + name,
            "title": kind.title,
            "status": kind.status,
            "detail": detail or kind.remedy,
            **extra,
        }


def json_answer(
    content: Mapping[str, Any], *, status: int = 200, media: str = "application/json"
) -> web.Response:
    """JSON in UTF-8, letters as they are."""
    body = json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "replace") + b"\n"
    return web.Response(status=status, body=body, content_type=media)


def page(
    request: web.Request, template: str, *, status: int = 200, language: str = "", **values: Any
) -> web.Response:
    """A page of templates/console in the reader's language."""
    pages = request.app[PAGES]
    language = language or reader_language(request)
    text = pages.render(template, language, **values)
    return web.Response(
        status=status,
        text=text,
        content_type="text/html",
        headers={"Vary": "Accept-Language", "Content-Language": language},
    )


def download(content: bytes, name: str) -> web.Response:
    """A file to be saved, which runs nothing wherever it is opened."""
    return web.Response(
        body=content,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


def notice(
    request: web.Request, status: int, words: str, *, language: str = "", **values: Any
) -> web.Response:
    """A page that says one thing: its title, what it means and what to do are words by name."""
    fills = {"contact": "", **values}
    return page(request, "notice.html", status=status, language=language, name=words, **fills)


def reader_language(request: web.Request) -> str:
    """The language that somebody chose in the console, else the one their browser likes best."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    accepted = chosen[:35] or request.headers.get("Accept-Language", "")
    return request.app[PAGES].language(accepted)


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body. Raises ProblemError when it is encoded, larger than `limit`, or too slow."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise ProblemError("content-encoding")
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.content.iter_any():
                found += part
                if len(found) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise ProblemError(
            "too-slow",
            f"Send the whole body within {BODY_TIMEOUT_S:.0f} seconds.",
            headers={"Connection": "close"},
        ) from None
    except (ConnectionResetError, web.RequestPayloadError):
        # Said here, where it can only be the sender's connection: a database may break off too.
        raise ProblemError("bad-body") from None
    return bytes(found)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        "too-large",
        f"At most {limit} bytes: split it.",
        headers={"Connection": "close"},
        limit_bytes=limit,
    )


Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def answer_safely(request: web.Request, handler: Next) -> web.StreamResponse:
    """Outermost: every error becomes an answer, every answer has safe headers and is counted."""
    ORIGIN.set(request.remote or "")
    try:
        answer = await handler(request)
    except web.HTTPRedirection as error:
        answer = web.Response(status=error.status, headers={"Location": error.headers["Location"]})
    except web.HTTPException as error:
        answer = _said(request, _of_http(error))
    except ProblemError as error:
        answer = _said(request, error)
    except (CallerError, HeldError) as error:
        answer = _said(request, of_caller(error))
    except Exception as error:
        answer = _said(request, _ours(request, error))
    if not answer.prepared:
        for name, value in SAFE_HEADERS.items():
            answer.headers.setdefault(name, value)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    method = request.method if request.method in METHODS else "other"
    request.app[REQUESTS][route, method, str(answer.status)] += 1
    return answer


def _ours(request: web.Request, error: Exception) -> ProblemError:
    later = {"Retry-After": str(RETRY_AFTER_S)}
    if is_away(error):
        log.error("database away", error=type(error).__name__)
        return ProblemError("database-away", headers=later)
    if isinstance(error, UnavailableError):
        return ProblemError("unavailable", str(error), headers=later)
    resource = request.match_info.route.resource
    # The route's pattern and the place in the code, not the values: those may be personal.
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame else ""
    log.error(
        "request failed",
        route=resource.canonical if resource is not None else "none",
        error=type(error).__name__,
        where=where,
    )
    return ProblemError("internal")


def of_caller(error: CallerError | HeldError) -> ProblemError:
    """The problem that an error of the caller's is told as."""
    if isinstance(error, UnknownThingError):
        return ProblemError("not-found", str(error))
    if isinstance(error, StateError):
        return ProblemError("state", str(error))
    if isinstance(error, HeldError):
        return ProblemError("held", str(error))
    return ProblemError("bad-request", str(error))


def _of_http(error: web.HTTPException) -> ProblemError:
    kept = {key: error.headers[key] for key in ("Allow", "Location") if key in error.headers}
    return ProblemError(_BY_STATUS.get(error.status, "bad-request"), headers=kept)


def _said(request: web.Request, problem: ProblemError) -> web.Response:
    """To programs as JSON, to people's browsers as a page."""
    for_people = "text/html" in request.headers.get("Accept", "")
    if for_people and not request.path.startswith(_FOR_PROGRAMS):
        known = {401: "refused", 403: "refused", 404: "missing", 503: "away"}
        name = known.get(problem.status, "wrong" if problem.status < 500 else "broken")
        answer = notice(request, problem.status, name, detail=problem.said)
    else:
        answer = json_answer(problem.body, status=problem.status, media="application/problem+json")
    answer.headers.update(problem.headers)
    return answer
