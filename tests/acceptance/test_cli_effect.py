"""Tuning a cadence by facts: what reminders led to, and what another cadence would send."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.shell import NOW, Shell, load

pytestmark = pytest.mark.acceptance

EARLIER = '[rules.invitation.stages.T-24h]\nwhen = "due - 48 hours"\n'


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


def accepted(shell: Shell, ref: str) -> None:
    """The customer accepted."""
    sent = (NOW - timedelta(hours=108)).isoformat()
    head = "ref,partner,customer_name,customer_mail,origin,sent_at,status\n"
    row = f"{ref},P1,Northwind,{ref}@customer.example,ONLINE,{sent},ACCEPTED\n"
    assert shell("import", shell.write("invitations.csv", head + row)).code == 0


def stages(rule: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A rule's stages by name."""
    return {one["stage"]: one for one in rule["stages"]}


# --- effect -----------------------------------------------------------------------------------


def test_what_reminders_led_to_is_the_same_in_all_its_forms(either: Shell) -> None:
    load(either, "I1", "I2", "I3")
    accepted(either, "I3")
    either("scan")
    either("deliver")
    accepted(either, "I1")
    (rule,) = either("effect", "invitation", "--json").json
    rows = list(csv.DictReader(io.StringIO(either("effect", "invitation", "--csv").out)))
    shown = either("effect", "invitation").out

    told = stages(rule)["T-72h"]
    assert (rule["closed"], rule["untold"]) == (2, 1)
    assert (told["before"], told["told"], told["after"], told["never"]) == (1, 2, 1, 1)
    assert (told["within"], told["median_days"]) == (1, "0.0")
    assert stages(rule)["T-24h"]["before"] == 2
    assert [row["stage"] for row in rows] == [one["stage"] for one in rule["stages"]]
    assert (rows[0]["told"], rows[0]["rule_untold"]) == ("2", "1")
    assert "2 records done, 1 of them without any reminder" in shown
    assert "T-72h 1 2 1 1 0 1 0.0" in " ".join(shown.split())


def test_only_what_was_told_or_done_since_a_day_is_counted(shell: Shell) -> None:
    load(shell)
    shell("scan")
    shell("deliver")
    tomorrow = (NOW + timedelta(days=2)).date().isoformat()
    (rule,) = shell("effect", "invitation", "--since", tomorrow, "--json").json
    shown = shell("effect", "--since", tomorrow).out

    assert stages(rule)["T-72h"]["told"] == 0
    assert f"Nothing told or done since {tomorrow} 00:00: " in shown


def test_the_effect_of_a_rule_that_is_not_there_is_refused_by_name(shell: Shell) -> None:
    done = shell("effect", "invitatoin")

    assert (done.code, done.out) == (2, "")
    assert "did you mean invitation?" in done.err


# --- forecast --with --------------------------------------------------------------------------


def test_a_changed_cadence_is_shown_beside_today_s(shell: Shell) -> None:
    load(shell, "I1", "I2")
    cadence = shell.write(
        "cadence.toml", EARLIER + "[rules.invitation.stages.expired]\noff = true\n"
    )
    words = ["forecast", "--days", "4", "--with", cadence]
    found = shell(*words, "--json").json
    rows = list(csv.DictReader(io.StringIO(shell(*words, "--csv").out)))
    shown = shell(*words).out

    # Today: T-72h and T-24h to two customers and their inviter, and the end to the inviter.
    assert found["total"]["mail"] == {"now": 7, "then": 6, "difference": -1}
    assert found["rules"] == [
        {"kind": "invitation", "channel": "mail", "now": 7, "then": 6, "difference": -1}
    ]
    for count in ("now", "then", "difference"):
        assert sum(one[count] for one in found["days"]) == found["total"]["mail"][count]
        assert [int(row[count]) for row in rows] == [one[count] for one in found["days"]]
    assert "6 mails instead of 7 (-1) and 0 SMS instead of 0 (no change)" in shown


