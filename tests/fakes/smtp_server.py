"""A scripted SMTP server on a real socket: it does what a test tells it, however rude.

    async with SmtpServer(replies={"RCPT": ["550 5.1.1 no such user"]}) as server:
        ...  # server.port, server.messages, server.lines

`replies` gives the next answers to a verb ("CONNECT" is the greeting, "." the final dot); after
them the usual answer follows. Instead of a reply a script may say DROP (close without a word), HANG
(say nothing), FLOOD (an answer without end) or BYE (421, then close); EARLY before an answer to the
final dot gives it while the content is still on its way.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, cast

DROP, HANG, FLOOD, BYE, EARLY = "<drop>", "<hang>", "<flood>", "<bye>", "<early>"


class _Closed(Exception):
    pass


@dataclass(slots=True)
class Received:
    """A message the server took responsibility for: it chose to keep it, told or not."""

    connection: int
    sender: str
    recipients: list[str]
    options: str
    content: bytes
    over_tls: bool


@dataclass(slots=True)
class _Session:
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    over_tls: bool = False
    logged_in: bool = False
    sender: str | None = None
    options: str = ""
    recipients: list[str] = field(default_factory=list)


class SmtpServer:
    """Listens on 127.0.0.1 and a free port while it is entered.

    `tls` is offered by STARTTLS, or spoken from the first byte with `implicit_tls`; `users` makes
    it ask for a login; `extensions` are further EHLO lines; `keep_unanswered` keeps a message whose
    final dot was answered by DROP or HANG.
    """

    def __init__(
        self,
        *,
        replies: Mapping[str, Sequence[str]] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,
        extensions: Sequence[str] = ("8BITMIME", "PIPELINING", "SIZE 50000000"),
        keep_unanswered: bool = True,
    ) -> None:
        self.replies = {verb: list(answers) for verb, answers in (replies or {}).items()}
        self.messages: list[Received] = []
        self.lines: list[str] = []
        self.connections = 0
        self.arrived = asyncio.Event()  # set by the first message
        self.lax = False  # takes DATA where it has taken no recipient
        self._tls, self._implicit, self._users = tls, implicit_tls, users
        self._extensions, self._keep = extensions, keep_unanswered
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        context = self._tls if self._implicit else None
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=context, limit=2**26
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def verbs(self) -> list[str]:
        """The verbs of all command lines, in order."""
        return [line.split(":")[0].split(" ")[0].upper() for line in self.lines]

    async def drop_idle(self) -> None:
        """Close all connections without a word, as a restarted relay does."""
        for writer in list(self._sessions.values()):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions[task] = writer
        self.connections += 1
        session = _Session(self.connections, reader, writer, over_tls=self._implicit)
        try:
            await self._answer(session, "CONNECT", "220 fake.example ESMTP")
            while line := await reader.readline():
                text = line.decode("utf-8", "replace").removesuffix("\r\n")
                self.lines.append(text)
                await self._command(session, text)
        except (_Closed, OSError, asyncio.CancelledError):
            pass
        finally:
            del self._sessions[task]
            writer.transport.abort()

    async def _answer(self, session: _Session, verb: str, usual: str) -> str:
        """Send the scripted answer, or the usual one; returns what was said."""
        scripted = self.replies.get(verb)
        reply = scripted.pop(0) if scripted else usual
        if reply == DROP:
            raise _Closed
        if reply == HANG:
            await asyncio.Event().wait()
        while reply == FLOOD:
            session.writer.write(b"250-" + b"x" * 500 + b"\r\n")
            await session.writer.drain()
            await asyncio.sleep(0)
        if reply == BYE:
            session.writer.write(b"421 4.3.2 closing\r\n")
            await session.writer.drain()
            raise _Closed
        session.writer.write(reply.replace("\n", "\r\n").encode() + b"\r\n")
        await session.writer.drain()
        return reply

    async def _command(self, session: _Session, line: str) -> None:
        verb, _, rest = line.partition(" ")
        verb = verb.upper()
        if verb in {"EHLO", "HELO"}:
            await self._answer(session, verb, self._greeting(session))
        elif verb == "STARTTLS" and self._tls is not None:
            await self._answer(session, verb, "220 go ahead")
            await session.writer.start_tls(self._tls)
            session.over_tls = True
        elif verb == "AUTH":
            await self._login(session, rest)
        elif verb == "MAIL":
            await self._mail(session, rest)
        elif verb == "RCPT":
            await self._rcpt(session, rest)
        elif verb == "DATA":
            await self._data(session)
        elif verb in {"RSET", "NOOP"}:
            session.sender, session.recipients = None, []
            await self._answer(session, verb, "250 2.0.0 ok")
        elif verb == "QUIT":
            await self._answer(session, verb, "221 2.0.0 bye")
            raise _Closed
        else:
            await self._answer(session, verb, "502 5.5.2 not known")

    def _greeting(self, session: _Session) -> str:
        offers = ["fake.example", *self._extensions]
        if self._tls is not None and not session.over_tls:
            offers.append("STARTTLS")
        if self._users is not None:
            offers.append("AUTH PLAIN")
        return "\n".join(f"250{'-' if offer is not offers[-1] else ' '}{offer}" for offer in offers)

    async def _login(self, session: _Session, rest: str) -> None:
        _, name, password = base64.b64decode(rest.split(" ")[1]).decode().split("\0")
        session.logged_in = (self._users or {}).get(name) == password
        good = "235 2.7.0 ok" if session.logged_in else "535 5.7.8 wrong"
        await self._answer(session, "AUTH", good)

    async def _mail(self, session: _Session, rest: str) -> None:
        if self._users is not None and not session.logged_in:
            await self._answer(session, "MAIL", "530 5.7.0 log in first")
            return
        if session.sender is not None:
            await self._answer(session, "MAIL", "503 5.5.1 nested MAIL: RSET first")
            return
        if (await self._answer(session, "MAIL", "250 2.1.0 ok")).startswith("250"):
            session.sender, session.options = _path(rest), rest.partition(">")[2].strip()
            session.recipients = []

    async def _rcpt(self, session: _Session, rest: str) -> None:
        if session.sender is None:
            await self._answer(session, "", "503 5.5.1 MAIL first")
        elif (await self._answer(session, "RCPT", "250 2.1.5 ok")).startswith("25"):
            session.recipients.append(_path(rest))

    async def _data(self, session: _Session) -> None:
        if not session.recipients and not self.lax:
            await self._answer(session, "DATA", "503 5.5.1 no recipients")
            return
        if not (await self._answer(session, "DATA", "354 go on")).startswith("354"):
            return
        script = self.replies.get(".", [])
        if script and script[0].startswith(EARLY):
            cast(asyncio.Transport, session.writer.transport).pause_reading()
            await asyncio.sleep(0.05)  # a large content now waits at its sender
            self.replies["."] = [script[0].removeprefix(EARLY)]
            await self._answer(session, ".", "")
            await asyncio.Event().wait()
        stuffed = await session.reader.readuntil(b"\r\n.\r\n")
        received = Received(
            session.number,
            session.sender or "",
            session.recipients,
            session.options,
            stuffed[:-3].replace(b"\r\n..", b"\r\n."),
            session.over_tls,
        )
        fate = script[0] if script else "250"
        if fate.startswith("2") or (fate in {DROP, HANG} and self._keep):
            self.messages.append(received)
            self.arrived.set()
        await self._answer(session, ".", f"250 2.0.0 queued as Q{len(self.messages):06d}")
        session.sender, session.recipients = None, []


def _path(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]
