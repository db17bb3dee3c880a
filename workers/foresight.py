"""Looking ahead: what waits for a place is looked at and rendered meanwhile, many at a time.

A look costs a handful of statements however many messages it is about, and few places are to be had
at a time, so that a crash leaves few outcomes unknown: so the look comes before the place. What was
seen holds for a moment only; the commitment to send asks again whether a record has changed since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

import structlog

from workers.last_look import LastLook, Ready, Settled
from workers.providers import Mail
from workers.store.attempts import Claimed

log = structlog.get_logger("deliver")

FRESH_S = 2.0
"""So long what was seen is as good as seen now."""
TAKES_S = 0.25
"""A batch is as large as can be looked at in about this time."""
MOST_OCTETS = 32 * 1024 * 1024
"""Of rendered mails that wait."""
SMALLEST, LARGEST = 5, 100


class Foresight:
    """One per process. `waiting` gives what is in hand and waits for a place, in order."""

    def __init__(self, look: LastLook, waiting: Callable[[], Iterable[Claimed]]) -> None:
        self._look = look
        self._waiting = waiting
        self._seen: dict[int, tuple[Ready | Settled, float]] = {}
        self._octets = 0
        self._batch: frozenset[int] = frozenset()
        self._batch_done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._size = LARGEST // 2

    @property
    def known(self) -> set[int]:
        """Of which messages something was seen that nobody has taken."""
        return set(self._seen)

    def ahead(self) -> None:
        """Begins to look at what waits, unless that is going on."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_ahead())

    async def stop(self) -> None:
        """Ends looking and forgets everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.forget(list(self._seen))

    def forget(self, ids: Collection[int]) -> None:
        """Forgets what was seen of these."""
        for one_id in ids:
            if seen := self._seen.pop(one_id, None):
                self._octets -= _octets(seen[0])

    async def take(self, claimed: Sequence[Claimed]) -> list[Ready | Settled]:
        """What the last look says of these, each once: seen a moment ago, or now."""
        if not self._batch.isdisjoint(one.id for one in claimed):
            await self._batch_done.wait()
        found: list[Ready | Settled] = []
        since = asyncio.get_running_loop().time() - FRESH_S
        for one in claimed:
            seen = self._seen.get(one.id)
            if seen is not None and seen[1] > since and seen[0].claimed.fence == one.fence:
                found.append(seen[0])
        self.forget([one.id for one in claimed])
        known = {one.claimed.id for one in found}
        if unknown := [one for one in claimed if one.id not in known]:
            found += await self._look.at(unknown)
        return found

    async def _look_ahead(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._octets < MOST_OCTETS and len(self._seen) < LARGEST:
            batch = [one for one in self._waiting() if one.id not in self._seen][: self._size]
            if not batch:
                return
            began, self._batch = clock(), frozenset(one.id for one in batch)
            self._batch_done.clear()
            try:
                # One that takes long, as of a list of 10,000 lines, keeps the others waiting.
                seen = await self._look.at(batch, most_s=TAKES_S)
            except Exception as error:
                # Whoever needs them looks again, and says so of the messages themselves.
                log.error("look ahead", error=type(error).__name__, detail=str(error)[:200])
                return
            finally:
                self._batch = frozenset()
                self._batch_done.set()
            for one in seen:
                self._seen[one.claimed.id] = one, began
                self._octets += _octets(one)
            took = max(clock() - began, 0.001)
            self._size = min(LARGEST, max(SMALLEST, int(len(seen) * TAKES_S / took)))


def _octets(one: Ready | Settled) -> int:
    if isinstance(one, Ready) and isinstance(one.message, Mail):
        return len(one.message.source)
    return 0
