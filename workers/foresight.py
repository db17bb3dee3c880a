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
LONG_S, AT_A_TIME = 0.5, 2
"""A look that takes longer is joined by another."""


class Foresight:
    """One per process. `waiting` gives what is in hand and waits for a place, in order; `done` is
    called each time that some of it was seen.
    """

    def __init__(
        self,
        look: LastLook,
        waiting: Callable[[], Iterable[Claimed]],
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._look = look
        self._waiting = waiting
        self._done = done
        self._seen: dict[int, tuple[Ready | Settled, float]] = {}
        self._octets = 0
        self._asked: Sequence[Claimed] = ()
        self._is_blind = False
        self._looking: dict[int, asyncio.Event] = {}
        """What is looked at just now, and what says that it was."""
        self._tasks: dict[asyncio.Task[None], float] = {}
        """The looks that are going on, and since when."""
        self._size = LARGEST // 2

    @property
    def known(self) -> set[int]:
        """Of which messages something was seen that nobody has taken."""
        return set(self._seen)

    def is_known(self, one: Claimed) -> bool:
        """Whether `take` has it at hand; of everything, where looking ahead failed: whoever takes
        it then looks, and says so of the messages themselves.
        """
        return self._is_blind or self._fresh(one) is not None

    def _fresh(self, one: Claimed) -> Ready | Settled | None:
        seen, at = self._seen.get(one.id, (None, 0.0))
        holds = at > asyncio.get_running_loop().time() - FRESH_S
        return seen if seen is not None and holds and seen.claimed.fence == one.fence else None

    def ahead(self, first: Sequence[Claimed] = ()) -> None:
        """Looks at what waits, beginning with these, for which there are places."""
        self._asked, now = first, asyncio.get_running_loop().time()
        # A list of 10,000 lines takes seconds to render, and doesn't keep the others waiting.
        slow = all(since < now - LONG_S for since in self._tasks.values())
        if slow and len(self._tasks) < AT_A_TIME:
            task = asyncio.create_task(self._look_ahead())
            self._tasks[task] = now
            task.add_done_callback(self._tasks.pop)

    async def stop(self) -> None:
        """Ends looking and forgets everything."""
        for task in (going_on := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)
        self.forget(list(self._seen))

    def forget(self, ids: Collection[int]) -> None:
        """Forgets what was seen of these."""
        for one_id in ids:
            if seen := self._seen.pop(one_id, None):
                self._octets -= _octets(seen[0])

    async def take(self, claimed: Sequence[Claimed]) -> list[Ready | Settled]:
        """What the last look says of these, each once: seen a moment ago, or now."""
        for one in claimed:
            if (going_on := self._looking.get(one.id)) is not None:
                await going_on.wait()
        seen = [found for one in claimed if (found := self._fresh(one)) is not None]
        self.forget([one.id for one in claimed])
        known = {one.claimed.id for one in seen}
        if unknown := [one for one in claimed if one.id not in known]:
            seen += await self._look.at(unknown)
        return seen

    def _next(self) -> list[Claimed]:
        waiting = {one.id: one for one in self._waiting() if one.id not in self._looking}
        asked = [one for one in self._asked if one.id in waiting and self._fresh(one) is None]
        self._asked = ()
        if asked or self._octets > MOST_OCTETS or len(self._seen) >= LARGEST:
            return asked[: self._size]
        return [one for one in waiting.values() if one.id not in self._seen][: self._size]

    async def _look_ahead(self) -> None:
        clock = asyncio.get_running_loop().time
        task = asyncio.current_task()
        assert task is not None
        while batch := self._next():
            began = self._tasks[task] = clock()
            going_on = asyncio.Event()
            self._looking |= {one.id: going_on for one in batch}
            try:
                seen = await self._look.at(batch, most_s=TAKES_S)
            except Exception as error:
                log.error("look ahead", error=type(error).__name__, detail=str(error)[:200])
                self._is_blind = True
                break
            finally:
                for one in batch:
                    del self._looking[one.id]
                going_on.set()
            self._is_blind = False
            self.forget([one.claimed.id for one in seen])
            for found in seen:
                self._seen[found.claimed.id] = found, clock()
                self._octets += _octets(found)
            took = max(clock() - began, 0.001)
            self._size = min(LARGEST, max(SMALLEST, int(len(seen) * TAKES_S / took)))
            self._done()
        else:
            return
        self._done()


def _octets(one: Ready | Settled) -> int:
    if isinstance(one, Ready) and isinstance(one.message, Mail):
        return len(one.message.source)
    return 0
