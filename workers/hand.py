"""The hand: what a worker has claimed and what still waits for a place, in the order of its turn.

What is urgent comes before all that isn't; otherwise who was claimed first comes first, as far as
there are places to be had for it (`places.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache

from workers.carriers import Carriers, domain_of
from workers.store.attempts import Claimed

STUCK_S = 3.0
"""Who has waited so long for a place is given back, so that others come in."""


@dataclass(slots=True)
class Dealt:
    """What `Hand.deal` made of free places: who has one now, and by which provider it goes; who
    would have one, had it been seen; whom no provider may carry.
    """

    chosen: dict[int, str] = field(default_factory=dict)
    seen: dict[int, Claimed] = field(default_factory=dict)
    unseen: dict[int, Claimed] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


class Hand:
    """One per process."""

    def __init__(self, carriers: Carriers) -> None:
        self._carriers = carriers
        self._waiting: dict[int, tuple[Claimed, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Claimed]:
        return (one for one, _ in self._waiting.values())

    def take_up(self, claimed: Iterable[Claimed]) -> None:
        """Puts what was claimed in its order."""
        since = asyncio.get_running_loop().time()
        self._waiting |= {one.id: (one, since) for one in claimed}
        # The sort is stable.
        turns = sorted(self._waiting.items(), key=lambda item: not item[1][0].row.urgent)
        self._waiting = dict(turns)

    def lay_down(self, ids: Collection[int]) -> list[Claimed]:
        """Takes these out; those that were in it."""
        return [self._waiting.pop(one_id)[0] for one_id in ids if one_id in self._waiting]

    def counts(self) -> Counter[str]:
        """How many wait for a place, by provider and by domain."""
        first = lru_cache(maxsize=None)(self._carriers.first)
        keys = ((self._carriers.choose(one.row, first), domain_of(one.row)) for one in self)
        return Counter(key for pair in keys for key in pair if key)

    def deal(self, most: int, is_known: Callable[[Claimed], bool]) -> Dealt:
        """Gives up to `most` places away: first to those who have some left of their share, then
        what nobody of them wants to those who are quick. Only who is known has a place for good.
        """
        places, most = self._carriers.places, min(most, self._carriers.places.free)
        dealt, first = Dealt(), lru_cache(maxsize=None)(self._carriers.first)
        for lent in (False, True):
            for one in self:
                if len(dealt.seen) + len(dealt.unseen) >= most:
                    break
                if one.id in dealt.seen or one.id in dealt.unseen:
                    continue
                name = self._carriers.choose(one.row, first)
                if name is None:
                    dealt.lost.add(one.id)
                elif places.fits(keys := self._carriers.keys(name, one.row), lent=lent):
                    places.take(one.id, keys)
                    if is_known(one):
                        dealt.seen[one.id] = one
                        dealt.chosen[one.id] = name
                    else:
                        dealt.unseen[one.id] = one
        for one_id in dealt.unseen:
            places.leave(one_id)
        self.lay_down(dealt.seen)
        return dealt

    def stuck(self) -> dict[timedelta, list[int]]:
        """Who has waited for too long because a slow server holds all the places it may, by how
        long each is to be left alone.
        """
        before, found = asyncio.get_running_loop().time() - STUCK_S, dict[timedelta, list[int]]()
        for one, since in self._waiting.values():
            wait = self._carriers.slow_wait(one.row) if since < before else None
            if wait is not None:
                found.setdefault(wait, []).append(one.id)
        return found
