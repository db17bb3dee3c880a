"""A Huawei Cloud SMS endpoint on a real socket: checks the signature, then does as scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

DROP, HANG, CUT = "<drop>", "<hang>", "<cut>"


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer: HTTP status, JSON (or raw text) body, headers."""

    status: int = 200
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


def vendor_signature(
    host: str, path: str, headers: Mapping[str, str], body: bytes, keys: tuple[str, str]
) -> str:
    """The Authorization of a POST by the vendor's own signer; `keys` are access and secret key."""
    request = SdkRequest(
        method="POST",
        schema="https",
        host=host,
        resource_path=path,
        query_params=[],
        header_params=dict(headers),
        body=body,
    )
    Signer(BasicCredentials(*keys)).sign(request)
    return str(request.header_params["Authorization"])


class HuaweiServer:
    """Listens on 127.0.0.1 while it is entered. `script` gives the next answers: an `Answer`, an
    item code, DROP (close without a word), HANG, or CUT (half an answer); then all is accepted.
    """

    def __init__(
        self,
        script: Sequence[Answer | str] = (),
        *,
        access_key: str = "AK-TEST",
        secret_key: str = "SK-test-secret",
    ) -> None:
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []
        self._keys = (access_key, secret_key)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/sms/batchSendDiffSms/v1", self._send)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _signed_rightly(self, request: web.Request, body: bytes) -> bool:
        given = request.headers.get("Authorization", "")
        names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        wanted = vendor_signature(request.host, request.path, headers, body, self._keys)
        return given == wanted

    async def _send(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if not self._signed_rightly(request, body):
            wrong = {"code": "E000102", "description": "The app_key is invalid."}
            return web.json_response(wrong, status=401)
        self.requests.append(json.loads(body))
        answer = self.script.pop(0) if self.script else "000000"
        if answer == DROP:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == CUT:
            return await _half(request)
        if isinstance(answer, Answer):
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            return web.Response(status=answer.status, text=text, headers=dict(answer.headers))
        return self._result(answer)

    def _result(self, status: str) -> web.Response:
        content = self.requests[-1]["smsContent"]
        if not content:
            return web.json_response(
                {"code": "E000503", "description": "smsContent is empty"}, status=400
            )
        number = len(self.requests)
        item = {
            "originTo": content[0]["to"][0],
            "createTime": "2026-11-24T01:00:00Z",
            "from": self.requests[-1]["from"],
            "smsMsgId": f"d6e3cdd0-522b-4692-8304-a07553cdf591_{number}",
            "status": status,
        }
        code = "000000" if status == "000000" else "E000510"
        return web.json_response({"code": code, "description": "", "result": [item]})


async def _half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "500"})
    await response.prepare(request)
    await response.write(b'{"code":"0000')
    assert request.transport is not None
    request.transport.abort()
    return response
