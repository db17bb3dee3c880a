"""Pictures of the console on the demo's data, for docs/console.md: `make pictures`.

The few that the documentation shows are written there. With a folder as argument, each page in each
width, language and colours goes into it, to be looked at. It needs Chromium or Chrome.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Browser, StorageState, async_playwright

from schedules.fields import BEIJING
from tests.browser.conftest import FLAGS
from tests.conftest import BROWSERS
from tests.integration.test_console import OWN, ROUTES, filled
from workers import users
from workers.app import App, open_app
from workers.demo import run_demo
from workers.settings import Scheduler, Settings, Web
from workers.store.quarantine import Quarantine
from workers.store.tables import notifications
from workers.web import serve

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAME, PASSWORD = "li.na", "the reservoir is full again"
WIDTHS = (390, 1024, 1600)
LOCALES = ("zh-CN", "en")
SCHEMES = ("light", "dark")
COLOURS = 128
HEIGHT = 900
CLOCK_MAY_BE_OFF_S = 86_400 * 7
"""The demo's data are of its own time: the console looks at them as it was then."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture: of which page, how wide and high, in which language and colours."""

    name: str
    path: str
    width: int
    height: int = HEIGHT
    locale: str = "en"
    scheme: str = "light"


def shown(places: dict[str, str]) -> list[Shown]:
    """Those that the documentation has."""
    record = f"/records/invitation/{places['ref']}"
    return [
        Shown("console-overview", "/", 1280, 980),
        Shown("console-calendar", "/calendar", 1280, 720, scheme="dark"),
        Shown("console-record", record, 1280, 860),
        Shown("console-notification", f"/notifications/{places['uid']}", 1280, 900, "zh-CN"),
        Shown("console-rule", "/rules/payment", 1280, 720),
        Shown("console-phone", "/", 390, 800, "zh-CN"),
    ]


async def _places(app: App) -> dict[str, str]:
    """What stands in the paths: a record with a story, a mail that was sent, and so on."""
    rows = await app.store.operations.notifications(kind="payment", channel="mail", limit=50)
    sent = max(rows, key=lambda row: row.line_count)
    records = await app.store.records.search(kind="invitation", state="open", limit=1)
    contacts = await app.store.lists.contacts(partner=None, after=None, limit=1)
    job = "0" * 32
    await app.store.jobs.begin(job, "scan", {"kind": "payment"}, NAME, app.clock())
    await app.store.jobs.end(job, "done", app.clock(), detail="", counts={"planned": 3}, done=3)
    kept = Quarantine(app.store.database)
    letter = await kept.keep("queue", "specversion: it is missing", b'{"id": "1"}', app.clock())
    return {
        "ref": records[0].ref,
        "uid": sent.uid,
        "kind": "payment",
        "contact": contacts[0].ref,
        "day": str(app.clock().astimezone(BEIJING).date() + timedelta(days=1)),
        "id": str(letter),
        "job": job,
    }


def pages(places: dict[str, str]) -> list[str]:
    """Every page; of those that need a thing which the demo doesn't have, none."""
    found = []
    for route in ROUTES:
        if route.method != "GET" or (OWN | {"file"}) & {*route.path.split("/")}:
            continue
        own = {**places}
        if route.path.startswith("/records/"):
            own["kind"] = "invitation"
        path = filled(route.path, own)
        if route.path.startswith("/contacts/"):
            path = f"/contacts/{places['contact']}"
        if "/none" not in path:
            found.append(path)
    mail = f"/notifications/{places['uid']}"
    views = [f"{mail}?view={view}" for view in ("text", "headers", "source")]
    return [*found, *views, "/notifications?state=failed", "/records?state=held", "/?by=day"]


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[str, App]]:
    """The console on the demo's data, and its address."""
    with tempfile.TemporaryDirectory() as folder:
        await run_demo(once=True, port=0, folder=Path(folder) / "demo")
        settings = Settings(
            database_url=f"sqlite:///{Path(folder) / 'demo' / 'demo.db'}",
            web=Web(port=0),
            scheduler=Scheduler(clock_tolerance_s=CLOCK_MAY_BE_OFF_S),
        )
        began, since = await _told_at(settings), datetime.now(UTC)

        def clock() -> datetime:
            return began + timedelta(minutes=4) + (datetime.now(UTC) - since)

        async with open_app(settings, clock=clock) as app, serve(app) as (host, port):
            await users.add(app, NAME, "administrator", PASSWORD, "pictures")
            yield f"http://{host}:{port}", app


async def _told_at(settings: Settings) -> datetime:
    """When the demo's last notification was planned."""
    async with open_app(settings) as app, app.store.database.read() as connection:
        found = await connection.execute(
            notifications.select().order_by(notifications.c.id.desc()).limit(1)
        )
        at: datetime = found.one().created_at
        return at


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """The browser that is installed here."""
    program = next(found for name in BROWSERS if (found := shutil.which(name)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        await browser.close()


async def signed_in(browser: Browser, url: str) -> StorageState:
    """The cookies of somebody who is signed in."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.fill("#name", NAME)
    await page.fill("#password", PASSWORD)
    await page.press("#password", "Enter")
    await page.wait_for_selector("header.top")
    state = await context.storage_state()
    await context.close()
    return state


async def take(
    browser: Browser, url: str, state: StorageState, pictures: list[Shown], *, whole: bool
) -> AsyncIterator[tuple[Shown, bytes]]:
    """Pictures that are alike in language and colours, one after the other."""
    scheme: Any = pictures[0].scheme
    context = await browser.new_context(
        storage_state=state, locale=pictures[0].locale, color_scheme=scheme
    )
    page = await context.new_page()
    for one in pictures:
        await page.set_viewport_size({"width": one.width, "height": one.height})
        await page.goto(url + one.path, wait_until="load")
        yield one, await page.screenshot(full_page=whole)
    await context.close()


def every(paths: list[str]) -> Iterator[list[Shown]]:
    """Each page in each width, language and colours."""
    for locale, scheme in product(LOCALES, SCHEMES):
        yield [
            Shown(_named(path), path, width, HEIGHT, locale, scheme)
            for path, width in product(paths, WIDTHS)
        ]


def _named(path: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in path.strip("/")) or "overview"


def small(picture: bytes) -> bytes:
    """The same in few colours."""
    out = BytesIO()
    image = Image.open(BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


async def main(target: Path | None) -> None:
    """Writes the documentation's pictures, or all there are into `target`."""
    async with demo() as (url, app), browsing() as browser:
        places = await _places(app)
        state = await signed_in(browser, url)
        if target is None:
            for one in shown(places):
                async for _, picture in take(browser, url, state, [one], whole=False):
                    file = IMAGES / f"{one.name}.png"
                    content = await asyncio.to_thread(small, picture)
                    await asyncio.to_thread(file.write_bytes, content)
                    print(f"{file.relative_to(IMAGES.parents[1])} {len(content):,} bytes")
            return
        for some in every(pages(places)):
            async for one, picture in take(browser, url, state, some, whole=True):
                file = target / f"{one.name}-{one.width}-{one.locale}-{one.scheme}.png"
                await asyncio.to_thread(file.write_bytes, picture)


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if where is not None:
        where.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(where))
