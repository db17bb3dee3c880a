"""duewatch sync and sources, as a person calls them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell

pytestmark = pytest.mark.acceptance

SETTINGS = """
[sources.drop]
type = "files"
folder = "in"
settle_s = 0
every_s = 300
[sources.crm]
type = "sql"
database_url = "sqlite:///host.db"
kind = "partner"
query = "SELECT id AS ref, name FROM customers"
cron = "30 2 * * mon-fri"
[sources.bss]
type = "huawei_bss"
partner = "P1"
access_key = "AKAKAKAK"
secret_key = "hushhushhushhush"
[sources.far]
type = "sql"
database_url = "postgresql://duty:hunter22hunter@db.example/host"
kind = "partner"
view = "customers"
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made.write("duewatch.toml", SETTINGS)
    (tmp_path / "in").mkdir()
    with closing(sqlite3.connect(tmp_path / "host.db")) as host, host:
        host.execute("CREATE TABLE customers (id text, name text)")
        host.execute("INSERT INTO customers VALUES ('P1', 'One'), ('', 'None'), ('P3', 'Three')")
    return made


def test_a_dry_run_shows_what_would_change_and_a_sync_does_it(shell: Shell) -> None:
    for words, new in (("--dry-run",), 2), (("--dry-run",), 2), ((), 2), ((), 0):
        done = shell("sync", "crm", "--json", *words)
        assert done.code == 1, "a row was refused"
        (part,) = done.json["parts"]
        assert part["counts"]["partner"].get("new", 0) == new
        assert part["refused"] == [
            {
                "place": "crm, row 2",
                "column": "ref",
                "value": "",
                "remedy": "is empty: fill it in",
            }
        ]

    shown = shell("sync", "crm")
    assert "crm, row 2, column ref: is empty: fill it in" in shown.out


def test_sources_are_listed_with_their_last_sync_and_without_secrets(shell: Shell) -> None:
    shell("sync", "crm")
    shell.write("in/partner.csv", "ref,name\nP4,Four\n")
    assert shell("sync", "drop").code == 0
    found = {one["source"]: one for one in shell("sources", "--json").json}

    assert found["crm"]["outcome"] == "refused"
    assert found["crm"]["when"] == "30 2 * * mon-fri (Asia/Shanghai)"
    assert found["drop"]["counts"] == {"partner": {"new": 1}}
    assert "outcome" not in found["bss"]
    printed = [shell(*words) for words in (("sources",), ("sources", "crm"), ("settings",))]
    for done in printed:
        assert done.code == 0
        assert "hunter22hunter" not in done.out
        assert "hushhushhushhush" not in done.out
    assert "postgresql://duty:***@db.example/host" in printed[0].out


def test_a_source_that_is_away_ends_with_three_and_a_wrong_name_with_two(shell: Shell) -> None:
    (shell.folder / "host.db").unlink()
    away = shell("sync", "crm")
    assert (away.code, "can't be read" in away.err) == (3, True)

    wrong = shell("sync", "crn")
    assert (wrong.code, "there are drop, crm, bss, far" in wrong.err) == (2, True)


def test_all_refusals_go_into_a_file_that_no_spreadsheet_runs(shell: Shell) -> None:
    shell.write("in/payment.csv", "ref,partner,programme,status,amount\n=1+1,,x,,\n")
    shell.write("in/customer.csv", "ref,partner,associated_on\n=cmd(),P1,someday\n")
    done = shell("sync", "drop", "--errors", "errors.csv")

    assert done.code == 1
    lines = (shell.folder / "errors.csv").read_text("utf-8-sig").splitlines()
    assert lines[0] == "place,column,value,remedy"
    assert any(line.startswith('"customer.csv, line 2",associated_on,someday') for line in lines)
    assert not any(cell.startswith("=") for line in lines for cell in line.split(","))
