"""duewatch tokens: made and shown once, listed without the secret, revoked."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.shell import Shell


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    made = shell("tokens", "create", "billing", "--scope", "events:write", "--kind", "payment")
    token = made.out.strip()
    listed = shell("tokens", "list", "--json").json
    table = shell("tokens", "list")
    revoked = shell("tokens", "revoke", "billing", "--reason", "stolen")

    assert made.code == 0
    assert token.startswith(f"dw_{listed[0]['prefix']}_")
    assert (listed[0]["name"], listed[0]["state"]) == ("billing", "live")
    assert (listed[0]["scopes"], listed[0]["kinds"]) == (["events:write"], ["payment"])
    assert "hash" not in listed[0]
    assert token.rpartition("_")[2] not in table.out
    assert revoked.code == 0
    assert shell("tokens", "list", "--json").json[0]["state"] == "revoked"
    assert [one["action"] for one in shell("audit", "--json").json] == [
        "token revoke",
        "token create",
    ]


def test_a_token_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    twice = ("tokens", "create", "one", "--scope", "records:read")
    assert shell(*twice).code == 0

    for words, said in (
        (twice, "there is a token named 'one'"),
        (("tokens", "create", "two", "--scope", "all"), "is not one of"),
        (("tokens", "create", "two", "--scope", "events:write", "--kind", "paymnt"), "paymnt"),
        (("tokens", "create", "two", "--scope", "admin", "--kind", "payment"), "limit events"),
        (("tokens", "create", "two", "--scope", "admin", "--expires", "2020-01-01"), "is past"),
        (("tokens", "revoke", "nobody"), "there is no token nobody"),
    ):
        done = shell(*words)
        assert (done.code, said in done.err) == (2, True), done.err
