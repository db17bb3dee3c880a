"""Signed links: short, good until they expire, and useless for anything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.links import Links

UNTIL = datetime(2026, 12, 24, tzinfo=UTC)
BEFORE = UNTIL - timedelta(seconds=1)
LINKS = Links("https://duewatch.example", ["first key"])
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.integers(0, 2**40 - 1))
def test_a_token_fits_a_variable_of_a_mainland_template_and_names_its_message(number: int) -> None:
    token = LINKS.token("list", number, UNTIL)

    assert len(token) == 20
    assert Links.notification_id(token) == number
    assert LINKS.is_good("list", token, UNTIL, BEFORE)


def test_a_link_leads_to_its_page() -> None:
    token = LINKS.token("list", 7, UNTIL)

    assert LINKS.url("list", 7, UNTIL) == f"https://duewatch.example/l/{token}"
    assert LINKS.url("unsubscribe", 7, UNTIL).startswith("https://duewatch.example/u/")


def test_a_link_expires_at_its_instant() -> None:
    token = LINKS.token("list", 7, UNTIL)

    assert not LINKS.is_good("list", token, UNTIL, UNTIL)


def test_a_link_to_a_list_doesnt_unsubscribe() -> None:
    assert not LINKS.is_good("unsubscribe", LINKS.token("list", 7, UNTIL), UNTIL, BEFORE)


def test_another_expiry_than_the_signed_isnt_good() -> None:
    token = LINKS.token("list", 7, UNTIL)

    assert not LINKS.is_good("list", token, UNTIL + timedelta(days=1), BEFORE)


@given(st.integers(0, 19), st.sampled_from(ALPHABET))
def test_a_token_with_any_character_changed_isnt_good(place: int, letter: str) -> None:
    token = LINKS.token("list", 123_456, UNTIL)
    changed = token[:place] + letter + token[place + 1 :]

    assert LINKS.is_good("list", changed, UNTIL, BEFORE) is (changed == token)


@given(st.text(max_size=40))
def test_any_text_is_answered_with_no(text: str) -> None:
    assert not LINKS.is_good("list", text, UNTIL, BEFORE)


@pytest.mark.parametrize("text", ["", "A", "ä" * 20, "A" * 19, "A" * 24, "!" * 20, "\0" * 20])
def test_what_cant_be_a_token_names_nothing(text: str) -> None:
    assert Links.notification_id(text) is None


def test_an_old_key_is_still_accepted_and_an_unknown_one_isnt() -> None:
    token = LINKS.token("list", 7, UNTIL)
    rotated = Links("https://duewatch.example", ["second key", "first key"])

    assert rotated.is_good("list", token, UNTIL, BEFORE)
    assert rotated.token("list", 7, UNTIL) != token
    assert not Links("", ["second key"]).is_good("list", token, UNTIL, BEFORE)
