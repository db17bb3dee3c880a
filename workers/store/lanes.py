"""What is claimed next. A lane is a channel, its urgency and a kind, and each lane has its turn.

A backlog of one rule holds up no other: the kinds that have something waiting are found by leaps
through the index of lanes, and each is asked for its oldest alone. What a claim costs depends on
the number of kinds and on what it takes, not on how much waits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.store.tables import PENDING, Instant, notifications

FOR_OTHERS = 10
"""One in so many places is kept for what isn't urgent, however much is."""

# Said as the partial index says it, and as no other index does: statistics that are behind a sudden
# backlog would have the planner read all of it through another.
_PENDING = text(PENDING)

_LANES = text(
    """
    WITH RECURSIVE lane(urgent, kind) AS (
        SELECT hurry.urgent, (
            SELECT min(n.kind) FROM notifications n
            WHERE lower(n.state) = 'pending' AND n.channel = :channel AND n.urgent = hurry.urgent)
        FROM (SELECT true AS urgent UNION ALL SELECT false) hurry
        UNION ALL
        SELECT lane.urgent, (
            SELECT min(n.kind) FROM notifications n
            WHERE lower(n.state) = 'pending' AND n.channel = :channel AND n.urgent = lane.urgent
                AND n.kind > lane.kind)
        FROM lane WHERE lane.kind IS NOT NULL)
    SELECT lane.urgent, lane.kind FROM lane
    WHERE lane.kind IS NOT NULL
        AND lane.kind NOT IN (SELECT pauses.kind FROM pauses)
        AND NOT EXISTS (SELECT 1 FROM meta WHERE meta.key = 'refusal')
        AND (
            SELECT min(n.not_before) FROM notifications n
            WHERE lower(n.state) = 'pending' AND n.channel = :channel AND n.urgent = lane.urgent
                AND n.kind = lane.kind) <= :now
    """
).bindparams(bindparam("now", type_=Instant))


class Lanes:
    """One channel's lanes, within one transaction. `now` is business time.

    `turn` counts the claims: where there are more kinds than places, another begins each time.
    `known` are the kinds that this program knows; what a newer version planned is left to that.
    Nothing waits in a database whose sends are refused (`store/guard.py`).
    """

    def __init__(
        self,
        connection: AsyncConnection,
        db_now: ColumnElement[datetime],
        now: datetime,
        channel: str,
        turn: int = 0,
        known: Collection[str] | None = None,
    ) -> None:
        self._connection = connection
        self._db_now = db_now
        self._now = now
        self._channel = channel
        self._turn = turn
        self._known = known

    async def any(self) -> bool:
        """Whether anything waits in the channel, be it in another worker's hands."""
        return bool(await self._waiting())

    async def next(self, limit: int) -> list[int]:
        """The ids of what is claimed next, locked, in the order in which they are to be sent."""
        if limit < 1:
            return []
        lanes = await self._waiting()
        urgent = [kind for hurried, kind in lanes if hurried]
        others = [kind for hurried, kind in lanes if not hurried]
        kept = limit // FOR_OTHERS if urgent and others else 0
        first = await self._shared(True, urgent, limit - kept)
        return first + await self._shared(False, others, limit - len(first))

    async def _waiting(self) -> list[tuple[bool, str]]:
        rows = await self._connection.execute(_LANES, {"channel": self._channel, "now": self._now})
        return [
            (bool(row.urgent), row.kind)
            for row in rows
            if self._known is None or row.kind in self._known
        ]

    async def _shared(self, urgent: bool, kinds: Sequence[str], limit: int) -> list[int]:
        """An equal share of each kind; what some leave over goes to those that have more."""
        first = self._turn % max(1, len(kinds))
        asked = [*kinds[first:], *kinds[:first]]
        taken: dict[str, list[int]] = {}
        while asked and (left := limit - sum(map(len, taken.values()))) > 0:
            share = -(-left // len(asked))
            found: dict[str, list[int]] = {}
            seen = [one for ids in taken.values() for one in ids]
            for row in await self._connection.execute(
                self.oldest(urgent, asked, share, seen).limit(left)
            ):
                found.setdefault(row.kind, []).append(row.id)
            for kind, ids in found.items():
                taken.setdefault(kind, []).extend(ids)
            asked = [kind for kind, ids in found.items() if len(ids) == share]
        # In turn, so that the last of one kind doesn't wait for all of another.
        turns = chain.from_iterable(zip_longest(*taken.values()))
        return [one for one in turns if one is not None]

    def oldest(
        self, urgent: bool, kinds: Sequence[str], share: int, but: Sequence[int] = ()
    ) -> Select[tuple[int, str]]:
        """The statement for each kind's oldest that nobody holds: locked, others' locks skipped."""
        parts = []
        for kind in kinds:
            wanted: list[Any] = [
                _PENDING,
                notifications.c.channel == self._channel,
                notifications.c.urgent == urgent,
                notifications.c.kind == kind,
                notifications.c.not_before <= self._now,
                or_(
                    notifications.c.lease_until.is_(None),
                    notifications.c.lease_until < self._db_now,
                ),
            ]
            if but:
                wanted.append(notifications.c.id.not_in(but))
            lane = (
                select(notifications.c.id, notifications.c.kind)
                .where(*wanted)
                .order_by(notifications.c.not_before)
                .limit(share)
                .with_for_update(skip_locked=True)
                .subquery()
            )
            parts.append(select(lane.c.id, lane.c.kind))
        every = union_all(*parts).subquery()
        return select(every.c.id, every.c.kind)
