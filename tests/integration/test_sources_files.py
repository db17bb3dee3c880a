"""A watched folder: files are taken once they are whole, and moved with a report beside them."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.product import opened
from workers.app import App
from workers.errors import SettingsError, StateError, UnknownThingError
from workers.sources import build_sources, find_sources
from workers.syncing import Synced, Syncing

GOOD = "伙伴ID,伙伴名称\nP1,Partner 1\nP2,Partner 2\n"
STATEMENTS = (
    "账单ID,伙伴,类型,金额,generated_at,confirm_by\n"
    "S1,P1,INCENTIVE,100.00,2026-11-19,2026-11-26\n"
    "S2,P1,INCENTIVE,zehn,2026-11-19,2026-11-26\n"
)
STATEMENT_COLUMNS = {"伙伴": "partner", "类型": "statement_kind", "金额": "amount_incl_tax"}


def folder(tmp_path: Path, **more: Any) -> dict[str, Any]:
    (tmp_path / "in").mkdir(exist_ok=True)
    table = {"type": "files", "folder": str(tmp_path / "in"), "settle_s": 0, **more}
    return {"sources": {"drop": table}}


def names(path: Path) -> list[str]:
    """What lies in a folder, without the stamps."""
    return sorted(one.name.partition("_")[2] or one.name for one in path.glob("*"))


async def synced(app: App, name: str = "drop", **how: Any) -> Synced:
    done = await Syncing(app).run(name, **how)
    assert done is not None
    return done


def test_every_kind_of_source_is_found_by_its_file() -> None:
    assert {"files", "sql", "huawei_bss"} <= find_sources().keys()


async def test_a_whole_file_is_taken_and_moved_with_its_report(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")
        done = await synced(app)

        assert (done.outcome, done.counts) == ("done", {"partner": {"new": 2}})
        assert names(tmp_path / "in") == ["done"]
        assert names(tmp_path / "in" / "done") == ["partner.csv", "partner.csv.report.txt"]
        (report,) = (tmp_path / "in" / "done").glob("*.report.txt")
        assert "partner: 2 new" in report.read_text("utf-8")


async def test_the_same_file_again_changes_nothing(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        for _ in range(2):
            (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")
            done = await synced(app)

        assert done.counts == {"partner": {"unchanged": 2}}
        # At the same instant too, no file takes another's place.
        assert len(names(tmp_path / "in" / "done")) == 4


async def test_a_file_with_a_refused_row_goes_to_failed_and_its_other_rows_are_taken(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    settings = folder(tmp_path, kind="statement", columns=STATEMENT_COLUMNS)
    async with opened(database_url, clock, **settings) as app:
        (tmp_path / "in" / "november.CSV").write_text(STATEMENTS, "utf-8")
        done = await synced(app)

        assert done.counts == {"statement": {"new": 1, "refused": 1}}
        assert done.outcome == "refused"
        (report,) = (tmp_path / "in" / "failed").glob("*.report.txt")
        assert "november.CSV, line 3, column 金额: 'zehn' isn't a number" in report.read_text()
        (row,) = await app.store.records.find("S1")
        assert row.partner == "P1"


async def test_a_file_that_is_no_table_harms_no_other(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        (tmp_path / "in" / "a.csv").write_text("", "utf-8")
        (tmp_path / "in" / "b.xlsx").write_bytes(b"PK\3\4 nothing more")
        (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")
        done = await synced(app)

        assert done.counts == {"partner": {"new": 2}}
        assert [bool(part.fault) for part in done.parts].count(True) == 2
        assert names(tmp_path / "in" / "failed") == sorted(
            ["a.csv", "a.csv.report.txt", "b.xlsx", "b.xlsx.report.txt"]
        )


async def test_a_trial_says_what_would_happen_and_leaves_all_as_it_is(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")
        done = await Syncing(app).trial("drop")

        assert done.counts == {"partner": {"new": 2}}
        assert names(tmp_path / "in") == ["partner.csv"]
        assert await app.store.sources.runs("drop", 10) == []
        assert (await synced(app)).counts == {"partner": {"new": 2}}


async def test_a_file_that_is_still_written_waits(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path, settle_s=0.4)) as app:
        growing = tmp_path / "in" / "partner.csv"
        growing.write_text(GOOD, "utf-8")
        (tmp_path / "in" / "other.csv.part").write_text(GOOD, "utf-8")
        (tmp_path / "in" / ".hidden.csv").write_text(GOOD, "utf-8")
        syncing = asyncio.create_task(synced(app))
        await asyncio.sleep(0.2)
        with growing.open("a") as file:
            file.write("P3,Partner 3\n")
        assert (await syncing).parts == []
        assert growing.exists()

        # Renamed in, it is whole at once.
        os.replace(tmp_path / "in" / "other.csv.part", tmp_path / "in" / "partner-2.csv")
        (tmp_path / "in" / "partner-2.csv").rename(tmp_path / "in" / "partners.csv")
        assert (await synced(app)).counts == {"partner": {"new": 3, "unchanged": 2}}


async def test_a_link_is_not_followed_out_of_the_folder(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        (tmp_path / "partner.csv").write_text(GOOD, "utf-8")
        (tmp_path / "in" / "partner.csv").symlink_to(tmp_path / "partner.csv")

        assert (await synced(app)).parts == []


async def test_what_a_whole_file_no_longer_holds_is_closed_and_opens_when_it_is_back(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    rows = STATEMENTS.replace("zehn", "10.00")
    settings = folder(
        tmp_path, kind="statement", columns=STATEMENT_COLUMNS, whole=True, gone="close"
    )
    async with opened(database_url, clock, **settings) as app:
        for text in (rows, rows.rpartition("S2")[0]):
            (tmp_path / "in" / "all.csv").write_text(text, "utf-8")
            done = await synced(app)
        assert done.gone == {"statement": ["S2"]}
        (row,) = await app.store.records.find("S2")
        assert (row.state, "source drop" in row.why) == ("closed", True)

        (tmp_path / "in" / "all.csv").write_text(rows, "utf-8")
        done = await synced(app)
        assert done.back == {"statement": ["S2"]}
        (row,) = await app.store.records.find("S2")
        assert (row.state, row.closed_by_hand) == ("open", None)


async def test_a_missing_folder_is_said_with_its_remedy(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    settings = folder(tmp_path)
    (tmp_path / "in").rmdir()
    async with opened(database_url, clock, **settings) as app:
        done = await synced(app)

        assert done.outcome == "failed"
        assert "make it, or correct `folder`" in done.faults[0]
        (run,) = await app.store.sources.runs("drop", 10)
        assert (run.outcome, run.finished_at) == ("failed", clock())


async def test_one_process_syncs_a_source_at_a_time(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path, settle_s=0.5)) as app:
        (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")
        first = asyncio.create_task(synced(app))
        await asyncio.sleep(0.25)
        with pytest.raises(StateError, match="just now"):
            await synced(app)
        assert await Syncing(app).run("drop", trigger="clock", fire_at=clock()) is None
        assert (await first).counts == {"partner": {"new": 2}}

        outcomes = [run.outcome for run in await app.store.sources.runs("drop", 10)]
        assert sorted(outcomes) == ["done", "skipped", "skipped"]


async def test_what_a_dead_process_left_is_taken_over_and_its_run_is_lost(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        sources = app.store.sources
        assert await sources.start_run("drop", clock(), "clock", clock()) is not None
        assert await sources.claim("drop", "dead", timedelta(seconds=-1), clock())
        (tmp_path / "in" / "partner.csv").write_text(GOOD, "utf-8")

        assert (await synced(app)).counts == {"partner": {"new": 2}}
        assert [run.outcome for run in await sources.runs("drop", 10)] == ["done", "lost"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"type": "ftp"}, "sources.drop.type: there is no source 'ftp'"),
        ({"type": "files"}, "sources.drop.folder: is missing"),
        ({"type": "files", "folder": "x", "foldr": "y"}, "sources.drop.foldr: there is no such"),
        ({"type": "files", "folder": "x", "cron": "0 2 * * 1"}, "write weekdays by name"),
        ({"type": "files", "folder": "x", "cron": "0 2 *"}, "has 3 fields"),
        ({"type": "files", "folder": "x", "cron": "0 2 * * mon", "every_s": 60}, "both every_s"),
        ({"type": "files", "folder": "x", "kind": "nix"}, "sources.drop.kind: there is no 'nix'"),
        (
            {"type": "files", "folder": "x", "kind": "partner", "columns": {"a": "nam"}},
            "sources.drop.columns: there is no field 'nam'",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(table: dict[str, Any], said: str) -> None:
    from tests.product import RULES

    with pytest.raises(SettingsError) as refused:
        build_sources({"drop": table}, RULES)
    assert said in str(refused.value)


async def test_an_unknown_source_is_told_from_those_there_are(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, **folder(tmp_path)) as app:
        with pytest.raises(UnknownThingError, match="there are drop"):
            Syncing(app).one("dorp")
