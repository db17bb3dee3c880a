"""The peers' table counts from three accounts: each figure is provoked by hand-made ones."""

from __future__ import annotations

import pytest

from bench.peers.__main__ import chosen
from bench.peers.brokers import keys_in
from bench.peers.cell import key
from bench.peers.counting import Count, count

CALM = 100.0
A, B, C = key(1), key(2), key(3)


def counted(arrivals: list[tuple[str, float]], *left: str) -> Count:
    return count([A, B], arrivals, set(left), CALM)


def test_what_arrived_once_each_is_whole() -> None:
    found = counted([(A, 90.0), (B, 103.26)])

    assert found == Count(n=2, lost=0, dup=0, stranded=0, repeat_due=0, recovered_s=3.3)


def test_what_arrived_before_the_calm_needed_no_recovery() -> None:
    assert counted([(A, 90.0), (B, 91.0)]).recovered_s == 0.0


def test_what_is_nowhere_is_lost_and_never_recovered() -> None:
    found = counted([(A, 103.0)])

    assert (found.lost, found.stranded, found.recovered_s) == (1, 0, None)


def test_what_the_broker_still_has_is_stranded_and_not_lost() -> None:
    found = counted([(A, 103.0)], B)

    assert (found.lost, found.stranded, found.recovered_s) == (0, 1, None)


def test_each_copy_beyond_one_counts_and_recovery_ends_with_the_first() -> None:
    found = counted([(A, 140.0), (A, 101.0), (B, 102.0), (A, 130.0)])

    assert (found.dup, found.lost, found.recovered_s) == (2, 0, 2.0)


def test_what_arrived_and_is_still_in_the_broker_is_due_again() -> None:
    found = counted([(A, 90.0), (B, 90.0)], B)

    assert (found.repeat_due, found.stranded, found.dup) == (1, 0, 0)


def test_what_was_never_acknowledged_counts_nowhere() -> None:
    assert counted([(A, 90.0), (B, 90.0), (C, 150.0), (C, 160.0)], C) == counted(
        [(A, 90.0), (B, 90.0)]
    )


def test_a_key_that_was_acknowledged_twice_is_no_account() -> None:
    with pytest.raises(ValueError, match="twice"):
        count([A, A], [], set(), CALM)


def test_keys_are_found_in_what_either_library_keeps_in_its_broker() -> None:
    dramatiq = b'{"actor_name":"send","args":["n0000001"],"message_id":"b0c7"}'
    celery = b'{"headers": {"argsrepr": "(\'n0000002\',)"}, "body": "W1sibjAwMDAw"}'

    assert keys_in(dramatiq + celery) == {A, B}
    assert keys_in(b'{"args":["p0000001"]}') == set()


def test_only_takes_beginnings_of_peers_and_whole_faults_together() -> None:
    cells = [(one.name, fault) for one, fault in chosen("dramatiq-redis,F6,F7")]

    assert cells == [
        ("dramatiq-redis-defaults", "F6"),
        ("dramatiq-redis-best", "F6"),
        ("dramatiq-redis-defaults", "F7"),
        ("dramatiq-redis-best", "F7"),
    ]


def test_only_refuses_what_is_neither_a_peer_nor_a_fault() -> None:
    with pytest.raises(SystemExit, match="F99"):
        chosen("celery,F99")
