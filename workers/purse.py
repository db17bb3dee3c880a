"""The purse: what SMS may cost on a day of Beijing, all workers together.

The money of a message is reserved before its attempt begins and given back when nobody took the
message; where nobody knows, it counts as spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

import structlog

from workers.last_look import Ready, Settled
from workers.providers import Sms
from workers.settings import Settings
from workers.store import AsyncConnection, Store
from workers.store.ledger import UNPAID

log = structlog.get_logger("purse")


class Purse:
    """One per process; what is in it is in the store."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.sms = settings.sms
        self.clock = clock
        self.waits: Counter[tuple[str, str]] = Counter()
        self._reserved: dict[int, tuple[str, Decimal]] = {}

    async def within_the_day(self, looked: Sequence[Ready | Settled]) -> list[Ready | Settled]:
        """Reserves the money of those that are SMS; the ones beyond wait for the next day."""
        most, price = self.sms.money_a_day, self.sms.price_per_part
        costs = {
            one.claimed.id: price * one.message.parts
            for one in looked
            if isinstance(one, Ready) and isinstance(one.message, Sms)
        }
        if most is None or not price or not costs:
            return list(looked)
        given = await self.store.limits.spend(list(costs.values()), most, self.sms.currency)
        within = list(costs)[: given.number]
        self._reserved |= {one_id: (given.day, costs[one_id]) for one_id in within}
        if len(within) < len(costs):
            self.waits["money", self.sms.currency] += len(costs) - len(within)
            log.error("the day's money is spent", setting="sms.money_a_day", day=given.day)
        until = self.clock() + given.left
        return [
            Settled(one.claimed, UNPAID, until=until)
            if one.claimed.id in costs and one.claimed.id not in within
            else one
            for one in looked
        ]

    async def refund(self, connection: AsyncConnection, one_id: int) -> None:
        """Gives the money of a message that nobody took back to its day."""
        if reserved := self._reserved.get(one_id):
            await self.store.limits.refund(connection, *reserved, self.sms.currency)

    def paid(self, one_id: int) -> None:
        """Forgets a message whose outcome is written down."""
        self._reserved.pop(one_id, None)

    async def spent_today(self) -> Decimal:
        """What SMS cost on this day of Beijing so far; counted where a day has its most."""
        return await self.store.limits.spent_today(self.sms.currency)
