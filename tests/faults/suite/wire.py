"""A TCP wire between the product and a server, whose bytes can be held up or watched.

Held up, both ends still believe in their connection, as in a network that lost its way: nothing is
refused, nothing is closed, nothing arrives. What was on its way comes when it is mended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

Heard = Callable[[bytes], Awaitable[None]]
_INSERTED = re.compile(rb"INSERT 0 (\d+)\x00")


class Wire:
    """Entered, it listens on `port` of this machine and leads to `there`, a port of it too.

    `answered` is awaited with what the server says, before it is passed on; the connection is kept
    waiting meanwhile.
    """

    def __init__(self, there: int, answered: Heard | None = None) -> None:
        self.port = 0
        self.carried_after_mending = 0
        """Bytes, in both directions."""
        self._there = there
        self._answered = answered
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def hold(self) -> None:
        """From now on nothing passes, in either direction; who connects hears nothing."""
        self._open.clear()

    def mend(self, *, break_old: bool = False) -> None:
        """All passes again; `break_old` resets what was connected, as a firewall does that forgot
        it.
        """
        if break_old:
            for end in self._ends:
                end.transport.abort()
        self.carried_after_mending = 0
        self._open.set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        ends = [writer]
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._there)
            ends.append(far_writer)
            self._ends.update(ends)
            await asyncio.gather(
                self._carry(reader, far_writer, None),
                self._carry(far_reader, writer, self._answered),
            )
        except (OSError, asyncio.CancelledError):
            # Cancelled it is when the wire is taken down; asyncio would report that as a fault.
            pass
        finally:
            self._carrying.discard(task)
            self._ends.difference_update(ends)
            for end in ends:
                end.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard | None
    ) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                if heard is not None:
                    await heard(part)
                await self._open.wait()
                writer.write(part)
                self.carried_after_mending += len(part)
                await writer.drain()
        await self._open.wait()
        writer.close()


def rows_written(said: bytes) -> int:
    """How many rows PostgreSQL says that it has inserted (CommandComplete, "INSERT 0 500")."""
    return sum(int(count) for count in _INSERTED.findall(said))
