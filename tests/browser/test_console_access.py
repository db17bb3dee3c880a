"""Every page of the console, wherever it is read: axe-core finds nothing, nothing sticks out, and
it is light.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page

from tests.browser.test_console import desk
from tests.fakes.clock import FakeClock
from tests.integration.test_console import MENU, OWN, ROUTES, filled

MOST_BYTES = 150_000
"""Of a page with its sheets and scripts, as they are (not packed)."""
SLOWEST_MS = 600
"""A first paint takes less than 200 ms on two idle cores; here others may be at work."""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
WEIGHT = """
[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((one) => one.entryType === 'navigation' || /[.](css|js)([?]|$)/.test(one.name))
  .reduce((sum, one) => sum + one.decodedBodySize, 0)
"""


def pages(places: dict[str, str]) -> list[str]:
    """Every page that somebody may open, a new one too."""
    own = [
        filled(route.path, places)
        for route in ROUTES
        if route.method == "GET" and not (OWN | {"file"}) & {*route.path.split("/")}
    ]
    there = [path for path in own if not path.startswith("/sources/")]
    return [*there, *(one.path for one in MENU if one.path not in there), "/sign-in?to=/"]


@pytest.mark.parametrize(
    ("scheme", "locale", "width"),
    [
        ("light", "en", 1280),
        ("dark", "zh-CN", 390),
        # Minutes each on a busy machine: `make fleet` has these too.
        pytest.param("dark", "zh-CN", 1024, marks=pytest.mark.slow),
        pytest.param("light", "zh-CN", 390, marks=pytest.mark.slow),
        pytest.param("dark", "en", 360, marks=pytest.mark.slow),
        pytest.param("light", "en", 1600, marks=pytest.mark.slow),
    ],
)
async def test_axe_finds_nothing_and_nothing_sticks_out(
    scheme: Any,
    locale: str,
    width: int,
    chromium: Browser,
    tmp_path: Path,
    clock: FakeClock,
) -> None:
    look: Any = {
        "color_scheme": scheme,
        "locale": locale,
        "viewport": {"width": width, "height": 900},
    }
    async with desk(chromium, tmp_path, clock, role="administrator", **look) as at:
        axe = Axe()
        wrong: list[str] = []
        for path in pages(at.places):
            answer = await at.page.goto(at.house.url + path)
            if answer is None or answer.status != 200:
                wrong.append(f"{path}: {answer.status if answer else 'no answer'}")
            for one in (await axe.run(at.page)).response["violations"]:
                wrong.append(f"{path}: {one['id']}: {one['nodes'][0]['html'][:120]}")
            wide = await at.page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                wrong.append(f"{path}: {wide} px wide")
        assert wrong == []


async def test_a_page_is_light_and_quickly_there(
    chromium: Browser, tmp_path: Path, clock: FakeClock
) -> None:
    async with desk(chromium, tmp_path, clock, role="administrator") as at:
        for path in pages(at.places):
            await at.go(path)
            assert 10_000 < await at.page.evaluate(WEIGHT) <= MOST_BYTES, path
        took = []
        for _ in range(5):
            await at.go("/")
            took.append(await _painted(at.page))
        print(f"first paint of the overview: {median(took):.0f} ms (median of 5)")
        assert 0 < median(took) < SLOWEST_MS


async def _painted(page: Page) -> float:
    """When the page was painted first. Playwright's own waiting would need the page's `eval`."""
    for _ in range(200):
        if at := float(await page.evaluate(PAINT)):
            return at
        await asyncio.sleep(0.05)
    raise AssertionError("the page was never painted")
