"""What people mend in the console: sources, webhooks, passwords; and long lists stay light."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
from sqlalchemy import delete, func, insert, select

from tests.fakes.clock import FakeClock
from tests.fakes.webhook_receiver import Receiver
from tests.integration.test_console import furnish
from tests.integration.test_console_actions import WHY, did, job, send, signed_in
from tests.integration.test_sign_in import PASSWORD, Browser, house
from tests.integration.test_sources_files import GOOD, folder, names
from tests.integration.test_webhook_changes import tellings
from tests.integration.test_webhooks import mailed, teller
from workers.app import App
from workers.store.tables import notifications
from workers.users import Role
from workers.web.mails import abridged
from workers.webhooks.teller import SCHEDULE

MANY = 10_000
SLOWEST_MS = 600
"""It takes less than 100 ms on an idle machine; here others may be at work."""
MOST_BYTES = 60_000
"""Of a page alone: the sheets and scripts that all pages share are 90 kB more."""


async def test_a_source_is_tried_then_synced_and_its_page_says_what_came(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock, *Role, **folder(tmp_path)) as browser:
        (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")
        await browser.sign_in("operator")
        tried = await job(browser, await send(browser, "/sources/drop/sync", trial="1"))
        assert (tried.state, dict(tried.counts)) == ("done", {"partner: new": 2})
        assert names(tmp_path / "in") == ["partner.csv"], "a trial takes nothing"
        done = await job(browser, await send(browser, "/sources/drop/sync"))
        assert (done.state, dict(done.counts)) == ("done", {"partner: new": 2})
        assert names(tmp_path / "in") == ["done"]
        assert "2 new" in (await browser.get("/sources/drop")).text
        assert "trial" in (await browser.get(f"/jobs/{tried.uid}")).text


async def test_a_source_that_cant_be_read_ends_its_job_with_the_remedy(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock, *Role, **folder(tmp_path)) as browser:
        (tmp_path / "in").rmdir()
        await browser.sign_in("operator")
        row = await job(browser, await send(browser, "/sources/drop/sync"))
        assert row.state == "failed"
        assert "be read (No such file" in (await browser.get(f"/jobs/{row.uid}")).text
        assert (await send(browser, "/sources/nowhere/sync")).status == 404


async def test_what_a_webhook_missed_is_told_again_at_a_click(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with Receiver(500) as receiver:
        endpoints = {"erp": receiver.settings(disable_after_days=30)}
        async with house(tmp_path, clock, *Role, webhooks=endpoints) as browser:
            app = browser.program.app
            tells = teller(app)
            await tells.subscribe(app.rules)
            await mailed(app, 1)
            await _given_up(app, clock)
            await browser.sign_in("administrator")
            assert await tellings(app, "state") == ["failed"]

            receiver.status = 204
            there = await send(browser, "/webhooks/erp/retry")
            page = (await browser.get(there.headers["Location"])).text
            await tells.drain()
            await tells.close()

            assert "1 are told again" in page
            assert await tellings(app, "state") == ["told"]
            assert (await did(browser))[0] == ("administrator", "webhook retry")
            await browser.sign_in("operator")
            assert (await send(browser, "/webhooks/erp/retry")).status == 403


async def _given_up(app: App, clock: FakeClock) -> None:
    tells = teller(app)
    await tells.drain()
    for span in SCHEDULE:
        clock.advance(span * 1.1 + timedelta(seconds=1))
        await tells.drain()
    await tells.close()


async def test_another_password_ends_the_sessions_and_the_old_one(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock) as browser:
        other = Browser(browser.program)
        await other.sign_in("operator")
        weak = await send(browser, "/users/operator/password", password="short")
        assert weak.status == 400
        assert (await other.get("/records")).status == 200
        there = await send(browser, "/users/operator/password", password="rain over the hills")
        assert there.headers["Location"] == "/users?said=user_changed"
        assert (await other.get("/records")).status == 303, "the session ended"
        assert (await other.sign_in("operator")).status == 401
        assert (await other.sign_in("operator", "rain over the hills")).status == 303
        audit = (await browser.get("/audit")).text
        assert "rain over" not in audit
        assert ("administrator", "user password") in await did(browser)


async def test_whoever_was_let_in_no_more_is_let_in_again(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock) as browser:
        other = Browser(browser.program)
        await send(browser, "/users/viewer/disable", **WHY)
        assert (await other.sign_in("viewer", PASSWORD)).status == 401
        assert (await send(browser, "/users/viewer/enable")).status == 400, "a reason is needed"
        await send(browser, "/users/viewer/enable", **WHY)
        assert (await other.sign_in("viewer", PASSWORD)).status == 303
        assert (await did(browser))[:2].count(("administrator", "user enable")) == 1


# --- pages stay light -----------------------------------------------------------------------


def test_a_source_keeps_the_first_lines_of_a_file_and_says_what_is_left_out() -> None:
    line = b"QUJD" * 19 + b"\r\n"
    short = abridged(b"Subject: x\r\n\r\n" + line * 1000 + b"--end--\r\n", 40_000, "[ %(n)s ]")
    assert short.startswith("Subject: x")
    assert short.endswith("[ 77,688 ]\r\n--end--\r\n")
    assert short.count("QUJD" * 19) == 4
    assert abridged(line * 3, 40_000, "[ %(n)s ]") == (line * 3).decode()
    assert abridged("é".encode() * 100, 50, "[ %(n)s ]") == "é" * 25 + "\n[ 150 ]"


async def test_every_view_of_a_mail_with_lists_is_light(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        rows = await browser.program.app.store.operations.notifications(kind="payment")
        uid = next(row.uid for row in rows if row.channel == "mail")
        whole = (await browser.get(f"/notifications/{uid}/files/source")).text
        for view in ("html", "text", "headers", "source"):
            page = (await browser.get(f"/notifications/{uid}?view={view}")).text
            assert len(page.encode()) < MOST_BYTES, view
        assert len(whole) > 100_000
        assert "bytes: the whole mail has them ]" in page


@pytest.mark.parametrize(
    "path", ["/", "/notifications", "/notifications?state=failed&channel=mail"]
)
async def test_a_list_is_light_and_quick_when_there_are_ten_thousand(
    path: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with house(tmp_path, clock, *Role) as browser:
        await furnish(browser.program.app)
        await browser.sign_in("operator")
        took = []
        async with _copies(browser.program.app, MANY):
            for _ in range(5):
                began = perf_counter()
                page = await browser.get(path)
                took.append((perf_counter() - began) * 1000)
                assert page.status == 200
                assert len(page.text.encode()) < MOST_BYTES
        print(json.dumps({"path": path, "ms": round(median(took)), "bytes": len(page.text)}))
        assert median(took) < SLOWEST_MS


@asynccontextmanager
async def _copies(app: App, count: int) -> AsyncIterator[None]:
    """So many of one notification, two thirds of them failed; gone afterwards."""
    async with app.store.database.write() as connection:
        one = (await connection.execute(select(notifications).limit(1))).one()._asdict()
        del one["id"]
        rows = [
            {**one, "uid": uuid.uuid4().hex, "state": "failed" if n % 3 else "accepted"}
            for n in range(count)
        ]
        last = await connection.scalar(select(func.max(notifications.c.id)))
        for begin in range(0, count, 500):
            await connection.execute(insert(notifications), rows[begin : begin + 500])
    yield
    async with app.store.database.write() as connection:
        await connection.execute(delete(notifications).where(notifications.c.id > last))
