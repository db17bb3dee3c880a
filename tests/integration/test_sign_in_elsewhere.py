"""Signing in at a provider, as it should go: a real one that runs here, and one that checks."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

from tests import openid
from tests.api import Answered, asked
from tests.fakes.clock import FakeClock
from tests.fakes.openid_provider import FIRST_KEY, TOKEN, Provider
from tests.integration.test_sign_in import PASSWORD, Browser
from tests.product import opened
from workers import users
from workers.doctor import examine
from workers.errors import InputError, StateError
from workers.providers import Finding
from workers.sign_in import OidcSettings, RoleName
from workers.users import Role
from workers.web.elsewhere import name_of, role_of
from workers.web.sessions import COOKIE
from workers.web.sign_in import FORM_COOKIE

PEOPLE = [
    {"sub": f"sub-{role}", "preferred_username": f"Li.{role}", "groups": ["all", f"desk-{role}"]}
    for role in Role
]


@asynccontextmanager
async def house(
    tmp_path: Path, clock: FakeClock, oidc: dict[str, Any], **console: Any
) -> AsyncIterator[Browser]:
    """The server with a provider in its settings and no users; a browser."""
    url = f"sqlite:///{tmp_path}/duewatch.db"
    async with asked(url, clock, console={"oidc": oidc, **console}) as program:
        yield Browser(program)


async def sent(browser: Browser, to: str = "/") -> str:
    """Where the button leads."""
    got = await browser.get(f"/sign-in/elsewhere?{urlencode({'to': to})}")
    assert got.status == 303
    return str(got.headers["Location"])


async def back(browser: Browser, **brought: str) -> Answered:
    """The browser comes back with that."""
    return await browser.get(f"/sign-in/back?{urlencode(brought)}")


async def enter(browser: Browser, provider: Provider, to: str = "/") -> Answered:
    """The whole way by a provider that agrees."""
    return await back(browser, **provider.agree(await sent(browser, to)))


async def said(browser: Browser, got: Answered) -> str:
    """What the page of /sign-in says that somebody is led back to."""
    assert got.status == 303
    assert COOKIE not in browser.cookies
    where = str(got.headers["Location"])
    assert where.startswith("/sign-in?to="), where
    page = await browser.get(where)
    assert page.status == 200
    assert 'role="alert"' in page.text
    return parse_qs(urlsplit(where).query)["said"][0]


async def did(browser: Browser) -> list[tuple[str, str, str, str]]:
    """The audit, newest first."""
    kept = await browser.program.app.store.operations.audit()
    return [(row.by, row.action, row.target, row.reason) for row in kept]


@pytest.mark.parametrize("role", list(Role))
async def test_a_real_provider_lets_people_in_with_their_roles(role: Role, tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))  # the provider has no other
    roles = {f"desk-{one}": one.value for one in Role}
    async with openid.provider(*PEOPLE) as issuer:
        oidc = {"issuer": issuer, "client_id": "duewatch", "client_secret": "x", "roles": roles}
        async with (
            house(tmp_path, clock, oidc) as browser,
            aiohttp.ClientSession() as there,
        ):
            assert (await browser.get("/")).status == 303, "nobody opens pages without it"
            address = await sent(browser, "/docs")
            form = {"sub": f"sub-{role}"}
            async with there.post(address, data=form, allow_redirects=False) as got:
                where = urlsplit(got.headers["Location"])
            assert f"{where.scheme}://{where.netloc}" == browser.program.url
            entered = await browser.get(f"{where.path}?{where.query}")
            assert (entered.status, entered.headers["Location"]) == (303, "/docs")
            assert f"Signed in as li.{role}" in (await browser.get("/")).text
            assert (await browser.get("/inbox")).status == (403 if role is Role.VIEWER else 200)
            assert (await did(browser))[:2] == [
                (f"li.{role}", "sign in", f"user li.{role}", f"by OpenID Connect: {issuer}"),
                ("OpenID Connect", "user add", f"user li.{role}", role),
            ]
            row = await browser.program.app.store.users.find(f"li.{role}")
            assert row is not None
            assert (row.role, row.password_hash) == (role, "")
            assert row.subject == f"{issuer}|sub-{role}"


async def test_a_real_provider_that_refuses_leads_back_with_words(tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with openid.provider() as issuer:
        oidc = {"issuer": issuer, "client_id": "duewatch", "default_role": "viewer"}
        async with house(tmp_path, clock, oidc) as browser, aiohttp.ClientSession() as there:
            form, address = {"action": "deny"}, await sent(browser)
            async with there.post(address, data=form, allow_redirects=False) as got:
                where = urlsplit(got.headers["Location"])
            brought = {name: one[0] for name, one in parse_qs(where.query).items()}
            # This provider forgets the state when it refuses; a browser's own would bring it.
            brought.setdefault("state", parse_qs(urlsplit(address).query)["state"][0])
            assert await said(browser, await back(browser, **brought)) == "refused"


async def test_what_is_asked_is_fresh_each_time_and_nothing_of_it_is_a_secret(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        first, second = [parse_qs(urlsplit(await sent(browser)).query) for _ in range(2)]
        for name in ("state", "nonce", "code_challenge"):
            assert first[name] != second[name]
            assert len(first[name][0]) >= 43
        assert first["code_challenge_method"] == ["S256"]
        assert first["redirect_uri"] == [f"{browser.program.url}/sign-in/back"]
        assert "code_verifier" not in first
        kept = browser.cookies["__Host-duewatch-elsewhere"]
        assert second["state"][0] not in kept
        assert second["nonce"][0] not in kept


async def test_the_cookie_comes_back_from_another_site_and_is_gone_afterwards(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        got = await browser.get("/sign-in/elsewhere")
        [cookie] = got.headers.getall("Set-Cookie")
        assert cookie.startswith("__Host-duewatch-elsewhere=")
        for part in ("SameSite=Lax", "Secure", "HttpOnly", "Path=/", "Max-Age=600"):
            assert part in cookie
        assert "Domain" not in cookie
        done = await back(browser, **provider.agree(str(got.headers["Location"])))
        assert any("Max-Age=0" in one for one in done.headers.getall("Set-Cookie"))


async def test_an_address_that_is_public_is_where_people_come_back_to(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with Provider(clock) as provider:
        url = f"sqlite:///{tmp_path}/duewatch.db"
        console = {"oidc": provider.settings()}
        public = "https://due.example.com/"
        async with asked(url, clock, console=console, public_url=public) as program:
            browser = Browser(program)
            address = await sent(browser)
            wanted = "https://due.example.com/sign-in/back"
            assert parse_qs(urlsplit(address).query)["redirect_uri"] == [wanted]
            entered = await back(browser, **provider.agree(address))
            assert entered.headers["Location"] == "/"


async def test_the_role_is_the_providers_each_time_and_a_lesser_one_ends_what_stands(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        provider.claims["groups"] = ["desk-administrator", "desk-viewer"]
        assert (await enter(browser, provider)).headers["Location"] == "/"
        elsewhere = Browser(browser.program, dict(browser.cookies))
        assert (await elsewhere.get("/inbox")).status == 200
        provider.claims["groups"] = "desk-viewer"  # the only administrator, and yet
        await enter(browser, provider)
        assert (await browser.get("/inbox")).status == 403
        assert (await elsewhere.get("/")).status == 303
        changes = [one for one in await did(browser) if one[1] == "user role"]
        assert changes == [("OpenID Connect", "user role", "user li.na", "viewer")]
        provider.claims["preferred_username"] = "li.na-wang"
        await enter(browser, provider)
        page = (await browser.get("/")).text
        assert "Signed in as li.na" in page
        assert "li.na-wang" not in page, "a name stays"
        assert len(await browser.program.app.store.users.all()) == 1


async def test_who_has_no_role_any_more_is_refused_and_signed_out_everywhere(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        await enter(browser, provider)
        elsewhere = Browser(browser.program)
        provider.claims["groups"] = ["others"]
        assert await said(elsewhere, await enter(elsewhere, provider)) == "no_role"
        assert (await browser.get("/")).status == 303
        assert (await did(browser))[0] == (
            "OpenID Connect",
            "sign in refused",
            "user li.na",
            "no role by groups",
        )


async def test_a_disabled_user_stays_out(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        await enter(browser, provider)
        await users.disable(browser.program.app, "li.na", "test", "left")
        del browser.cookies[COOKIE]
        provider.claims["groups"] = ["desk-administrator"]
        assert await said(browser, await enter(browser, provider)) == "disabled"
        row = await browser.program.app.store.users.find("li.na")
        assert row is not None
        assert row.role == "operator"


async def test_a_name_that_is_another_users_is_linked_by_an_administrator_alone(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, claims={"sub": "it's 1"}) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        app = browser.program.app
        await users.add(app, "li.na", "administrator", PASSWORD, "test")
        assert await said(browser, await enter(browser, provider)) == "taken"
        kept = await app.store.users.find("li.na")
        assert kept is not None
        assert (kept.subject, kept.role) == (None, "administrator")
        command = "duewatch users link li.na 'it'\"'\"'s 1'"
        assert (await did(browser))[0][1:] == ("sign in refused", "user li.na", command)

        await users.link(app, "li.na", "it's 1", "test")
        assert (await browser.sign_in("li.na")).status == 401, "the password ends with it"
        assert (await enter(browser, provider)).headers["Location"] == "/"
        assert (await browser.get("/inbox")).status == 200
        await users.add(app, "wang", "viewer", PASSWORD, "test")
        with pytest.raises(StateError, match=r"is user 'li\.na' already"):
            await users.link(app, "wang", "it's 1", "test")


async def test_a_user_of_another_subject_is_as_little_taken_over(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        await enter(browser, provider)
        thief = Browser(browser.program)
        provider.claims["sub"] = "sub-2"
        assert await said(thief, await enter(thief, provider)) == "taken"


async def test_without_a_provider_nobody_is_linked(tmp_path: Path, clock: FakeClock) -> None:
    async with asked(f"sqlite:///{tmp_path}/duewatch.db", clock) as program:
        await users.add(program.app, "li.na", "viewer", PASSWORD, "test")
        with pytest.raises(InputError, match=r"console\.oidc\.issuer"):
            await users.link(program.app, "li.na", "1", "test")
        assert (await Browser(program).get("/sign-in/elsewhere")).status == 404
        assert "elsewhere" not in (await Browser(program).get("/sign-in")).text


async def test_many_who_come_first_at_once_are_one_user(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        came = [
            app.store.users.arrive("https://id|1", "li.na", "operator", "test", clock())
            for _ in range(8)
        ]
        rows: list[Any] = await asyncio.gather(*came)
        assert len({row.id for row in rows}) == 1
        others = [
            app.store.users.arrive(f"https://id|{n}", "wang", "viewer", "test", clock())
            for n in range(2, 6)
        ]
        assert [row is None for row in await asyncio.gather(*others)].count(False) == 1
        less: Any = await app.store.users.arrive("https://id|1", "x", "viewer", "test", clock())
        assert (less.id, less.name, less.role) == (rows[0].id, "li.na", "viewer")
        await users.disable(app, "li.na", "test", "left")
        gone: Any = await app.store.users.arrive("https://id|1", "x", "operator", "test", clock())
        assert (gone.role, gone.disabled_at) == ("viewer", clock()), "who is out gets nothing"
        acts = [row.action for row in await app.store.operations.audit()]
        assert acts == ["user disable", "user role", "user add", "user add"]


@pytest.mark.parametrize("password", ["", "nobody has this password", "!"])
async def test_no_password_fits_where_none_is_kept(password: str) -> None:
    assert await users.fits(password, "") is False
    assert await users.fits(password, None) is False


async def test_passwords_can_be_switched_off(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings(), passwords=False) as browser,
    ):
        await users.add(browser.program.app, "wang", "viewer", PASSWORD, "test")
        page = await browser.get("/sign-in?to=/docs")
        assert "Sign in with Keys &amp; Co" in page.text
        assert 'href="/sign-in/elsewhere?to=/docs"' in page.text
        assert "<form" not in page.text
        owner = f"form|sign-in|{browser.cookies[FORM_COOKIE]}".encode()
        mark = hmac.new(browser.program.app.console_key.encode(), owner, hashlib.sha256)
        form = {"name": "wang", "password": PASSWORD, "to": "/", "mark": mark.hexdigest()[:32]}
        refused = await browser.post("/sign-in", form)
        assert refused.status == 403
        assert "Passwords don&#39;t open these pages" in refused.text
        assert COOKIE not in browser.cookies


async def test_both_ways_stand_side_by_side(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        await users.add(browser.program.app, "wang", "viewer", PASSWORD, "test")
        page = (await browser.get("/sign-in")).text
        assert "/sign-in/elsewhere?to=/" in page
        assert 'name="password"' in page
        assert (await browser.sign_in("wang")).status == 303
        assert (await did(browser))[0] == ("wang", "sign in", "user wang", "by password")


async def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(
    tmp_path: Path, clock: FakeClock
) -> None:
    ways = {"token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"]}
    async with (
        Provider(clock, metadata=ways) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert (await enter(browser, provider)).headers["Location"] == "/"


async def test_a_public_client_has_no_secret(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock, secret="") as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert (await enter(browser, provider)).headers["Location"] == "/"


async def test_what_a_provider_says_of_itself_is_asked_once_an_hour(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        for _ in range(3):
            await enter(browser, provider)
        assert len(provider.asked) == 1 + 1 + 3
        clock.advance(timedelta(minutes=61))
        await enter(browser, provider)
        assert len(provider.asked) == 5 + 3
        assert provider.asked.count(TOKEN) == 4


async def test_the_doctor_looks_at_the_provider(tmp_path: Path, clock: FakeClock) -> None:
    async def looks(**more: Any) -> Finding:
        async with house(tmp_path, clock, provider.settings(**more)) as browser:
            found = [one async for one in examine(browser.program.app) if one.what == "sign-in"]
            return found[0]

    async with Provider(clock) as provider:
        well = await looks()
        assert (well.well, well.remedy) == (True, "")
        assert well.detail.startswith(f"{provider.issuer}: 1 keys; leads back to http://127.0.0.1")
        assert well.detail.endswith("/sign-in/back")
        other = await looks(issuer=provider.issuer + "/")
        assert not other.well
        assert f"the provider says it is '{provider.issuer}'" in other.detail
        assert other.remedy == "correct console.oidc"
        provider.published.clear()
        assert "publishes" in (await looks()).remedy
        provider.metadata["jwks_uri"] = "http://127.0.0.1:1/keys"
        away = await looks()
        assert (away.well, away.remedy) == (False, "see that it runs and is reached from here")
    async with asked(f"sqlite:///{tmp_path}/duewatch.db", clock) as program:
        assert "sign-in" not in {one.what async for one in examine(program.app)}


@pytest.mark.parametrize(
    ("claims", "claim", "name"),
    [
        ({"preferred_username": "Li.Na"}, "", "li.na"),
        ({"preferred_username": "李娜", "email": "li.na@example.com"}, "", "li.na@example.com"),
        ({"email": "boss@example.com", "email_verified": False}, "", ""),
        ({"preferred_username": "li.na", "upn": "ln@example.com"}, "upn", "ln@example.com"),
        ({"preferred_username": "li.na"}, "upn", ""),
        ({"preferred_username": ["li.na"], "https://a.example/name": "ln"}, "", "li.na"),
        ({"preferred_username": 7}, "", ""),
        ({}, "", ""),
    ],
)
def test_a_name_comes_from_the_claim_that_has_one(
    claims: dict[str, Any], claim: str, name: str
) -> None:
    assert name_of(claims, OidcSettings(name_claim=claim)) == name


@pytest.mark.parametrize(
    ("claims", "claim", "role"),
    [
        ({"groups": ["a", "o", "v"]}, "groups", "administrator"),
        ({"groups": "o"}, "groups", "operator"),
        ({"groups": "a o"}, "groups", "viewer"),
        ({"groups": [["a"], {"a": 1}, None, 1]}, "groups", "viewer"),
        ({"realm_access": {"roles": ["o"]}}, "realm_access.roles", "operator"),
        ({"https://a.example/roles": ["o"]}, "https://a.example/roles", "operator"),
        ({"realm_access": ["o"]}, "realm_access.roles", "viewer"),
        ({}, "groups", "viewer"),
    ],
)
def test_a_role_is_the_greatest_of_those_that_are_given(
    claims: dict[str, Any], claim: str, role: str
) -> None:
    roles: Any = {"a": "administrator", "o": "operator", "v": "viewer"}
    settings = OidcSettings(role_claim=claim, roles=roles, default_role="viewer")
    assert role_of(claims, settings) == role


def test_the_settings_name_every_role_there_is() -> None:
    assert set(get_args(RoleName)) == {role.value for role in Role}


def test_the_fake_shows_no_private_key() -> None:
    assert "d" not in FIRST_KEY.as_dict(private=False)
