"""How sources fare is seen from outside: by the doctor and in metrics."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.clock import FakeClock
from tests.integration.test_metrics import Watcher
from tests.product import NOW, opened
from workers.app import App
from workers.doctor import examine
from workers.settings import Web
from workers.syncing import Syncing
from workers.web import serve


def _drop(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    return {"sources": {"drop": {"type": "files", "folder": str(folder), "every_s": 600}}}


async def _found(app: App) -> tuple[bool, str, str]:
    async for one in examine(app):
        if one.what == "source drop":
            return one.well, one.detail, one.remedy
    raise AssertionError("the doctor says nothing of the source")


async def _synced(app: App, outcome: str, detail: str = "", **counts: int) -> None:
    run = await app.store.sources.start_run("drop", app.clock(), "hand", app.clock())
    assert run is not None
    shaped = {"payment": counts} if counts else {}
    await app.store.sources.finish_run(run, outcome, app.clock(), detail, shaped)


async def test_the_doctor_says_how_each_source_fared_and_what_to_do(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, **_drop(tmp_path / "in")) as app:
        never = await _found(app)
        await _synced(app, "failed", "the folder isn't there")
        broken = await _found(app)
        await _synced(app, "done")
        well = await _found(app)
        clock.set(NOW + timedelta(minutes=26))
        late = await _found(app)
        (tmp_path / "in").rmdir()
        gone = await _found(app)

    assert never[0]
    assert "never synced yet" in never[1]
    assert broken[0] is False
    assert "the folder isn't there" in broken[1]
    assert broken[2] == "see what would come in: duewatch sync drop --dry-run"
    assert well[0]
    assert well[1].endswith(f"done at {NOW:%Y-%m-%d %H:%M} UTC")
    assert (late[0], late[2]) == (False, "see that a scheduler runs: duewatch scheduler")
    assert late[1].endswith("due again since 2026-11-24 01:10 UTC")
    assert not gone[0]
    assert "can't be read" in gone[1]


async def test_the_doctor_names_columns_that_a_query_lacks_and_a_database_that_is_away(
    tmp_path: Path, clock: FakeClock
) -> None:
    file = tmp_path / "crm.db"
    with closing(sqlite3.connect(file)) as crm:
        crm.execute("CREATE TABLE bills (ref TEXT, partner TEXT)")
        crm.execute("INSERT INTO bills VALUES ('S1', 'P1')")
        crm.commit()
    table = {"type": "sql", "database_url": f"sqlite:///{file}", "kind": "statement"}
    lacks = {**table, "query": "SELECT ref FROM bills"}
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, sources={"drop": lacks}) as app:
        lacking = await _found(app)
        records = await app.store.records.count()
    file.unlink()
    async with opened(url, clock, sources={"drop": lacks}) as app:
        away = await _found(app)

    assert lacking[0] is False
    assert "no column is" in lacking[1]
    assert "partner" in lacking[1]
    assert away[0] is False
    assert "can't be read" in away[1]
    assert records == {}


async def test_a_source_by_cron_is_late_from_its_missed_time_on(
    tmp_path: Path, clock: FakeClock
) -> None:
    table = {"type": "files", "folder": str(tmp_path), "cron": "0 9 * * *"}
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, sources={"drop": table}) as app:
        clock.set(NOW + timedelta(minutes=1))
        await _synced(app, "done")
        settings = Syncing(app).one("drop").settings
        last = (await app.store.sources.last_runs())["drop"].started_at

    day = NOW + timedelta(days=1)
    assert settings.overdue(last, day - timedelta(minutes=1)) == timedelta(0)
    assert settings.overdue(last, day + timedelta(minutes=40)) == timedelta(minutes=40)


async def test_metrics_tell_when_a_source_was_last_read_and_that_it_broke_off_since(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    settings = {**_drop(tmp_path / "in"), "web": Web(port=0)}
    async with opened(url, clock, **settings) as app:
        await _synced(app, "refused", new=3, refused=1)
        clock.set(NOW + timedelta(minutes=10))
        await _synced(app, "failed", "away")
        clock.set(NOW + timedelta(minutes=40))
        async with serve(app) as (host, port), aiohttp.ClientSession() as client:
            said = await Watcher(f"http://{host}:{port}", client).scrape()

    mine = (("source", "drop"),)
    ended = said["duewatch_syncs_total"]
    assert {dict(labels)["outcome"]: count for labels, count in ended.items()} == {
        "failed": 1,
        "refused": 1,
    }
    assert said["duewatch_sync_overdue_seconds"] == {mine: 1200}
    assert said["duewatch_sync_failing"] == {mine: 1}
    assert said["duewatch_sync_last_success_timestamp_seconds"] == {mine: NOW.timestamp()}
