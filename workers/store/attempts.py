"""Attempts: begun before the first byte leaves, ended by what came of them; many at a time.

Each write goes by the fence, so that whoever lost a message to another changes nothing of it. All
of a chunk is one statement: what it costs hardly depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Text,
    case,
    func,
    null,
    select,
    update,
)
from sqlalchemy import literal as value_of
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.model import MOVES, NotificationState, Outcome
from workers.store.aftermath import Aftermath, add_suppression, plain
from workers.store.engine import insert
from workers.store.many import ROWS, as_json, listed
from workers.store.records import chunks
from workers.store.tables import Id, Instant, attempts, notifications, occurrences, records

S = NotificationState
_HELD = {"id": Id, "fence": Integer()}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A notification in our hands, and the fence that proves it."""

    row: Row[Any]
    fence: int
    id: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", int(self.row.id))


@dataclass(frozen=True, slots=True)
class Beginning:
    """An attempt to be begun: by which provider, and of which records (id -> revision) as they
    were when it was rendered.
    """

    claimed: Claimed
    provider: str
    revisions: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a claimed notification goes without an attempt: to an end, or to a person."""

    claimed: Claimed
    state: NotificationState
    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of one attempt, to be recorded. `again_at` (business time) only when deferred.

    `avoid` names the provider that was in trouble with it: it is tried last.
    """

    claimed: Claimed
    outcome: Outcome
    state: NotificationState
    reply: str
    reason: str = ""
    reference: str | None = None
    again_at: datetime | None = None
    address_is_bad: bool = False
    avoid: str | None = None


Also = Callable[[AsyncConnection], Awaitable[None]]


