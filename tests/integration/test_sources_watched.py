"""How sources fare is seen from outside: by the doctor and in metrics."""

from __future__ import annotations

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
        clock.set(NOW + timedelta(minutes=31))
        late = await _found(app)

    assert never[0]
    assert "never synced yet" in never[1]
    assert broken[0] is False
    assert "the folder isn't there" in broken[1]
    assert broken[2] == "see what would come in: duewatch sync drop --dry-run"
    assert well[0]
    assert well[1].endswith(f"done at {NOW:%Y-%m-%d %H:%M} UTC")
    assert (late[0], late[2]) == (False, "see that a scheduler runs: duewatch scheduler")


async def test_metrics_tell_when_a_source_was_last_read_and_that_it_broke_off_since(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    settings = {**_drop(tmp_path / "in"), "web": Web(port=0)}
    async with opened(url, clock, **settings) as app:
        await _synced(app, "refused", new=3, refused=1)
        clock.set(NOW + timedelta(minutes=10))
        await _synced(app, "failed", "away")
        async with serve(app) as (host, port), aiohttp.ClientSession() as client:
            said = await Watcher(f"http://{host}:{port}", client).scrape()

    mine = (("source", "drop"),)
    assert said["duewatch_sync_failing"] == {mine: 1}
    assert said["duewatch_sync_last_success_timestamp_seconds"] == {mine: NOW.timestamp()}
