"""Signing in with a real browser: by keyboard alone, without script, here and at a provider."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests import openid
from tests.fakes.clock import FakeClock
from tests.integration.test_web import served
from workers import users

PASSWORD = "the reservoir is full again"


@pytest.mark.parametrize(
    ("width", "locale", "title", "wrong", "scheme"),
    [
        (390, "zh-CN", "登录 Duewatch", "用户名或密码错误", "dark"),
        (1200, "en", "Sign in to Duewatch", "The name or the password is wrong", "light"),
    ],
)
async def test_somebody_signs_in_by_keyboard_and_out_again(
    width: int,
    locale: str,
    title: str,
    wrong: str,
    scheme: Any,
    chromium: Browser,
    tmp_path: Path,
    clock: FakeClock,
) -> None:
    async with served(tmp_path, clock) as house:
        await users.add(house.app, "li.na", "operator", PASSWORD, "test")
        context = await chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            locale=locale,
            java_script_enabled=False,
        )
        page = await context.new_page()
        await page.goto(f"{house.url}/inbox?channel=mail")
        assert await page.inner_text("h1") == title

        await page.keyboard.type("li.na")
        await page.keyboard.press("Tab")
        await page.keyboard.type("not the password")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("[role=alert]")
        assert wrong in await page.inner_text("[role=alert]")

        await page.keyboard.type(PASSWORD)  # the name is still there
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/inbox?channel=mail")

        await page.goto(house.url)
        assert "li.na" in await page.inner_text("details.you summary")
        await page.screenshot(path=tmp_path / "home.png", full_page=True)
        await page.click("details.you summary")
        await page.click("details.you form button")
        await page.wait_for_url("**/sign-in")
        await page.screenshot(path=tmp_path / "sign-in.png")
        await page.goto(house.url)
        assert await page.inner_text("h1") == title


@pytest.mark.parametrize(
    ("width", "locale", "words", "refused"),
    [
        (390, "zh-CN", "使用 Keys & Co 登录", "没有打开这些页面的权限"),
        (1200, "en", "Sign in with Keys & Co", "nothing it says of you opens these pages"),
    ],
)
async def test_somebody_signs_in_at_a_provider_by_keyboard(
    width: int, locale: str, words: str, refused: str, chromium: Browser, tmp_path: Path
) -> None:
    people: list[dict[str, Any]] = [
        {"sub": "sub-1", "preferred_username": "li.na", "groups": ["desk"]},
        {"sub": "sub-2", "preferred_username": "wang"},
    ]
    # Another site than 127.0.0.1 to a browser: cookies and forms are treated as such.
    async with openid.provider(*people, host="localhost") as issuer:
        console = {
            "oidc": {
                "issuer": issuer,
                "client_id": "duewatch",
                "client_secret": "any",
                "roles": {"desk": "operator"},
                "title": "Keys & Co",
            }
        }
        clock = FakeClock(datetime.now(UTC))  # the provider has no other
        async with served(tmp_path, clock, console=console) as house:
            context = await chromium.new_context(
                viewport={"width": width, "height": 900}, locale=locale, java_script_enabled=False
            )
            # The provider's form has its colours from a server that isn't asked here.
            await context.route("https://**", lambda route: route.abort())
            page = await context.new_page()

            async def sign_in_as(sub: str) -> None:
                await page.keyboard.press("Tab")
                assert await page.inner_text(":focus") == words
                await page.keyboard.press("Enter")
                await page.wait_for_url(f"{issuer}/**")
                while not await page.locator("input[name=sub]:focus").count():
                    await page.keyboard.press("Tab")
                await page.keyboard.type(sub)
                await page.keyboard.press("Enter")

            await page.goto(f"{house.url}/inbox?channel=mail")
            await page.screenshot(path=tmp_path / "both.png")
            await sign_in_as("sub-2")
            await page.wait_for_url(f"{house.url}/sign-in?**")
            assert refused in await page.inner_text("[role=alert]")
            await page.screenshot(path=tmp_path / "refused.png")

            await sign_in_as("sub-1")
            await page.wait_for_url(f"{house.url}/inbox?channel=mail")
            await page.goto(house.url)
            assert "li.na" in await page.inner_text("header.top")
            cookies = await context.cookies(house.url)
            assert {one["name"] for one in cookies} == {"__Host-duewatch", "__Host-duewatch-form"}
            await page.click("details.you summary")
            await page.click("form[action='/sign-out'] button")
            await page.wait_for_url("**/sign-in")
