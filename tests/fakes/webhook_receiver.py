"""A receiver of webhooks on a real socket: keeps what it got, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G"


@dataclass(frozen=True, slots=True)
class Got:
    """One request: its headers and body, and when it came (the loop's time, s)."""

    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def uid(self) -> str:
        """Which message it is, however often it comes."""
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """`status` answers each request, or a function of it; `wait_s` goes by before."""

    status: int | Callable[[Got], int] = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    wait_s: float = 0.0
    got: list[Got] = field(default_factory=list)
    port: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reached(self, count: int, limit_s: float = 60.0) -> None:
        """Waits until it got so many. Raises TimeoutError."""
        async with asyncio.timeout(limit_s), self._came:
            await self._came.wait_for(lambda: len(self.got) >= count)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/told"

    @property
    def words(self) -> list[str]:
        """What it was told, in order: `accepted`, `delivered` …"""
        return [one.event["type"].split(".")[2] for one in self.got]

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings of an endpoint that leads here."""
        return {"url": self.url, "secret": SECRET, "private_host": "127.0.0.1", **more}

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        one = Got(headers, await request.read(), asyncio.get_running_loop().time())
        self.got.append(one)
        async with self._came:
            self._came.notify_all()
        await asyncio.sleep(self.wait_s)
        status = self.status(one) if callable(self.status) else self.status
        return web.Response(status=status, headers=self.headers, body=self.body)

    async def __aenter__(self) -> Receiver:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
