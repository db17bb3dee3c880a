"""What a person gets and how, shown and chosen on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.shell import Shell, load, told

pytestmark = pytest.mark.acceptance


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """A shell on each kind of database, with contacts C1 (mail, SMS) and C2 (a masked mobile)."""
    environ = {}
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres_url")).replace("+asyncpg", "", 1)
        environ = {"DATABASE_URL": url}
    shell = Shell(tmp_path, environ)
    load(shell)
    return shell


def test_what_is_in_force_for_a_contact_is_shown_with_why(shell: Shell) -> None:
    shell("suppress", "sam@example.com", "--reason", "left the company")
    shell("--by", "alice", "prefer", "C2", "--digest", "daily", "--off", "statement:mail")
    plain = shell("prefer", "C2")
    shown = shell("prefer", "C2", "--json").json

    assert plain.code == 0
    for said in ("Sam", "chosen by alice", "files say each", "masked", "left the company"):
        assert said in plain.out
    assert (shown["digest"], shown["files"]["digest"]) == ("daily", "each")
    assert shown["chosen"]["by"] == "alice"
    assert shown["addresses"] == {"mail": "sam@example.com", "sms": None}
    assert [(one["kind"], one["channel"], one["comes_all_the_same"]) for one in shown["off"]] == [
        ("*", "mail", []),
        ("statement", "mail", []),
    ]


def test_a_choice_is_kept_written_down_and_seen_among_the_contacts(shell: Shell) -> None:
    wished = ("prefer", "C1", "--digest", "daily", "--off", "payment:sms", "--off", "payment:mail")
    first = shell("--by", "alice", *wished)
    again = shell("--by", "alice", *wished)
    kept = shell("suppressions", "--json").json
    back = shell("prefer", "C1", "--on", "payment:sms", "--json").json
    audit = [row for row in shell("audit", "--json").json if row["action"] == "prefer"]
    contacts = {row["ref"]: row for row in shell("contacts", "--json").json}

    assert (first.code, again.code) == (0, 0)
    assert first.out.splitlines() == [
        "C1: payment by sms: off.",
        "C1: payment by mail: off.",
        "C1: digest: daily.",
    ]
    assert "Nothing to change" in again.out
    assert {(row["by"], row["reason"]) for row in kept} == {
        ("recipient", "switched off in their name by alice")
    }
    assert back["changes"] == ["payment by sms: on"]
    assert [one["comes_all_the_same"] for one in back["off"]] == [["+1"]]
    assert len(audit) == 4
    assert {row["target"] for row in audit} == {"contact C1"}
    assert (contacts["C1"]["digest"], contacts["C1"]["chosen"]) == ("daily", True)
    assert (contacts["C2"]["digest"], contacts["C2"]["chosen"]) == ("each", False)
    assert "daily" in shell("contacts").out


def test_a_kind_that_was_switched_off_is_not_planned_for_that_person(shell: Shell) -> None:
    shell("prefer", "C2", "--off", "invitation:mail")
    shell("scan", "invitation")

    assert {one["address"] for one in told(shell)} == {"I1@customer.example"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("C9",), "no contact C9"),
        (("C1", "--off", "payment"), "'payment' isn't KIND:CHANNEL"),
        (("C1", "--off", "payment:fax"), "isn't KIND:CHANNEL"),
        (("C1", "--off", "paymant:sms"), "did you mean payment"),
        (("C1", "--digest", "hourly"), "hourly"),
        (("C2", "--off", "payment:sms"), "contact C2 has no full sms address"),
        (("C1", "--off", "payment:sms", "--on", "payment:sms"), "give one of them"),
        (("C1", "--on", "payment:mail"), "stopped by alice (left): duewatch unsuppress"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_changes_nothing(
    words: tuple[str, ...], said: str, shell: Shell
) -> None:
    shell("--by", "alice", "suppress", "fang@example.com", "--reason", "left")
    before = shell("suppressions", "--json").json
    done = shell("prefer", *words)

    assert done.code == 2
    assert said in done.err
    assert shell("suppressions", "--json").json == before
