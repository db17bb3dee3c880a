"""The states of a notification and the moves between them."""

from __future__ import annotations

import pytest

from workers.model import MOVES
from workers.model import NotificationState as S


def test_every_state_says_where_it_leads() -> None:
    assert set(MOVES) == set(S)
    assert all(state not in after for state, after in MOVES.items())


def test_nothing_is_accepted_that_wasnt_being_sent() -> None:
    assert [state for state, after in MOVES.items() if S.ACCEPTED in after] == [S.SENDING]
    assert [state for state, after in MOVES.items() if S.SENDING in after] == [S.PENDING]


def test_what_was_cancelled_never_comes_back() -> None:
    assert MOVES[S.CANCELLED] == frozenset()


def test_what_was_accepted_is_never_sent_again() -> None:
    reached, coming = set(), [S.ACCEPTED, S.DELIVERED]
    while coming:
        state = coming.pop()
        reached.add(state)
        # From failed on it takes a person, who sees the receipt.
        coming += [] if state is S.FAILED else [s for s in MOVES[state] if s not in reached]
    assert reached == {S.ACCEPTED, S.DELIVERED, S.FAILED}


@pytest.mark.parametrize("state", list(S))
def test_each_state_can_be_reached(state: S) -> None:
    assert state is S.PENDING or any(state in after for after in MOVES.values())
