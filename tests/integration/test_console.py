"""The doors of the console: which role opens what, what foreign pages can do, what is masked."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.integration.test_sign_in import Browser, house
from tests.product import contact, invitation, line, partner, payment, planned, statement
from workers.app import App
from workers.store.quarantine import Quarantine
from workers.users import SCOPES, Role
from workers.web.console import find_areas
from workers.web.console.exports import TABLES

ROUTES, MENU = find_areas()
NASTY = "<script>alert(1)</script>'\">"
NAME = "欧阳<img src=x onerror=alert(1)>"
_PLACE = re.compile(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}")
OWN = {"frame", "files"}
"""What a message says is its reader's own, beside the scope of the page it is on."""


async def furnish(app: App) -> dict[str, str]:
    """Something of each kind; what stands for the parts of the routes' paths."""
    people = contact(name=NAME, mobile="+8613800138000", channels="mail,sms", language="zh-CN")
    await planned(app, partner(name=f"伙伴{NASTY}"), people, line(item_name=NASTY), payment())
    await app.scan.run("payment")
    await app.intake.take([statement(), invitation(customer_name=NASTY)])
    await app.scan.run("statement")
    await app.scan.run("invitation")
    await app.delivery.drain()
    letter = await Quarantine(app.store.database).keep("q", NASTY, NASTY.encode(), app.clock())
    rows = await app.store.operations.notifications()
    by_mail = next(row for row in rows if row.channel == "mail" and row.kind == "payment")
    await app.store.operations.suppress(
        "mail", "x@example.com", "*", NASTY, NASTY[:60], app.clock()
    )
    job = "0" * 32
    await app.store.jobs.begin(job, "scan", {"kind": "payment"}, "test", app.clock())
    await app.store.jobs.end(job, "failed", app.clock(), detail=NASTY, counts={NASTY: 1}, done=1)
    return {
        "kind": "payment",
        "ref": "F1",
        "day": "2026-11-26",
        "table": "records",
        "number": "0",
        "action": "retry",
        "id": str(letter),
        "name": "inbox",
        "prefix": "0" * 12,
        "uid": by_mail.uid,
        "job": job,
    }


def filled(path: str, places: Mapping[str, str]) -> str:
    """A route's path with real things in it."""
    if path.startswith("/jobs/"):
        places = {**places, "uid": places["job"]}
    if path.startswith("/contacts/"):
        places = {**places, "ref": "C1"}
    return _PLACE.sub(lambda found: places.get(found[1], "none"), path)


@asynccontextmanager
async def furnished(
    tmp_path: Path, clock: FakeClock, *roles: Role
) -> AsyncIterator[tuple[Browser, dict[str, str]]]:
    """A server with something of everything, and somebody of each role."""
    async with house(tmp_path, clock, *roles) as browser:
        yield browser, await furnish(browser.program.app)


@pytest.mark.parametrize("role", list(Role))
async def test_each_route_opens_to_the_roles_that_have_its_scope(
    role: Role, tmp_path: Path, clock: FakeClock
) -> None:
    async with furnished(tmp_path, clock, role) as (browser, places):
        await browser.sign_in(role)
        mark = await browser.mark("/")
        wrong = []
        for route in ROUTES:
            path = filled(route.path, places)
            fits = bool({route.scope, "admin"} & SCOPES[role])
            if OWN & {*path.split("/")} and path.startswith("/notifications"):
                fits = role is not Role.VIEWER
            if path.endswith("/end"):
                fits = role is Role.ADMINISTRATOR  # another's job
            if route.method == "GET":
                got = await browser.get(path)
            else:
                got = await browser.post(path, {"mark": mark, "back": "/"})
            if (got.status != 403) is not fits or got.status >= 500:
                wrong.append((route.method, path, got.status))
        assert wrong == []


@pytest.mark.parametrize("role", list(Role))
async def test_the_menu_offers_what_opens_and_nothing_else(
    role: Role, tmp_path: Path, clock: FakeClock
) -> None:
    async with furnished(tmp_path, clock, role) as (browser, _):
        await browser.sign_in(role)
        shown = (await browser.get("/")).text
        side = shown[shown.index('<nav class="side"') :]
        for one in MENU:
            offered = f'href="{one.path}"' in side[: side.index("</nav>")]
            assert offered is ((await browser.get(one.path)).status == 200), one.path