def test_the_same_cadence_makes_no_difference(shell: Shell) -> None:
    load(shell, "I1", "I2")
    shell("scan")
    cadence = shell.write(
        "cadence.toml", '[rules.invitation.stages.T-24h]\nwhen = "due - 24 hours"\n'
    )
    found = shell("forecast", "--days", "9", "--with", cadence, "--json").json
    plain = shell("forecast", "--days", "9", "--json").json

    assert {one["difference"] for one in found["days"]} == {0}
    assert found["total"]["mail"]["now"] == len(plain) > 0


def test_what_today_s_settings_change_stays_unless_the_file_names_it(shell: Shell) -> None:
    shell.write("duewatch.toml", "[rules.invitation.stages.expired]\noff = true\n")
    load(shell)
    found = shell(
        "forecast", "--days", "4", "--with", shell.write("cadence.toml", EARLIER), "--json"
    ).json

    assert found["total"]["mail"] == {"now": 4, "then": 4, "difference": 0}


def test_a_stage_is_foretold_where_today_nothing_more_would_come(shell: Shell) -> None:
    off = "".join(
        f"[rules.invitation.stages.{name}]\noff = true\n" for name in ("T-72h", "T-24h", "expired")
    )
    shell.write("duewatch.toml", off)
    load(shell)
    shell("scan")
    back = shell.write("cadence.toml", "[rules.invitation.stages.expired]\noff = false\n")
    found = shell("forecast", "--days", "4", "--with", back, "--json").json

    assert found["total"]["mail"] == {"now": 0, "then": 1, "difference": 1}


def test_a_rule_that_the_file_turns_off_sends_nothing_then(shell: Shell) -> None:
    load(shell)
    cadence = shell.write("cadence.toml", "[rules.invitation]\nenabled = false\n")
    for words in ([], ["--rule", "invitation"]):
        found = shell("forecast", "--days", "4", *words, "--with", cadence, "--json").json

        assert (found["total"]["mail"]["now"], found["total"]["mail"]["then"]) == (5, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "changes nothing: write [rules.<kind>.stages.<stage>] tables"),
        ("[rules", "isn't TOML"),
        ('[mail]\nsender = "x@example.com"\n', "mail: only [rules.<kind>] tables belong"),
        ("[rules.invitatoin]\nenabled = true\n", "rules.invitatoin: there is no such rule: did"),
        (
            "[rules.invitation.stages.T-9]\noff = true\n",
            "stages.T-9: there is no such stage (T-72h",
        ),
        ("[rules.invitation.stages.T-9]\nurgent = true\n", "a new one needs when and tell"),
        (
            '[rules.invitation.stages.T-24h]\nwhn = "due"\n',
            "rules.invitation.stages.T-24h.whn: there is no such setting: did you mean when?",
        ),
        (
            '[rules.invitation.stages.T-24h]\nwhen = "later"\n',
            "rules.invitation.stages.T-24h.when: 'later' isn't a time of a stage",
        ),
    ],
)
def test_a_wrong_cadence_is_refused_with_its_file_and_key(
    shell: Shell, text: str, said: str
) -> None:
    done = shell("forecast", "--with", shell.write("cadence.toml", text))

    assert (done.code, done.out) == (2, "")
    assert "cadence.toml: " in done.err
    assert said in done.err


def test_a_cadence_that_is_not_there_is_named(shell: Shell) -> None:
    done = shell("forecast", "--with", "none.toml")

    assert (done.code, "none.toml: can't be read: No such file" in done.err) == (2, True)


@pytest.mark.parametrize("columns", [80, 120])
def test_facts_and_comparison_fit_a_terminal(shell: Shell, columns: int) -> None:
    load(shell)
    shell("scan")
    shell("deliver")
    cadence = shell.write("cadence.toml", EARLIER)
    for words in (["effect"], ["forecast", "--days", "4", "--with", cadence]):
        shown = shell.on_a_terminal(*words, NO_COLOR="1", COLUMNS=str(columns))
        for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m"):
            shown = shown.replace(code, "")

        assert "invitation" in shown
        assert max(len(line.rstrip("\r")) for line in shown.split("\n")) <= columns
