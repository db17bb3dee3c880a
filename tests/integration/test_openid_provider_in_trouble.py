"""A provider in trouble: away, slow, or answering something else; people are told."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.fakes.openid_provider import KEYS, TOKEN, WELL_KNOWN, Provider
from tests.integration.test_sign_in import Browser
from tests.integration.test_sign_in_elsewhere import back, enter, house, said, sent
from workers.users import Role
from workers.web import openid
from workers.web.sessions import COOKIE


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(content).encode())


HUGE = web.Response(body=b'{"x": "' + b"x" * 1_000_000 + b'"}')
AWAY_ELSEWHERE = web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})
DEEP = web.Response(body=b"[" * 100_000)


@pytest.mark.parametrize("path", [WELL_KNOWN, TOKEN, KEYS])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (web.Response(status=500), "away"),
        (web.Response(status=503, body=b"<html>"), "away"),
        (web.Response(status=429), "away"),
        (web.Response(status=404, body=b"<html>"), "wrong"),
        (web.Response(status=403), "wrong"),
        (web.Response(status=204), "wrong"),
        (AWAY_ELSEWHERE, "wrong"),
        (HUGE, "wrong"),
        (DEEP, "wrong"),
        (web.Response(body=b"\xff{"), "wrong"),
        (web.Response(body=b"{}", headers={"Content-Encoding": "gzip"}), "wrong"),
        (_json([]), "wrong"),
        (_json({}), "wrong"),
        (_json({"keys": "x", "id_token": 7, "issuer": 7}), "wrong"),
        (_json({"error": {"a": "b"}}, 400), "wrong"),
    ],
)
async def test_a_provider_that_answers_wrong_is_told_of_in_words(
    path: str, answer: web.Response, words: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        if path == WELL_KNOWN:
            provider.answers[path] = answer
            assert await said(browser, await browser.get("/sign-in/elsewhere")) == words
        else:
            address = await sent(browser)
            provider.answers[path] = answer
            got = await back(browser, **provider.agree(address))
            assert await said(browser, got) == words
        provider.answers.clear()
        assert (await enter(browser, provider)).headers["Location"] == "/", "and it gets well"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://other.example/authorize"},
        {"token_endpoint": "http://10.0.0.1/token"},
        {"token_endpoint": "https://user:password@other.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": ["https://other.example/keys"]},
        {"jwks_uri": "https://[/keys"},
    ],
)
async def test_a_provider_that_says_something_wrong_of_itself_isnt_believed(
    metadata: dict[str, Any], tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, metadata=metadata) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        assert await said(browser, await browser.get("/sign-in/elsewhere")) == "wrong"


async def test_a_provider_that_is_away_is_told_of_in_words(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with Provider(clock) as provider:
        settings = provider.settings()
    async with house(tmp_path, clock, settings) as browser:
        got = await browser.get("/sign-in/elsewhere?to=/docs")
        assert got.headers["Location"] == "/sign-in?to=%2Fdocs&said=away"
        for language, words in (("en", "doesn't answer just now"), ("zh-CN", "暂时没有响应")):
            page = await browser.get(str(got.headers["Location"]), Accept_Language=language)
            assert words in page.text.replace("&#39;", "'")
            assert "Keys &amp; Co" in page.text


async def test_a_provider_that_is_slow_holds_nobody_up_for_long(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, wait_s=openid.LIMIT_S + 5) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        began = asyncio.get_running_loop().time()
        assert await said(browser, await browser.get("/sign-in/elsewhere")) == "away"
        took = asyncio.get_running_loop().time() - began
        assert openid.LIMIT_S - 0.5 < took < openid.LIMIT_S + 4


async def test_many_who_wait_for_a_slow_provider_are_one_question(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with (
        Provider(clock, wait_s=1.0) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        people = [Browser(browser.program) for _ in range(30)]
        where = await asyncio.gather(*(sent(one) for one in people))
        assert len(set(where)) == 30
        assert provider.asked == [WELL_KNOWN]


async def test_a_provider_whose_certificate_isnt_trusted_is_told_nothing(
    tmp_path: Path, clock: FakeClock
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with (
        Provider(clock, tls=context) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        with capture_logs() as logs:
            assert await said(browser, await browser.get("/sign-in/elsewhere")) == "wrong"
        assert any("its certificate isn't trusted" in str(one.get("why")) for one in logs)
        assert provider.asked == []


async def test_a_secret_that_the_provider_doesnt_know_is_in_the_log_and_in_no_page(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with Provider(clock) as provider:
        wrong = provider.settings(client_secret="mistyped-secret")
        async with house(tmp_path, clock, wrong) as browser:
            with capture_logs() as logs:
                got = await enter(browser, provider)
                assert await said(browser, got) == "wrong"
        assert [one["why"] for one in logs if "why" in one] == ["token: HTTP 401 'invalid_client'"]
        assert "mistyped-secret" not in json.dumps(logs)


async def test_words_that_arent_known_arent_said(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        page = await browser.get("/sign-in?said=%3Cb%3Eyou+won&to=//evil.example")
        assert page.status == 200
        assert "you won" not in page.text
        assert "evil" not in page.text


async def test_many_at_a_time_each_come_back_to_their_own(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
    ):
        people = [Browser(browser.program) for _ in range(20)]
        done = await asyncio.gather(*(enter(one, provider) for one in people))
        assert {one.headers["Location"] for one in done} == {"/"}
        assert len({one.cookies[COOKIE] for one in people}) == 20
        [row] = await browser.program.app.store.users.all()
        assert (row.role, row.session_count) == (Role.OPERATOR, 20)


async def test_nothing_is_asked_by_head(tmp_path: Path, clock: FakeClock) -> None:
    async with (
        Provider(clock) as provider,
        house(tmp_path, clock, provider.settings()) as browser,
        aiohttp.ClientSession() as client,
    ):
        for path in ("/sign-in/elsewhere", "/sign-in/back"):
            async with client.head(browser.program.url + path, allow_redirects=False) as got:
                assert got.status == 405
        assert provider.asked == []
