"""One OpenID Connect provider: where it sends people, and what it says of who came back.

Authorization code flow with PKCE. Sources: OpenID Connect Core 1.0 (3.1), Discovery 1.0; RFC 6749,
7636 (PKCE), 7515 and 7519 (what is signed, and what it says), 9207 (`iss`), 9700 (best practice).
Whatever it answers is read within limits of time and size, redirects aren't followed, and what is
said of somebody counts only with a signature by one of the provider's own keys.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import aiohttp
from joserfc import jwt
from joserfc.errors import ExpiredTokenError
from joserfc.jwk import JWKRegistry
from joserfc.jws import JWSRegistry

from workers.sign_in import OidcSettings, unfit

LIMIT_S = 10.0
"""From the question to the last byte of the answer."""
MAX_ANSWER_BYTES = 256 * 1024
MAX_KEYS = 100
KEPT = timedelta(hours=1)
"""How long is believed what the provider said of itself, and its keys."""
LEEWAY_S = 60
"""Seconds that the provider's clock may be away from ours."""
LONGEST_TOKEN = 100_000
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
)
"""Signatures that are taken: never `none`, never a secret that both sides have (HS256)."""

Words = Literal["away", "wrong", "again"]


class OpenIdError(Exception):
    """Nobody can be signed in. `words` name what people are told; `why` is for the log."""

    def __init__(self, words: Words, why: str) -> None:
        super().__init__(why)
        self.words = words
        self.why = why


class _NewKeyError(Exception):
    """A token is signed by a key that isn't known here."""


@dataclass(frozen=True, slots=True)
class Places:
    """What the provider says of itself: where it is asked, and how."""

    authorization: str
    token: str
    keys: str
    secret_in_form: bool
    names_itself: bool


@dataclass(frozen=True, slots=True)
class Beginning:
    """What belongs to one sign-in, and nobody else can know."""

    state: str
    nonce: str
    verifier: str


