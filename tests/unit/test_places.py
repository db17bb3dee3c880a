"""Places: shares bind where others wait, and a slow server never holds what is theirs."""

from __future__ import annotations

from workers.places import ANSWERS_EACH, INSIDE, QUICK_FOR_S, REMEMBERED, SLOW_S, Places


class Seconds:
    """A clock of seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def after_quick_answers(total: int = 10, share: int = 5) -> tuple[Places, Seconds]:
    """Places of which several at `a` were answered a moment ago: as many as earn all."""
    clock = Seconds()
    places = Places(total, share, clock)
    answer(places, clock, "a", ANSWERS_EACH * (total - share))
    return places, clock


def answer(places: Places, clock: Seconds, key: str, times: int) -> None:
    """Quick answers, one after the other."""
    for _ in range(times):
        places.take("asked", [key])
        clock.now += SLOW_S / 100
        places.leave("asked", answered=True)


def fill(places: Places, key: str, most: int = 100, *, lent: bool = True) -> int:
    """Takes as many places for a key as there are, up to `most`; returns how many."""
    for number in range(most):
        if not places.may([key], lent=lent):
            return number
        places.take((key, number), [key])
    return most


def test_whom_nobody_knows_to_be_quick_has_its_share_and_no_more() -> None:
    assert fill(Places(10, 5, Seconds()), "a") == 5


def test_a_quick_one_may_have_every_place_that_nobody_else_wants() -> None:
    places, _ = after_quick_answers()

    assert fill(places, "a") == 10
    assert places.free == 0


def test_where_others_want_places_even_a_quick_one_has_its_share_only() -> None:
    places, _ = after_quick_answers()

    assert fill(places, "a", lent=False) == 5
    assert fill(places, "b") == 5


def test_each_place_that_comes_back_may_go_to_others_first() -> None:
    places, _ = after_quick_answers()
    fill(places, "a")
    for number in range(3):
        places.leave(("a", number), answered=True)
        assert places.may(["b"])
        places.take(("b", number), ["b"])

    assert (places.held_by("a"), places.held_by("b")) == (7, 3)
    assert not places.may(["a"], lent=True)


def test_others_have_theirs_when_a_quick_one_turns_slow_with_every_place() -> None:
    places, clock = after_quick_answers()
    fill(places, "a")
    assert fill(places, "b") == 0
    clock.now += SLOW_S + 0.1

    assert fill(places, "b") == 5
    assert places.free == 0
    assert places.is_stuffed("a")
    # What comes back goes to nobody until as many are held as there are.
    for number in range(5):
        places.leave(("a", number), answered=True)
    assert places.free == 0
    places.leave(("a", 5), answered=True)
    assert places.free == 1


def test_a_slow_answer_ends_the_lending_and_so_does_a_long_silence() -> None:
    slow, clock = after_quick_answers()
    slow.take("second", ["a"])
    clock.now += SLOW_S + 0.1
    slow.leave("second", answered=True)
    silent, later = after_quick_answers()
    later.now += QUICK_FOR_S

    assert fill(slow, "a") == 5
    assert fill(silent, "a") == 5


def test_a_loan_is_earned_answer_by_answer() -> None:
    clock = Seconds()
    places = Places(10, 5, clock)
    answer(places, clock, "a", ANSWERS_EACH - 1)
    assert fill(places, "a") == 5
    for number in range(5):
        places.leave(("a", number))
    answer(places, clock, "a", ANSWERS_EACH + 1)

    assert fill(places, "a") == 7


def test_who_answers_some_at_once_and_lets_others_hang_is_lent_nothing() -> None:
    places, clock = after_quick_answers()
    places.take("hangs", ["a"])
    clock.now += SLOW_S * 2
    places.leave("hangs", answered=True)
    answer(places, clock, "a", ANSWERS_EACH - 1)

    assert fill(places, "a") == 5


def test_a_place_given_back_unused_says_nothing_of_its_server() -> None:
    places = Places(10, 5, Seconds())
    places.take("first", ["a"])
    places.leave("first")

    assert fill(places, "a") == 5


def test_a_message_needs_a_place_with_its_provider_and_with_its_domain() -> None:
    places, _ = after_quick_answers()
    for number in range(5):
        places.take(number, ["relay", "a"])

    assert not places.may(["relay", "a"], lent=True)
    assert not places.may(["relay", "b"], lent=True)
    assert places.may(["other", "a"], lent=True)


def test_only_the_servers_that_answered_last_are_remembered() -> None:
    clock = Seconds()
    places = Places(4, 1, clock)
    for number in range(REMEMBERED + 1):
        answer(places, clock, f"d{number}", ANSWERS_EACH)
        clock.now = 0.0

    assert fill(places, "d0") == 1
    assert fill(places, f"d{REMEMBERED}") == 2


def test_a_share_of_all_places_is_no_limit() -> None:
    assert fill(Places(4, 4, Seconds()), "a", lent=False) == 4


def test_a_domain_has_a_share_of_its_providers_share() -> None:
    places = Places(10, 5, Seconds(), inside=2)
    for number in range(3):
        if places.may(["relay", INSIDE + "never.example"]):
            places.take(number, ["relay", INSIDE + "never.example"])

    assert places.held_by(INSIDE + "never.example") == 2
    assert places.may(["relay", INSIDE + "other.example"])


def test_a_lone_domain_has_all_of_its_providers_share_quick_or_not() -> None:
    clock = Seconds()
    places = Places(10, 5, clock, inside=2)
    for number in range(6):
        if places.may(["relay", INSIDE + "slow.example"], lent=True):
            places.take(number, ["relay", INSIDE + "slow.example"])
            clock.now += SLOW_S * 2

    assert places.held_by("relay") == 5


def test_a_provider_that_answers_others_isnt_slow_because_of_one_domain() -> None:
    clock = Seconds()
    places = Places(10, 5, clock, inside=2)
    for number in range(2):
        places.take(number, ["relay", INSIDE + "never.example"])
    for _ in range(ANSWERS_EACH * 10):
        clock.now += SLOW_S / 20
        places.take("other", ["relay", INSIDE + "other.example"])
        places.leave("other", answered=True)

    keys = ["relay", INSIDE + "other.example"]
    for number in range(8):
        assert places.may(keys, lent=True), number
        places.take(("more", number), keys)
    assert not places.is_stuffed("relay")
    assert places.is_stuffed(INSIDE + "never.example")


def test_a_provider_that_answers_nobody_is_slow() -> None:
    clock = Seconds()
    places = Places(10, 5, clock, inside=2)
    for number in range(5):
        places.take(number, ["relay", f"{INSIDE}{number}.example"])
    clock.now += SLOW_S + 0.1

    assert places.is_stuffed("relay")
    assert not places.may(["relay", INSIDE + "other.example"], lent=True)
    assert places.may(["gateway"])
