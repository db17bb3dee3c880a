"""Tells endpoints what became of notifications: which is due, the next try, who is left alone.

Each endpoint has its own turns, connections and name lookups, so that a slow one slows nobody else.
The next tries come after the spans that Standard Webhooks suggests, over three days; `410 Gone`, or
days of nothing but failures, and an endpoint is left alone until a person enables it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import structlog

from workers.endpoints import Endpoint
from workers.errors import SettingsError
from workers.store import Store
from workers.store.webhooks import Answered, Subscriber, Telling
from workers.webhooks.addresses import Lookup
from workers.webhooks.letter import letter, uid_of
from workers.webhooks.post import Answer, Poster

log = structlog.get_logger("webhooks")

SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""From one try to the next; after the last one it is given up."""
TURNS = 8
"""So many rounds of `at_a_time` posts are claimed at once."""
MARGIN_S = 15.0
"""A lease is as long as the slowest batch takes, and so much more."""
POLL_S = 2.0
GATHER_S = 0.05
"""So long after a ring others are waited for: changes seldom come alone."""
REST_S, LONGEST_REST_S = 2.0, 60.0
"""After a batch of nothing but failures, doubled each time: what waits isn't all tried at once."""


class Teller:
    """Tells the endpoints of the settings. One a process; any number of processes."""

    def __init__(
        self,
        store: Store,
        endpoints: Mapping[str, Endpoint],
        source: str,
        clock: Callable[[], datetime],
        lookup: Lookup | None = None,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = store.webhooks
        self._endpoints = endpoints
        self._source = source or "duewatch"
        self._clock = clock
        self._poll_s = poll_s
        self._bell = asyncio.Event()
        self._posters = {name: Poster(one, lookup) for name, one in endpoints.items()}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        """Who was busy when it was looked: it is looked again once they aren't."""
        self._rest_until: dict[str, float] = {}
        self._failed_turns: Counter[str] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Posts of this process, by (endpoint, what came of them: told, again, failed)."""

    async def subscribe(self, kinds: Collection[str]) -> None:
        """Has what happens from now on written down for the endpoints of the settings.

        `kinds` are the rules there are. Raises SettingsError naming one that isn't.
        """
        for name, one in self._endpoints.items():
            if unknown := sorted(set(one.kinds) - set(kinds)):
                known = ", ".join(sorted(kinds))
                raise SettingsError(
                    f"webhooks.{name}.kinds: there is no rule {unknown[0]!r}; there are {known}"
                )
        wanted = [subscriber(name, one) for name, one in self._endpoints.items()]
        new, gone, alone = await self._store.subscribe(wanted)
        for name in new:
            log.info("webhook subscribed", endpoint=name)
        for name in gone:
            log.warning("webhook gone from the settings", endpoint=name)
        for name in alone:
            log.error("webhook is disabled: duewatch webhooks enable", endpoint=name)

    def ring(self) -> None:
        """Says that there may be something to tell; several at once are one."""
        self._bell.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Tells until `stopping` is set, then waits for the answers that are under way."""
        waits_for_stop = asyncio.create_task(stopping.wait())
        waits_for_stop.add_done_callback(lambda _: self._bell.set())
        try:
            while not stopping.is_set():
                self._bell.clear()
                if self._endpoints:
                    await self._look(stopping)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s if self._endpoints else None):
                        await self._bell.wait()
                        await asyncio.sleep(GATHER_S)
            await asyncio.gather(*self._busy.values(), return_exceptions=True)
        finally:
            waits_for_stop.cancel()
            left = list(self._busy.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self.close()

    async def drain(self) -> int:
        """Tells all that is due now and returns how many posts were made."""
        before = self.outcomes.total()
        while due := await self._store.due(self._endpoints, self._clock()):
            await asyncio.gather(*(self._turn(name) for name in due))
        return self.outcomes.total() - before

    async def close(self) -> None:
        """Closes all connections."""
        for poster in self._posters.values():
            await poster.close()

    # --- turns ----------------------------------------------------------------------------

    async def _look(self, stopping: asyncio.Event) -> None:
        """Begins on each endpoint that something is due to, isn't at work and doesn't rest."""
        now = asyncio.get_running_loop().time()
        self._again = set(self._busy)
        free = [
            name
            for name in self._endpoints
            if name not in self._busy and self._rest_until.get(name, 0.0) <= now
        ]
        try:
            due = await self._store.due(free, self._clock()) if free else set()
        except Exception as error:
            # The database is away: the rows are safe there, so look again later.
            log.error("webhooks", error=type(error).__name__, detail=str(error)[:200])
            return
        for name in due:
            task = asyncio.create_task(self._tell(name, stopping))
            self._busy[name] = task
            task.add_done_callback(partial(self._done, name))

    async def _tell(self, name: str, stopping: asyncio.Event) -> None:
        """Turns until nothing is left, or all that was tried failed."""
        try:
            while not stopping.is_set():
                answers = await self._turn(name, stopping)
                if any(one.well for one in answers):
                    self._failed_turns.pop(name, None)
                elif answers:
                    self._rest(name)
                    return
                if not answers:
                    return
        except Exception as error:
            self._rest(name)
            log.error("webhook", endpoint=name, error=type(error).__name__, detail=str(error)[:200])

    def _done(self, name: str, _: asyncio.Task[None]) -> None:
        self._busy.pop(name, None)
        if name in self._again:
            self.ring()

    def _rest(self, name: str) -> None:
        span = min(REST_S * 2 ** min(self._failed_turns[name], 10), LONGEST_REST_S)
        self._failed_turns[name] += 1
        self._rest_until[name] = asyncio.get_running_loop().time() + span

    async def _turn(self, name: str, stopping: asyncio.Event | None = None) -> Sequence[Answered]:
        """Claims a batch, posts it and writes the answers down."""
        endpoint = self._endpoints[name]
        lease = timedelta(seconds=TURNS * endpoint.timeout_s + MARGIN_S)
        limit = TURNS * endpoint.at_a_time
        claimed = await self._store.claim(name, self._clock(), limit, lease)
        places = asyncio.Semaphore(endpoint.at_a_time)
        answers: list[tuple[Telling, Answer]] = []
        unused: list[Telling] = []

        async def post(one: Telling) -> None:
            async with places:
                gone = any(answer.gone for _, answer in answers)
                if gone or (stopping is not None and stopping.is_set()):
                    unused.append(one)
                    return
                body = letter(one, self._source, endpoint.kinds)
                answers.append(
                    (one, await self._posters[name].post(uid_of(one), body, self._clock()))
                )

        await asyncio.gather(*(post(one) for one in claimed))
        if unused:
            await self._store.give_back(unused)
        return await self._written(name, answers)

    async def _written(
        self, name: str, answers: Sequence[tuple[Telling, Answer]]
    ) -> Sequence[Answered]:
        if not answers:
            return []
        now = self._clock()
        ended = [_ended(one, answer, now) for one, answer in answers]
        gone = any(answer.gone for _, answer in answers)
        days = timedelta(days=self._endpoints[name].disable_after_days)
        if await self._store.answered(name, ended, now, None if gone else days):
            log.error("webhook disabled", endpoint=name, answer=ended[-1].answer)
        for one in ended:
            what = "told" if one.well else "again" if one.again_at is not None else "failed"
            self.outcomes[name, what] += 1
            if what != "told":
                log.warning(
                    "webhook not told" if what == "failed" else "webhook put off",
                    endpoint=name,
                    change=uid_of(one.telling),
                    answer=one.answer,
                )
        return ended


def subscriber(name: str, endpoint: Endpoint) -> Subscriber:
    """An endpoint as the store keeps it."""
    return Subscriber(name, endpoint.mark, tuple(endpoint.states), tuple(endpoint.kinds))


def _ended(telling: Telling, answer: Answer, now: datetime) -> Answered:
    tries = int(telling.row.tries)
    if answer.well or answer.gone or tries >= len(SCHEDULE):
        return Answered(telling, answer.well, answer.words)
    span = SCHEDULE[tries] * (1 + _spread(telling))
    again = now + max(span, answer.retry_after or timedelta(0))
    return Answered(telling, False, answer.words, again)


def _spread(telling: Telling) -> float:
    """Up to a tenth, steady by change and try: what failed together doesn't come back together."""
    mark = f"{telling.row.endpoint}{telling.id}{telling.row.tries}".encode()
    return hashlib.sha256(mark).digest()[0] / 2550
