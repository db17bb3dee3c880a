"""The console in a real browser: what people do there by mouse and by keyboard, with and without
script.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from playwright.async_api import Browser, Page, expect

from tests.fakes.clock import FakeClock
from tests.integration.test_console import furnish
from tests.integration.test_sign_in import PASSWORD
from tests.integration.test_web import House, served
from tests.product import contact, partner, planned, statement
from workers import users
from workers.model import NotificationState

WAIT_MS = 20_000


@dataclass
class Desk:
    """Somebody at the console: the server, their page, and what went wrong in the browser."""

    house: House
    page: Page
    problems: list[str]
    places: dict[str, str]
    """What stands for the parts of the routes' paths."""

    async def go(self, path: str) -> None:
        """Opens a page."""
        await self.page.goto(self.house.url + path)

    async def text(self) -> str:
        """What the page says."""
        return await self.page.inner_text("main")


@asynccontextmanager
async def desk(
    chromium: Browser,
    tmp_path: Path,
    clock: FakeClock,
    *,
    role: str = "operator",
    **context: Any,
) -> AsyncIterator[Desk]:
    """Signs somebody in by the page's own form; no error of the browser may come up."""
    async with served(tmp_path, clock) as house:
        places = await furnish(house.app)
        await users.add(house.app, "li.na", role, PASSWORD, "test")
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en", **context}
        opened = await chromium.new_context(**options)
        opened.set_default_timeout(WAIT_MS)
        page = await opened.new_page()
        problems: list[str] = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        await page.goto(house.url)
        await page.fill("#name", "li.na")
        await page.fill("#password", PASSWORD)
        await page.click("button[type=submit]")
        await page.wait_for_selector("main h1")
        yield Desk(house, page, problems, places)
        assert problems == []
        await opened.close()


async def failed(house: House, count: int, state: str = "failed") -> list[str]:
    """Has some of what was sent stand as failed or parked; their uids."""
    operations = house.app.store.operations
    rows = [row for row in await operations.notifications() if row.channel == "mail"][:count]
    for row in rows:
        now = house.app.clock()
        await operations.divert(row.uid, row.address, "test", "", now)
        await operations.move(row.uid, NotificationState(state), "test", "x", "no mailbox", now)
    return [row.uid for row in rows]


