"""The inbox in a real browser: narrow and wide, light and dark, in both languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.fakes.clock import FakeClock
from tests.integration.test_web import served
from tests.product import contact, line, partner, payment, planned


@pytest.mark.parametrize(
    ("width", "locale", "word", "scheme"),
    [(360, "zh-CN", "收件箱", "dark"), (1200, "en", "Inbox", "light")],
)
async def test_a_mail_is_found_opened_and_fits(
    width: int,
    locale: str,
    word: str,
    scheme: Any,
    chromium: Browser,
    tmp_path: Path,
    clock: FakeClock,
) -> None:
    async with served(tmp_path, clock) as house:
        people = contact(
            name="王芳", mobile="+8613800138000", channels="mail,sms", language="zh-CN"
        )
        await planned(house.app, partner(), people, line(), payment())
        await house.app.scan.run("payment")
        await house.app.delivery.drain()
        context = await chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale=locale
        )
        page = await context.new_page()
        problems: list[str] = []
        page.on(
            "console", lambda said: problems.append(said.text) if said.type == "error" else None
        )
        await page.goto(f"{house.url}/inbox?channel=mail")
        body = await page.inner_text("body")
        await page.click("a[href*='/inbox/']:has-text('¥106.00')")
        mail = page.frame_locator("iframe")
        text = await mail.locator("body").inner_text()
        wide = await page.evaluate("document.documentElement.scrollWidth")

        assert word in body
        assert "¥106.00" in text
        assert "人民币壹佰零陆元整" in text
        assert wide <= width
        assert problems == []
