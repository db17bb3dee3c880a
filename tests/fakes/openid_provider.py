"""An OpenID Connect provider on a real socket: checks all it is sent, and lies as it is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.fakes.clock import FakeClock

CLIENT, SECRET = "duewatch", "a secret: with / and +"
WELL_KNOWN, TOKEN, KEYS = "/.well-known/openid-configuration", "/token", "/keys"
FIRST_KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})


@dataclass
class Provider:
    """`metadata`, `claims` and `header` replace what is right; None leaves a member out.

    `answers` are other answers by path, `wait_s` goes by before each answer. `forge` makes the
    token of its claims.
    """

    clock: FakeClock
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    secret: str = SECRET
    key: RSAKey | ECKey = field(default_factory=lambda: FIRST_KEY)
    published: list[Any] = field(default_factory=lambda: [FIRST_KEY.as_dict(private=False)])
    forge: Callable[[dict[str, Any]], str] | None = None
    answers: dict[str, web.Response] = field(default_factory=dict)
    wait_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    port: int = 0
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings of [console.oidc] that lead here; each role is a group of its name."""
        roles = {f"desk-{role}": role for role in ("viewer", "operator", "administrator")}
        return {
            "issuer": self.issuer,
            "client_id": CLIENT,
            "client_secret": self.secret or None,
            "roles": roles,
            "title": "Keys & Co",
            **more,
        }

    def agree(self, address: str) -> dict[str, str]:
        """What a browser brings back that was sent to `address`, where somebody signed in."""
        asked = dict(parse_qsl(urlsplit(address).query, strict_parsing=True))
        assert address.startswith(f"{self.issuer}/authorize?")
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return {"code": code, "state": asked["state"]}

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        body = (await request.read()).decode()
        await asyncio.sleep(self.wait_s)
        if request.path in self.answers:
            told = self.answers[request.path]
            return web.Response(status=told.status, headers=told.headers, body=told.body)
        if request.path == WELL_KNOWN:
            return web.json_response(self._metadata())
        if request.path == KEYS:
            return web.json_response({"keys": self.published})
        return self._token(request, dict(parse_qsl(body, strict_parsing=True)))

    def _metadata(self) -> dict[str, Any]:
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": self.issuer + TOKEN,
            "jwks_uri": self.issuer + KEYS,
            **self.metadata,
        }
        return _present(found)

    def _token(self, request: web.Request, form: dict[str, str]) -> web.Response:
        if _who(request, form) != (CLIENT, self.secret):
            return web.json_response({"error": "invalid_client"}, status=401)
        asked = self._codes.pop(form["code"], None)  # each code once
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            asked is None
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
            or not 43 <= len(form["code_verifier"]) <= 128
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(self.clock().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": "sub-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "preferred_username": "li.na",
            "groups": ["desk-operator", "others"],
            **self.claims,
        }
        token = (self.forge or self.sign)(_present(claims))
        return web.json_response({"token_type": "Bearer", "access_token": "x", "id_token": token})

    def sign(self, claims: dict[str, Any]) -> str:
        """A token signed by `key`."""
        alg = "ES256" if isinstance(self.key, ECKey) else "RS256"
        header = _present({"alg": alg, "kid": self.key.kid, **self.header})
        return jwt.encode(header, claims, self.key, algorithms=[header["alg"]])


def _who(request: web.Request, form: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        name, _, secret = base64.b64decode(given).decode().partition(":")
        return unquote(name), unquote(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], mac: bytes = b"") -> str:
    """A token of these parts, with whatever for a signature."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), mac]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
