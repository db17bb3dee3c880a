"""What a provider, or who pretends to be one, may answer: nobody is let in, and it is said."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.fakes.openid_provider import (
    CLIENT,
    FIRST_KEY,
    KEYS,
    TOKEN,
    Provider,
    unsigned,
)
from tests.integration.test_sign_in import Browser
from tests.integration.test_sign_in_elsewhere import back, enter, house, said, sent

ANOTHER_KEY = RSAKey.generate_key(2048, {"kid": "another", "use": "sig"})
FOR_ANYTHING = RSAKey.import_key(
    {name: part for name, part in FIRST_KEY.as_dict(private=True).items() if name != "alg"}
)
SAME_NAME = RSAKey.generate_key(2048, {"kid": "first"})
CURVE_KEY = ECKey.generate_key("P-256", {"kid": "curve", "use": "sig"})
SHARED_KEY = OctKey.generate_key(256, {"kid": "first"})
WRONG_CLAIMS: list[tuple[str, dict[str, Any]]] = [
    ("wrong", {"iss": "https://other.example"}),
    ("wrong", {"iss": None}),
    ("wrong", {"iss": ["http://127.0.0.1"]}),
    ("wrong", {"aud": "another"}),
    ("wrong", {"aud": ["another"]}),
    ("wrong", {"aud": ["another"], "azp": CLIENT}),
    ("wrong", {"aud": [CLIENT, "another"]}),
    ("wrong", {"aud": [CLIENT, "another"], "azp": "another"}),
    ("wrong", {"aud": CLIENT, "azp": "another"}),
    ("wrong", {"aud": None}),
    ("wrong", {"aud": {CLIENT: 1}}),
    ("wrong", {"nonce": "another"}),
    ("wrong", {"nonce": None}),
    ("wrong", {"nonce": 7}),
    ("wrong", {"sub": None}),
    ("wrong", {"sub": ""}),
    ("wrong", {"sub": 7}),
    ("wrong", {"sub": "x" * 256}),
    ("wrong", {"sub": "a\nb"}),
    ("again", {"exp": 1}),
    ("wrong", {"exp": None}),
    ("wrong", {"exp": "tomorrow"}),
    ("wrong", {"exp": True}),
    ("wrong", {"iat": None}),
    ("wrong", {"iat": 1 << 40}),
    ("wrong", {"nbf": 1 << 40}),
    ("no_name", {"preferred_username": None}),
    ("no_name", {"preferred_username": "<script>"}),
    ("no_role", {"groups": {"desk-administrator": True}}),
    ("no_role", {"groups": None}),
]


@pytest.mark.parametrize(("words", "claims"), WRONG_CLAIMS, ids=lambda one: str(one)[:60])
async def test_a_token_that_says_something_wrong_signs_nobody_in(
    words: str, claims: dict[str, Any], tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, claims=claims) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert await said(browser, await enter(browser, provider)) == words
        assert await browser.program.app.store.users.all() == []


async def test_a_token_for_several_that_names_this_server_is_taken(
    tmp_path: Path, clock: FakeClock
) -> None:
    claims = {"aud": [CLIENT, "another"], "azp": CLIENT}
    async with (
        Provider(clock, claims=claims) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert (await enter(browser, provider)).headers["Location"] == "/"


@pytest.mark.parametrize(("skew_s", "words"), [(-55, ""), (55, ""), (65, "wrong"), (-365, "again")])
async def test_a_clock_may_be_a_minute_away(
    skew_s: int, words: str, tmp_path: Path, clock: FakeClock
) -> None:
    theirs = FakeClock(clock() + timedelta(seconds=skew_s))
    async with (
        Provider(theirs) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        entered = await enter(browser, provider)
        if words:
            assert await said(browser, entered) == words
        else:
            assert entered.headers["Location"] == "/"


def _none(claims: Mapping[str, Any]) -> str:
    return unsigned({"alg": "none", "kid": "first"}, claims)


def _public_key_as_secret(claims: Mapping[str, Any]) -> str:
    head = unsigned({"alg": "HS256", "kid": "first"}, claims).rpartition(".")[0]
    mac = hmac.new(FIRST_KEY.as_pem(private=False), head.encode(), hashlib.sha256).digest()
    return unsigned({"alg": "HS256", "kid": "first"}, claims, mac)


FORGED = {
    "none": _none,
    "no signature": lambda claims: unsigned({"alg": "RS256", "kid": "first"}, claims),
    "the public key as a secret": _public_key_as_secret,
    "an algorithm that isn't one": lambda claims: unsigned({"alg": ["RS256"]}, claims, b"x"),
    "something critical": lambda claims: unsigned(
        {"alg": "RS256", "kid": "first", "crit": ["exp"], "exp": 1}, claims, b"x"
    ),
    "no header": lambda claims: unsigned({}, claims, b"x"),
    "a list": lambda claims: unsigned({"alg": "RS256", "kid": "first"}, list(claims), b"x"),  # type: ignore[arg-type]
    "not a token": lambda _: "a.b",
    "nothing": lambda _: "",
    "letters": lambda _: "é.é.é",
    "a deep one": lambda _: unsigned({"alg": "RS256", "x": 1}, {}, b"x").replace(".", "." * 9),
    "a long one": lambda claims: unsigned({"alg": "RS256"}, {"x": "x" * 90_000, **claims}, b"x"),
}


@pytest.mark.parametrize("forged", FORGED)
async def test_a_forged_token_signs_nobody_in(
    forged: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, forge=FORGED[forged]) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert await said(browser, await enter(browser, provider)) == "wrong"


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (SAME_NAME, {}),
        (ANOTHER_KEY, {}),
        (ANOTHER_KEY, {"kid": "first"}),
        (ANOTHER_KEY, {"kid": None}),
        (FOR_ANYTHING, {"alg": "RS512"}),  # the provider publishes it for RS256
    ],
)
async def test_another_key_signs_nobody_in(
    key: RSAKey, header: dict[str, Any], tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, key=key, header=header) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert await said(browser, await enter(browser, provider)) == "wrong"


async def test_keys_may_change_at_any_time(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert (await enter(browser, provider)).headers["Location"] == "/"
        provider.key = ANOTHER_KEY
        assert await said(Browser(browser.program), await enter(browser, provider)) == "wrong"
        assert provider.asked.count(KEYS) == 2, "a key that isn't known is looked for once more"
        provider.published = [ANOTHER_KEY.as_dict(private=False)]
        assert (await enter(browser, provider)).headers["Location"] == "/"
        assert provider.asked.count(KEYS) == 3
        provider.key = FIRST_KEY  # withdrawn
        assert await said(Browser(browser.program), await enter(browser, provider)) == "wrong"


async def test_a_key_is_found_among_those_that_arent_for_this(
    tmp_path: Path, clock: FakeClock
) -> None:
    published = [
        None,
        {"kty": "AKP", "kid": "curve", "alg": "ML-DSA-44", "pub": "x"},
        {"kty": "EC", "kid": "broken", "crv": "P-999", "x": "1", "y": "2"},
        SHARED_KEY.as_dict(),
        {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "curve", "use": "enc"},
        {**FIRST_KEY.as_dict(private=False), "kid": "curve"},
        CURVE_KEY.as_dict(private=False),
    ]
    async with (
        Provider(clock, key=CURVE_KEY, published=published) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert (await enter(browser, provider)).headers["Location"] == "/"


# --- what comes back -------------------------------------------------------------------------


async def test_an_answer_is_taken_once(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        address = await sent(browser)
        kept = dict(browser.cookies)
        brought = provider.agree(address)
        assert (await back(browser, **brought)).headers["Location"] == "/"
        again = Browser(browser.program, dict(kept))
        assert await said(again, await back(again, **brought)) == "again"
        fresh = Browser(browser.program, dict(kept))
        assert await said(fresh, await back(fresh, **provider.agree(address))) == "again"
        assert provider.asked.count(TOKEN) == 1, "the state is used up, whatever the code is"


async def test_a_code_is_taken_once_by_the_provider(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        brought = provider.agree(await sent(browser))
        await back(browser, **brought)
        thief = Browser(browser.program)
        state = parse_qs(urlsplit(await sent(thief)).query)["state"][0]
        got = await back(thief, code=brought["code"], state=state)
        assert await said(thief, got) == "again"


async def test_an_answer_that_another_browser_began_signs_nobody_in(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as attacker,
    ):
        brought = provider.agree(await sent(attacker))
        without = Browser(attacker.program)
        assert await said(without, await back(without, **brought)) == "again"
        busy = Browser(attacker.program)
        address = await sent(busy)
        assert await said(busy, await back(busy, **brought)) == "again"
        assert provider.asked.count(TOKEN) == 0
        # What somebody began themselves isn't spoilt by it.
        assert (await back(busy, **provider.agree(address))).headers["Location"] == "/"


async def test_a_sign_in_has_ten_minutes(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        late = provider.agree(await sent(browser))
        clock.advance(timedelta(minutes=10, seconds=1))
        assert await said(browser, await back(browser, **late)) == "again"


@pytest.mark.parametrize("change", ["to", "began", "secret", "nothing", "garbage", "long"])
async def test_a_cookie_that_was_changed_is_worth_nothing(
    change: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        brought = provider.agree(await sent(browser))
        name = "__Host-duewatch-elsewhere"
        secret, began, to = browser.cookies[name].split(".")
        browser.cookies[name] = {
            "to": f"{secret}.{began}.Ly9ldmlsLmV4YW1wbGU=",
            "began": f"{secret}.{int(began) + 1}.{to}",
            "secret": f"{secret}x.{began}.{to}",
            "nothing": "",
            "garbage": "a.b.c.d",
            "long": "x" * 5_000,
        }[change]
        assert await said(browser, await back(browser, **brought)) == "again"
        assert provider.asked.count(TOKEN) == 0


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/a\r\nSet-Cookie: x=y"]
)
async def test_the_way_back_from_a_provider_never_leads_away(
    to: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert (await enter(browser, provider, to)).headers["Location"] == "/"
        assert "x" not in browser.cookies


async def test_a_longer_way_back_than_fits_into_a_cookie_leads_to_the_overview(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        to = "/inbox?q=" + "x" * 1_400
        assert (await enter(browser, provider, to)).headers["Location"] == to
        assert (await enter(browser, provider, to + "x" * 200)).headers["Location"] == "/"


@pytest.mark.parametrize(
    ("metadata", "iss", "words"),
    [
        ({}, "https://other.example", "wrong"),
        ({"authorization_response_iss_parameter_supported": True}, None, "wrong"),
        ({"authorization_response_iss_parameter_supported": True}, "https://o.example", "wrong"),
        ({"authorization_response_iss_parameter_supported": True}, "its own", ""),
        ({}, "its own", ""),
    ],
)
async def test_an_answer_of_another_provider_is_refused(
    metadata: dict[str, Any], iss: str | None, words: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, metadata=metadata) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        brought = provider.agree(await sent(browser))
        if iss is not None:
            brought["iss"] = provider.issuer if iss == "its own" else iss
        got = await back(browser, **brought)
        if words:
            assert await said(browser, got) == words
            assert provider.asked.count(TOKEN) == 0
        else:
            assert got.headers["Location"] == "/"


@pytest.mark.parametrize(
    ("brought", "words"),
    [
        ({"error": "access_denied", "error_description": "<b>no</b>"}, "refused"),
        ({"error": "temporarily_unavailable"}, "away"),
        ({"error": "server_error"}, "away"),
        ({"error": "invalid_scope"}, "wrong"),
        ({"error": "<script>\n" * 99}, "wrong"),
        ({}, "wrong"),
        ({"code": ""}, "wrong"),
        ({"code": "x" * 5_000}, "wrong"),
        ({"code": "made up"}, "again"),
    ],
)
async def test_whatever_a_browser_brings_back_has_its_words(
    brought: dict[str, str], words: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        state = parse_qs(urlsplit(await sent(browser)).query)["state"][0]
        with capture_logs() as logs:
            got = await back(browser, state=state, **brought)
            assert await said(browser, got) == words
        assert "script" not in json.dumps(logs).replace("?script?", "")


async def test_an_answer_that_says_a_thing_twice_is_refused(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        brought = provider.agree(await sent(browser))
        twice = f"/sign-in/back?code=x&code={brought['code']}&state={brought['state']}"
        assert await said(browser, await browser.get(twice)) == "wrong"


async def test_made_up_codes_make_an_address_wait(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        for _ in range(50):
            state = parse_qs(urlsplit(await sent(browser)).query)["state"][0]
            await back(browser, state=state, code="made up")
        assert await said(browser, await enter(browser, provider)) == "wait"
        assert provider.asked.count(TOKEN) == 50
        clock.advance(timedelta(minutes=16))
        assert (await enter(browser, provider)).headers["Location"] == "/"
