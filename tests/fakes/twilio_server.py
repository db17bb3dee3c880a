"""A Twilio-compatible Messages API on a real socket, with scripted answers."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Sequence
from typing import Any, Self

from aiohttp import web

DROP, HANG, DRIP = "<drop>", "<hang>", "<drip>"


class TwilioServer:
    """Listens on 127.0.0.1 while it is entered, with `tls` by https.

    `script` gives the next answers: (HTTP status, body, headers), DROP (close without a word), HANG
    or DRIP (an answer byte by byte, without end); then all is accepted.
    """

    def __init__(
        self,
        script: Sequence[tuple[int, Any, dict[str, str]] | str] = (),
        *,
        account_sid: str = "AC0123",
        auth_token: str = "tok-secret",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script = list(script)
        self.requests: list[dict[str, str]] = []
        self._login = "Basic " + base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._tls = tls
        self._path = f"/2010-04-01/Accounts/{account_sid}/Messages.json"
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post(self._path, self._create)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"{'http' if self._tls is None else 'https'}://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _create(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != self._login:
            return web.json_response(
                {"code": 20003, "message": "Authenticate", "status": 401}, status=401
            )
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append(form)
        answer = self.script.pop(0) if self.script else None
        if answer == DROP:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == DRIP:
            return await _drip(request)
        if isinstance(answer, tuple):
            status, body, headers = answer
            return web.json_response(body, status=status, headers=headers)
        if not form["To"]:
            missing = {"code": 21604, "message": "A 'To' number is required.", "status": 400}
            return web.json_response(missing, status=400)
        sid = f"SM{len(self.requests):032d}"
        return web.json_response({"sid": sid, "status": "queued", "to": form["To"]}, status=201)


async def _drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=201)
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)
