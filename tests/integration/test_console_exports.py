"""What is taken out of the console as a file, as its reader may see it; jobs that end or die."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path

import openpyxl
import pytest

from tests.fakes.clock import FakeClock
from tests.integration.test_console_actions import job, send, signed_in
from tests.integration.test_sign_in import Browser, house
from tests.product import contact, partner, planned, statement
from workers.users import Role


async def exported(browser: Browser, table: str, form: str) -> bytes:
    """What an export has, downloaded."""
    row = await job(browser, await send(browser, f"/exports/{table}", form=form))
    assert row.state == "done", row.detail
    url = f"{browser.program.url}/jobs/{row.uid}/file"
    kept = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with browser.program.client.get(url, headers={"Cookie": kept}) as got:
        assert "attachment" in got.headers["Content-Disposition"]
        return await got.read()


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
async def test_an_export_has_the_rows_as_its_reader_may_see_them(
    role: Role, tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, role) as browser:
        content = await exported(browser, "notifications", "csv")
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
        assert len(rows) == len(await browser.program.app.store.operations.notifications())
        seen = {row["address"] for row in rows}
        assert ("c1@example.com" in seen) is (role is Role.OPERATOR)
        book = openpyxl.load_workbook(io.BytesIO(await exported(browser, "records", "xlsx")))
        cells = [[cell.value for cell in row] for row in book.worksheets[0].iter_rows()]
        assert cells[0][:2] == ["kind", "number"]
        assert {"F1", "S1", "I1"} <= {row[1] for row in cells}


async def test_a_cell_of_an_export_is_never_a_formula(tmp_path: Path, clock: FakeClock) -> None:
    async with house(tmp_path, clock, *Role) as browser:
        app = browser.program.app
        evil = '=HYPERLINK("https://evil.example","x")'
        await planned(app, partner(), contact(name=evil), statement())
        await browser.sign_in("operator")
        text = (await exported(browser, "contacts", "csv")).decode("utf-8-sig")
        assert "\"'=HYPERLINK" in text
        book = openpyxl.load_workbook(io.BytesIO(await exported(browser, "contacts", "xlsx")))
        cell = next(c for row in book.worksheets[0].iter_rows() for c in row if c.value == evil)
        assert cell.data_type == "s"


async def test_an_export_is_its_makers_alone(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        row = await job(browser, await send(browser, "/exports/contacts", form="csv"))
        assert (await browser.get(f"/jobs/{row.uid}/file")).status == 200
        await browser.sign_in("viewer")
        assert (await browser.get(f"/jobs/{row.uid}/file")).status == 403


async def test_a_job_is_ended_from_the_page_and_a_dead_ones_is_lost(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock) as browser:
        store = browser.program.app.store.jobs
        await store.begin("a" * 32, "scan", {"kind": "payment"}, "operator", clock())
        assert "Running" in (await browser.get("/jobs/" + "a" * 32)).text
        await send(browser, "/jobs/" + "a" * 32 + "/end")
        assert (await store.one("a" * 32)).wished_end
        clock.advance(timedelta(seconds=21))
        assert "Lost" in (await browser.get("/jobs/" + "a" * 32)).text
