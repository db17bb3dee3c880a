"""/sign-in/elsewhere and /sign-in/back: to the OpenID Connect provider, and a session on return.

A cookie ties both ends to one browser (login CSRF): it has a random secret, when that was begun,
and where it leads. State, nonce and the PKCE verifier are made of it and of this database's secret,
so that nobody else can make any of them; each is used once, by whichever server is asked.

Who somebody is, is the provider's subject, never a name: a name may be another's tomorrow.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import web

from workers import users
from workers.app import App
from workers.errors import InputError
from workers.sign_in import OidcSettings
from workers.store import Row
from workers.users import Role
from workers.web.access import Access
from workers.web.openid import Beginning, OpenId, OpenIdError
from workers.web.sessions import Sessions, set_cookie
from workers.web.sign_in import BY_ADDRESS, WITHIN, within

log = structlog.get_logger("web")

COOKIE = "__Host-duewatch-elsewhere"
BACK = "/sign-in/back"
BY = "OpenID Connect"
"""Who makes and changes users on the provider's word, in the audit."""
LASTS_S = 600
LONGEST_TO = 1_500
LONGEST_COOKIE = 3_000
LONGEST_CODE = 4_096


class _RefusedError(Exception):
    """Somebody comes back and isn't signed in: `said` is one of workers.web.sign_in.ELSEWHERE."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class Elsewhere:
    """The way to the provider and back."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._settings: OidcSettings = app.settings.console.oidc
        self._sessions: Sessions = access.sessions
        self._provider = OpenId(self._settings, app.clock)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes, if there is a provider."""
        if self._settings.on:
            router.add_get("/sign-in/elsewhere", self._go, allow_head=False)
            router.add_get(BACK, self._return, allow_head=False)

    async def close(self) -> None:
        """Closes the connections to the provider."""
        await self._provider.close()

    async def _go(self, request: web.Request) -> web.Response:
        # A link, not a form: form-action would stop a form that is answered by a way elsewhere.
        to = within(request.query.get("to", "/"))
        to = to if len(to) <= LONGEST_TO else "/"
        began = int(self._app.clock().timestamp())
        where = base64.urlsafe_b64encode(to.encode()).decode().rstrip("=")
        content = f"{secrets.token_urlsafe(24)}.{began}.{where}"
        try:
            address = await self._provider.address(self._back(request), self._made_of(content))
        except OpenIdError as error:
            return self._told(error, to)
        answer = web.Response(status=303, headers={"Location": address})
        answer.set_cookie(
            COOKIE, content, max_age=LASTS_S, path="/", secure=True, httponly=True, samesite="Lax"
        )
        return answer

    async def _return(self, request: web.Request) -> web.Response:
        content = request.cookies.get(COOKIE, "")
        one, to = self._made_of(content), "/"
        given = {name: value for name, value in request.query.items() if value}
        if not hmac.compare_digest(given.get("state", "").encode(), one.state.encode()):
            # Not begun here. The cookie stays: another site may have sent the browser.
            return _to_sign_in("again", to)
        try:
            to = await self._take(content)
            if len(given) != len(request.query):
                raise OpenIdError("wrong", "an answer that says something twice")
            user = await self._known(await self._said(request, given, one))
        except OpenIdError as error:
            answer = self._told(error, to)
        except _RefusedError as error:
            answer = _to_sign_in(error.said, to)
        else:
            answer = web.Response(status=303, headers={"Location": to})
            by_what = f"by {BY}: {self._settings.issuer}"
            set_cookie(answer, await self._sessions.begin(request, user, by_what))
        answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
        return answer

    async def _take(self, content: str) -> str:
        """Where a sign-in that begun here leads; it is taken for good. Raises _RefusedError."""
        _, began, where = content.split(".")
        now = self._app.clock()
        answers, key = self._app.store.answers, hashlib.sha256(content.encode()).hexdigest()
        if not -60 <= now.timestamp() - int(began) < LASTS_S:
            raise _RefusedError("again")
        if await answers.begin("sign-in", key, "", now) is not None:
            raise _RefusedError("again")
        await answers.end("sign-in", key, 204, "", {})
        try:
            return within(base64.urlsafe_b64decode(where + "==").decode())
        except (binascii.Error, ValueError):
            return "/"

    async def _said(
        self, request: web.Request, given: Mapping[str, str], one: Beginning
    ) -> Mapping[str, Any]:
        """What the provider says of who comes back. Raises OpenIdError, _RefusedError."""
        await self._provider.check_sender(given.get("iss"))
        if fault := given.get("error"):
            if fault == "access_denied":
                raise _RefusedError("refused")
            away = fault in {"temporarily_unavailable", "server_error"}
            plain = re.sub(r"[^a-z_]", "?", fault[:40])
            raise OpenIdError("away" if away else "wrong", f"it sends people back with {plain}")
        code = given.get("code", "")
        if not 0 < len(code) <= LONGEST_CODE:
            raise OpenIdError("wrong", "it sends people back without a code")
        store, now = self._app.store.users, self._app.clock()
        key, since = f"from|{request.remote or ''}", now - WITHIN
        if await store.failures(key, since) >= BY_ADDRESS:
            raise _RefusedError("wait")
        try:
            return await self._provider.claims(code, self._back(request), one)
        except OpenIdError as error:
            if error.words != "away":
                await store.failed([key], now, since)
            raise

    async def _known(self, claims: Mapping[str, Any]) -> Row[Any]:
        """The user whom the provider means. Raises _RefusedError; the audit says why."""
        sub = claims["sub"]
        try:
            subject = users.subject_at(self._settings.issuer, sub)
        except InputError:
            raise OpenIdError("wrong", "id_token: sub") from None
        store, now = self._app.store.users, self._app.clock()
        known: Any = await store.known(subject)
        name = known.name if known else name_of(claims, self._settings)
        role = role_of(claims, self._settings)
        if known is not None and known.disabled_at is not None:
            said, why = "disabled", "disabled"
        elif not role:
            said, why = "no_role", f"no role by {self._settings.role_claim}"
        elif not name:
            said, why = "no_name", f"no name for subject {sub}"
        else:
            user = await store.arrive(subject, name, role, BY, now)
            if user is not None:
                return user
            said, why = "taken", f"duewatch users link {name} {shlex.quote(sub)}"
        await store.refuse(subject, name or sub[:80], BY, why, now)
        raise _RefusedError(said)

    def _told(self, error: OpenIdError, to: str) -> web.Response:
        log.warning("no sign-in by the provider", why=error.why)
        return _to_sign_in(error.words, to)

    def _back(self, request: web.Request) -> str:
        base = self._app.settings.public_url.rstrip("/")
        return (base or f"{request.scheme}://{request.host}") + BACK

    def _made_of(self, content: str) -> Beginning:
        key = self._app.console_key.encode()

        def made(what: str) -> str:
            text = f"elsewhere|{what}|{content[:LONGEST_COOKIE]}"
            return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

        return Beginning(made("state"), made("nonce"), made("verifier"))


def _to_sign_in(said: str, to: str) -> web.Response:
    address = f"/sign-in?to={quote(to, safe='')}&said={said}"
    return web.Response(status=303, headers={"Location": address})


def name_of(claims: Mapping[str, Any], settings: OidcSettings) -> str:
    """What a new user is called; "" when no claim has a name that can be used."""
    wanted = [settings.name_claim] if settings.name_claim else ["preferred_username", "email"]
    for claim in wanted:
        value = next(_texts(claims, claim), "")
        if claim == "email" and claims.get("email_verified") is False:
            continue  # anybody may have said so
        try:
            return users.checked_name(value)
        except InputError:
            continue
    return ""


def role_of(claims: Mapping[str, Any], settings: OidcSettings) -> str:
    """The role that may do most of those the provider gives; "" for none."""
    given = {
        settings.roles[one] for one in _texts(claims, settings.role_claim) if one in settings.roles
    }
    most = [role.value for role in reversed(Role) if role.value in given]
    return most[0] if most else settings.default_role or ""


def _texts(claims: Mapping[str, Any], name: str) -> Iterator[str]:
    """The texts of a claim, one or a list of them; its name may lead into objects by dots."""
    found: Any = claims
    if name in claims:
        found = claims[name]
    else:
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    yield from (
        one for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)
    )
