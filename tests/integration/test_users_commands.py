"""duewatch users: who may sign in, by the command line as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PASSWORD = "the reservoir is full again"


def duewatch(folder: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """A command on a database of the folder's own."""
    return subprocess.run(
        [sys.executable, "-c", "from workers.cli import main; main()", "--by", "desk", *words],
        input=typed,
        env={"DUEWATCH_DATABASE_URL": f"sqlite:///{folder}/duewatch.db", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_somebody_is_let_in_changed_and_shut_out(tmp_path: Path) -> None:
    added = duewatch(
        tmp_path, "users", "add", "Li.Na", "--role", "administrator", typed=f"{PASSWORD}\n"
    )
    assert added.stdout == "li.na may sign in as administrator.\n", added.stderr
    assert duewatch(tmp_path, "users", "add", "wang", typed=f"{PASSWORD}\n").returncode == 0
    assert duewatch(tmp_path, "users", "role", "wang", "operator").returncode == 0
    assert duewatch(tmp_path, "users", "disable", "wang", "--reason", "left").returncode == 0
    listed = json.loads(duewatch(tmp_path, "users", "list", "--json").stdout)
    shown = {one["name"]: (one["role"], one["disabled_at"] is None) for one in listed}
    assert shown == {"li.na": ("administrator", True), "wang": ("operator", False)}
    assert "argon2" not in json.dumps(listed)
    audit = duewatch(tmp_path, "audit", "--json").stdout
    assert [one["action"] for one in json.loads(audit)] == [
        "user disable",
        "user role",
        "user add",
        "user add",
    ]
    assert PASSWORD not in audit


def test_a_user_is_linked_with_whom_the_provider_means(tmp_path: Path) -> None:
    (tmp_path / "duewatch.toml").write_text(
        f'database_url = "sqlite:///{tmp_path}/duewatch.db"\n'
        '[console.oidc]\nissuer = "https://id.example.com"\nclient_id = "desk"\n'
        'default_role = "viewer"\n'
    )
    file = ("--settings", f"{tmp_path}/duewatch.toml")
    assert duewatch(tmp_path, *file, "users", "add", "li.na", typed=f"{PASSWORD}\n").returncode == 0
    assert "password" in duewatch(tmp_path, *file, "users", "list").stdout
    done = duewatch(tmp_path, *file, "users", "link", "li.na", "sub-1")
    assert done.stdout == "li.na signs in at the provider from now on, and is signed out.\n"
    assert "provider" in duewatch(tmp_path, *file, "users", "list").stdout
    [row] = json.loads(duewatch(tmp_path, *file, "users", "list", "--json").stdout)
    assert row["subject"] == "https://id.example.com|sub-1"
    audit = json.loads(duewatch(tmp_path, *file, "audit", "--json").stdout)
    assert (audit[0]["action"], audit[0]["reason"]) == ("user link", "sub-1")


@pytest.mark.parametrize(
    ("words", "typed", "said"),
    [
        (("add", "li.na"), "short\n", "12 to 200 characters"),
        (("add", "li.na"), "", "nothing was given"),
        (("role", "nobody", "viewer"), "", "there is no user 'nobody'"),
        (("add", "li.na", "--role", "king"), f"{PASSWORD}\n", "viewer"),
        (("link", "li.na", "sub-1"), "", "set console.oidc.issuer"),
    ],
)
def test_what_a_person_gets_wrong_is_said(
    words: tuple[str, ...], typed: str, said: str, tmp_path: Path
) -> None:
    done = duewatch(tmp_path, "users", *words, typed=typed)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
