"""Signing in with a real browser: by keyboard alone, without script, in both languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

from tests.browser.test_inbox import FLAGS
from tests.fakes.clock import FakeClock
from tests.integration.test_web import served
from workers import users

PASSWORD = "the reservoir is full again"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("width", "locale", "title", "wrong"),
    [
        (390, "zh-CN", "登录 Duewatch", "用户名或密码错误"),
        (1200, "en", "Sign in to Duewatch", "The name or the password is wrong"),
    ],
)
async def test_somebody_signs_in_by_keyboard_and_out_again(
    width: int,
    locale: str,
    title: str,
    wrong: str,
    scheme: Any,
    browser_path: str,
    tmp_path: Path,
    clock: FakeClock,
) -> None:
    async with served(tmp_path, clock) as house, async_playwright() as playwright:
        await users.add(house.app, "li.na", "operator", PASSWORD, "test")
        browser = await playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        context = await browser.new_context(
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
        assert "li.na" in await page.inner_text("form.leave")
        await page.screenshot(path=tmp_path / "home.png", full_page=True)
        await page.click("form.leave button")
        await page.wait_for_url("**/sign-in")
        await page.screenshot(path=tmp_path / "sign-in.png")
        await page.goto(house.url)
        assert await page.inner_text("h1") == title
        await browser.close()
