"""One signed POST to an endpoint: bounded in time and size, no redirects, only to fit addresses."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

import aiohttp

from workers.endpoints import Endpoint, signed
from workers.providers._wire import HttpReply
from workers.webhooks.addresses import CheckedResolver, Lookup, UnfitAddressError

MAX_BODY_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024
"""Of an answer so much is read, and thrown away; a longer one costs the connection."""
KEPT_S = 3.0
"""An idle connection is kept so long: shorter than servers do, so that none is used as it ends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said: `status` 0 where it said nothing; `words`, never of its body."""

    status: int
    words: str
    retry_after: timedelta | None = None

    @property
    def well(self) -> bool:
        """Whether it took the message."""
        return 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether it wants no more of them."""
        return self.status == HTTPStatus.GONE


class Poster:
    """Posts to one endpoint. `lookup` resolves names; None asks the machine's resolver."""

    def __init__(self, endpoint: Endpoint, lookup: Lookup | None = None) -> None:
        self.endpoint = endpoint
        self._lookup = lookup
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            private = bool(self.endpoint.private_host)
            resolver = CheckedResolver(private=private, lookup=self._lookup)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=resolver,
                    socket_factory=resolver.socket,
                    use_dns_cache=False,
                    limit=self.endpoint.at_a_time,
                    keepalive_timeout=KEPT_S,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed answer isn't unpacked, so none can swell.
                auto_decompress=False,
                trust_env=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "Duewatch"},
            )
            self._resolver = resolver
        return self._session

    async def post(self, uid: str, body: bytes, at: datetime) -> Answer:
        """Posts once, signed as of `at`; every fault is an answer of status 0."""
        if len(body) > MAX_BODY_BYTES:
            return Answer(0, f"the message is larger than {MAX_BODY_BYTES} bytes")
        headers = signed(uid, at, body, self.endpoint.keys)
        headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                self._open().post(
                    self.endpoint.url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                answer = _read(response)
                await _drain(response)
                return answer
        except UnfitAddressError as error:
            return Answer(0, f"refused: {error}")
        except aiohttp.ClientConnectorError as error:
            cause = error.os_error
            if isinstance(cause, UnfitAddressError):
                return Answer(0, f"refused: {cause}")
            certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
            why = "its certificate isn't trusted" if certificate else type(cause).__name__
            return Answer(0, f"no connection: {why}")
        except TimeoutError:
            return Answer(0, f"no answer within {self.endpoint.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            return Answer(0, f"no whole answer: {type(error).__name__}")

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()
            self._session = None


def _read(response: aiohttp.ClientResponse) -> Answer:
    status = response.status
    words = f"HTTP {status}"
    with suppress(ValueError):
        words += f" {HTTPStatus(status).phrase}"
    if 300 <= status < 400:
        words += ": redirects aren't followed"
    wish = HttpReply(status, response.headers, b"").retry_after()
    return Answer(status, words, wish)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Reads a short answer away, so that the connection serves the next; drops a long one."""
    left = MAX_ANSWER_BYTES
    while left > 0 and (part := await response.content.read(left)):
        left -= len(part)
    if left <= 0:
        response.close()
