"""The command line as people and scripts use it: the real command, a process and files of its own.

Times are counted from now, because the command reads the machine's clock.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import resource
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from workers.cli import COMMANDS, cli
from workers.settings import load_settings

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from workers.cli import main; main()"]
NOW = datetime.now(UTC)
START_S = 1.0
"""Processor seconds; half of it on a machine of its own."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for scripts."""
        return json.loads(self.out)


@dataclass(slots=True)
class Shell:
    """Runs commands in a folder."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "", **more: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self._environ(more),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def on_a_terminal(self, *words: str, **more: str) -> str:
        """What a terminal of 80 columns is sent."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self._environ({"TERM": "xterm-256color", "COLUMNS": "80", **more}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ):
            os.close(theirs)
            read = b""
            try:
                while part := os.read(ours, 65536):
                    read += part
            except OSError:  # the other end was closed (EIO on Linux)
                pass
            os.close(ours)
        return read.decode()

    def write(self, name: str, text: str) -> str:
        """A file in the folder."""
        (self.folder / name).write_text(text, "utf-8")
        return name

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.environ, **more}


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


CONTACTS = """\
伙伴ID,联系人ID,角色,姓名,邮箱,手机号,语言,免打扰时段,备注
P1,C1,finance,王芳,fang@example.com,13800138000,zh-CN,none,x
P1,C2,sales,Sam,sam@example.com,138****1234,en,none,y
"""


def invitations(*refs: str) -> str:
    """Mailed 108 hours ago: 60 hours before the links die, T-72h is due."""
    sent = (NOW - timedelta(hours=108)).isoformat()
    head = "ref,partner,customer_name,customer_mail,customer_language,origin,sent_at\n"
    rows = [f"{ref},P1,Northwind,{ref}@customer.example,en,ONLINE,{sent}\n" for ref in refs]
    return head + "".join(rows)


def load(shell: Shell, *refs: str) -> None:
    """Contacts, and invitations that are due now: a mail to the customer, one to the inviter."""
    contacts = shell.write("contacts.csv", CONTACTS)
    due = shell.write("invitations.csv", invitations(*(refs or ("I1",))))
    assert shell("import", contacts, due).code == 0


def told(shell: Shell) -> list[dict[str, Any]]:
    """All notifications, newest first."""
    found: list[dict[str, Any]] = shell("list", "--json").json
    return found


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

    def seconds() -> float:
        # The processor's time: a busy machine makes no difference to it.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell(command).code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < START_S


def test_init_writes_every_setting_with_its_default_and_never_overwrites(shell: Shell) -> None:
    assert shell("init", "new.toml").code == 0
    written = (shell.folder / "new.toml").read_text("utf-8")
    again = shell("init", "new.toml")

    # With the defaults uncommented the file is still one that is accepted.
    lines = [line[2:] if " = " in line else line for line in written.splitlines()]
    settings = [line for line in lines if line.startswith("[") or " = " in line]
    shipped = "\n".join(settings).partition("[providers.")[0].replace("# ", "")
    assert tomllib.loads(shipped)["sms"]["quiet_hours"] == "21:00-08:00"
    assert load_settings(shell.folder / "new.toml", {}) == load_settings(None, {})
    assert (again.code, (shell.folder / "new.toml").read_text("utf-8")) == (2, written)
    assert "new.toml is there already" in again.err


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
    assert {run["kind"]: run["planned"] for run in scanned} == {
        "invitation": 2,
        "payment": 0,
        "statement": 0,
    }
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
        (["import", "--kind", "frob", "contacts.csv"], "invitation, payment, payment.line"),
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