class OpenId:
    """Asks the provider of the settings. `clock` is business time, aware UTC."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._places: tuple[datetime, Places] | None = None
        self._looking: asyncio.Task[Places] | None = None
        self._keys: tuple[datetime, list[Any]] | None = None

    async def close(self) -> None:
        """Closes its connections."""
        if self._looking is not None:
            self._looking.cancel()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def address(self, back: str, one: Beginning) -> str:
        """Where a browser goes to sign in; it comes to `back`. Raises OpenIdError."""
        places = await self.places()
        digest = hashlib.sha256(one.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": back,
            "scope": " ".join(self.settings.scopes),
            "state": one.state,
            "nonce": one.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in places.authorization else "?"
        return places.authorization + joint + urlencode(asked, quote_via=quote)

    async def check_sender(self, iss: str | None) -> None:
        """Raises OpenIdError for an answer that another provider sent here (RFC 9207)."""
        expected = iss is not None or (await self.places()).names_itself
        if expected and iss != self.settings.issuer:
            raise OpenIdError("wrong", "the answer doesn't come from this issuer (iss)")

    async def claims(self, code: str, back: str, one: Beginning) -> Mapping[str, Any]:
        """What the provider says of who came back with `code`. Raises OpenIdError."""
        places = await self.places()
        settings = self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": one.verifier,
        }
        headers = {}
        secret = settings.client_secret.get_secret_value() if settings.client_secret else ""
        if secret and not places.secret_in_form:
            pair = f"{quote(settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = settings.client_id
            if secret:
                form["client_secret"] = secret
        status, answer = await self._ask("POST", places.token, data=form, headers=headers)
        if status != 200:
            said = str(answer.get("error", ""))[:40]
            again = said == "invalid_grant"
            raise OpenIdError("again" if again else "wrong", f"token: HTTP {status} {said!r}")
        token = answer.get("id_token")
        if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
            raise OpenIdError("wrong", "token: there is no id_token")
        return await self._checked(token, one.nonce)

    async def places(self) -> Places:
        """What the provider says of itself, an hour old at most. Raises OpenIdError."""
        if self._places is not None and abs(self._clock() - self._places[0]) <= KEPT:
            return self._places[1]
        # One question, however many wait for its answer: a slow provider piles nothing up.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(_seen)
        return await asyncio.shield(self._looking)

    async def _look(self) -> Places:
        now = self._clock()
        url = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, found = await self._ask("GET", url)
        if status != 200:
            raise OpenIdError("wrong", f"discovery: HTTP {status}")
        self._places = (now, self._read(found))
        return self._places[1]

    def _read(self, found: Mapping[str, Any]) -> Places:
        if found.get("issuer") != self.settings.issuer:
            named = str(found.get("issuer"))[:200]
            raise OpenIdError("wrong", f"discovery: the provider says it is {named!r}")
        here = self.settings.issuer.startswith("http://")

        def place(key: str) -> str:
            url = found.get(key)
            if fault := unfit(url, here=here) if isinstance(url, str) else "isn't there":
                raise OpenIdError("wrong", f"discovery: {key} {fault}")
            return str(url).partition("#")[0]

        ways = found.get("token_endpoint_auth_methods_supported")
        ways = ways if isinstance(ways, list) else ["client_secret_basic"]
        return Places(
            place("authorization_endpoint"),
            place("token_endpoint"),
            place("jwks_uri"),
            secret_in_form="client_secret_basic" not in ways and "client_secret_post" in ways,
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        )

    # --- what is signed -----------------------------------------------------------------------

    async def _checked(self, token: str, nonce: str) -> Mapping[str, Any]:
        try:
            claims = _signed(token, await self.keys())
        except _NewKeyError:  # providers change their keys
            try:
                claims = _signed(token, await self.keys(anew=True))
            except _NewKeyError:
                raise OpenIdError("wrong", "id_token: no key of the provider's signs it") from None
        self._check(claims, nonce)
        return claims

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        """OpenID Connect Core 1.0, 3.1.3.7."""
        settings = self.settings
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock().timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True},
            sub={"essential": True},
            aud={"essential": True, "value": settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            registry.validate(claims)
        except ExpiredTokenError:
            raise OpenIdError("again", "id_token: it has expired") from None
        except Exception as error:  # whatever a hostile claim makes the library say
            raise OpenIdError("wrong", f"id_token: {type(error).__name__}: {error}"[:200]) from None
        given = claims.get("nonce")
        if claims["iss"] != settings.issuer:
            raise OpenIdError("wrong", "id_token: another issuer's (iss)")
        if claims["aud"] not in (settings.client_id, [settings.client_id]) and "azp" not in claims:
            raise OpenIdError("wrong", "id_token: for several, and it doesn't say whom (azp)")
        if claims.get("azp", settings.client_id) != settings.client_id:
            raise OpenIdError("wrong", "id_token: asked for by another (azp)")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise OpenIdError("wrong", "id_token: of another sign-in (nonce)")

    async def keys(self, *, anew: bool = False) -> list[Any]:
        """The provider's public keys, an hour old at most. Raises OpenIdError."""
        now = self._clock()
        if anew or self._keys is None or abs(now - self._keys[0]) > KEPT:
            status, found = await self._ask("GET", (await self.places()).keys)
            listed = found.get("keys")
            if status != 200 or not isinstance(listed, list):
                raise OpenIdError("wrong", f"keys: HTTP {status}, or no list of them")
            self._keys = (now, [key for one in listed[:MAX_KEYS] if (key := _key(one))])
        return self._keys[1]

    # --- questions ------------------------------------------------------------------------------

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed answer isn't unpacked, so none can swell.
                auto_decompress=False,
                trust_env=False,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "Duewatch",
                },
            )
        return self._session

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """The status, and the object that is answered; {} where there is none."""
        where = url.partition("?")[0]
        try:
            async with (
                asyncio.timeout(LIMIT_S),
                self._open().request(method, url, allow_redirects=False, **more) as answer,
            ):
                status = answer.status
                content = await _limited(answer)
        except aiohttp.ClientConnectorCertificateError:
            raise OpenIdError("wrong", f"{where}: its certificate isn't trusted") from None
        except TimeoutError:
            raise OpenIdError("away", f"{where}: no answer within {LIMIT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            raise OpenIdError("away", f"{where}: {type(error).__name__}") from None
        if status >= 500 or status == 429:
            raise OpenIdError("away", f"{where}: HTTP {status}")
        if len(content) > MAX_ANSWER_BYTES:
            raise OpenIdError("wrong", f"{where}: more than {MAX_ANSWER_BYTES} bytes")
        if 300 <= status < 400:
            raise OpenIdError("wrong", f"{where}: HTTP {status}: redirects aren't followed")
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return status, found
        if status == 200:
            raise OpenIdError("wrong", f"{where}: the answer isn't a JSON object")
        return status, {}


def _seen(task: asyncio.Task[Places]) -> None:
    """Whoever waited may be gone: then nobody else looks at how it ended."""
    if not task.cancelled():
        task.exception()


async def _limited(answer: aiohttp.ClientResponse) -> bytes:
    """The body, or a little more of it than is allowed."""
    content = bytearray()
    async for part in answer.content.iter_any():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            answer.close()
            break
    return bytes(content)


def _key(one: Any) -> Any:
    """A public key for signatures, or None for what is something else or can't be read."""
    fits = isinstance(one, dict) and one.get("kty") in {"RSA", "EC"}
    if not fits or one.get("use", "sig") != "sig":
        return None
    try:
        return JWKRegistry.import_key(one)
    except Exception:  # one that this library can't read mustn't hide the others
        return None


def _signed(token: str, keys: list[Any]) -> dict[str, Any]:
    """What a token says, if one of the keys signed it. Raises _NewKeyError when it names none."""

    def pick(obj: Any) -> Any:
        header = obj.headers()
        kid, alg = header.get("kid"), header["alg"]
        kty = "EC" if alg.startswith("ES") else "RSA"
        fit = [key for key in keys if key.key_type == kty and key.get("alg") in {None, alg}]
        named = [key for key in fit if key.kid == kid] if kid is not None else fit
        if kid is None and len(named) > 1:
            raise ValueError("several keys, and the token doesn't name its own")
        if not named:
            raise _NewKeyError
        return named[0]

    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        return jwt.decode(token, pick, registry=registry).claims
    except _NewKeyError:
        raise
    except Exception as error:  # whatever a hostile token makes the library say
        raise OpenIdError("wrong", f"id_token: {type(error).__name__}: {error}"[:200]) from None
