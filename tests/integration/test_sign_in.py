"""Signing in to the pages: who may, for how long, and what is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from tests.api import Answered, Program, asked
from tests.fakes.clock import FakeClock
from workers import users
from workers.errors import InputError, StateError
from workers.users import SCOPES, Role
from workers.web.sessions import COOKIE

PASSWORD = "the reservoir is full again"
PAGES = {"/": Role.VIEWER, "/docs": Role.VIEWER, "/inbox": Role.OPERATOR}


@dataclass
class Browser:
    """Keeps cookies, as a browser does for a secure host; follows nothing."""

    program: Program
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Answered:
        """Opens a page."""
        return await self._ask("GET", path, None, headers)

    async def post(self, path: str, form: dict[str, str], **headers: str) -> Answered:
        """Sends a form from a page of the same server."""
        said = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        return await self.send(path, urlencode(form).encode(), **said)

    async def send(self, path: str, body: bytes, **headers: str) -> Answered:
        """Sends any body from a page of the same server."""
        said = {"Origin": self.program.url, "Sec-Fetch-Site": "same-origin", **headers}
        return await self._ask("POST", path, body, said)

    async def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answered:
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        got = await self.program(method, path, body, Accept="text/html", **headers)
        for one in got.headers.getall("Set-Cookie", []):
            name, _, value = one.partition("=")
            assert "Secure" in one, one
            assert "HttpOnly" in one, one
            assert "Path=/" in one, one
            self.cookies[name] = value.partition(";")[0]
        return got

    async def mark(self, path: str) -> str:
        """The mark in a page's form."""
        found = re.search(r'name="mark" value="([0-9a-f]+)"', (await self.get(path)).text)
        assert found is not None, path
        return found[1]

    async def sign_in(self, name: str, password: str = PASSWORD, to: str = "/") -> Answered:
        """Types a name and a password."""
        kept = self.cookies.pop(COOKIE, None)
        form = {"mark": await self.mark("/sign-in"), "name": name, "password": password, "to": to}
        if kept is not None:
            self.cookies[COOKIE] = kept
        return await self.post("/sign-in", form)


@asynccontextmanager
async def house(
    tmp_path: Path, clock: FakeClock, *roles: Role, **settings: Any
) -> AsyncIterator[Browser]:
    """The server with one user of each role, a viewer by default, named like it; a browser."""
    async with asked(f"sqlite:///{tmp_path}/duewatch.db", clock, **settings) as program:
        for role in roles or (Role.VIEWER,):
            await users.add(program.app, role, role, PASSWORD, "test")
        yield Browser(program)


