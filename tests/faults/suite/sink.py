"""The far side: an SMTP server and a Twilio-like SMS gateway that log all they see.

A process of its own, `python -m tests.faults.suite.sink LOG PORTS`, so that it outlives what is
killed; each event is one JSON line, handed to the operating system before the answer is given.
A message is *kept* (`"kept": true`) when this side has taken responsibility for it, whether or not
it lives to say so.

What it answers is scripted by rules that can be changed while it runs. The first that fits, and
hasn't been used up, is followed; without one all is taken.

    {"verb": ".", "do": "reply", "text": "451 4.3.0 later", "share": 0.3}
    {"verb": "RCPT", "key": "n00000", "do": "drop", "times": 10}
    {"verb": "SMS", "do": "reply", "status": 429, "headers": {"Retry-After": "2"}}

verb     CONNECT EHLO MAIL RCPT DATA . RSET NOOP QUIT, or SMS
key      fits keys that begin so (from RCPT on)
domain   fits recipients of this domain (from RCPT on)
share    of those that fit, 0 to 1; by chance
times    how often it may be followed
each     how often for one key (from RCPT on)
after_s  seconds to wait first
do       usual    the usual answer, for `after_s` alone
         reply    `text` by SMTP; `status`, `body`, `headers` by SMS
         drop     close without a word
         rst      close with a TCP reset
         hang     say nothing for ever
         drip     `text` a byte a second
         eof      close this direction only, without a word
         flood    `mb` million bytes of an answer that never ends its line
keep     whether the message is kept (verbs `.` and SMS); without it: unless a refusal is replied
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

from aiohttp import web

from tests.faults.suite.population import key_of_mobile

ACCOUNT = "AC0123"
TOKEN = "tok-secret"
_MESSAGE_ID = re.compile(rb"(?im)^message-id:\s*(\S+)")


class Log:
    """Events as JSON lines, each in one write to a file that is only appended to."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, verb: str, **more: Any) -> None:
        """Writes one event down, with the wall clock's time."""
        line = json.dumps({"t": round(time.time(), 4), "verb": verb, **more})
        os.write(self._file, line.encode() + b"\n")


