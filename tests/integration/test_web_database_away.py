"""The web server while its database is away: 503 with Retry-After, and back by itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp
from sqlalchemy import make_url

from tests.fakes.clock import FakeClock
from tests.integration.test_events import SINGLE, event
from tests.product import opened
from workers.settings import Web
from workers.web import serve


class Wire:
    """A TCP connection to the database that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        """Listens (again) on the same port."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drops every connection and refuses new ones."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._there)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        writer.close()


async def test_a_database_that_is_away_is_our_fault_and_passes(
    postgres_url: str, clock: FakeClock
) -> None:
    url = make_url(postgres_url)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    await wire.mend()
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    async with (
        opened(through.replace("+asyncpg", ""), clock, web=Web(port=0)) as app,
        serve(app) as (host, port),
        aiohttp.ClientSession() as client,
    ):
        base = f"http://{host}:{port}"

        async def post() -> tuple[int, str | None]:
            async with client.post(
                f"{base}/v1/events", data=json.dumps(event()), headers=SINGLE
            ) as got:
                return got.status, got.headers.get("Retry-After")

        async def ready() -> int:
            async with client.get(f"{base}/readyz") as got:
                return got.status

        assert await ready() == 200
        await wire.cut()
        assert await post() == (503, "5")
        assert await ready() == 503
        await wire.mend()
        assert (await post())[0] == 200
        assert await ready() == 200
