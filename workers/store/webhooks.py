"""Outgoing webhooks: who is told, what is to be told, and what came of it.

What is to be told is written by a trigger of `notifications` (migration 0004), in the transaction
that changes a state. Leases are compared by the database's clock; `now` is business time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    event,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.errors import StateError, UnknownThingError
from workers.store.aftermath import database_now
from workers.store.engine import Database, insert
from workers.store.tables import attempts, audit, notifications, occurrences, receipts, records
from workers.store.webhook_tables import (
    webhook_endpoints,
    webhook_subscriptions,
    webhook_tellings,
)

WAITING, TOLD, FAILED = "waiting", "told", "failed"
ALL = "*"
_CHANGED = "notifications changed"
MAX_ANSWER = 200


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An endpoint as the settings have it: `mark` tells its addresses apart; no kinds: all."""

    name: str
    mark: str
    words: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told now, and the fence that proves that it is ours.

    `row` has the change (word, fence, attempt, at, tries), the notification's uid, kind, message,
    channel and role, and the attempt's outcome and reply; `lines` the records it speaks of.
    """

    row: Row[Any]
    held: int
    lines: Sequence[Any]
    receipt: str = ""

    @property
    def id(self) -> int:
        """The telling's id."""
        return int(self.row.id)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one post. `again_at` (business time): it is tried again then."""

    telling: Telling
    well: bool
    answer: str
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """An endpoint, how much waits and failed, and since when the oldest waits."""

    row: Row[Any]
    counts: Mapping[str, int] = field(default_factory=dict)
    oldest: datetime | None = None


_W = webhook_tellings.c
# In words of their own, because only so the indexes of them are used.
_IS_WAITING = _W.state == literal_column(f"'{WAITING}'")
_IS_FAILED = _W.state == literal_column(f"'{FAILED}'")
_ANSWERED = (
    update(webhook_tellings)
    .where(_W.id == bindparam("one"), _W.held == bindparam("ours"), _IS_WAITING)
    .values(
        state=bindparam("becomes"),
        tries=_W.tries + 1,
        lease_until=None,
        answer=bindparam("said"),
        due_at=func.coalesce(bindparam("again", type_=_W.due_at.type), _W.due_at),
    )
)


class WebhookStore:
    """Statements about endpoints and tellings."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- who is told ----------------------------------------------------------------------

    async def subscribe(
        self, subscribers: Sequence[Subscriber]
    ) -> tuple[list[str], list[str], list[str]]:
        """Makes the endpoints those of the settings; gives names (new, gone, left alone).

        What changes from now on is written down for them. Who was left alone stays so, unless the
        address is another. What waited for one that is gone has failed.
        """
        names = {one.name for one in subscribers}
        async with self.database.write() as connection:
            e, w = webhook_endpoints.c, webhook_tellings.c
            there = {row.name: row for row in await connection.execute(select(webhook_endpoints))}
            gone = sorted(set(there) - names)
            if gone:
                await connection.execute(
                    update(webhook_tellings)
                    .where(w.endpoint.in_(gone), _IS_WAITING)
                    .values(state=FAILED, answer="the endpoint is gone from the settings")
                )
                await connection.execute(delete(webhook_endpoints).where(e.name.in_(gone)))
            alone = []
            for one in subscribers:
                known = there.get(one.name)
                if known is not None and known.mark == one.mark:
                    if known.disabled_at is not None:
                        alone.append(one.name)
                    continue
                statement = insert(connection, webhook_endpoints).values(
                    name=one.name, mark=one.mark, failures=0, answer=""
                )
                await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["name"],
                        set_={
                            "mark": one.mark,
                            "failures": 0,
                            "failing_since": None,
                            "answer": "",
                            "disabled_at": None,
                        },
                    )
                )
            if there or subscribers:
                await connection.execute(delete(webhook_subscriptions))
            wanted = [row for one in subscribers if one.name not in alone for row in _rows(one)]
            if wanted:
                # Two that start at once write the same.
                statement = insert(connection, webhook_subscriptions)
                await connection.execute(statement.on_conflict_do_nothing(), wanted)
        return sorted(names - set(there)), gone, alone

    async def enable(self, subscriber: Subscriber, by: str, now: datetime) -> int:
        """Tells one that was left alone again; returns how many of its tellings waited.

        Raises UnknownThingError before a worker has known it, StateError when it isn't left alone.
        """
        name, w = subscriber.name, webhook_tellings.c
        async with self.database.write() as connection:
            row = await _endpoint(connection, name)
            if row.disabled_at is None:
                raise StateError(f"webhook {name} isn't disabled")
            await connection.execute(
                update(webhook_endpoints)
                .where(webhook_endpoints.c.name == name)
                .values(disabled_at=None, failing_since=None, failures=0, mark=subscriber.mark)
            )
            await connection.execute(
                insert(connection, webhook_subscriptions).on_conflict_do_nothing(),
                _rows(subscriber),
            )
            done = await connection.execute(
                update(webhook_tellings)
                .where(w.endpoint == name, _IS_WAITING)
                .values(due_at=now, tries=0)
            )
            await _note(connection, by, "webhook enable", name, f"was: {row.answer}", now)
            return done.rowcount

    # --- what is to be told ---------------------------------------------------------------

    async def due(self, names: Collection[str], now: datetime) -> set[str]:
        """Which of these endpoints there is anything to tell now; takes no write lock."""
        w = webhook_tellings.c
        async with self.database.read() as connection:
            found = await connection.execute(
                select(webhook_endpoints.c.name).where(
                    webhook_endpoints.c.name.in_(list(names)),
                    webhook_endpoints.c.disabled_at.is_(None),
                    exists().where(
                        w.endpoint == webhook_endpoints.c.name,
                        _IS_WAITING,
                        w.due_at <= now,
                        or_(w.lease_until.is_(None), w.lease_until < self._db_now()),
                    ),
                )
            )
            return set(found.scalars())

    async def claim(self, name: str, now: datetime, limit: int, lease: timedelta) -> list[Telling]:
        """Takes up to `limit` tellings of one endpoint under a lease, what is due first first."""
        w = webhook_tellings.c
        enabled = exists().where(
            webhook_endpoints.c.name == name, webhook_endpoints.c.disabled_at.is_(None)
        )
        oldest = (
            select(w.id)
            .where(
                w.endpoint == name,
                _IS_WAITING,
                w.due_at <= now,
                or_(w.lease_until.is_(None), w.lease_until < self._db_now()),
                enabled,
            )
            .order_by(w.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self.database.write() as connection:
            ids = list((await connection.execute(oldest)).scalars())
            if not ids:
                return []
            done = await connection.execute(
                update(webhook_tellings)
                .where(w.id.in_(ids))
                .values(lease_until=self._db_now(lease), held=w.held + 1)
                .returning(w.id, w.held)
            )
            held = {row.id: row.held for row in done}
            return await _whole(connection, held)

    async def answered(
        self, name: str, answers: Sequence[Answered], now: datetime, disable_after: timedelta | None
    ) -> bool:
        """Records what came of posts; true when the endpoint is left alone from now on.

        That is after nothing but failures for `disable_after` (None: at once). Who isn't ours any
        more is passed over.
        """
        async with self.database.write() as connection:
            if answers:
                await connection.execute(_ANSWERED, [_written(one) for one in answers])
            return await self._stands(connection, name, answers, now, disable_after)

    async def _stands(
        self,
        connection: AsyncConnection,
        name: str,
        answers: Sequence[Answered],
        now: datetime,
        disable_after: timedelta | None,
    ) -> bool:
        if not answers:
            return False
        e = webhook_endpoints.c
        last = answers[-1].answer[:MAX_ANSWER]
        if disable_after is not None and any(one.well for one in answers):
            await connection.execute(
                update(webhook_endpoints)
                .where(e.name == name)
                .values(failing_since=None, failures=0, answered_at=now, answer=last)
            )
            return False
        done = await connection.execute(
            update(webhook_endpoints)
            .where(e.name == name, e.disabled_at.is_(None))
            .values(
                failing_since=func.coalesce(e.failing_since, literal(now, e.failing_since.type)),
                failures=e.failures + len(answers),
                answer=last,
            )
            .returning(e.failing_since)
        )
        row = done.first()
        if row is None or (disable_after is not None and now - row.failing_since < disable_after):
            return False
        await connection.execute(
            update(webhook_endpoints).where(e.name == name).values(disabled_at=now)
        )
        # Nothing more is written down for it; what waits goes on once it is enabled.
        await connection.execute(
            delete(webhook_subscriptions).where(webhook_subscriptions.c.endpoint == name)
        )
        return True

    async def give_back(self, tellings: Collection[Telling]) -> None:
        """Gives back what was claimed and not posted."""
        w = webhook_tellings.c
        async with self.database.write() as connection:
            for one in tellings:
                await connection.execute(
                    update(webhook_tellings)
                    .where(w.id == one.id, w.held == one.held, _IS_WAITING)
                    .values(lease_until=None)
                )

    def on_change(self, told: Callable[[], None]) -> None:
        """Has `told` called after each transaction of this process that changed notifications.

        On the event loop; now and then for nothing, when it was undone or no state changed.
        """
        engine = self.database.engine.sync_engine

        @event.listens_for(engine, "after_execute")
        def _executed(connection: Any, statement: Any, *_: Any) -> None:
            if isinstance(statement, Update) and statement.table is notifications:
                connection.info[_CHANGED] = True

        # Not at "commit", which is heard before it is done: by then the connection is given back.
        @event.listens_for(engine, "checkin")
        def _given_back(_: Any, record: Any) -> None:
            if record.info.pop(_CHANGED, False):
                told()

    # --- for people -----------------------------------------------------------------------

    async def standing(self) -> dict[str, Standing]:
        """Every endpoint that the workers know, by name."""
        w = webhook_tellings.c
        async with self.database.read() as connection:
            rows = list(await connection.execute(select(webhook_endpoints)))
            if not rows:
                return {}
            counts: dict[str, dict[str, int]] = {}
            oldest: dict[str, datetime] = {}
            by_state = [
                select(
                    w.endpoint,
                    literal_column(f"'{state}'").label("state"),
                    func.count().label("n"),
                    func.min(w.at).label("oldest"),
                )
                .where(is_so)
                .group_by(w.endpoint)
                for state, is_so in ((WAITING, _IS_WAITING), (FAILED, _IS_FAILED))
            ]
            for one in await connection.execute(union_all(*by_state)):
                counts.setdefault(one.endpoint, {})[one.state] = one.n
                if one.state == WAITING:
                    oldest[one.endpoint] = one.oldest
        return {
            row.name: Standing(row, counts.get(row.name, {}), oldest.get(row.name)) for row in rows
        }

    async def tellings(
        self, *, name: str | None = None, state: str | None = None, limit: int = 100
    ) -> list[Row[Any]]:
        """Tellings with their notification's uid and kind, newest first."""
        w = webhook_tellings.c
        statement = select(
            webhook_tellings, notifications.c.uid, notifications.c.kind, notifications.c.channel
        ).join(notifications, notifications.c.id == w.notification_id)
        if name is not None:
            statement = statement.where(w.endpoint == name)
        if state is not None:
            statement = statement.where(w.state == state)
        async with self.database.read() as connection:
            return list(await connection.execute(statement.order_by(w.id.desc()).limit(limit)))

    async def retry(
        self, by: str, now: datetime, *, ids: Collection[int] = (), name: str | None = None
    ) -> int:
        """Has failed tellings told again, from the beginning of the back-off; returns how many."""
        w = webhook_tellings.c
        chosen = w.endpoint == name if name is not None else w.id.in_(list(ids))
        async with self.database.write() as connection:
            done = await connection.execute(
                update(webhook_tellings)
                .where(chosen, _IS_FAILED)
                .values(state=WAITING, due_at=now, tries=0)
            )
            if done.rowcount:
                target = name or ", ".join(str(one) for one in sorted(ids))
                await _note(connection, by, "webhook retry", target, f"{done.rowcount} again", now)
            return done.rowcount

    def _db_now(self, plus: timedelta = timedelta(0)) -> Any:
        return database_now(self.database, plus)


def _written(one: Answered) -> dict[str, Any]:
    return {
        "one": one.telling.id,
        "ours": one.telling.held,
        "becomes": TOLD if one.well else WAITING if one.again_at is not None else FAILED,
        "said": one.answer[:MAX_ANSWER],
        "again": one.again_at,
    }


def _rows(one: Subscriber) -> list[dict[str, str]]:
    return [
        {"word": word, "endpoint": one.name, "kind": kind}
        for word in dict.fromkeys(one.words)
        for kind in dict.fromkeys(one.kinds or (ALL,))
    ]


async def _endpoint(connection: AsyncConnection, name: str) -> Row[Any]:
    found = await connection.execute(
        select(webhook_endpoints).where(webhook_endpoints.c.name == name).with_for_update()
    )
    row = found.first()
    if row is None:
        raise UnknownThingError(f"no worker knows webhook {name} yet: start one with its settings")
    return row


async def _note(
    connection: AsyncConnection, by: str, action: str, target: str, reason: str, now: datetime
) -> None:
    await connection.execute(
        insert(connection, audit).values(
            at=now, by=by[:80], action=action, target=target[:300], reason=reason
        )
    )


async def _whole(connection: AsyncConnection, held: Mapping[int, int]) -> list[Telling]:
    """The claimed with all that is told of them, in a few statements for the whole batch."""
    rows = list(await connection.execute(_told_of(list(held))))
    ids = list({row.notification_id for row in rows})
    lines: dict[int, list[Any]] = {}
    for line in await connection.execute(
        select(
            occurrences.c.notification_id,
            occurrences.c.stage,
            occurrences.c.dropped,
            records.c.kind,
            records.c.ref,
        )
        .join(records, records.c.id == occurrences.c.record_id)
        .where(occurrences.c.notification_id.in_(ids))
        .order_by(occurrences.c.id)
    ):
        lines.setdefault(line.notification_id, []).append(line)
    said: dict[int, str] = {}
    if any(row.word in {"delivered", "bounced"} for row in rows):
        for receipt in await connection.execute(
            select(receipts.c.notification_id, receipts.c.status)
            .where(receipts.c.notification_id.in_(ids))
            .order_by(receipts.c.id)
        ):
            if receipt.status != "delayed":
                said[receipt.notification_id] = receipt.status
    return [
        Telling(
            row,
            held[row.id],
            lines.get(row.notification_id, []),
            said.get(row.notification_id, ""),
        )
        for row in rows
    ]


def _told_of(ids: Collection[int]) -> Select[Any]:
    w, n = webhook_tellings.c, notifications.c
    return (
        select(
            webhook_tellings,
            n.uid,
            n.kind,
            n.message,
            n.channel,
            n.role,
            attempts.c.outcome,
            attempts.c.reply,
        )
        .join(notifications, n.id == w.notification_id)
        .outerjoin(
            attempts,
            and_(attempts.c.notification_id == n.id, attempts.c.number == w.attempt),
        )
        .where(w.id.in_(ids))
        .order_by(w.due_at, w.id)
    )
