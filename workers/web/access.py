"""Who may ask: the holder of a token, who is signed in, or else whoever sits at this machine.

A request with a token is checked by it and may do what its scopes say (workers.tokens); the value
of `web.api_token` is the administrator's. Where that isn't set, a request without any token must
come from this machine (peer address), be meant for it (Host names it: a foreign name that leads
here is DNS rebinding), and must not have been passed on by a proxy. A page of another site in a
browser of this machine isn't whoever sits there (CSRF). Once there are users, pages take who is
signed in (workers.web.sessions), and this machine too has to sign in; programs never do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import quote

from aiohttp import web

from workers.settings import Settings
from workers.store.tokens import TokenStore
from workers.tokens import FORM, Scope, digest, standing
from workers.users import SCOPES, Role
from workers.web.problems import ProblemError
from workers.web.sessions import Sessions

NOTED_EVERY = timedelta(minutes=1)
"""How often it is written down at most that a token is in use."""
_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_NAMES_OF_TOKENS = frozenset(
    {"token", "access_token", "api_token", "apitoken", "api_key", "apikey", "authorization"}
)
_NOBODY = digest("")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `id` tells callers apart, `name` is what the audit says of them.

    `kinds` are those whose events it may send; None is every kind. `role` is a user's.
    """

    id: str
    name: str
    scopes: frozenset[str]
    kinds: frozenset[str] | None = None
    role: str = ""

    def may(self, scope: Scope | None) -> bool:
        """Whether the caller has a scope; None asks for none."""
        return scope is None or scope in self.scopes or Scope.ADMIN in self.scopes


_ALL = frozenset({Scope.ADMIN.value})
ADMINISTRATOR = Caller("api_token", "api token", _ALL)
HERE = Caller("here", "this machine", _ALL)


class Access:
    """Checks requests.

    `pages` are for people: who is signed in, or gives the token as the password of any user. Others
    are sent to where they can sign in.
    """

    def __init__(
        self,
        settings: Settings,
        tokens: TokenStore,
        clock: Callable[[], datetime],
        sessions: Sessions,
    ) -> None:
        self.sessions = sessions
        secret = settings.web.api_token
        token = secret.get_secret_value() if secret is not None else ""
        # Compared by digest: constant time whatever the lengths are.
        self._token = hashlib.sha256(token.encode()).digest() if token else None
        self._tokens = tokens
        self._clock = clock

    async def caller(self, request: web.Request, *, pages: bool = False) -> Caller:
        """Who asks. Raises ProblemError 400, 401 or 403 that says what to do."""
        _refuse_in_query(request)
        given = _bearer(request) or (_basic(request) if pages else None)
        if pages and given is None and (user := await self._signed_in(request)):
            return user
        if given is None and self._token is None:
            self._from_here(request)
            return HERE
        if given is not None and self._is_administrators(given):
            return ADMINISTRATOR
        found = FORM.fullmatch(given or "")
        caller = await self._of_token(found[1], found[2]) if found else None
        if caller is None:
            raise _unknown(pages)
        return caller

    async def _signed_in(self, request: web.Request) -> Caller | None:
        found = await self.sessions.find(request)
        if found is not None:
            return Caller(found.mark, found.name, SCOPES[Role(found.role)], role=found.role)
        if await self.sessions.needed():
            asked = request.path_qs if request.method in {"GET", "HEAD"} else "/"
            raise web.HTTPSeeOther(f"/sign-in?to={quote(asked, safe='')}")
        return None

    async def _of_token(self, prefix: str, secret: str) -> Caller | None:
        row: Any = await self._tokens.find(prefix)
        # A prefix that isn't there takes as long as a secret that is wrong.
        fits = hmac.compare_digest(digest(secret), row.hash if row is not None else _NOBODY)
        now = self._clock()
        if row is None or not fits or standing(row, now) != "live":
            return None
        if row.used_at is None or now - row.used_at >= NOTED_EVERY:
            await self._tokens.used(row.id, now, now - NOTED_EVERY)
        kinds = frozenset(row.kinds) if row.kinds is not None else None
        return Caller(prefix, f"token {row.name}"[:80], frozenset(row.scopes), kinds)

    def check_sender(self, request: web.Request) -> None:
        """For what changes something: refuses pages of other sites where no token is needed."""
        if self._token is not None or _bearer(request) is not None:
            return
        site = request.headers.get("Sec-Fetch-Site", "none").lower()
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{request.host}"
        if site not in {"none", "same-origin"} or (origin is not None and origin != own):
            raise ProblemError("cross-site")

    def check_page(self, request: web.Request) -> None:
        """For forms of pages: refuses those that another site's page sends (CSRF)."""
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if origin == "null" and site is not None:
            origin = None  # our pages send no referrer, and browsers leave the origin out with it
        if site not in {None, "same-origin"} or (
            # Behind a proxy the scheme is the proxy's: the host is what a page can't choose.
            origin is not None and origin.partition("://")[2] != request.host
        ):
            raise ProblemError("cross-site", "Open the page here and send it from there.")

    def _is_administrators(self, given: str) -> bool:
        mark = hashlib.sha256(given.encode("utf-8", "replace")).digest()
        return self._token is not None and hmac.compare_digest(mark, self._token)

    @staticmethod
    def _from_here(request: web.Request) -> None:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        here = isinstance(peer, tuple) and _is_loopback(str(peer[0]))
        meant = _is_loopback(_host_name(request.headers.get("Host", "")))
        passed_on = any(name in request.headers for name in _PASSED_ON)
        if not (here and meant) or passed_on:
            raise ProblemError("only-from-here")


def require(caller: Caller, scope: Scope | None) -> None:
    """Raises ProblemError 403 naming the scope that is missing."""
    if not caller.may(scope):
        raise ProblemError("scope", f"It needs the scope {scope}: use a token that has it.")


def _unknown(pages: bool) -> ProblemError:
    challenge = 'Basic realm="Duewatch", charset="UTF-8"' if pages else "Bearer"
    return ProblemError(
        "token",
        "Send Authorization: Bearer with a token that is neither expired nor revoked (duewatch "
        "tokens), or with the value of the setting web.api_token"
        + (", or sign in with that as the password." if pages else "."),
        headers={"WWW-Authenticate": challenge},
    )


def _refuse_in_query(request: web.Request) -> None:
    for name, value in request.query.items():
        if name.lower() in _NAMES_OF_TOKENS or (value.startswith("dw_") and FORM.search(value)):
            raise ProblemError("token-in-query")


def _host_name(host: str) -> str:
    """The Host header without its port; an IPv6 address stands in brackets (RFC 9110, 7.2)."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name.lower() in {"localhost", "localhost."}:
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def _bearer(request: web.Request) -> str | None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def _basic(request: web.Request) -> str | None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return password
