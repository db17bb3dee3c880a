"""Lives of the partner centre through the real product: nothing missing, double, moot or late."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell
from tests.product import RULES
from workers.simulation.life import life
from workers.simulation.report import Report
from workers.simulation.run import simulate

# The month's figures are made by the clock's owner and aren't watched; what others ask for has no
# life of its own.
KINDS = set(RULES) - {"operations_digest", "request"}
# Over a year's end, a whole year, and into a year that isn't announced.
STARTS = (date(2025, 7, 1), date(2026, 1, 1), date(2026, 6, 1))


def assert_well(report: Report) -> None:
    """0 missing, 0 double, 0 moot, 0 outside their time, and a ledger that adds up."""
    assert report.differences[:10] == []
    assert report.broken == []
    assert report.found == report.expected
    assert 0 <= report.moot_dropped - report.moot_expected <= report.put_off
    assert set(report.states) <= {"accepted", "cancelled", "suppressed", "pending"}


@pytest.mark.timeout(300)
async def test_a_season_tells_everybody_what_they_must_know_once_and_in_time(
    tmp_path: Path,
) -> None:
    made = life(12, partners=12, start=date(2026, 1, 20), days=75, busy=4)
    report = await simulate(made, folder=tmp_path)

    assert_well(report)
    assert report.expected > 500, "the life must give the product something to do"
    assert set(report.lines) == KINDS, "every kind tells somebody of something"
    assert report.in_digests > 30
    assert report.moot_dropped > 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 21))
async def test_a_year_tells_everybody_what_they_must_know_once_and_in_time(seed: int) -> None:
    made = life(seed, partners=30, start=STARTS[seed % len(STARTS)], days=365, busy=1.5)
    # Whether the words can be written is another matter: a few years are enough for that.
    report = await simulate(made, jobs=os.cpu_count() or 1, render=seed % 5 == 0)

    assert_well(report)
    # Not every year has somebody who registers ninety customers within a fortnight, or is to be
    # paid without an account.
    assert set(report.lines) >= KINDS - {"pre_registration_limit", "settlement_account"}


@pytest.mark.acceptance
def test_the_command_reports_a_life_and_says_with_its_exit_code_whether_all_was_well(
    tmp_path: Path,
) -> None:
    words = ("simulate", "--days", "20", "--partners", "8", "--seed", "4", "--busy", "4")
    done = Shell(tmp_path)(*words, "--json", "--no-render")

    assert done.code == 0, done.out
    assert done.json["well"] is True
    assert done.json["found"] == done.json["expected"] > 10
    assert done.json["differences"] == {}
    assert done.json["states"]["accepted"] == done.json["kept"]
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    shown = Shell(tmp_path)(*words, "--no-render")
    assert "0 missing, 0 double, 0 moot" in shown.out
    assert "All is well." in shown.out


@pytest.mark.acceptance
def test_the_command_shares_the_partners_among_processes_and_finds_the_same(tmp_path: Path) -> None:
    words = ("simulate", "--days", "8", "--partners", "20", "--seed", "4", "--busy", "3", "--json")
    alone, shared = (Shell(tmp_path)(*words, "--no-render", "--jobs", jobs) for jobs in "12")

    assert alone.code == shared.code == 0
    for name in ("events", "records", "lines", "messages", "expected", "found", "in_digests"):
        assert alone.json[name] == shared.json[name], name
