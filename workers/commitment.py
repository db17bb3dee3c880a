"""The commitment to send: last look, rendering, and the attempt written before a byte leaves.

All that may still speak against a message is asked in one transaction with the beginning of its
attempt: a refusal by its recipient, a record that changed, what its number got, a provider that may
have had it before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from workers.carriers import Carriers
from workers.last_look import LastLook, Ready, Settled
from workers.model import NotificationState
from workers.purse import Purse
from workers.settings import Settings
from workers.store import AsyncConnection, Store, is_away
from workers.store.attempts import Beginning, Ending

log = structlog.get_logger("deliver")

S = NotificationState
ASK_AGAIN_S = 0.3
"""Seconds between two tries to find out whether a commit counted."""


class Commitment:
    """One per process. `outcomes` counts what was settled, by (channel, state)."""

    def __init__(
        self,
        store: Store,
        look: LastLook,
        purse: Purse,
        carriers: Carriers,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.look = look
        self.purse = purse
        self.carriers = carriers
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.clock = clock
        self._lease = timedelta(seconds=settings.delivery.lease_s)
        self._retry = timedelta(seconds=settings.delivery.first_retry_s)

    async def to(
        self, looked: Sequence[Ready | Settled], names: Mapping[int, str]
    ) -> tuple[list[Ready], float, bool]:
        """Begins the attempts of those that are still to be sent, by the providers of these
        `names` (id -> name); the rest is settled or given back.

        Also says since when their leases run, at least (the loop's clock, in seconds: however late
        the answer to the commit comes), and whether one was given back to be looked at again at
        once.
        """
        looked = await self.purse.within_the_day(looked)
        clock = asyncio.get_running_loop().time
        begun, since = list[Ready](), clock()
        try:
            again = await self._commit(looked, names, begun)
        except Exception as error:
            if not is_away(error) or not begun:
                raise
            begun, since = await self._found_out(begun, error)
            again = False
        return begun, since, again

    async def _commit(
        self,
        looked: Sequence[Ready | Settled],
        names: Mapping[int, str],
        begun: list[Ready],
    ) -> bool:
        """One transaction; puts those that are to be sent, if it is committed, into `begun`."""
        ready = [one for one in looked if isinstance(one, Ready)]
        settled = {one.claimed.id: one for one in looked if isinstance(one, Settled)}
        now = self.clock()
        async with self.store.database.write() as connection:
            await self.store.outbox.hold(connection, [one.claimed.id for one in ready])
            rows = [one.claimed.row for one in ready]
            sent = await self.look.numbers.sent(connection, rows, now, exactly=True)
            refused = await self._refused(connection, ready, names, now)
            for one in ready:
                row = one.claimed.row
                if row.id in refused:
                    continue
                if wait := self.look.numbers.must_wait(row, sent, now):
                    refused[row.id] = Settled(one.claimed, wait[0], until=wait[1])
                else:
                    self.look.numbers.count(row, sent)
            begun += await self._begin(
                connection, [one for one in ready if one.claimed.id not in refused], names, now
            )
            begun_ids = {one.claimed.id for one in begun}
            left = [one for one in ready if one.claimed.id not in begun_ids]
            # It changed since it was rendered: give it back and look again.
            again = [one for one in left if one.claimed.id not in refused]
            await self._settle(
                connection,
                [*settled.values(), *refused.values()],
                [Settled(one.claimed, "", until=now) for one in again],
                now,
            )
            for one in left:
                await self.purse.refund(connection, one.claimed.id)
        return bool(again)

    async def _found_out(
        self, begun: Sequence[Ready], error: Exception
    ) -> tuple[list[Ready], float]:
        """Which of these were begun after all, where the answer to the commit was lost, and since
        when their leases run.

        Asked for as long as others leave them alone; then the error is raised, and a sweep finds
        them.
        """
        fences = {one.claimed.id: one.claimed.fence for one in begun}
        end = asyncio.get_running_loop().time() + self._lease.total_seconds()
        while asyncio.get_running_loop().time() < end:
            since = asyncio.get_running_loop().time()
            try:
                ours = await self.store.outbox.still_sending(fences, self._lease)
            except Exception as again:
                if not is_away(again):
                    raise
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            log.warning("the answer to a commit was lost", begun=len(ours), of=len(fences))
            return [one for one in begun if one.claimed.id in ours], since
        raise error

    async def _begin(
        self,
        connection: AsyncConnection,
        ready: Sequence[Ready],
        names: Mapping[int, str],
        now: datetime,
    ) -> list[Ready]:
        """Begins the attempts; returns those that were still ours, and as they were rendered."""
        beginnings = [Beginning(one.claimed, names[one.claimed.id], one.revisions) for one in ready]
        ids = await self.store.outbox.begin(connection, beginnings, self._lease, now)
        begun = [one for one in ready if one.claimed.id in ids]
        dropped = {line: why for one in begun for line, why in one.dropped.items()}
        await self.store.outbox.drop(connection, dropped, now)
        return begun

    async def _settle(
        self,
        connection: AsyncConnection,
        settled: Sequence[Settled],
        given_back: Sequence[Settled],
        now: datetime,
    ) -> None:
        waits = {
            one.claimed.id: (one.until, one.reason)
            for one in (*settled, *given_back)
            if one.state is None and one.until is not None
        }
        every = [one.claimed for one in (*settled, *given_back)]
        await self.store.outbox.put_off(connection, every, waits)
        endings = [
            Ending(one.claimed, one.state, one.reason) for one in settled if one.state is not None
        ]
        ended = await self.store.outbox.settle(connection, endings, now)
        mine = [one for one in settled if one.claimed.id in ended]
        dropped = {line: why for one in mine for line, why in one.dropped.items()}
        await self.store.outbox.drop(connection, dropped, now)
        for one in mine:
            assert one.state is not None
            self.outcomes[one.claimed.row.channel, one.state.value] += 1

    async def _refused(
        self,
        connection: AsyncConnection,
        ready: Sequence[Ready],
        names: Mapping[int, str],
        now: datetime,
    ) -> dict[int, Settled]:
        """Which of these aren't sent after all: to whom they aren't welcome, or not safely."""
        rows = {one.claimed.id: (one.claimed.row, names[one.claimed.id]) for one in ready}
        unsafe = await self.carriers.unsafe(connection, rows)
        why = "put off: it may have been accepted by a provider that isn't in use now"
        found = {
            one.claimed.id: Settled(one.claimed, why, until=now + self._retry)
            for one in ready
            if one.claimed.id in unsafe
        }
        unwelcome = await self._suppressed(connection, ready)
        for one in ready:
            if reason := unwelcome.get(one.claimed.id):
                found[one.claimed.id] = Settled(
                    one.claimed, reason, S.SUPPRESSED, dropped=one.dropped
                )
        return found

    async def _suppressed(
        self, connection: AsyncConnection, ready: Sequence[Ready]
    ) -> dict[int, str]:
        rows = [one.claimed.row for one in ready]
        required = {one.claimed.id for one in ready if one.required}
        found = await self.store.outbox.suppressed(
            connection, {(row.channel, row.address) for row in rows}
        )
        return {
            row.id: reason
            for row in rows
            # What is required doesn't ask whether its kind is wished.
            for kind in ("*", *((row.kind,) if row.id not in required else ()))
            if (reason := found.get((row.channel, row.address, kind)))
        }
