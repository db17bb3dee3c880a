"""The web server while its database is away: 503 with Retry-After, and back by itself."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import suppress
from typing import Self

import aiohttp
from sqlalchemy import URL, make_url

from tests.fakes.clock import FakeClock
from tests.integration.test_events import SINGLE, event
from tests.product import opened
from workers.settings import Web
from workers.web import serve


class Wire:
    """A TCP connection to the database that can be cut and mended; cut for good when left."""

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._server: asyncio.Server | None = None
        self._joined: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Listens (again) on the same port."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drops every connection and refuses new ones."""
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)  # what was accepted a moment ago joins, and is dropped too
        for task in self._joined:
            task.cancel()
        await asyncio.gather(*self._joined, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._joined.add(task)
        ends = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._there)
            ends.append(far_writer)
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            self._joined.discard(task)
            for end in ends:
                end.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


def _through(url: URL, wire: Wire) -> str:
    there = url.set(drivername="postgresql", host="127.0.0.1", port=wire.port)
    return there.render_as_string(hide_password=False)


async def test_a_database_that_is_away_is_our_fault_and_passes(
    postgres_url: str, clock: FakeClock
) -> None:
    url = make_url(postgres_url)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    async with (
        wire,
        opened(_through(url, wire), clock, web=Web(port=0)) as app,
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


async def test_a_database_that_breaks_connections_off_isnt_taken_for_a_sender_who_does(
    postgres_url: str, clock: FakeClock
) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    url = make_url(postgres_url)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    async with (
        wire,
        opened(_through(url, wire), clock, web=Web(port=0)) as app,
        serve(app) as (host, port),
        aiohttp.ClientSession() as client,
    ):
        await wire.cut()
        async with (
            await asyncio.start_server(reset, "127.0.0.1", wire.port),
            client.post(
                f"http://{host}:{port}/v1/events", data=json.dumps(event()), headers=SINGLE
            ) as got,
        ):
            said = (got.status, got.headers.get("Retry-After"))
        await wire.mend()

    assert said == (503, "5")
