"""What producers seal: opened with their key, refused when anything about it is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.envelope import RefusedError, Seals, seal, signature
from workers.settings import Settings

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
OLD, NEW = "an-old-secret-of-24-or-more", "the-new-secret-that-follows-it"
SETTINGS = Settings.model_validate(
    {
        "producers": {
            "billing": {
                "keys": {"2025b": OLD, "2026a": NEW},
                "kinds": ["payment"],
                "sources": ["billing"],
            },
            "crm": {"keys": {"k": "another-producers-own-secret"}},
        }
    }
)
EVENT = {
    "specversion": "1.0",
    "id": "b7d1c6",
    "source": "billing",
    "type": "duewatch.payment.opened.v1",
    "data": {"ref": "SFD-3", "note": "申付单 💰"},
}
SEALS = Seals(SETTINGS)


def sealed(**changes: Any) -> dict[str, Any]:
    text = seal(EVENT, "billing", "2026a", NEW, "2026-11-24T02:00:00Z")
    return {**json.loads(text), **changes}


def refused(raw: Any, now: datetime = NOW) -> str:
    with pytest.raises(RefusedError) as caught:
        SEALS.open(raw, now)
    return str(caught.value)


def test_what_a_producer_sealed_is_opened_and_its_sender_known() -> None:
    event, sender = SEALS.open(sealed(), NOW)

    assert event == EVENT
    assert sender is not None
    assert (sender.name, sender.kinds) == ("billing", frozenset({"payment"}))


def test_two_keys_hold_while_one_replaces_the_other() -> None:
    text = seal(EVENT, "billing", "2025b", OLD, "2026-11-24T02:00:00Z")

    assert SEALS.open(json.loads(text), NOW)[0] == EVENT


def test_what_isnt_sealed_comes_back_as_it_is() -> None:
    assert SEALS.open(EVENT, NOW) == (EVENT, None)
    assert SEALS.open(["no object"], NOW) == (["no object"], None)


@pytest.mark.parametrize("part", ["producer", "key", "id", "time", "body", "signature"])
def test_a_change_of_any_part_breaks_the_seal(part: str) -> None:
    whole = sealed()
    for position in range(len(whole[part])):
        text = whole[part]
        changed = text[:position] + ("x" if text[position] != "x" else "y") + text[position + 1 :]
        if part == "signature" and text[position] == "=":
            continue
        assert refused({**whole, part: changed})


def test_another_producers_key_opens_nothing() -> None:
    body = sealed()["body"]
    signed = signature("another-producers-own-secret", "b7d1c6", "2026-11-24T02:00:00Z", body)

    assert "/signature" in refused(sealed(signature=signed))


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (NOW - timedelta(minutes=6), "ahead of this clock"),
        (NOW + timedelta(days=401), "a repeat wouldn't be known"),
    ],
)
def test_a_seal_from_the_future_or_of_long_ago_isnt_taken(now: datetime, says: str) -> None:
    assert says in refused(sealed(), now)


def test_a_seal_that_waited_in_the_queue_for_a_week_is_taken() -> None:
    assert SEALS.open(sealed(), NOW + timedelta(days=7))[0] == EVENT


def test_a_seal_names_its_event() -> None:
    text = seal(EVENT | {"id": "another"}, "billing", "2026a", NEW, "2026-11-24T02:00:00Z")
    inner = json.loads(text)["body"]
    signed = signature(NEW, "b7d1c6", "2026-11-24T02:00:00Z", inner)

    assert "isn't the id of the event within" in refused(sealed(body=inner, signature=signed))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sealed": "v2"}, '/sealed must be "v1"'),
        ({"body": ""}, "/body must be text"),
        ({"key": 7}, "/key must be text"),
        ({"extra": "part"}, "/extra isn't a part of a seal"),
        ({"producer": "p" * 300}, "/producer is longer than 200"),
        ({"producer": "nobody"}, "there is no such producer and key"),
    ],
)
def test_a_seal_that_is_malformed_says_which_part(changes: dict[str, Any], says: str) -> None:
    assert says in refused(sealed(**changes))


def test_a_sender_may_send_of_its_kinds_and_sources_only() -> None:
    _, sender = SEALS.open(sealed(), NOW)
    assert sender is not None

    sender.check(EVENT, "payment")
    with pytest.raises(RefusedError, match="billing may not send statement events"):
        sender.check(EVENT, "statement")
    with pytest.raises(RefusedError, match="isn't a source of billing"):
        sender.check(EVENT | {"source": "crm"}, "payment")