class Script:
    """The rules in force, and how many messages were kept."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.used: list[int] = []
        self.kept = 0
        self._each: Counter[tuple[int, str]] = Counter()
        self._chance = random.Random(1)

    def lay_down(self, rules: list[dict[str, Any]], seed: int) -> None:
        """Puts other rules in the place of those in force."""
        self.rules, self.used = rules, [0] * len(rules)
        self._each.clear()
        self._chance = random.Random(seed)

    def find(self, verb: str, key: str = "", domain: str = "") -> dict[str, Any]:
        """The rule to be followed, or the usual one."""
        for number, rule in enumerate(self.rules):
            if rule["verb"] != verb or self.used[number] >= rule.get("times", 10**9):
                continue
            if not key.startswith(rule.get("key", "")) or rule.get("domain", domain) != domain:
                continue
            if self._each[number, key] >= rule.get("each", 10**9):
                continue
            if self._chance.random() < rule.get("share", 1.0):
                self.used[number] += 1
                self._each[number, key] += 1
                return rule
        return {"do": "usual"}


class Session(asyncio.Protocol):
    """One SMTP connection. Lines are answered in order, whatever waits before an answer."""

    count = 0

    def __init__(self, log: Log, script: Script) -> None:
        self._log, self._script = log, script
        Session.count += 1
        self._number = Session.count
        self._buffer = bytearray()
        self._in_data = False
        self._busy = False
        self._key = self._domain = ""
        self._recipients, self._has_sender = 0, False
        self._waiting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._log.add("CONNECT", conn=self._number)
        self._answer("CONNECT", "220 sink.example ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        how = type(exc).__name__ if exc else "closed"
        self._log.add("CLOSE", conn=self._number, how=how, key=self._key, in_data=self._in_data)
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read()

    def _read(self) -> None:
        while not self._busy and not self._transport.is_closing():
            if self._in_data:
                end = self._buffer.find(b"\r\n.\r\n")
                if end < 0:
                    return
                content = bytes(self._buffer[: end + 2])
                del self._buffer[: end + 5]
                self._in_data = False
                self._content(content)
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return
            line = self._buffer[:end].decode("utf-8", "replace")
            del self._buffer[: end + 2]
            self._command(line)

    def _command(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        verb = verb.upper()
        if verb in {"EHLO", "HELO"}:
            self._answer(
                "EHLO", "250-sink.example\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SIZE 50000000"
            )
        elif verb == "MAIL":
            self._key, self._recipients, self._has_sender = "", 0, False
            self._answer("MAIL", "250 2.1.0 ok")
        elif verb == "RCPT" and not self._has_sender:
            self._transport.write(b"503 5.5.1 MAIL first\r\n")
        elif verb == "RCPT":
            path = rest.partition("<")[2].partition(">")[0]
            self._key, _, self._domain = path.partition("@")
            self._log.add("RCPT", conn=self._number, key=self._key)
            self._answer("RCPT", "250 2.1.5 ok")
        elif verb == "DATA" and not self._recipients:
            self._transport.write(b"503 5.5.1 no recipients\r\n")
        elif verb == "DATA":
            self._log.add("DATA", conn=self._number, key=self._key)
            self._answer("DATA", "354 go on")
        elif verb in {"RSET", "NOOP"}:
            self._recipients = 0
            self._answer(verb, "250 2.0.0 ok")
        elif verb == "QUIT":
            self._answer("QUIT", "221 2.0.0 bye")
        else:
            self._answer(verb, "502 5.5.2 not known")

    def _content(self, content: bytes) -> None:
        rule = self._script.find(".", self._key, self._domain)
        kept = rule.get("keep", rule["do"] != "reply" or rule.get("text", "2")[0] == "2")
        found = _MESSAGE_ID.search(content)
        self._log.add(
            "DOT",
            conn=self._number,
            key=self._key,
            kept=kept,
            message_id=found[1].decode("utf-8", "replace") if found else "",
            sha256=hashlib.sha256(content).hexdigest()[:16],
            size=len(content),
        )
        self._script.kept += kept
        self._recipients = 0
        self._follow(".", rule, f"250 2.0.0 queued as {self._key}")

    def _answer(self, verb: str, usual: str) -> None:
        self._follow(verb, self._script.find(verb, self._key, self._domain), usual)

    def _follow(self, verb: str, rule: dict[str, Any], usual: str) -> None:
        if rule["do"] in {"usual", "reply"} and not rule.get("after_s"):
            self._say(verb, rule.get("text", usual))
            return
        self._busy = True
        self._waiting = asyncio.ensure_future(self._slowly(verb, rule, usual))

    async def _slowly(self, verb: str, rule: dict[str, Any], usual: str) -> None:
        await asyncio.sleep(rule.get("after_s", 0))
        if rule["do"] == "hang":
            await asyncio.Event().wait()
        if rule["do"] in {"drop", "rst"}:
            self._log.add("CUT", conn=self._number, key=self._key, at=verb)
            _close(self._transport, reset=rule["do"] == "rst")
            return
        if rule["do"] == "eof":
            self._log.add("CUT", conn=self._number, key=self._key, at=verb)
            self._transport.write_eof()
            return
        if rule["do"] == "flood":
            await self._flood(rule["mb"])
            return
        if rule["do"] == "drip":
            for one in rule.get("text", usual):
                self._transport.write(one.encode())
                await asyncio.sleep(1)
        self._say(verb, "" if rule["do"] == "drip" else rule.get("text", usual))
        self._busy = False
        self._read()

    async def _flood(self, megabytes: int) -> None:
        for _ in range(16 * megabytes):
            while self._transport.get_write_buffer_size() > 1_000_000:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            self._transport.write(b"2" * 62_500)

    def _say(self, verb: str, text: str) -> None:
        good = text.startswith(("2", "3"))
        if verb == "RCPT" and good:
            self._recipients += 1
        if verb == "MAIL":
            self._has_sender = good
        if verb == "DATA" and text.startswith("354"):
            self._in_data = True
        if verb == "." or not good:
            self._log.add("REPLY", conn=self._number, key=self._key, to=verb, text=text[:80])
        self._transport.write(text.encode() + b"\r\n")
        if verb == "QUIT" or text.startswith("421"):
            self._transport.close()


def _close(transport: asyncio.Transport, *, reset: bool) -> None:
    if reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Gateway:
    """The SMS gateway: Twilio's Messages API."""

    def __init__(self, log: Log, script: Script) -> None:
        self._log, self._script = log, script
        self._login = "Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        self._count = 0

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Takes one message, or does what the script says."""
        if request.headers.get("Authorization") != self._login:
            return web.json_response({"code": 20003, "status": 401}, status=401)
        form = {name: str(value) for name, value in (await request.post()).items()}
        key = key_of_mobile(form.get("To", ""))
        rule = self._script.find("SMS", key)
        status = rule.get("status", 201)
        kept = rule.get("keep", rule["do"] != "reply" or status < 300)
        self._count += 1
        sid = f"SM{self._count:032d}"
        callback = form.get("StatusCallback", "")
        self._log.add("SMS", key=key, kept=kept, sid=sid, callback=callback, status=status)
        self._script.kept += kept
        if rule.get("after_s"):
            await asyncio.sleep(rule["after_s"])
        if rule["do"] == "hang":
            await asyncio.Event().wait()
        if rule["do"] in {"drop", "rst"} and isinstance(request.transport, asyncio.Transport):
            _close(request.transport, reset=rule["do"] == "rst")
            return web.Response()
        if rule["do"] == "reply" and status >= 300:
            body = rule.get("body", {"code": 0, "message": "scripted", "status": status})
            return web.json_response(body, status=status, headers=rule.get("headers"))
        self._log.add("REPLY", key=key, to="SMS", text=str(status))
        answer = {"sid": sid, "status": "queued", "to": form.get("To", "")}
        return web.json_response(answer, status=201)


async def serve(log_path: str, smtp_port: int, http_port: int) -> None:
    """Serves until it is killed: SMTP, and over HTTP the gateway and the script's door."""
    log, script = Log(log_path), Script()
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Session(log, script), "127.0.0.1", smtp_port, backlog=500)

    async def lay_down(request: web.Request) -> web.Response:
        said = await request.json()
        script.lay_down(said["rules"], said["seed"])
        return web.json_response({"ok": True})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({"kept": script.kept, "used": script.used})

    app = web.Application()
    app.router.add_post(
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json", Gateway(log, script).create
    )
    app.router.add_post("/script", lay_down)
    app.router.add_get("/stats", stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    # A flood goes on for a moment after the other side has gone; asyncio says so for each write.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
