"""/sign-in and /sign-out: a name and a password for a session, or the way to a provider.

Guessing is slow: each password costs a tenth of a second and 64 MiB, and after some failures by a
name or from an address nobody gets further for a while.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from urllib.parse import parse_qsl, quote

from aiohttp import web

from workers import users
from workers.app import App
from workers.web.access import Access
from workers.web.problems import ProblemError, page, read_body
from workers.web.sessions import Sessions, clear_cookie, set_cookie

FORM_COOKIE = "__Host-duewatch-form"
MAX_BODY_BYTES = 4096
WITHIN = timedelta(minutes=15)
BY_NAME, BY_ADDRESS = 10, 50
"""Failures within that time after which a name, or an address, has to wait."""
ELSEWHERE = frozenset(
    {"away", "wrong", "again", "refused", "no_role", "no_name", "taken", "disabled", "wait"}
)
"""What people are told who come back from a provider and aren't signed in."""


class SignIn:
    """The pages that open and close a session."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access
        self._sessions: Sessions = access.sessions
        self._settings = app.settings.console

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes."""
        router.add_get("/sign-in", self._ask)
        router.add_post("/sign-in", self._enter)
        router.add_post("/sign-out", self._leave)

    async def _ask(self, request: web.Request) -> web.Response:
        to = within(request.query.get("to", "/"))
        if await self._sessions.find(request) is not None:
            raise web.HTTPSeeOther(to)
        if not await self._sessions.needed():
            raise web.HTTPSeeOther("/")
        said = request.query.get("said", "")
        said = f"elsewhere_{said}" if said in ELSEWHERE else ""
        return self._page(request, to=to, name="", said=said)

    def _page(
        self, request: web.Request, *, to: str, name: str, said: str, status: int = 200
    ) -> web.Response:
        # Nobody is signed in yet: a cookie binds the form to the browser (login CSRF).
        nonce = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(16)
        answer = page(
            request,
            "sign-in.html",
            status=status,
            to=to,
            name=name,
            said=said,
            passwords=self._settings.passwords,
            provider=self._settings.oidc.shown,
            mark=self._sessions.form_mark(f"sign-in|{nonce}"),
        )
        answer.set_cookie(
            FORM_COOKIE, nonce, path="/", secure=True, httponly=True, samesite="Strict"
        )
        return answer

    async def _form(self, request: web.Request, owner: str) -> dict[str, str]:
        """What was typed. Raises ProblemError where it isn't a page of ours that sends it."""
        self._access.check_page(request)
        body = await read_body(request, MAX_BODY_BYTES)
        form = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        right = self._sessions.form_mark(owner)
        if not hmac.compare_digest(form.get("mark", "").encode(), right.encode()):
            raise ProblemError("cross-site", "Open the page again, then send it from there.")
        return form

    async def _enter(self, request: web.Request) -> web.Response:
        nonce = request.cookies.get(FORM_COOKIE, "")
        form = await self._form(request, f"sign-in|{nonce}")
        to, name = within(form.get("to", "/")), form.get("name", "").strip().lower()[:80]
        if not self._settings.passwords:
            return self._page(request, to=to, name="", said="elsewhere_only", status=403)
        store, now = self._app.store.users, self._app.clock()
        since = now - WITHIN
        keys = {f"name|{name}": BY_NAME, f"from|{request.remote or ''}": BY_ADDRESS}
        for key, most in keys.items():
            if await store.failures(key, since) >= most:
                return self._page(request, to=to, name=name, said="sign_in_wait", status=429)
        row = await store.find(name)
        right = await users.fits(form.get("password", ""), row.password_hash if row else None)
        if row is None or not right or row.disabled_at is not None:
            await store.failed(list(keys), now, since)
            return self._page(request, to=to, name=name, said="sign_in_wrong", status=401)
        await store.forgive(f"name|{name}")
        answer = web.Response(status=303, headers={"Location": to})
        set_cookie(answer, await self._sessions.begin(request, row, "by password"))
        return answer

    async def _leave(self, request: web.Request) -> web.Response:
        caller = await self._access.caller(request, pages=True)
        await self._form(request, caller.id)
        await self._sessions.end(request)
        answer = web.Response(status=303, headers={"Location": "/sign-in"})
        clear_cookie(answer)
        return answer


def within(to: str) -> str:
    """A path of this server: never another's page (an open redirect)."""
    fine = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return quote(to, safe="/?&=%+-._~:,@") if fine else "/"
