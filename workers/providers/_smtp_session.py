"""One SMTP connection after its greeting, encryption and login: what is said, and replies in order.

aiosmtplib makes the connection; from then on this protocol reads from its transport, because a mail
should cost two round trips where the relay takes several commands at once (RFC 2920), and no task
of its own for each reply. A reply that nobody waits for, one that is no SMTP and one without an end
make the connection useless: what came next would be taken for another answer.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import cast

import aiosmtplib

MAX_REPLY_BYTES = 64 * 1024
"""Octets of a reply with all its lines; RFC 5321 4.5.3.1.5 has 512 a line."""
_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)


class Lost(Exception):
    """The connection is of no more use. The text is what happened: no answer in time, an answer
    that isn't SMTP, or connection closed.
    """


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said: `code` from 200 to 599, `message` its lines joined by line feeds."""

    code: int
    message: str


class Session(asyncio.Protocol):
    """Says commands and hands out the replies to them, in order.

    `reused` and `last_used` (seconds of the loop's clock) are the pool's notes.
    """

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        """Takes a connected client's transport over. Raises Lost when it is gone already."""
        transport = client.transport
        if transport is None or transport.is_closing():
            raise Lost("connection closed")
        self._client = client  # it is closed with its last reference
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._size = 0
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._fault = ""
        self.outstanding = 0
        """How many replies are still to come to what was said."""
        self.reused = False
        self.last_used = 0.0
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether nothing is known against using it, and nobody waits for an answer."""
        return not self._fault and not self.outstanding and not self._transport.is_closing()

    def offers(self, extension: str) -> bool:
        """Whether the server said so in answer to EHLO."""
        return self._client.supports_extension(extension)

    @property
    def unsent(self) -> int:
        """Octets that are said and not yet gone out."""
        return int(self._transport.get_write_buffer_size())

    def say(self, *commands: bytes) -> None:
        """Writes commands, each with its line end; a reply is due to each. Raises Lost."""
        self._write(b"".join(command + b"\r\n" for command in commands))
        self.outstanding += len(commands)

    def content(self, data: bytes) -> None:
        """Writes a message with its final dot, to which one reply is due. Raises Lost."""
        self._write(data)
        self.outstanding += 1

    def part(self, data: bytes) -> None:
        """Writes some of a message. Raises Lost."""
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._fault or self._transport.is_closing():
            raise Lost(self._fault or "connection closed")
        self._transport.write(data)

    async def reply(self, timeout_s: float) -> Reply:
        """The next reply that is due. Raises Lost; the connection is closed then."""
        try:
            if not self._replies and not self._fault:
                self._waiter = asyncio.get_running_loop().create_future()
                async with asyncio.timeout(timeout_s):
                    await self._waiter
        except TimeoutError:
            self._break("no answer in time")
        except BaseException:
            self._break("given up")
            raise
        finally:
            self._waiter = None
        if not self._replies:
            raise Lost(self._fault)
        self.outstanding -= 1
        return self._replies.popleft()

    def close(self) -> None:
        """Closes at once; what wasn't sent is thrown away."""
        self._break("connection closed")

    async def quit(self, timeout_s: float) -> None:
        """Says QUIT, waits for its answer no longer than that (seconds), and closes."""
        try:
            self.say(b"QUIT")
            await self.reply(timeout_s)
        except Lost:
            return
        finally:
            self.close()

    # --- called by the transport ----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Reads lines into replies."""
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            if self._fault:
                return
            self._line(bytes(line.removesuffix(b"\r")))
        if self._size + len(self._buffer) > MAX_REPLY_BYTES:
            self._break("an answer that isn't SMTP")

    def _line(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        self._size += len(line)
        if found is None or (self._lines and not line.startswith(self._lines[0][:3])):
            self._break("an answer that isn't SMTP")
            return
        self._lines.append(line)
        if found[2] == b"-":
            return
        words = b"\n".join(one[4:] for one in self._lines).decode("utf-8", "replace")
        self._lines, self._size = [], 0
        if len(self._replies) >= self.outstanding:
            # Nobody asked: it says goodbye, or is out of step.
            self._break("connection closed")
            return
        self._replies.append(Reply(int(found[1]), words))
        self._wake()

    def eof_received(self) -> bool:
        """A server that says no more is left."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tells who waits."""
        self._break("connection closed")

    def _break(self, why: str) -> None:
        self._fault = self._fault or why
        self._buffer.clear()
        self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
