"""Who may ask: the holder of the token, or, without one, whoever sits at this machine.

Without `web.api_token` a request must come from this machine (peer address), be meant for it (Host
names it: a foreign name that leads here is DNS rebinding), and must not have been passed on by a
proxy. A page of another site in a browser of this machine isn't whoever sits there (CSRF).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from ipaddress import IPv6Address, ip_address

from aiohttp import web

from workers.settings import Settings
from workers.web.problems import ProblemError

_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


class Access:
    """Checks requests. `pages` lets browsers give the token as the password of any user."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.web.api_token
        token = secret.get_secret_value() if secret is not None else ""
        # Compared by digest: constant time whatever the lengths are.
        self._token = hashlib.sha256(token.encode()).digest() if token else None

    def check(self, request: web.Request, *, pages: bool) -> None:
        """Raises ProblemError 401 or 403 that names the setting to change."""
        if self._token is None:
            self._from_here(request)
            return
        given = _bearer(request) or (_basic(request) if pages else None)
        if given is None or not hmac.compare_digest(
            hashlib.sha256(given.encode("utf-8", "replace")).digest(), self._token
        ):
            challenge = 'Basic realm="Duewatch", charset="UTF-8"' if pages else "Bearer"
            raise ProblemError(
                401,
                "token",
                "The token is missing or wrong",
                "Send Authorization: Bearer with the value of the setting web.api_token"
                + (", or sign in with it as the password." if pages else "."),
                headers={"WWW-Authenticate": challenge},
            )

    def check_sender(self, request: web.Request) -> None:
        """For what changes something: refuses pages of other sites where no token is needed."""
        if self._token is not None:
            return
        site = request.headers.get("Sec-Fetch-Site", "none").lower()
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{request.host}"
        if site not in {"none", "same-origin"} or (origin is not None and origin != own):
            raise ProblemError(
                403,
                "cross-site",
                "A page of another site can't send this",
                "Set web.api_token and send it as a bearer token.",
            )

    @staticmethod
    def _from_here(request: web.Request) -> None:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        here = isinstance(peer, tuple) and _is_loopback(str(peer[0]))
        meant = _is_loopback(_host_name(request.headers.get("Host", "")))
        passed_on = any(name in request.headers for name in _PASSED_ON)
        if not (here and meant) or passed_on:
            raise ProblemError(
                403,
                "only-from-here",
                "Without a token only this machine is answered",
                "Set web.api_token to let others in, and send it as a bearer token.",
            )


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
