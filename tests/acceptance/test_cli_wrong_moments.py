"""The command line where people write what they know, and where something is in the way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.shell import CONTACTS, Shell, load, told
from workers.settings import Settings, load_settings

pytestmark = pytest.mark.acceptance


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell on SQLite, as after a fresh installation."""
    return Shell(tmp_path)


@pytest.mark.parametrize("written", ["sam@EXAMPLE.com", " sam@example.com "])
def test_a_mail_address_is_suppressed_however_it_is_written(shell: Shell, written: str) -> None:
    load(shell)
    assert shell("suppress", written, "--reason", "left").code == 0
    shell("scan")
    shell("deliver")

    states = {one["address"]: one["state"] for one in told(shell)}
    assert states == {"sam@example.com": "suppressed", "I1@customer.example": "accepted"}
    assert shell("unsuppress", written).code == 0


def test_a_number_is_suppressed_as_contacts_keep_it(shell: Shell) -> None:
    shell("suppress", "13800138000", "--reason", "left")

    (row,) = shell("suppressions", "--json").json
    assert (row["channel"], row["address"]) == ("sms", "+8613800138000")


@pytest.mark.parametrize("command", ["suppress", "send-test"])
@pytest.mark.parametrize("address", ["nobody", "138****1234", "a@b@c", "12345"])
def test_what_is_no_whole_address_is_refused(shell: Shell, command: str, address: str) -> None:
    more = ["--reason", "x", address] if command == "suppress" else ["--yes", "--to", address]
    done = shell(command, *more)

    assert (done.code, repr(address) in done.err) == (2, True)


def test_one_paused_rule_keeps_no_other_from_being_scanned(shell: Shell) -> None:
    load(shell)
    shell("pause", "statement", "--reason", "wrong texts")
    shell("pause", "payment", "--reason", "wrong texts")
    done = shell("scan", "--json")

    assert {"statement", "payment", "invitation"} & {run["kind"] for run in done.json} == {
        "invitation"
    }
    assert (done.code, len(told(shell))) == (0, 2)
    assert "statement is paused (wrong texts)" in done.err


def test_rows_before_the_place_where_a_file_ends_badly_are_taken(shell: Shell) -> None:
    done = shell("import", shell.write("contacts.csv", CONTACTS + "x" * 1_100_000))

    assert (done.code, "contacts.csv, line 4" in done.err) == (2, True)
    assert [one["ref"] for one in shell("contacts", "--json").json] == ["C1", "C2"]


def test_what_init_writes_changes_nothing_when_uncommented(shell: Shell) -> None:
    shell("init", "new.toml")
    written = (shell.folder / "new.toml").read_text("utf-8").partition("# [providers.")[0]
    uncommented = re.sub(r"(?m)^# (\w+ = .+)$", r"\1", written)
    shell.write("all.toml", uncommented)

    assert uncommented.count("\n# ") < written.count("\n# ")
    assert load_settings(shell.folder / "all.toml", {}) == Settings()
