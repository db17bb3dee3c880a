"""POST /v1/events: CloudEvents 1.0 over HTTP, one, many, or in binary mode.

A single event answers 200, or a problem: 400 not JSON, 409 conflict, 422 refused. A batch answers
200 when all were taken, else 422 with each event's result; the good ones are taken then too. What
is refused is kept in quarantine, as what comes by a queue is, and the answer gives its number.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import web

from workers import traces
from workers.app import App
from workers.envelope import Sender, read_json
from workers.errors import DuewatchError, InputError
from workers.events import EventResult
from workers.scan import Scan
from workers.store.quarantine import BY_HTTP, Quarantine, Refused
from workers.web.access import Caller
from workers.web.problem_types import PROBLEM, PROBLEM_TYPES
from workers.web.problems import ProblemError, json_answer, read_body

log = structlog.get_logger("events")

MAX_BODY_BYTES = 1024 * 1024
MAX_EVENTS = 1000
"""In one batch."""
SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
LONGEST_REST_S = 1.0
"""Between scans that events ask for without a pause."""
STOP_S = 30.0
"""How long a scan that an event began may still take when the server stops."""


class Scans:
    """Scans what events touched, after their answers; those that come meanwhile share the next."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._wanted: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def ask(self, kinds: set[str]) -> None:
        """Has the kinds scanned soon."""
        self._wanted |= kinds
        if self._wanted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Waits for what is under way; what isn't done within STOP_S is left to the clock."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_S)
            self._task.cancel()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        began = ended = clock()
        while self._wanted:
            # Where events keep coming, half of the time is theirs: a scan of few costs almost as
            # much as one of many.
            await asyncio.sleep(min(ended - began, LONGEST_REST_S))
            began = clock()
            kind = min(self._wanted)
            self._wanted.discard(kind)
            try:
                await self._scan.run(kind, trigger="event")
            except DuewatchError as error:
                log.info("no scan", kind=kind, why=str(error))
            except Exception as error:
                # The record is stored and due: the clock's next scan finds it.
                log.error("scan", kind=kind, error=type(error).__name__)
            ended = clock()


class Events:
    """The door for producers. `outcomes` counts events by what became of them."""

    def __init__(self, app: App) -> None:
        self._registry = app.registry
        self._intake = app.events
        self._quarantine = Quarantine(app.store.database)
        self._clock = app.clock
        self.scans = Scans(app.scan)
        self.outcomes: Counter[str] = Counter()

    async def post(self, request: web.Request, caller: Caller) -> web.Response:
        """Takes what a producer sends; `caller` was let in, and is held to its kinds."""
        sender = Sender(caller.name, caller.kinds)
        with traces.span("intake", parent=request.headers.get("traceparent")):
            return await self._read(request, sender)

    async def _read(self, request: web.Request, sender: Sender) -> web.Response:
        media = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            body = await read_body(request, MAX_BODY_BYTES)
        except ProblemError as problem:
            await self._keep_unread(problem, request, sender)
            raise
        if media == BATCH:
            return await self._batch(await self._json(body, sender), sender)
        if media == SINGLE:
            return await self._single(await self._json(body, sender), sender, body)
        if "ce-specversion" in request.headers and media in {"", "application/json"}:
            event = {**_attributes(request.headers), "data": await self._json(body, sender)}
            return await self._single(event, sender, _bytes(event))
        wanted = (
            f"Send Content-Type: {SINGLE} for one event, {BATCH} for several, or "
            "application/json with ce- headers."
        )
        raise ProblemError(
            "media-type",
            wanted,
            headers={"Accept-Post": f"{SINGLE}, {BATCH}, application/json"},
            quarantine=await self._keep(
                f"came as {media[:100] or 'no type'}. {wanted}", body, sender
            ),
        )

    async def _single(self, event: Any, sender: Sender, body: bytes) -> web.Response:
        (result,) = await self._take([event], sender)
        if result.well:
            return json_answer(_shown(result))
        raise _problem(result, quarantine=await self._keep(result.why, body, sender))

    async def _batch(self, events: Any, sender: Sender) -> web.Response:
        if not isinstance(events, list) or len(events) > MAX_EVENTS:
            wanted = f"a JSON array of at most {MAX_EVENTS} events"
            number = await self._keep(f"isn't {wanted}", _bytes(events), sender)
            raise ProblemError("invalid-batch", f"Send {wanted}.", quarantine=number)
        results = await self._take(events, sender)
        shown = [_shown(result) for result in results]
        if all(result.well for result in results):
            return json_answer({"results": shown})
        bad = [index for index, result in enumerate(results) if not result.well]
        door = BY_HTTP + sender.name
        refused = [Refused(door, results[index].why, _bytes(events[index])) for index in bad]
        numbers = await self._quarantine.keep_all(refused, self._clock())
        for index, number in zip(bad, numbers, strict=True):
            shown[index]["quarantine"] = number
        raise ProblemError(
            "partly-refused",
            f"{len(bad)} of {len(results)} events were refused; the others are taken. Correct "
            "those named in results and send them again.",
            results=shown,
        )

    async def _take(self, events: Sequence[Any], sender: Sender) -> list[EventResult]:
        results = await self._intake.take(events, sender)
        for result in results:
            self.outcomes[result.outcome if result.status == "taken" else result.status] += 1
        enabled = set(self._registry.enabled())
        self.scans.ask({kind for result in results for kind in result.kinds} & enabled)
        return results

    async def _json(self, body: bytes, sender: Sender) -> Any:
        try:
            return read_json(body)
        except InputError as error:
            number = await self._keep(str(error), body, sender)
            raise ProblemError("invalid-json", f"The body {error}.", quarantine=number) from None

    async def _keep(self, reason: str, body: bytes, sender: Sender) -> int:
        return await self._quarantine.keep(BY_HTTP + sender.name, reason, body, self._clock())

    async def _keep_unread(
        self, problem: ProblemError, request: web.Request, sender: Sender
    ) -> None:
        """Keeps that something came which is refused unread: of a body that is too large or
        compressed its size is known. One that broke off comes again.
        """
        kind = PROBLEM_TYPES[str(problem.body["type"]).removeprefix(PROBLEM)]
        if kind.again:
            return
        size = request.content_length
        problem.body["quarantine"] = await self._quarantine.keep(
            BY_HTTP + sender.name,
            f"{kind.title}: {problem.body['detail']}",
            b"",
            self._clock(),
            MAX_BODY_BYTES + 1 if size is None else size,
        )


def _bytes(said: Any) -> bytes:
    """What was said, written anew: numbers with a point as text, which models read alike."""
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "backslashreplace")


def _attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    """Attributes from ce- headers, percent-decoded (CloudEvents HTTP binding 1.0.2, 3.1.3.2)."""
    found = {
        name.lower().removeprefix("ce-"): unquote(value)
        for name, value in headers.items()
        if name.lower().startswith("ce-")
    }
    # `data` would stand where the body does.
    return {name: value for name, value in found.items() if name != "data"}


def _shown(result: EventResult) -> dict[str, Any]:
    shown: dict[str, Any] = {"source": result.source, "id": result.id, "status": result.status}
    if result.outcome:
        shown["outcome"] = result.outcome
    if not result.well:
        problem = _problem(result)
        shown["problem"] = problem.body
    return shown


def _problem(result: EventResult, **more: Any) -> ProblemError:
    errors = [{"field": fault.field, "detail": fault.detail} for fault in result.faults]
    if result.status == "conflict":
        return ProblemError("event-conflict", result.why, **more)
    return ProblemError("invalid-event", result.why, errors=errors, **more)
