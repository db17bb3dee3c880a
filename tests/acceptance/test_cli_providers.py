"""The command `duewatch providers`: how each stands, and leaving one alone by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.shell import Shell, load

pytestmark = pytest.mark.acceptance

SETTINGS = """
[mail]
providers = ["relay", "inbox"]
[providers.relay]
type = "smtp"
host = "127.0.0.1"
port = 1
tls = "none"
per_minute = 600
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell with a relay that nobody answers at, and the inbox for when it is in trouble."""
    made = Shell(tmp_path)
    made.write("duewatch.toml", SETTINGS)
    return made


def test_a_provider_is_left_alone_by_hand_and_used_again(shell: Shell) -> None:
    alone = shell("providers", "open", "relay", "--reason", "they are moving")
    shown = shell("providers", "--json").json["providers"]
    load(shell)
    shell("scan")
    delivered = shell("deliver", "--json").json["outcomes"]
    again = shell("providers", "close", "relay", "--reason", "they have moved")
    audit = [(one["action"], one["reason"]) for one in shell("audit", "--json").json]

    assert (alone.code, again.code) == (0, 0)
    assert [(one["name"], one["state"]) for one in shown] == [
        ("relay", "open"),
        ("inbox", "closed"),
    ]
    assert shown[0]["why"] == "they are moving"
    assert shown[0]["used"] == {"minute": [0, 600]}
    assert set(delivered) == {"mail accepted"}
    assert ("provider open", "they are moving") in audit
    assert ("provider close", "they have moved") in audit
    assert "in use" in shell("providers").out


def test_what_the_relay_refuses_goes_by_the_inbox_at_once(shell: Shell) -> None:
    load(shell)
    shell("scan")
    outcomes = shell("deliver", "--json").json["outcomes"]
    (relay, _) = shell("providers", "--json").json["providers"]

    assert outcomes == {"mail accepted": 2, "mail deferred": 2}
    assert relay["state"] == "closed", "two failures aren't five"


def test_a_wrong_name_or_no_reason_is_refused_with_the_remedy(shell: Shell) -> None:
    wrong = shell("providers", "open", "rely", "--reason", "x")
    silent = shell("providers", "open", "relay")

    assert wrong.code == silent.code == 2
    assert "there is no provider 'rely' in use; there are relay, inbox" in wrong.err
    assert "give the provider's name and --reason" in silent.err
