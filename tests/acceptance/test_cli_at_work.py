"""The command line at work: from a file to an accepted message, and what ops do by hand."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.shell import NOW, Shell, load, told

pytestmark = pytest.mark.acceptance


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


# --- what is due ------------------------------------------------------------------------------


def test_from_a_file_to_an_accepted_message_and_its_explanation(either: Shell) -> None:
    load(either)
    foreseen = either("scan", "invitation", "--dry-run", "--json").json[0]["notifications"]
    assert told(either) == []
    scanned = either("scan", "--json").json
    again = either("scan", "invitation", "--json").json
    either("deliver")

    sent = told(either)
    assert {(one["address"], one["records"][0]) for one in foreseen} == {
        ("I1@customer.example", "I1"),
        ("sam@example.com", "I1"),
    }
    assert {one["address"] for one in sent} == {one["address"] for one in foreseen}
    assert {one["state"] for one in sent} == {"accepted"}
    assert {run["kind"]: run["planned"] for run in scanned if run["planned"]} == {"invitation": 2}
    assert {run["kind"] for run in scanned} >= {"invitation", "payment", "statement"}
    assert again[0]["planned"] == 0

    story = either("explain", "I1", "--json").json
    stages = [step for step in story["steps"] if step["verdict"] == "told"]
    assert {step["stage"] for step in stages} == {"T-72h"}
    assert {step["notification"] for step in stages} == {one["uid"] for one in sent}
    assert {step["reply"] for step in stages} == {"kept in the local inbox"}
    assert story["next_due_at"].endswith("Z")
    assert either("verify").code == 0


def test_a_forecast_is_the_same_in_all_its_forms(shell: Shell) -> None:
    load(shell, "I1", "I2")
    as_json = shell("forecast", "--days", "3", "--json").json
    as_csv = list(csv.DictReader(io.StringIO(shell("forecast", "--days", "3", "--csv").out)))
    for_people = shell("forecast", "--days", "3").out

    assert [(one["at"], one["address"]) for one in as_json] == [
        (one["at"], one["address"]) for one in as_csv
    ]
    # For each customer two reminders; for the inviter two and the end, both records in each.
    assert [len(one["refs"]) for one in as_json if one["contact"] == "C2"] == [2, 2, 2]
    assert f"{len(as_json)} mails and 0 SMS" in for_people


def test_a_dry_run_of_a_time_to_come_writes_nothing(shell: Shell) -> None:
    load(shell)
    later = (NOW + timedelta(hours=61)).isoformat()
    done = shell("scan", "invitation", "--dry-run", "--at", later, "--json").json

    assert [one["message"] for one in done[0]["notifications"]] == ["expired"]
    assert (told(shell), shell("records", "--json").json[0]["state"]) == ([], "open")


def test_a_paused_rule_is_not_scanned_until_it_is_resumed(shell: Shell) -> None:
    load(shell)
    assert shell("--by", "ann", "pause", "invitation", "--reason", "wrong texts").code == 0
    refused = shell("scan", "invitation")
    (rule,) = [one for one in shell("rules", "--json").json if one["kind"] == "invitation"]
    assert (refused.code, told(shell)) == (2, [])
    assert "duewatch resume invitation" in refused.err
    assert (rule["state"], rule["reason"]) == ("paused", "wrong texts")

    shell("--by", "bob", "resume", "invitation")
    shell("scan", "invitation")
    assert len(told(shell)) == 2
    done = [(one["by"], one["action"]) for one in shell("audit", "--json").json]
    assert done == [("bob", "resume"), ("ann", "pause")]


# --- by hand ----------------------------------------------------------------------------------


def test_a_cancelled_notification_is_not_sent(shell: Shell) -> None:
    load(shell)
    shell("scan")
    (to_customer,) = [one for one in told(shell) if one["contact"] == "customer:I1"]
    done = shell("cancel", to_customer["uid"][:8], "--reason", "wrong customer")
    shell("deliver")

    assert done.code == 0
    assert {one["contact"]: one["state"] for one in told(shell)} == {
        "customer:I1": "cancelled",
        "C2": "accepted",
    }
    refused = shell("retry", to_customer["uid"])
    assert (refused.code, "is cancelled" in refused.err) == (2, True)


def test_a_record_closed_by_hand_is_left_alone_until_it_is_reopened(shell: Shell) -> None:
    load(shell)
    shell("close", "I1", "--reason", "settled by phone")
    shell("import", "invitations.csv")
    shell("scan")
    assert told(shell) == []
    assert shell("explain", "I1", "--json").json["state"] == "closed"

    assert shell("reopen", "I1").code == 0
    shell("scan")
    assert len(told(shell)) == 2


def test_a_snoozed_record_waits(shell: Shell) -> None:
    load(shell)
    later = NOW + timedelta(hours=5)
    assert shell("snooze", "I1", "--until", later.isoformat()).code == 0
    shell("scan")

    assert told(shell) == []
    planned = shell("explain", "I1", "--json").json["next_due_at"]
    assert datetime.fromisoformat(planned) == later


def test_a_suppressed_address_is_not_written_to(shell: Shell) -> None:
    load(shell)
    shell("suppress", "sam@example.com", "--reason", "left the company")
    shell("scan")
    shell("deliver")

    assert {one["address"]: one["state"] for one in told(shell)} == {
        "sam@example.com": "suppressed",
        "I1@customer.example": "accepted",
    }
    assert shell("unsuppress", "sam@example.com").code == 0
    assert shell("suppressions", "--json").json == []


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("p.eml", b"From:"),
        ("p.html", b"<!"),
        ("p.txt", b"Payment"),
        ("p.pdf", b"%PDF-"),
        ("p.xlsx", b"PK"),
        ("p.sms", "【".encode()),
    ],
)
def test_a_preview_is_written_in_every_form_and_sends_nothing(
    shell: Shell, name: str, begins: bytes
) -> None:
    language = "zh-CN" if name == "p.sms" else "en"
    done = shell("preview", "payment", "--language", language, "--to", name)

    assert done.code == 0, done.err
    content = (shell.folder / name).read_bytes()
    assert begins in content[:2000] if name == "p.eml" else content.startswith(begins)
    assert told(shell) == []


def test_a_test_message_asks_first_and_stays_out_of_the_ledger(shell: Shell) -> None:
    asked = shell("send-test", "--to", "me@example.com", stdin="n\n")
    sent = shell("--by", "ann", "send-test", "--to", "me@example.com", "--yes")

    assert (asked.code, sent.code) == (130, 0)
    assert "kept in the local inbox" in sent.out
    assert told(shell) == []
    assert [one["by"] for one in shell("audit", "--json").json] == ["ann"]