async def test_every_form_needs_the_mark_of_its_own_page(tmp_path: Path, clock: FakeClock) -> None:
    async with furnished(tmp_path, clock, Role.ADMINISTRATOR) as (browser, places):
        await browser.sign_in("administrator")
        mark = await browser.mark("/")
        store = browser.program.app.store
        before = [tuple(row) for row in await store.operations.audit()]
        for route in ROUTES:
            if route.method == "GET":
                continue
            path = filled(route.path, places)
            form = {"reason": "why", "back": "/"}
            foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
            for sent in (
                await browser.post(path, form),
                await browser.post(path, {**form, "mark": "0" * 32}),
                await browser.post(path, {**form, "mark": mark}, **foreign),
            ):
                assert sent.status == 403, path
        assert [tuple(row) for row in await store.operations.audit()] == before


async def test_what_is_shown_is_text_wherever_it_came_from(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with furnished(tmp_path, clock, Role.ADMINISTRATOR) as (browser, places):
        await browser.sign_in("administrator")
        for route in ROUTES:
            if route.method == "GET" and not (OWN | {"file"}) & {*route.path.split("/")}:
                path = filled(route.path, places)
                got = await browser.get(f"{path}?text={NASTY}&state={NASTY}&to={NASTY}&said=x")
                assert "<script>alert" not in got.text, path
                assert "<img src=x" not in got.text, path
                if got.status == 200:
                    assert "script-src 'self'" in got.headers["Content-Security-Policy"], path
                assert "unsafe" not in got.headers["Content-Security-Policy"], path
                assert "frame-ancestors 'none'" in got.headers["Content-Security-Policy"], path


async def test_a_viewer_sees_no_name_and_no_address_in_full(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with furnished(tmp_path, clock, *Role) as (browser, places):
        for role, full in (("viewer", False), ("operator", True)):
            await browser.sign_in(role)
            seen = ""
            for route in ROUTES:
                if route.method == "GET" and "files" not in route.path:
                    seen += (await browser.get(filled(route.path, places))).text
            for personal in ("c1@example.com", "+8613800138000", "i1@customer.example"):
                assert (personal in seen) is full, (role, personal)
            assert ("欧阳" in seen) is full


async def test_a_viewer_finds_nobody_by_their_address(tmp_path: Path, clock: FakeClock) -> None:
    async with furnished(tmp_path, clock, *Role) as (browser, _):
        for role, found in (("viewer", False), ("operator", True)):
            await browser.sign_in(role)
            records = await browser.get("/records?text=c1@example.com")
            assert ("F1" in records.text.partition("<main")[2]) is found
            by_number = await browser.get("/records?text=138%200013%208000")
            assert ("F1" in by_number.text.partition("<main")[2]) is found
        sent = await browser.get("/notifications?to=nobody@example.com")
        assert "No notification fits" in sent.text


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_is_exported_to_those_who_may_read_it(
    table: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with furnished(tmp_path, clock, *Role) as (browser, _):
        for role in Role:
            await browser.sign_in(role)
            fits = bool({TABLES[table].scope, "admin"} & SCOPES[role])
            which = "runs/payment" if table == "runs" else table
            form = {"mark": await browser.mark("/"), "form": "csv"}
            got = await browser.post(f"/exports/{which}", form)
            assert got.status == (303 if fits else 403)


@pytest.mark.parametrize(
    ("accepted", "chosen", "said"),
    [
        ("zh-CN,zh;q=0.9", "", "概览"),
        ("en", "", "Overview"),
        ("en", "zh-CN", "概览"),
        ("fr", "", "Overview"),
    ],
)
async def test_pages_speak_the_readers_language(
    accepted: str, chosen: str, said: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock) as browser:
        await browser.sign_in("viewer")
        if chosen:
            there = await browser.get(f"/view?language={chosen}&to=/rules")
            assert there.headers["Location"] == "/rules"
        got = await browser.get("/", Accept_Language=accepted)
        assert f"<h1>{said}</h1>" in got.text


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example"])
async def test_choosing_a_view_never_leads_away(to: str, tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock) as browser:
        got = await browser.get(f"/view?look=dark&to={to}")
        assert got.headers["Location"] == "/"
        assert 'data-look="dark"' not in (await browser.get("/view?look=<x>")).text


async def test_static_files_come_packed_and_are_kept(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock) as browser:
        page: Any = (await browser.get("/sign-in")).text
        (sheet,) = re.findall(r'href="(/static/console\.css[^"]+)"', page)
        got = await browser.get(sheet, Accept_Encoding="gzip")
        assert got.headers["Content-Encoding"] == "gzip"
        assert "immutable" in got.headers["Cache-Control"]
        assert ".card" in got.text
        assert (await browser.get("/static/console.py")).status == 404
