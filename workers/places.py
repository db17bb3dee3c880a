"""Places: how many messages are handed over at a time, and how few of them one slow server holds.

Within one process. A message holds a place from before its attempt begins until its outcome is
known, so a crash leaves at most so many outcomes unknown.

A key's share binds only where it is needed: whoever answers quickly is lent the places that nobody
else waits for, one for every few answers, so that who answers now and then earns little. Where a
borrower turns slow, what it holds beyond its share counts no longer, so that the others have what
is theirs all the same.

A mail domain's share is one of its provider's share, where there are several providers: else one
domain that never answers would hold all that its provider may, and the other domains nothing. And
a provider that answers others isn't slow because of one domain.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

SLOW_S = 2.0
"""A server that has kept a place for so long is a slow one; one that answers sooner is quick."""
QUICK_FOR_S = 30.0
"""How long quick answers speak for a server."""
INSIDE = "@"
"""How the key of a mail domain begins, which is inside of a provider."""
ANSWERS_EACH = 4
"""So many quick answers, one after the other, earn the loan of one place."""
REMEMBERED = 1000
"""Of so many servers it is remembered, at least of those that answered last."""


class Places:
    """`total` places; of each thing that shares them (`keys` of a message) at most `share` while
    others want them, or while nobody knows that it is quick; of a mail domain at most `inside`.
    `clock` gives seconds that only rise.
    """

    def __init__(
        self,
        total: int,
        share: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        inside: int | None = None,
    ) -> None:
        self.total = total
        self.share = share
        self._inside = share if inside is None else inside
        self._clock = clock
        self._held: dict[Hashable, Sequence[str]] = {}
        self._by_key: dict[str, dict[Hashable, float]] = defaultdict(dict)
        self._quick: dict[str, tuple[float, int]] = {}
        """When a server answered last, and how often in a row quickly; 0 for a slow answer."""

    @property
    def free(self) -> int:
        """How many places there are to be had. What a slow borrower owes isn't missing."""
        slow = [key for key in self._by_key if self._is_slow(key)]
        owed = max((self.held_by(key) - self.share_of(key) for key in slow), default=0)
        return self.total - len(self._held) + max(0, min(owed, self.total - self.share))

    @property
    def held(self) -> int:
        """How many places are taken."""
        return len(self._held)

    def held_by(self, key: str) -> int:
        """How many places a provider or domain holds."""
        return len(self._by_key.get(key, ()))

    def may(self, keys: Sequence[str], *, lent: bool = False) -> bool:
        """Whether a message with these keys may have a place now; `lent` when nobody else who
        has places left of their share waits for it.
        """
        return self.free > 0 and self.fits(keys, lent=lent)

    def fits(self, keys: Sequence[str], *, lent: bool = False) -> bool:
        """As `may`, where it is known that there is a place."""
        return all(self.held_by(key) < self._most(key, lent=lent) for key in keys)

    def _most(self, key: str, *, lent: bool) -> int:
        mine = self.share_of(key)
        # What nobody else wants of its provider's share a domain may have, quick or not.
        return max(self.share, mine + self._lent(key)) if lent else mine

    def take(self, one: Hashable, keys: Sequence[str]) -> None:
        """Takes a place; `one` gives it back."""
        now = self._clock()
        self._held[one] = keys
        for key in keys:
            self._by_key[key][one] = now

    def began(self, one: Hashable) -> None:
        """Says that a server has it from now on: what came before was no slowness of its."""
        now = self._clock()
        for key in self._held.get(one, ()):
            self._by_key[key][one] = now

    def leave(self, one: Hashable, *, answered: bool = False) -> None:
        """Gives a place back; one that holds none changes nothing. `answered` when a server had it
        and has said what became of it.
        """
        for key in self._held.pop(one, ()):
            since = self._by_key[key].pop(one)
            if answered:
                self._heard(key, since)
            if not self._by_key[key]:
                del self._by_key[key]

    def is_stuffed(self, key: str) -> bool:
        """Whether all places of a key are taken, and one of them has been for too long."""
        return self.held_by(key) >= self.share_of(key) and self._is_slow(key)

    def share_of(self, key: str) -> int:
        """How many places are a provider's or a domain's, whoever else wants them."""
        return self._inside if key.startswith(INSIDE) else self.share

    def _is_slow(self, key: str) -> bool:
        held = self._by_key.get(key)
        if not held or self._clock() - min(held.values()) <= SLOW_S:
            return False
        at, answers = self._quick.get(key, (0.0, 0))
        answers_others = answers > 0 and self._clock() - at <= SLOW_S
        return key.startswith(INSIDE) or not answers_others

    def _lent(self, key: str) -> int:
        """How many places a server may have beyond its share."""
        at, answers = self._quick.get(key, (0.0, 0))
        if self._clock() - at >= QUICK_FOR_S or self._is_slow(key):
            return 0
        return answers // ANSWERS_EACH

    def _heard(self, key: str, since: float) -> None:
        now = self._clock()
        before, answers = self._quick.pop(key, (now, 0))
        if now - since > SLOW_S:
            answers = 0
        elif now - before < QUICK_FOR_S:
            answers += 1
        else:
            answers = 1
        # The last ones that were heard of stand last.
        self._quick[key] = now, answers
        if len(self._quick) > REMEMBERED:
            del self._quick[next(iter(self._quick))]
