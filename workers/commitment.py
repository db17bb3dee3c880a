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
from workers.store.outbox import Claimed

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
        self, claimed: Sequence[Claimed], names: Mapping[int, str]
    ) -> tuple[list[Ready], bool]:
        """Begins the attempts of those that are still to be sent, by the providers of these
        `names` (id -> name); the rest is settled or given back.

        Also says whether one was given back to be looked at again at once.
        """
        looked = await self.purse.within_the_day(await self.look.at(claimed))
        begun: list[Ready] = []
        try:
            return begun, await self._commit(looked, names, begun)
        except Exception as error:
            if not is_away(error) or not begun:
                raise
            return await self._found_out(begun, error), False

    async def _commit(
        self,
        looked: Sequence[Ready | Settled],
        names: Mapping[int, str],
        begun: list[Ready],
    ) -> bool:
        """One transaction; puts those that are to be sent, if it is committed, into `begun`."""
        ready = [one for one in looked if isinstance(one, Ready)]
        again, now = False, self.clock()
        async with self.store.database.write() as connection:
            await self.store.outbox.hold(connection, [one.claimed.id for one in ready])
            rows = [one.claimed.row for one in ready]
            sent = await self.look.numbers.sent(connection, rows, now, exactly=True)
            for settled in (one for one in looked if isinstance(one, Settled)):
                await self._settle(connection, settled, now)
            refused = await self._refused(connection, ready, names, now)
            for one in ready:
                row = one.claimed.row
                if wait := self.look.numbers.must_wait(row, sent, now):
                    refused.setdefault(row.id, Settled(one.claimed, wait[0], until=wait[1]))
                if no := refused.get(row.id):
                    await self._settle(connection, no, now)
                elif await self._begin(connection, one, names[row.id], now):
                    self.look.numbers.count(row, sent)
                    begun.append(one)
                else:
                    # It changed since it was rendered: give it back and look again.
                    await self.store.outbox.put_off(connection, one.claimed, now, "")
                    again = True
            begun_ids = {one.claimed.id for one in begun}
            for one in ready:
                if one.claimed.id not in begun_ids:
                    await self.purse.refund(connection, one.claimed.id)
        return again

    async def _found_out(self, begun: Sequence[Ready], error: Exception) -> list[Ready]:
        """Which of these were begun after all, where the answer to the commit was lost.

        Asked for as long as others leave them alone; then the error is raised, and a sweep finds
        them.
        """
        fences = {one.claimed.id: one.claimed.fence for one in begun}
        end = asyncio.get_running_loop().time() + self._lease.total_seconds()
        while asyncio.get_running_loop().time() < end:
            try:
                ours = await self.store.outbox.still_sending(fences, self._lease)
            except Exception as again:
                if not is_away(again):
                    raise
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            log.warning("the answer to a commit was lost", begun=len(ours), of=len(fences))
            return [one for one in begun if one.claimed.id in ours]
        raise error

    async def _begin(
        self, connection: AsyncConnection, one: Ready, name: str, now: datetime
    ) -> bool:
        begun = await self.store.outbox.begin(
            connection, one.claimed, name, one.revisions, self._lease, now
        )
        if begun:
            await self.store.outbox.drop(connection, one.dropped, now)
        return begun

    async def _settle(self, connection: AsyncConnection, one: Settled, now: datetime) -> None:
        if one.state is None:
            assert one.until is not None
            await self.store.outbox.put_off(connection, one.claimed, one.until, one.reason)
            return
        if not await self.store.outbox.settle(connection, one.claimed, one.state, one.reason, now):
            return
        await self.store.outbox.drop(connection, one.dropped, now)
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
