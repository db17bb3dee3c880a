"""Who is signed in: a cookie with a random secret, of which the database has the SHA-256.

The cookie's name begins with __Host- (RFC 6265bis, 4.1.3.2): only this host sets it, and only by
HTTPS or on this machine. A session ends when nothing was asked for a while, and after some hours in
any case; whoever signs in gets another one, so that nobody can have prepared it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from workers.sign_in import ConsoleSettings
from workers.store import Row
from workers.store.users import UserStore

COOKIE = "__Host-duewatch"
NOTED_EVERY = timedelta(minutes=1)
"""How often it is written down at most that a session is in use."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session in use."""

    mark: str
    name: str
    role: str


class Sessions:
    """Begins, finds and ends sessions. `key` is this database's secret, for marks in forms."""

    def __init__(
        self,
        users: UserStore,
        settings: ConsoleSettings,
        clock: Callable[[], datetime],
        key: str,
    ) -> None:
        self._users = users
        self._settings = settings
        self._clock = clock
        self._key = key.encode()

    async def needed(self) -> bool:
        """Whether pages ask people to sign in: once there is anybody who may."""
        return self._settings.oidc.on or await self._users.any()

    async def find(self, request: web.Request) -> SignedIn | None:
        """Who is signed in, if anybody is; notes that the session is in use."""
        secret = request.cookies.get(COOKIE, "")
        if not secret or len(secret) > 100:
            return None
        mark = _mark(secret)
        row: Any = await self._users.session(mark)
        now = self._clock()
        idle = timedelta(minutes=self._settings.idle_minutes)
        if row is None or now >= row.until or now >= row.seen_at + idle:
            return None
        if now - row.seen_at >= NOTED_EVERY:
            await self._users.seen(mark, now, now - NOTED_EVERY)
        return SignedIn(mark, row.name, row.role)

    async def begin(self, request: web.Request, user: Row[Any], by_what: str) -> str:
        """Signs somebody in and returns the cookie's value; what was signed in here ends."""
        old = await self.find(request)
        if old is not None:
            await self._users.end(old.mark, old.name, self._clock())
        secret, now = secrets.token_urlsafe(32), self._clock()
        until = now + timedelta(hours=self._settings.session_hours)
        await self._users.begin(_mark(secret), user, request.remote or "", now, until, by_what)
        return secret

    async def end(self, request: web.Request) -> None:
        """Signs out; whoever isn't signed in stays so."""
        found = await self.find(request)
        if found is not None:
            await self._users.end(found.mark, found.name, self._clock())

    def form_mark(self, owner: str) -> str:
        """What a form must bring back: only a page of `owner`'s own session had it (CSRF)."""
        return hmac.new(self._key, f"form|{owner}".encode(), hashlib.sha256).hexdigest()[:32]


def set_cookie(answer: web.StreamResponse, secret: str) -> None:
    """Gives the browser a session; it forgets it when it closes."""
    answer.set_cookie(COOKIE, secret, path="/", secure=True, httponly=True, samesite="Lax")


def clear_cookie(answer: web.StreamResponse) -> None:
    """Takes it back."""
    answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Lax")


def _mark(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
