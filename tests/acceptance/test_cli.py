"""The command line: help, setting up, bringing in, and wrong calls."""

from __future__ import annotations

import csv
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.shell import CONTACTS, Shell, load, told
from workers.cli import COMMANDS, cli
from workers.settings import Settings, load_settings

pytestmark = pytest.mark.acceptance
START_S = 1.0
"""Processor seconds; half of it on a machine of its own."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell on SQLite, as after a fresh installation."""
    return Shell(tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """A shell on each kind of database."""
    if request.param == "sqlite":
        return Shell(tmp_path)
    url = str(request.getfixturevalue("postgres_url")).replace("+asyncpg", "", 1)
    return Shell(tmp_path, {"DATABASE_URL": url})


# --- help and setting up ----------------------------------------------------------------------


def test_every_command_that_help_names_is_there_and_says_what_it_does() -> None:
    with cli.make_context("duewatch", [], resilient_parsing=True) as context:
        texts = {name: cli.get_command(context, name) for name in COMMANDS}

    assert [name for name, found in texts.items() if found is None or not found.help] == []


def test_help_fits_80_columns_and_tells_the_exit_codes(shell: Shell) -> None:
    done = shell("--help", COLUMNS="80")

    assert max(len(line) for line in done.out.splitlines()) <= 80
    for said in ("0 done", "1 done, but", "2 the call", "3 Duewatch", "130", *COMMANDS):
        assert said in " ".join(done.out.split())


@pytest.mark.parametrize("command", ["--help", "verify"])
def test_a_command_starts_quickly(shell: Shell, command: str) -> None:
    shell("migrate")

    def cpu_s(run: Callable[[], object]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def started() -> None:
        assert shell.from_nothing(command) == 0

    # A processor that others share does less in a second: then it counts what libraries take.
    loading = [sys.executable, "-c", "import sqlalchemy.ext.asyncio, pydantic, structlog, jinja2"]
    libraries = min(cpu_s(lambda: subprocess.run(loading, check=True)) for _ in range(3))
    assert min(cpu_s(started) for _ in range(3)) < max(START_S, 3 * libraries)


def test_init_writes_a_file_of_comments_that_changes_nothing(shell: Shell) -> None:
    assert shell("init", "new.toml").code == 0

    assert load_settings(shell.folder / "new.toml", {}) == Settings()


def test_every_setting_stands_in_what_init_writes(shell: Shell) -> None:
    shell("init", "new.toml")
    written = (shell.folder / "new.toml").read_text("utf-8").partition("# [providers.")[0]

    tables = [one for _, one in Settings() if hasattr(one, "model_fields_set")]
    names = {*Settings.model_fields, *(key for one in tables for key, _ in one)}
    named = set(re.findall(r"(?m)^#? ?\[?(?:\w+\.)?(\w+)(?: =|\]$)", written))
    assert names - {"providers", "sources", "rules", "webhooks"} - named == set()


def test_init_never_overwrites(shell: Shell) -> None:
    shell.write("mine.toml", "[web]\nport = 9000\n")
    done = shell("init", "mine.toml")

    assert (done.code, "mine.toml is there already" in done.err) == (2, True)
    assert (shell.folder / "mine.toml").read_text() == "[web]\nport = 9000\n"


def test_settings_show_no_secret(shell: Shell) -> None:
    shell.write(
        "duewatch.toml",
        'database_url = "postgresql://duty:hunter22hunter@db.example/due"\n'
        '[web]\napi_token = "fantasticallysecreT"\n'
        '[mail]\nproviders = ["smtp"]\n'
        '[providers.smtp]\nhost = "relay.example"\npassword = "quitesecretindeeD"\n',
    )
    for done in (shell("settings"), shell("settings", "--json")):
        assert done.code == 0
        assert "relay.example" in done.out
        for secret in ("hunter22", "fantastically", "quitesecret"):
            assert secret not in done.out + done.err


def test_the_doctor_finds_a_fresh_installation_well(shell: Shell) -> None:
    done = shell("doctor", "--json")

    assert (done.code, [one for one in done.json if not one["well"]]) == (0, [])
    assert {"database", "clock", "templates", "working days", "links"} <= {
        one["what"] for one in done.json
    }


def test_the_doctor_says_how_to_mend_a_relay_that_is_not_there(shell: Shell) -> None:
    shell.write(
        "duewatch.toml",
        '[mail]\nproviders = ["smtp"]\nsender = "desk@example.com"\n'
        '[providers.smtp]\nhost = "127.0.0.1"\nport = 9\n',
    )
    done = shell("doctor", "--json")

    wrong = [one for one in done.json if not one["well"] and one["what"].startswith("mail")]
    assert done.code == 1
    assert wrong
    assert all(one["remedy"] for one in wrong)


def test_verify_ends_with_1_when_the_ledger_is_broken(shell: Shell) -> None:
    load(shell)
    shell("scan")
    well = shell("verify")
    with closing(sqlite3.connect(shell.folder / "duewatch.db")) as database, database:
        database.execute("UPDATE notifications SET state = 'lost' WHERE id = 1")
    broken = shell("verify", "--json")

    assert (well.code, broken.code) == (0, 1)
    assert broken.json["adds_up"] is False
    assert sum(check["exceptions"] for check in broken.json["checks"]) == 1


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_command(shell: Shell, kind: str) -> None:
    assert "_DUEWATCH_COMPLETE" in shell("completion", kind).out


# --- bringing in ------------------------------------------------------------------------------


def test_the_same_file_twice_changes_nothing(either: Shell) -> None:
    contacts = either.write("contacts.csv", CONTACTS)
    first, second = either("import", "--json", contacts), either("import", "--json", contacts)

    assert (first.code, first.json[0]["counts"]) == (0, {"contact": {"new": 2}})
    assert (second.code, second.json[0]["counts"]) == (0, {"contact": {"unchanged": 2}})
    assert first.json[0]["left_out"][0]["columns"] == ["备注"]


def test_a_refused_row_is_named_and_its_neighbours_are_taken(either: Shell) -> None:
    name = either.write(
        "statements.csv",
        "ref,partner,statement_kind,generated_at,confirm_by,amount_incl_tax\n"
        "S1,P1,INCENTIVE,2026-11-19,2026-11-26,100.00\n"
        "S2,P1,INCENTIVE,2026-11-19,2026-02-30,100.00\n"
        'S3,P1,INCENTIVE,2026-11-19,2026-11-26,"1,234.5O"\n'
        "S4,P1,INCENTIVE,2026-11-19,2026-11-26,7.00\n",
    )
    done = either("import", name, "--errors", "refused.csv")

    assert done.code == 1
    assert "statements.csv, line 3, column confirm_by: '2026-02-30'" in done.out
    with (either.folder / "refused.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["column"], row["value"]) for row in rows] == [
        ("3", "confirm_by", "2026-02-30"),
        ("4", "amount_incl_tax", "1,234.5O"),
    ]
    assert all(row["remedy"] for row in rows)
    assert [row["ref"] for row in either("records", "--json").json] == ["S1", "S4"]


def test_a_trial_import_counts_and_keeps_nothing(shell: Shell) -> None:
    done = shell("import", "--dry-run", "--json", shell.write("contacts.csv", CONTACTS))

    assert done.json[0]["counts"] == {"contact": {"new": 2}}
    assert shell("contacts", "--json").json == []


def test_a_masked_number_is_kept_and_never_written_to(shell: Shell) -> None:
    load(shell)
    shell("scan")

    (sam,) = [one for one in shell("contacts", "P1", "--json").json if one["ref"] == "C2"]
    assert sam["mobile"] == "138****1234"
    assert {one["channel"] for one in told(shell)} == {"mail"}
    steps = shell("explain", "I1", "--json").json["steps"]
    assert "contact C2 has a masked sms address: import the full one" in {
        step["why"] for step in steps
    }


def test_a_cell_that_looks_like_a_formula_is_inert_in_the_list_of_refusals(shell: Shell) -> None:
    contacts = "partner,ref,role,name,mail\nP1,C1,finance,Ann,=cmd|' /C calc'!A1\n"
    shell("import", shell.write("contacts.csv", contacts), "--errors", "refused.csv")

    with (shell.folder / "refused.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["value"].startswith("'=cmd")


# --- wrong calls ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scna"], "Did you mean scan?"),
        (["scan", "statment"], "did you mean statement?"),
        (["scan", "--dry-run", "--at", "2026-02-30 09:00"], "doesn't exist"),
        (["scan", "--at", "2026-12-01"], "--at goes with --dry-run"),
        (["explain", "NOPE"], "there is no record NOPE"),
        (["show", "deadbeef"], "there is no notification deadbeef"),
        (["import", "nope.csv"], "nope.csv"),
        (["import", "--kind", "frob", "contacts.csv"], "payment, payment.line"),
        (["preview", "payment", "--to", "p.doc"], ".eml .html .txt .pdf .xlsx .sms"),
        (["preview", "payment", "--message", "frob"], "escalation, reminder"),
        (["snooze", "I1", "--until", "2020-01-01"], "is past"),
        (["--settings", "none.toml", "verify"], "duewatch init none.toml"),
        (["--settings", "wrong.toml", "verify"], "mail.sendr: there is no such setting: did you"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_to_write(
    shell: Shell, words: list[str], said: str
) -> None:
    shell.write("contacts.csv", CONTACTS)
    shell.write("wrong.toml", '[mail]\nsendr = "x"\n')
    done = shell(*words)

    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_what_goes_to_a_file_has_no_colours(shell: Shell) -> None:
    load(shell)
    shell("scan")

    assert "\x1b[" not in "".join(shell(name).out for name in ("list", "records", "rules"))


def test_a_terminal_of_80_columns_shows_whole_lines(shell: Shell) -> None:
    load(shell)
    shell("scan")
    shown = shell.on_a_terminal("forecast", "--days", "3", NO_COLOR="1")

    assert "invitation" in shown
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 80
    assert "\x1b[3" not in shown
