"""What providers share: one POST whose faults are told apart, clean replies, checked addresses.

A POST isn't repeated by anyone but us, so it matters where it broke: before the request went out
nothing happened (transient), afterwards nobody knows (unknown, RFC 9110 section 9.2.2).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from workers.errors import PermanentError, ProviderError, TransientError, UnknownOutcomeError
from workers.providers import Channel, Finding, Mail, Provider, Sms

if TYPE_CHECKING:
    # 0.3 s: imported where a request is made, so that commands which make none start quickly.
    import aiohttp

MAX_REPLY_BYTES = 64 * 1024
MAX_RETRY_AFTER = timedelta(days=1)

_MAIL = re.compile(r"[^\s<>()\[\],;:\"'=]+@[^\s<>()\[\],;:\"']+")
_PHONE = re.compile(r"(?<![\w.-])\+?\d(?:[ -]?\d){6,17}(?![\w-])")
_E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def without_addresses(text: str, limit: int = 300) -> str:
    """A server's words on one line, at most `limit` characters, mail and phone numbers removed."""
    line = _CONTROL.sub(" ", text[: limit * 4])
    line = _PHONE.sub("<address>", _MAIL.sub("<address>", line))
    line = line.replace("<<address>>", "<address>").strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, so that clear text to it leaves no wire."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def reports_finding(callback_url: str) -> Finding:
    """Whether status reports can come in."""
    if callback_url:
        return Finding("status reports", True, "status reports come to the callback address")
    return Finding(
        "status reports",
        False,
        "no callback address, so delivery stays unknown",
        "set the public address of this installation",
    )


def check_base_url(value: str) -> str:
    """The address of an HTTP API without its trailing slash.

    Raises ValueError unless it is https, or http to this machine: keys and numbers go over it.
    """
    parts = urlsplit(value.strip())
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("isn't a web address: write it like https://api.example.com")
    if parts.username or parts.password:
        raise ValueError("carries a password: put it into its own setting")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("isn't encrypted: use https (http only to this machine)")
    return value.strip().rstrip("/")


def refused(about: str, error: ProviderError) -> Finding:
    """What `check` says of a trial that was refused: the error, and the remedy it ends with."""
    what, _, remedy = str(error).rpartition(": ")
    return Finding(about, False, what or remedy, remedy)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer; `body` is at most MAX_REPLY_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, or an empty one when it isn't."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def retry_after(self) -> timedelta | None:
        """What Retry-After asks for (RFC 9110 10.2.3), at most a day; None when it says nothing.

        A date there is compared with the server's own Date header, not with our clock.
        """
        wish = self.headers.get("Retry-After", "").strip()
        try:
            if wish.isdecimal() and wish.isascii():
                span = timedelta(seconds=min(int(wish[:9]), 86_400))
            else:
                span = _http_date(wish) - _http_date(self.headers.get("Date", ""))
        except (ValueError, TypeError):
            return None
        return min(max(span, timedelta()), MAX_RETRY_AFTER)


def too_many_requests(provider: str, reply: HttpReply, said: str) -> TransientError:
    """The fault of a vendor that wants us to slow down; `said` are its words without addresses."""
    return TransientError(
        f"{provider}: too many requests at a time: it is tried again later",
        reply=said,
        retry_after=reply.retry_after(),
    )


def _http_date(text: str) -> datetime:
    return parsedate_to_datetime(text)


class HttpPoster:
    """Posts to one vendor over one shared client session.

    `timeout_s` (seconds) bounds connecting, and each wait for the answer; the whole is bounded by
    four times that, so a server that answers byte by byte doesn't hold a sender for ever.
    """

    def __init__(self, provider: str, timeout_s: float) -> None:
        self._provider = provider
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session; needs a running event loop, opens no connection."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A kept connection that the vendor has just closed looks like a lost reply, and
                # would park a message that was never sent: each request takes a fresh one.
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=self._timeout_s,
                    sock_connect=self._timeout_s,
                    sock_read=self._timeout_s,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )

    async def close(self) -> None:
        """Close the session and what it holds."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> HttpReply:
        """Post once; redirects aren't followed.

        Raises TransientError when no connection came about, UnknownOutcomeError when the request
        may have gone out and no whole answer came back.
        """
        import aiohttp

        self.open()
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(4 * self._timeout_s),
                self._session.post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                content = await _read(response)
                return HttpReply(response.status, response.headers, content)
        except aiohttp.ClientConnectorCertificateError:
            raise TransientError(
                f"{self._provider}: the server's certificate isn't trusted: check the address in "
                f"[providers.{self._provider}] and this machine's certificates"
            ) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(
                f"{self._provider}: no connection ({type(error).__name__}): check the address in "
                f"[providers.{self._provider}], the network and the firewall"
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnknownOutcomeError(
                f"{self._provider}: the request went out and no answer came "
                f"({type(error).__name__}): look the message up at the vendor"
            ) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    from aiohttp import ClientPayloadError

    content = bytearray()
    async for chunk in response.content.iter_chunked(8192):
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            raise ClientPayloadError("the answer is too long")
    return bytes(content)


PostTimeout = Annotated[
    float,
    Field(
        gt=0,
        le=120,
        description="Seconds to connect, and to wait for the answer, before giving up.",
    ),
]
"""The setting `timeout_s` of a provider that posts (see `HttpPoster`)."""


class SmsByPost(Provider):
    """Hands each SMS to a vendor by one POST, which nothing makes safe to repeat."""

    channels: ClassVar[frozenset[Channel]] = frozenset({"sms"})
    repeat_is_safe: ClassVar[bool] = False

    _http: HttpPoster

    async def open(self) -> None:
        """Make the client session."""
        self._http.open()

    async def close(self) -> None:
        """Close the client session."""
        await self._http.close()

    def sms(self, message: Mail | Sms) -> Sms:
        """The message, its number in E.164. Raises PermanentError for a mail and a bad number."""
        if not isinstance(message, Sms):
            raise PermanentError(f"{self.name} carries SMS only: send mail by another provider")
        if not _E164.fullmatch(message.number):
            raise PermanentError("the number isn't in E.164 (+8613812345678): correct the contact")
        return message