async def test_without_users_this_machine_needs_no_sign_in(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/duewatch.db", clock) as program:
        assert (await Browser(program).get("/")).status == 200
        assert (await Browser(program).get("/sign-in")).headers["Location"] == "/"


@pytest.mark.parametrize(
    ("language", "said"), [("en", "Needs a person"), ("zh-CN", "需要人工处理")]
)
async def test_the_first_page_has_words_for_all_that_waits(
    language: str, said: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/duewatch.db", clock) as program:
        shown = await program("GET", "/", Accept="text/html", Accept_Language=language)
        waits = await program.app.store.operations.needs_a_person()
        assert shown.status == 200
        assert said in shown.text
        assert shown.text.count('class="figure ') >= len(waits)


async def test_with_users_each_page_leads_to_the_sign_in_and_back(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock) as browser:
        for path in PAGES:
            away = await browser.get(path)
            assert away.status == 303
            where, _, query = away.headers["Location"].partition("?")
            assert (where, parse_qs(query)) == ("/sign-in", {"to": [path]})
        there = await browser.sign_in("Viewer", to="/docs")
        assert (there.status, there.headers["Location"]) == (303, "/docs")
        home = await browser.get("/")
        assert home.status == 200
        assert "Signed in as viewer" in home.text
        assert 'href="/inbox"' not in home.text, "what a viewer may not open isn't offered"
        out = await browser.post("/sign-out", {"mark": await browser.mark("/")})
        assert out.headers["Location"] == "/sign-in"
        assert (await browser.get("/")).status == 303
        kept = await browser.program.app.store.operations.audit()
        did = [(row.by, row.action, row.origin) for row in kept][:2]
        assert did == [("viewer", "sign out", "127.0.0.1"), ("viewer", "sign in", "127.0.0.1")]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("path", "least"), PAGES.items())
async def test_a_page_is_open_from_its_role_upwards(
    role: Role, path: str, least: Role, tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock, role) as browser:
        await browser.sign_in(role)
        ranks = list(Role)
        fits = ranks.index(role) >= ranks.index(least)
        assert (await browser.get(path)).status == (200 if fits else 403)


def test_a_role_has_all_that_a_lesser_one_has() -> None:
    assert SCOPES[Role.VIEWER] < SCOPES[Role.OPERATOR]
    assert SCOPES[Role.ADMINISTRATOR] == {"admin"}
    assert "admin" not in SCOPES[Role.OPERATOR]


async def test_a_cookie_opens_nothing_for_programs(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock, api_token="open-sesame-1234") as browser:
        await browser.sign_in("viewer")
        assert (await browser.get("/v1/rules")).status == 401


async def test_a_session_ends_when_idle_and_in_any_case(tmp_path: Path, clock: FakeClock) -> None:
    limits = {"idle_minutes": 60, "session_hours": 3}
    async with house(tmp_path, clock, console=limits) as browser:
        await browser.sign_in("viewer")
        for _ in range(3):
            clock.advance(timedelta(minutes=59))
            assert (await browser.get("/")).status == 200
        clock.advance(timedelta(minutes=3))
        assert (await browser.get("/")).status == 303
        await browser.sign_in("viewer")
        clock.advance(timedelta(minutes=61))
        assert (await browser.get("/")).status == 303


async def test_signing_in_takes_another_session_than_was_brought(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock) as browser:
        prepared = "A" * 43
        browser.cookies[COOKIE] = prepared
        await browser.sign_in("viewer")
        first = browser.cookies[COOKIE]
        assert first != prepared
        thief = Browser(browser.program, {COOKIE: prepared})
        assert (await thief.get("/")).status == 303


async def test_a_changed_user_is_signed_out_everywhere(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock) as browser:
        app = browser.program.app
        another = "another long sentence"

        async def goes_out(password: str, change: Awaitable[Any]) -> None:
            assert (await browser.sign_in("viewer", password)).status == 303
            assert (await browser.get("/")).status == 200
            await change
            assert (await browser.get("/")).status == 303

        await goes_out(PASSWORD, users.set_role(app, "viewer", "operator", "test"))
        await goes_out(PASSWORD, users.set_password(app, "viewer", another, "test"))
        await goes_out(another, users.disable(app, "viewer", "test", "left"))
        assert (await browser.sign_in("viewer", another)).status == 401


async def test_the_last_administrator_stays(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock, *Role) as browser:
        app = browser.program.app
        with pytest.raises(StateError, match="the only administrator"):
            await users.disable(app, "administrator", "test", "")
        with pytest.raises(StateError, match="the only administrator"):
            await users.set_role(app, "administrator", "viewer", "test")
        await users.set_role(app, "operator", "administrator", "test")
        await users.disable(app, "administrator", "test", "")


@pytest.mark.parametrize(
    ("headers", "mark"),
    [
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, ""),
        ({"Origin": "https://evil.example"}, ""),
        ({"Sec-Fetch-Site": "same-site"}, ""),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, ""),
        ({}, "0" * 32),
    ],
)
async def test_another_sites_form_changes_nothing(
    headers: dict[str, str], mark: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock) as browser:
        await browser.sign_in("viewer")
        mark = mark or await browser.mark("/")
        assert (await browser.post("/sign-out", {"mark": mark}, **headers)).status == 403
        assert (await browser.get("/")).status == 200


async def test_wrong_names_and_passwords_read_alike_and_have_to_wait(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock, *Role) as browser:
        wrong = await browser.sign_in("viewer", "not the password")
        nobody = await browser.sign_in("nobody", PASSWORD)
        assert wrong.status == nobody.status == 401
        shown = re.search(r'role="alert"[^>]*>([^<]+)', wrong.text)
        assert shown is not None
        assert shown[0] in nobody.text
        for _ in range(9):
            await browser.sign_in("viewer", "not the password")
        assert (await browser.sign_in("viewer")).status == 429
        assert (await browser.sign_in("operator")).status == 303
        clock.advance(timedelta(minutes=16))
        assert (await browser.sign_in("viewer")).status == 303


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/a\r\nSet-Cookie: x=y"]
)
async def test_the_way_back_never_leads_away(to: str, tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock) as browser:
        there = await browser.sign_in("viewer", to=to)
        assert (there.status, there.headers["Location"]) == (303, "/")
        assert "x" not in browser.cookies


async def test_what_was_typed_is_shown_as_text(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock) as browser:
        nasty = '"><script>alert(1)</script>'
        shown = await browser.sign_in(nasty, "x", to=f"/?{nasty}")
        assert "<script" not in shown.text
        assert shown.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in shown.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("li.na", "short", "12 to 200"),
        ("li.na", "li.na li.na li.na", "guessed"),
        ("li.na", "aaaaaaaaaaaaaaaa", "guessed"),
        ("Li Na", PASSWORD, "name"),
    ],
)
async def test_bad_names_and_passwords_are_refused(
    name: str, password: str, said: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock) as browser:
        with pytest.raises(InputError, match=said):
            await users.add(browser.program.app, name, "viewer", password, "test")
        assert len(await browser.program.app.store.users.all()) == 1


async def test_of_a_password_argon2id_is_kept(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock, *Role) as browser:
        kept = {row.password_hash for row in await browser.program.app.store.users.all()}
        assert len(kept) == 3, "each has a salt of its own"
        assert all(one.startswith("$argon2id$v=19$m=65536,t=3") for one in kept)
