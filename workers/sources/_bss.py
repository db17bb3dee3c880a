"""The vendor's BSS API as a client: signed, paced, paged, and its errors told apart.

Source: support.huaweicloud.com/api-bpconsole (calling the APIs, status codes). 10 requests a second
are allowed by source address, API and account. Errors come with HTTP 200 too, so a body is looked
at before its status. All that is asked here only reads, so a lost answer is asked for again.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode, urlsplit

from workers.errors import InputError, UnavailableError
from workers.vendor_signature import sign

if TYPE_CHECKING:
    # 0.3 s: imported where a request is made.
    import aiohttp

PAGE = 100
"""Items asked for at a time: the most that the vendor gives."""
MAX_REPLY_BYTES = 8 * 2**20
TRIES = 4
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
WELL = frozenset({"", "CBC.0000"})
_OURS = re.compile(r"CBC\.(0100|015\d|[1-9]\d{3})|APIGW\.03(?!08)\d\d|BSS\.04\d\d")
_REMEDIES = {
    "CBC.0150": "the account may not ask this: use the partner's own keys, and grant it the right",
    "CBC.0151": "the account may not ask this: use the partner's own keys, and grant it the right",
    "CBC.5001": "the keys aren't a partner's: use those of the partner's account",
}
_LONG_DIGITS = re.compile(r"\+?\d[\d -]{6,}\d|[^\s<>]+@[^\s<>]+")


@dataclass(frozen=True, slots=True)
class Access:
    """Where and by which keys; `timeout_s` seconds for one answer."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    per_second: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Question:
    """One list of the API. `items` and `total` are the names in its answer, `key` an item's id."""

    method: Literal["GET", "POST"]
    path: str
    items: str
    total: str
    key: str
    asked: Mapping[str, Any]


@dataclass(slots=True)
class Listing:
    """What came of a question: `whole` once every item that the vendor counts was read."""

    whole: bool = False


class Bss:
    """Asks the API. `clock` gives the signature's time, aware UTC."""

    def __init__(self, access: Access, clock: Callable[[], datetime]) -> None:
        self._access = access
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def every(
        self, question: Question, listing: Listing
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The items of all pages, each once. Raises InputError, or UnavailableError.

        What is added or removed meanwhile moves the pages: then the listing isn't whole.
        """
        seen: set[str] = set()
        offset, total = 0, 0
        while True:
            answer = await self._ask(question, offset)
            items = answer.get(question.items) or []
            if not isinstance(items, list):
                raise InputError(f"{self._access.name}: {question.items} isn't a list: report it")
            for item in items:
                key = str(item.get(question.key) or "") if isinstance(item, dict) else ""
                if key and key not in seen:
                    seen.add(key)
                    yield item
            offset += len(items)
            counted = answer.get(question.total)
            total = counted if isinstance(counted, int) else 0
            if len(items) < PAGE or offset >= total:
                break
        listing.whole = len(seen) == total

    async def _ask(self, question: Question, offset: int) -> dict[str, Any]:
        asked = {**question.asked, "offset": offset, "limit": PAGE}
        url, body = self._access.endpoint + question.path, b""
        if question.method == "GET":
            url = f"{url}?{urlencode(asked)}"
        else:
            body = json.dumps(asked, separators=(",", ":")).encode()
        wait = FIRST_WAIT_S
        for left in reversed(range(TRIES)):
            try:
                return await self._once(question.method, url, body)
            except _AgainError as error:
                if not left:
                    raise UnavailableError(f"{self._access.name}: {error}") from None
                await asyncio.sleep(min(max(wait, error.after_s), LONGEST_WAIT_S))
                wait *= 2
        raise AssertionError("the last try returns or raises")

    async def _once(self, method: str, url: str, body: bytes) -> dict[str, Any]:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._access.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        await self._pace()
        headers = sign(
            method,
            url,
            {"Content-Type": "application/json"},
            body,
            self._access.access_key,
            self._access.secret_key,
            self._clock(),
        )
        try:
            async with self._session.request(
                method, _as_written(url), data=body or None, headers=headers, allow_redirects=False
            ) as response:
                content = await response.content.read(MAX_REPLY_BYTES + 1)
                while len(content) <= MAX_REPLY_BYTES and (
                    more := await response.content.read(MAX_REPLY_BYTES)
                ):
                    content += more
                after = response.headers.get("Retry-After", "")
                return self._answer(response.status, content, after)
        except aiohttp.ClientConnectorCertificateError:
            raise InputError(
                f"{self._access.name}: the server's certificate isn't trusted: check `endpoint`"
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            host = urlsplit(url).netloc
            raise _AgainError(f"no answer from {host} ({type(error).__name__})") from None

    async def _pace(self) -> None:
        """Waits for this request's turn: never more than `per_second` begin within a second."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_at - loop.time()))
            self._next_at = loop.time() + 1 / self._access.per_second

    def _answer(self, status: int, content: bytes, after: str) -> dict[str, Any]:
        name = self._access.name
        if len(content) > MAX_REPLY_BYTES:
            raise InputError(
                f"{name}: the answer is longer than {MAX_REPLY_BYTES} bytes: report it"
            )
        try:
            answer = json.loads(content, parse_float=Decimal)
        except (ValueError, RecursionError):
            answer = None
        known = answer if isinstance(answer, dict) else {}
        code = str(known.get("error_code") or known.get("errorCode") or "")
        words = str(known.get("error_msg") or known.get("error_message") or "")
        said = _LONG_DIGITS.sub("…", f"HTTP {status} {code} {words}".strip())[:300]
        if status < 300 and code in WELL and isinstance(answer, dict):
            return answer
        if status == 429 or code == "APIGW.0308":
            wish = float(after) if after.isdecimal() else 1.0
            raise _AgainError(f"too many requests ({said})", wish)
        if code in _REMEDIES:
            raise InputError(f"{name}: refused ({said}): {_REMEDIES[code]}")
        if status in {401, 403}:
            raise InputError(
                f"{name}: access refused ({said}): check access_key, secret_key and the clock"
            )
        if status < 500 and (_OURS.fullmatch(code) or status >= 300):
            raise InputError(f"{name}: refused ({said}): check the source's settings")
        raise _AgainError(f"the vendor's system failed ({said})")


class _AgainError(Exception):
    """Asking again may help. `after_s` is the vendor's wish, in seconds."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


def _as_written(url: str) -> Any:
    """The URL as it was signed: aiohttp must not write it another way."""
    from yarl import URL

    return URL(url, encoded=True)
