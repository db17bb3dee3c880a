"""The choice of reminders in a real browser: on a narrow phone, by the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.fakes.clock import FakeClock
from tests.integration.test_preferences import MOBILE, link, off, tell, wang
from tests.integration.test_web import served
from tests.product import line, payment, statement

FOCUSED = "document.activeElement.value || document.activeElement.textContent.trim()"


async def tab_to(page: Page, wanted: str) -> list[str]:
    """Presses Tab until what has the focus is `wanted`, seen; returns what was passed."""
    passed: list[str] = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        passed.append(str(await page.evaluate(FOCUSED)))
        if passed[-1] == wanted:
            around = "document.activeElement.closest('.way') || document.activeElement"
            assert await page.evaluate(f"getComputedStyle({around}).outlineStyle") != "none"
            return passed
    raise AssertionError(f"no way to {wanted} by Tab: {passed}")


@pytest.mark.parametrize(
    ("language", "save", "saved", "more", "scheme"),
    [
        ("zh-CN", "保存设置", "设置已保存", "显示其余", "dark"),
        ("en", "Save my choice", "Your choice is saved", "more kinds", "light"),
    ],
)
async def test_a_choice_is_made_by_the_keyboard_alone(
    language: str,
    save: str,
    saved: str,
    more: str,
    scheme: Any,
    chromium: Browser,
    tmp_path: Path,
    clock: FakeClock,
) -> None:
    async with served(tmp_path, clock) as house:
        await tell(house.app, wang(language=language), line(), payment(), statement())
        path = await link(house.app, "payment")
        context = await chromium.new_context(
            viewport={"width": 360, "height": 780}, color_scheme=scheme
        )
        page = await context.new_page()
        problems: list[str] = []
        page.on(
            "console", lambda said: problems.append(said.text) if said.type == "error" else None
        )
        await page.goto(house.url + path)
        await tab_to(page, "each")
        await page.keyboard.press("ArrowDown")
        await tab_to(page, "statement:sms")
        await page.keyboard.press("Space")
        await tab_to(page, save)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("[role=status]")
        body = await page.inner_text("body")
        daily = await page.is_checked("input[value=daily]")
        names = await page.locator("input[type=checkbox]").evaluate_all(
            "boxes => boxes.map(box => box.getAttribute('aria-label'))"
        )
        widths = [await page.evaluate("document.documentElement.scrollWidth")]
        await page.get_by_text(more).click()
        widths.append(await page.evaluate("document.documentElement.scrollWidth"))
        kinds = await page.locator("tbody tr").count()

        assert saved in body
        assert daily
        assert await off(house.app) == {("sms", MOBILE, "statement", "recipient")}
        assert await house.app.store.preferences.digests(["C1"]) == {"C1": "daily"}
        assert len(set(names)) == 4, "each box says its kind and its channel"
        assert max(widths) <= 360
        assert kinds == len(house.app.registry.enabled())
        assert problems == []


async def test_the_form_needs_no_script(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await tell(house.app, wang(), statement())
        context = await chromium.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(house.url + await link(house.app, "statement"))
        await page.get_by_role("link", name="more kinds").click()
        await page.get_by_label("Voucher: SMS").uncheck()
        await page.get_by_role("button", name="Save my choice").click()
        body = await page.inner_text("body")

        assert "Your choice is saved" in body
        assert await off(house.app) == {("sms", MOBILE, "voucher", "recipient")}
