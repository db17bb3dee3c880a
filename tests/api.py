"""The API on a socket, as programs see it: JSON in, JSON out, by a token or from this machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.fakes.clock import FakeClock
from tests.product import opened
from workers.app import App
from workers.settings import Web
from workers.tokens import make
from workers.web import serve

API_TOKEN = "open-sesame-1234"
TYPE = "urn:duewatch:problem:"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer: `json` is its body where that is JSON, else None."""

    status: int
    headers: Any
    text: str
    json: Any

    @property
    def problem(self) -> str:
        """The problem's name, or ""."""
        return str(self.json["type"]).removeprefix(TYPE) if self.status >= 400 else ""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that asks the API."""

    app: App
    url: str
    client: aiohttp.ClientSession

    async def __call__(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> Answered:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            said["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            said.setdefault("Content-Type", "application/json")
        async with self.client.request(
            method, self.url + path, data=data, headers=said, allow_redirects=False
        ) as got:
            text = await got.text(errors="replace")
            is_json = "json" in got.headers.get("Content-Type", "")
            return Answered(got.status, got.headers, text, json.loads(text) if is_json else None)

    async def token(self, *scopes: str, name: str = "", **more: Any) -> str:
        """A new token with these scopes."""
        made = await make(
            self.app,
            name or f"of {' '.join(scopes)}"[:80].replace(":", "."),
            scopes,
            more.get("kinds"),
            more.get("expires_at"),
            "test",
        )
        return made.text


@asynccontextmanager
async def asked(
    url: str, clock: FakeClock, *, api_token: str | None = None, **settings: Any
) -> AsyncIterator[Program]:
    """The product with its server on a port of its own, and a program on this machine."""
    web = Web(port=0, api_token=api_token)
    async with (
        opened(url, clock, web=web, **settings) as app,
        serve(app) as (host, port),
        aiohttp.ClientSession() as client,
    ):
        yield Program(app, f"http://{host}:{port}", client)
