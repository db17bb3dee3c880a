"""The suite's own judge: each verdict is provoked by hand-made accounts, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.suite.checker import Findings, check, read_lines

DUE = 1000.0
KILL = 1003.0


def wanted(must_send: bool = True, repeat: str = "resend") -> dict[str, Any]:
    return {"key": "n1", "must_send": must_send, "repeat": repeat, "due": DUE}


def row(state: str, *outcomes: str | None, began: float = DUE + 1) -> dict[str, Any]:
    attempts = [
        {"outcome": one, "began": began, "ended": None if one is None else began + 10}
        for one in outcomes
    ]
    return {"key": "n1", "state": state, "attempts": attempts}


def seen(*, kept: bool = True, key: str = "n1", message_id: str = "<a>", t: float = DUE + 2) -> Any:
    return {"t": t, "verb": "DOT", "key": key, "kept": kept, "message_id": message_id}


def verdicts(found: Findings) -> dict[str, int]:
    return {what: count for what, count in found.counts.items() if count}


CASES: dict[str, tuple[dict[str, Any], list[Any], list[Any], dict[str, int]]] = {
    "sent once": (wanted(), [row("accepted", "accepted")], [seen()], {}),
    "left alone as it should": (wanted(must_send=False), [], [], {}),
    "never planned": (wanted(), [], [], {"LOSS": 1}),
    "refused by the far side and forgotten": (
        wanted(),
        [row("pending", "deferred")],
        [seen(kept=False)],
        {"LOSS": 1, "LEFT": 1},
    ),
    "parked, untaken": (wanted(), [row("parked")], [], {"STOPPED": 1}),
    "named in one row, open in another": (
        wanted(),
        [row("parked"), row("pending")],
        [],
        {"LOSS": 1, "LEFT": 1},
    ),
    "taken twice without reason": (
        wanted(),
        [row("accepted", "accepted")],
        [seen(), seen()],
        {"DUP": 1},
    ),
    "planned twice": (
        wanted(),
        [row("accepted", "accepted"), row("accepted", "accepted")],
        [seen(), seen()],
        {"DUP": 1},
    ),
    "sent again after an unknown outcome": (
        wanted(),
        [row("accepted", "unknown", "accepted")],
        [seen(), seen()],
        {"UNKNOWN": 1},
    ),
    "more copies than unknown outcomes": (
        wanted(),
        [row("accepted", "unknown", "accepted")],
        [seen(), seen(), seen()],
        {"UNKNOWN": 1, "DUP": 1},
    ),
    "a copy of what is to be parked": (
        wanted(repeat="park"),
        [row("accepted", "unknown", "accepted")],
        [seen(), seen()],
        {"UNKNOWN": 1, "DUP": 1},
    ),
    "parked and taken": (
        wanted(repeat="park"),
        [row("parked", "unknown")],
        [seen()],
        {"UNKNOWN": 1},
    ),
    "moot": (wanted(must_send=False), [row("accepted", "accepted")], [seen()], {"WRONG": 1}),
    "made up": (wanted(), [row("accepted", "accepted")], [], {"LOSS": 1, "PHANTOM": 1}),
    "taken behind the database's back": (
        wanted(),
        [row("parked", "deferred")],
        [seen()],
        {"GHOST": 1},
    ),
    "taken while the attempt is open": (
        wanted(),
        [row("sending", None)],
        [seen()],
        {"GHOST": 1, "LEFT": 1},
    ),
    "under two Message-IDs": (
        wanted(),
        [row("accepted", "unknown", "accepted")],
        [seen(), seen(message_id="<b>")],
        {"UNKNOWN": 1, "DRIFT": 1},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_account_comes_to_its_verdicts_and_no_others(name: str) -> None:
    expected, rows, events, verdict = CASES[name]

    assert verdicts(check([expected], rows, events, [])) == verdict


def test_what_nobody_was_to_be_sent_is_wrong() -> None:
    found = check([wanted()], [row("accepted", "accepted")], [seen(), seen(key="n2")], [])

    assert verdicts(found) == {"WRONG": 1}
    assert found.examples["WRONG"] == ["n2"]


def test_every_message_that_must_be_sent_is_counted_with_its_delay() -> None:
    found = check([wanted()], [row("accepted", "unknown", "accepted")], [seen(), seen(t=1009)], [])

    assert (found.expected, found.taken, found.extra) == (1, 2, 1)
    assert found.late == [2.0]
    assert found.stall_s == 7.0


def test_recovery_is_counted_from_the_kill_that_cut_an_attempt_off() -> None:
    rows = [row("accepted", "unknown", "accepted")]

    assert check([wanted()], rows, [seen()], [KILL - 10, KILL]).recovery == [8.0]
    assert check([wanted()], rows, [seen()], [KILL - 10, KILL + 100]).recovery == []


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    whole = json.dumps({"key": "n1"})
    (tmp_path / "sink.jsonl").write_text(f'{whole}\n{{"key": "n', "utf-8")

    assert read_lines(tmp_path / "sink.jsonl") == [{"key": "n1"}]
    assert read_lines(tmp_path / "none.jsonl") == []