class Attempts(Aftermath):
    """Statements on claimed notifications. Each returns the ids of those that were still ours."""

    # --- without an attempt ---------------------------------------------------------------

    async def settle(
        self, connection: AsyncConnection, endings: Sequence[Ending], now: datetime
    ) -> set[int]:
        """Moves claimed, pending notifications to an end or to parked."""
        for one in endings:
            _check(S.PENDING, one.state)
        rows = [
            _held(one.claimed) | {"state": one.state.value, "reason": plain(one.reason)}
            for one in endings
        ]
        columns = {"state": Text(), "reason": Text()}
        return await self._fenced(
            connection, S.PENDING, rows, columns, lambda v: {**v, "changed_at": now}
        )

    async def put_off(
        self,
        connection: AsyncConnection,
        claimed: Iterable[Claimed],
        waits: Mapping[int, tuple[datetime, str]],
    ) -> set[int]:
        """Gives back those of the claimed that wait: id -> (until, why)."""
        rows = [
            _held(one) | {"not_before": waits[one.id][0], "reason": plain(waits[one.id][1])}
            for one in claimed
            if one.id in waits
        ]
        columns = {"not_before": Instant(), "reason": Text()}
        return await self._fenced(connection, S.PENDING, rows, columns, dict)

    async def drop(
        self, connection: AsyncConnection, dropped: Mapping[int, str], now: datetime
    ) -> None:
        """Takes moot lines (occurrence id -> why) out of their notifications.

        Their records are looked at again, so that a stage that was only put off is told later.
        """
        if not dropped:
            return
        rows = [{"id": one, "dropped": plain(why)} for one, why in sorted(dropped.items())]
        gone = listed(connection, {"id": Id, "dropped": Text()})
        await connection.execute(
            update(occurrences).where(occurrences.c.id == gone.c.id).values(dropped=gone.c.dropped),
            {ROWS: as_json(rows)},
        )
        for part in chunks(list(dropped)):
            mine = select(occurrences.c.record_id).where(occurrences.c.id.in_(part))
            await connection.execute(
                update(records)
                .where(records.c.id.in_(mine), records.c.state == "open")
                .values(next_due_at=now)
            )

    # --- begin ----------------------------------------------------------------------------

    async def begin(
        self,
        connection: AsyncConnection,
        beginnings: Sequence[Beginning],
        lease: timedelta,
        now: datetime,
    ) -> set[int]:
        """Commits to sending: the attempts are written before the first byte leaves.

        Left out is what was lost to another, and of which a record has changed in the meantime:
        then look again. The lease begins anew, so that no sweep takes for dead what begins late.
        """
        changed = await self._changed(connection, beginnings)
        same = [one for one in beginnings if one.claimed.id not in changed]
        rows = [_held(one.claimed) | {"provider": one.provider} for one in same]
        begun = await self._fenced(
            connection,
            S.PENDING,
            rows,
            {"provider": Text()},
            lambda v: {
                **v,
                "lease_until": self._db_now(lease),
                "state": value_of(S.SENDING.value),
                "attempt_count": notifications.c.attempt_count + 1,
                "reason": value_of(""),
                "changed_at": now,
            },
        )
        if begun:
            await connection.execute(
                insert(connection, attempts),
                [
                    {
                        "notification_id": one.claimed.id,
                        "number": one.claimed.row.attempt_count + 1,
                        "fence": one.claimed.fence,
                        "provider": one.provider,
                        "began_at": now,
                    }
                    for one in same
                    if one.claimed.id in begun
                ],
            )
        return begun

    async def _changed(
        self, connection: AsyncConnection, beginnings: Sequence[Beginning]
    ) -> set[int]:
        """Which of these have records that changed since they were rendered; the others' records
        are kept from changing until the transaction's end.
        """
        wanted = {record for one in beginnings for record in one.revisions}
        found: dict[int, int] = {}
        for part in chunks(sorted(wanted)):
            fresh = await connection.execute(
                select(records.c.id, records.c.revision)
                .where(records.c.id.in_(part))
                .order_by(records.c.id)
                .with_for_update(read=True)
            )
            found.update({row.id: row.revision for row in fresh})
        return {
            one.claimed.id
            for one in beginnings
            if any(found.get(record) != seen for record, seen in one.revisions.items())
        }

    # --- finish ---------------------------------------------------------------------------

    async def finish(
        self, finished: Sequence[Finished], now: datetime, also: Also | None = None
    ) -> int:
        """Records what came of attempts; returns how many were refused by the fence.

        `also` writes what follows from them, in the same transaction.
        """
        async with self.database.write() as connection:
            ours = await self._finish(connection, finished, now)
            for one in finished:
                if one.address_is_bad and one.claimed.id in ours:
                    row, why = one.claimed.row, f"refused: {plain(one.reply)[:200]}"
                    await add_suppression(
                        connection, row.channel, row.address, "*", why, "provider", now
                    )
            if also is not None:
                await also(connection)
        return len(finished) - len(ours)

    async def _finish(
        self, connection: AsyncConnection, finished: Sequence[Finished], now: datetime
    ) -> set[int]:
        for one in finished:
            _check(S.SENDING, one.state)
        n, accepted = notifications.c, S.ACCEPTED.value
        rows = [_ended(one) for one in finished]
        columns = {
            "state": Text(),
            "reason": Text(),
            "avoid": Text(),
            "reference": Text(),
            "again_at": Instant(),
        }
        ours = await self._fenced(
            connection,
            S.SENDING,
            rows,
            columns,
            lambda v: {
                "state": v["state"],
                "reason": v["reason"],
                "avoid": v["avoid"],
                "changed_at": now,
                "accepted_at": case(
                    (v["state"] == accepted, value_of(now, Instant())), else_=n.accepted_at
                ),
                "reference": case((v["state"] == accepted, v["reference"]), else_=n.reference),
                "not_before": func.coalesce(v["again_at"], n.not_before, type_=Instant()),
            },
        )
        ended = listed(connection, {**_HELD, "outcome": Text(), "reply": Text()})
        await connection.execute(
            update(attempts)
            .where(
                attempts.c.notification_id == ended.c.id,
                attempts.c.fence == ended.c.fence,
                attempts.c.ended_at.is_(None),
            )
            .values(ended_at=now, outcome=ended.c.outcome, reply=ended.c.reply),
            {
                ROWS: as_json(
                    _held(one.claimed)
                    | {"outcome": one.outcome.value, "reply": plain(one.reply)[:500]}
                    for one in finished
                    if one.claimed.id in ours
                )
            },
        )
        return ours

    # --- by the fence ---------------------------------------------------------------------

    async def _fenced(
        self,
        connection: AsyncConnection,
        expected: NotificationState,
        rows: Collection[Mapping[str, Any]],
        columns: Mapping[str, Any],
        values: Callable[[dict[str, ColumnElement[Any]]], Mapping[str, Any]],
    ) -> set[int]:
        """Changes those of the rows that are still held by their fence; the hold ends, unless the
        `values` (made of the listed columns) say otherwise.
        """
        if not rows:
            return set()
        these = listed(connection, {**_HELD, **columns})
        statement = (
            update(notifications)
            .where(
                notifications.c.id == these.c.id,
                notifications.c.fence == these.c.fence,
                notifications.c.state == expected,
            )
            .values({"lease_until": null(), **values({name: these.c[name] for name in columns})})
            .returning(notifications.c.id)
        )
        done = await connection.execute(
            statement, {ROWS: as_json(sorted(rows, key=lambda one: int(one["id"])))}
        )
        return set(done.scalars())


def _held(claimed: Claimed) -> dict[str, Any]:
    return {"id": claimed.id, "fence": claimed.fence}


def _ended(one: Finished) -> dict[str, Any]:
    return _held(one.claimed) | {
        "state": one.state.value,
        "reason": plain(one.reason),
        "avoid": one.avoid,
        "reference": plain(one.reference or "")[:200] or None,
        "again_at": one.again_at,
    }


def _check(before: NotificationState, after: NotificationState) -> None:
    if after not in MOVES[before]:
        raise ValueError(f"a notification can't move from {before} to {after}")