async def test_a_rule_is_run_after_a_dry_run_and_tells_how_far_it_is(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        await at.house.app.intake.take([statement("S7")])
        await at.go("/rules")
        await at.page.click("a[href='/rules/statement']")
        await at.page.click("text=Dry run, then run")
        assert "2 messages would be planned" in await at.text()
        before = len(await at.house.app.store.operations.notifications())
        await at.page.click("text=Run it now")
        await expect(at.page.locator("#job .state")).to_have_text("Done")
        assert len(await at.house.app.store.operations.notifications()) == before + 2


async def test_a_record_is_found_explained_and_closed(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        await at.page.fill(".seek input", "S1")
        await at.page.press(".seek input", "Enter")
        await at.page.wait_for_url("**/records/statement/S1")
        for words in ("In plain words", "It is open", "Every stage, and why", "Attempt 1"):
            assert words in await at.text()
        await at.page.click("summary:has-text('Close')")
        await at.page.fill("#why-close", "paid by phone")
        await at.page.click("button:has-text('Close it')")
        await expect(at.page.locator("[role=status]")).to_have_text("The record is closed.")
        assert "paid by phone" in await at.text()


async def test_one_that_failed_is_tried_again(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        (uid,) = await failed(at.house, 1)
        await at.go("/notifications?state=failed")
        await at.page.click(f"a[href='/notifications/{uid}']")
        frame = at.page.frame_locator("iframe")
        assert "Partner" in await frame.locator("body").inner_text()
        await at.page.click("summary:has-text('Retry')")
        await at.page.click("button:has-text('Send it again')")
        await expect(at.page.locator("h1 .state")).to_have_text("Pending")


async def test_what_is_parked_is_released_by_many_and_put_back(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        uids = await failed(at.house, 3, "parked")
        await at.go("/notifications?state=parked")
        await at.page.check("[data-all]")
        await expect(at.page.locator("[data-chosen]")).to_have_text("3")
        await at.page.click("button:has-text('Release …')")
        assert "3 notifications" in await at.text()
        await at.page.fill("#why-many", "the relay is back")
        await at.page.click("button:has-text('Release them')")
        await expect(at.page.locator("#job .state")).to_have_text("Done")
        await at.page.click("button:has-text('Undo')")
        await expect(at.page.locator("#job .state")).to_have_text("Done")
        operations = at.house.app.store.operations
        states = {(await operations.whole(uid)).row.state for uid in uids}
        assert states == {"parked"}


@pytest.mark.parametrize("form", ["CSV", "XLSX"])
async def test_a_table_is_exported_and_opens(
    form: str, chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        await at.go("/records?kind=statement")
        await at.page.click(f".export button:has-text('{form}')")
        async with at.page.expect_download() as waited:
            await at.page.click("a:has-text('Download')")
        path = await (await waited.value).path()
        content = await asyncio.to_thread(path.read_bytes)
        if form == "CSV":
            rows = [
                row["number"] for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
            ]
        else:
            sheet = openpyxl.load_workbook(io.BytesIO(content)).worksheets[0]
            rows = [row[1].value for row in sheet.iter_rows(min_row=2)]
        assert rows == ["S1"]


@pytest.mark.parametrize(("tag", "word"), [("en", "invoice"), ("zh-CN", "发票")])
async def test_a_message_is_previewed_in_a_frame_that_runs_nothing(
    tag: str, word: str, chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        await at.go("/rules/payment/preview")
        await at.page.select_option("#in", tag)
        await at.page.click("button:has-text('Show')")
        assert word in await at.page.inner_text("pre")
        assert word in await at.page.frame_locator("iframe").locator("body").inner_text()
        assert "allow-scripts" not in str(await at.page.get_attribute("iframe", "sandbox"))


async def test_language_and_colours_are_chosen_by_the_menu_and_kept(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock, color_scheme="light") as at:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = await at.page.evaluate(ground)
        await at.go("/rules")
        await at.page.click("details.you summary")
        await at.page.click("a[lang='zh-CN']")
        await expect(at.page.locator("h1")).to_have_text("规则")
        await at.page.click("details.you summary")
        await at.page.click("text=深色")
        await at.page.wait_for_selector("html[data-look=dark]")
        assert await at.page.evaluate(ground) != light
        await at.go("/")
        await expect(at.page.locator("h1")).to_have_text("概览")
        await at.go("/inbox")
        assert "收件箱" in await at.page.inner_text("body"), "the other pages follow"


async def test_a_rule_is_paused_by_the_keyboard_alone(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        await at.go("/rules/payment")
        keys = at.page.keyboard
        await keys.press("Tab")
        focused = "document.activeElement"
        assert await at.page.evaluate(f"{focused}.className") == "skip"
        await keys.press("Enter")
        assert await at.page.evaluate(f"{focused}.id") == "main"
        for _ in range(12):
            await keys.press("Tab")
            if await at.page.evaluate(f"{focused}.textContent.trim()") == "Pause":
                break
        assert await at.page.evaluate(f"getComputedStyle({focused}).outlineStyle") != "none"
        await keys.press("Enter")
        await keys.press("Tab")
        await keys.type("prices are wrong")
        await keys.press("Enter")
        await expect(at.page.locator("[role=status]")).to_contain_text("The rule is paused")
        await keys.press("/")
        assert await at.page.evaluate(f"{focused}.name") == "text"
        await at.page.click("details.you summary")
        await keys.press("Escape")
        assert await at.page.get_attribute("details.you", "open") is None


async def test_the_live_view_shows_what_comes_without_a_reload(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        await at.go("/notifications")
        await at.page.click("text=Live view")
        await at.page.evaluate("window.kept = true")
        people = contact("C9", name="Newcomer", partner="P9")
        await planned(at.house.app, partner("P9"), people, statement("S9", partner="P9"))
        await expect(at.page.locator("#rows")).to_contain_text("Newcomer")
        assert await at.page.evaluate("window.kept")


async def test_a_job_that_goes_on_is_ended_from_its_page(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock) as at:
        store = at.house.app.store.jobs
        uid = "b" * 32
        await store.begin(uid, "scan", {"kind": "payment"}, "li.na", clock())
        await store.say(uid, 250, 1000, {}, clock())
        clock.advance(timedelta(seconds=5))
        await at.go(f"/jobs/{uid}")
        assert "50 a second" in await at.text()
        assert "about 15 seconds left" in await at.text()
        await at.page.click("button:has-text('End it here')")
        assert (await store.one(uid)).wished_end
        await store.end(uid, "ended", clock(), counts={}, done=300)
        await expect(at.page.locator("#job .state")).to_have_text("Ended")


async def test_all_is_read_and_done_without_script(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock, java_script_enabled=False) as at:
        for path in ("/", "/calendar", "/rules/payment", "/notifications?live=1", "/jobs"):
            await at.go(path)
            assert len(await at.text()) > 40, path
        await at.go("/rules/payment")
        await at.page.click("summary:has-text('Pause')")
        await at.page.fill("#why-pause", "prices are wrong")
        await at.page.click("button:has-text('Pause the rule')")
        assert "The rule is paused" in await at.text()
