"""Numbers: how many SMS a phone number may get in a minute and in 24 hours, all workers together.

The last look refuses most of what is too much before it is rendered; what holds is the count in the
transaction that commits to sending, under a lock on the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from workers.settings import Settings
from workers.store import AsyncConnection, Row, Store

A_MINUTE = 2
"""SMS to one number; carriers drop more (the vendor's limit for notices)."""
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
Sent = dict[str, tuple[int, int]]
"""By number: how many SMS it got, or may have got, in the last minute and the last 24 hours."""


class Numbers:
    """Reads what was sent and says who must wait. `now` is business time."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self._a_day = settings.sms.per_number_a_day

    async def sent(
        self,
        connection: AsyncConnection,
        rows: Sequence[Row[Any]],
        now: datetime,
        *,
        exactly: bool = False,
    ) -> Sent:
        """What the numbers of these notifications got. `exactly` keeps others from committing to
        an SMS to any of them until the transaction's end.
        """
        numbers = {row.address for row in rows if row.channel == "sms"}
        if not numbers:
            return {}
        if exactly:
            await self.store.limits.hold_numbers(connection, numbers)
        return await self.store.limits.sms_to(connection, numbers, now - MINUTE, now - DAY)

    def must_wait(self, row: Row[Any], sent: Sent, now: datetime) -> tuple[str, datetime] | None:
        """Why a notification waits and until when; None when it may go. Mail always may."""
        minute, day = sent.get(row.address, (0, 0))
        if row.channel != "sms":
            return None
        if minute >= A_MINUTE:
            return "put off: two SMS a minute to a number", now + MINUTE
        if day >= self._a_day:
            return "put off: sms.per_number_a_day is reached", now + timedelta(hours=1)
        return None

    def count(self, row: Row[Any], sent: Sent) -> None:
        """Counts one that goes out with the others of its transaction."""
        if row.channel == "sms":
            minute, day = sent.get(row.address, (0, 0))
            sent[row.address] = minute + 1, day + 1
