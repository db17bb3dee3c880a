"""Places: how many messages are handed over at a time, and how few of them one slow server holds.

Within one process. A message holds a place from before its attempt begins until its outcome is
known, so a crash leaves at most so many outcomes unknown.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Sequence

SLOW_S = 2.0
"""A server that has kept a place for so long is a slow one."""


class Places:
    """`total` places; of each thing that shares them (`keys` of a message) at most `share`."""

    def __init__(self, total: int, share: int) -> None:
        self.total = total
        self.share = share
        self._held: dict[Hashable, float] = {}
        self._by_key: dict[str, dict[Hashable, float]] = defaultdict(dict)

    @property
    def free(self) -> int:
        """How many places nobody holds."""
        return self.total - len(self._held)

    def held_by(self, key: str) -> int:
        """How many places a provider or domain holds."""
        return len(self._by_key.get(key, ()))

    def may(self, keys: Sequence[str]) -> bool:
        """Whether a message with these keys may have a place now."""
        return self.free > 0 and all(self.held_by(key) < self.share for key in keys)

    def take(self, one: Hashable, keys: Sequence[str]) -> None:
        """Takes a place; `one` gives it back."""
        now = time.monotonic()
        self._held[one] = now
        for key in keys:
            self._by_key[key][one] = now

    def leave(self, one: Hashable) -> None:
        """Gives a place back; one that holds none changes nothing."""
        self._held.pop(one, None)
        for key in [key for key, held in self._by_key.items() if held.pop(one, None) is not None]:
            if not self._by_key[key]:
                del self._by_key[key]

    def is_stuffed(self, key: str) -> bool:
        """Whether all places of a key are taken, and one of them has been for too long."""
        held = self._by_key.get(key, {})
        return len(held) >= self.share and time.monotonic() - min(held.values()) > SLOW_S
