"""Each change of a notification's state is told once to each endpoint that wants it, and no other.

A trigger writes them down, so these walk every legal move through the statements that make it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, opened, planned, smtp, statement
from workers.app import App
from workers.endpoints import WORDS
from workers.model import MOVES, Outcome
from workers.model import NotificationState as S
from workers.providers import Report
from workers.store.attempts import Beginning, Claimed, Ending, Finished
from workers.store.guard import Guard
from workers.store.tables import notifications
from workers.store.webhook_tables import webhook_tellings
from workers.store.webhooks import Subscriber

MINUTE = timedelta(seconds=60)
EVERYTHING = Subscriber("everything", "m", tuple(WORDS), ())


class Walk:
    """One notification on its way; each step is a statement of the product's own."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.outbox = app.store.outbox
        self.claimed: Claimed

    async def claim(self) -> Walk:
        (self.claimed,) = await self.outbox.claim(NOW, 1, MINUTE)
        return self

    async def settle(self, state: S) -> Walk:
        await self.claim()
        async with self.app.store.database.write() as connection:
            ending = Ending(self.claimed, state, "why")
            assert await self.outbox.settle(connection, [ending], NOW) == {self.claimed.id}
        return self

    async def begin(self) -> Walk:
        await self.claim()
        (record,) = await self.app.store.records.find("S1")
        async with self.app.store.database.write() as connection:
            one = Beginning(self.claimed, "smtp", {record.id: record.revision})
            assert await self.outbox.begin(connection, [one], MINUTE, NOW) == {self.claimed.id}
        return self

    async def finish(self, outcome: Outcome, state: S, reply: str = "250 2.0.0 ok") -> Walk:
        again = NOW if state is S.PENDING else None
        done = Finished(self.claimed, outcome, state, reply, reference="m1", again_at=again)
        assert await self.outbox.finish([done], NOW) == 0
        return self

    async def report(self, status: Any) -> Walk:
        report = Report(reference="m1", status=status, detail="said", uid=self.claimed.row.uid)
        assert await self.outbox.receive("smtp", report, NOW)
        return self

    async def move(self, to: S) -> Walk:
        (row,) = await self.app.store.operations.notifications(limit=1)
        await self.app.store.operations.move(row.uid, to, "ann", "move", "why", NOW)
        return self

    async def expire(self, repeatable: set[str]) -> Walk:
        async with self.app.store.database.write() as connection:
            await connection.execute(update(notifications).values(lease_until=NOW - 900 * MINUTE))
        assert sum(await self.outbox.sweep(repeatable, 10, NOW)) == 1
        return self

    async def restored(self) -> Walk:
        (row,) = await self.app.store.operations.notifications(limit=1)
        await Guard(self.app.store.database).cancel([row.id], "restored", NOW)
        return self


async def _refused(walk: Walk) -> Walk:
    return await (await walk.begin()).finish(Outcome.REJECTED, S.FAILED, "550 5.1.1 no c1@x.org")


async def _accepted(walk: Walk) -> Walk:
    return await (await walk.begin()).finish(Outcome.ACCEPTED, S.ACCEPTED)


async def _lost(walk: Walk) -> Walk:
    return await (await walk.begin()).finish(Outcome.UNKNOWN, S.PARKED, "")


async def _delivered(walk: Walk) -> Walk:
    return await (await _accepted(walk)).report("delivered")


Steps = Callable[[Walk], Awaitable[Walk]]


async def _deferred(walk: Walk) -> Walk:
    return await (await walk.begin()).finish(Outcome.DEFERRED, S.PENDING, "451 4.7.1 later")


async def _swept(walk: Walk) -> Walk:
    return await (await walk.begin()).expire({"smtp"})


async def _swept_for_good(walk: Walk) -> Walk:
    return await (await walk.begin()).expire(set())


async def _guard_pending(walk: Walk) -> Walk:
    return await walk.restored()


async def _guard_sending(walk: Walk) -> Walk:
    return await (await walk.begin()).restored()


async def _early(walk: Walk) -> Walk:
    return await (await walk.begin()).report("delivered")


async def _early_bounce(walk: Walk) -> Walk:
    return await (await walk.begin()).report("bounced")


def _then(first: Steps, *moves: Callable[[Walk], Awaitable[Walk]]) -> Steps:
    async def steps(walk: Walk) -> Walk:
        await first(walk)
        for move in moves:
            await move(walk)
        return walk

    return steps


def _to(state: S) -> Steps:
    return lambda walk: walk.settle(state)


def _by_hand(state: S) -> Steps:
    return lambda walk: walk.move(state)


def _said(status: str) -> Steps:
    return lambda walk: walk.report(status)


PATHS: dict[str, tuple[Steps, list[str], list[tuple[S, S]]]] = {
    "accepted": (
        _accepted,
        ["sending", "accepted"],
        [(S.PENDING, S.SENDING), (S.SENDING, S.ACCEPTED)],
    ),
    "delivered": (
        _delivered,
        ["sending", "accepted", "delivered"],
        [(S.ACCEPTED, S.DELIVERED)],
    ),
    "bounced at once": (
        _then(_accepted, _said("bounced")),
        ["sending", "accepted", "bounced"],
        [(S.ACCEPTED, S.FAILED)],
    ),
    "complained of late": (
        _then(_delivered, _said("complained")),
        ["sending", "accepted", "delivered", "bounced"],
        [(S.DELIVERED, S.FAILED)],
    ),
    "refused, then tried by hand": (
        _then(_refused, _by_hand(S.PENDING), _accepted),
        ["sending", "rejected", "requeued", "sending", "accepted"],
        [(S.SENDING, S.FAILED), (S.FAILED, S.PENDING)],
    ),
    "deferred twice": (
        _then(_deferred, _deferred),
        ["sending", "deferred", "sending", "deferred"],
        [(S.SENDING, S.PENDING)],
    ),
    "unknown, settled by a report": (
        _then(_lost, _said("delivered")),
        ["sending", "unknown", "delivered"],
        [(S.SENDING, S.PARKED), (S.PARKED, S.DELIVERED)],
    ),
    "unknown, bounced": (
        _then(_lost, _said("bounced")),
        ["sending", "unknown", "bounced"],
        [(S.PARKED, S.FAILED)],
    ),
    "unknown, released": (
        _then(_lost, _by_hand(S.PENDING)),
        ["sending", "unknown", "requeued"],
        [(S.PARKED, S.PENDING)],
    ),
    "unknown, given up": (
        _then(_lost, _by_hand(S.CANCELLED)),
        ["sending", "unknown", "cancelled"],
        [(S.PARKED, S.CANCELLED)],
    ),
    "reported before the reply": (
        _early,
        ["sending", "delivered"],
        [(S.SENDING, S.DELIVERED)],
    ),
    "bounced before the reply": (_early_bounce, ["sending", "bounced"], []),
    "swept, sent again": (_swept, ["sending", "deferred"], []),
    "swept, parked": (_swept_for_good, ["sending", "unknown"], []),
    "moot": (_to(S.CANCELLED), ["cancelled"], [(S.PENDING, S.CANCELLED)]),
    "unwelcome, then welcome": (
        _then(_to(S.SUPPRESSED), _by_hand(S.PENDING)),
        ["suppressed", "requeued"],
        [(S.PENDING, S.SUPPRESSED), (S.SUPPRESSED, S.PENDING)],
    ),
    "parked twice, without an attempt": (
        _then(_to(S.PARKED), _by_hand(S.PENDING), _to(S.PARKED)),
        ["parked", "requeued", "parked"],
        [(S.PENDING, S.PARKED)],
    ),
    "never allowed": (_to(S.FAILED), ["rejected"], [(S.PENDING, S.FAILED)]),
    "cancelled after a restore": (_guard_pending, ["cancelled"], []),
    "parked after a restore": (_guard_sending, ["sending", "unknown"], []),
}


async def tellings(app: App, *columns: str) -> list[Any]:
    """The tellings, oldest first."""
    wanted = [webhook_tellings.c[name] for name in columns or ("word",)]
    async with app.store.database.read() as connection:
        rows = await connection.execute(select(*wanted).order_by(webhook_tellings.c.id))
        return [row[0] if len(wanted) == 1 else tuple(row) for row in rows]


@pytest.mark.parametrize("path", PATHS)
async def test_every_change_is_written_down_once_for_each_endpoint(
    path: str, database_url: str, clock: FakeClock
) -> None:
    steps, words, _ = PATHS[path]
    async with opened(database_url, clock) as app:
        other = Subscriber("other", "m", tuple(WORDS), ("statement", "payment"))
        elsewhere = Subscriber("elsewhere", "m", tuple(WORDS), ("payment",))
        await app.store.webhooks.subscribe([EVERYTHING, other, elsewhere])
        await planned(app, contact(), statement())
        await steps(Walk(app))
        found = await tellings(app, "endpoint", "word")
        (row,) = await app.store.operations.notifications(limit=2)

        for name in ("everything", "other"):
            assert [word for endpoint, word in found if endpoint == name] == words
        assert len(found) == 2 * len(words)
        assert WORDS[words[-1]] == row.state  # type: ignore[index]
        keys = await tellings(app, "notification_id", "fence", "word", "endpoint")
        assert len(set(keys)) == len(keys)


def test_these_paths_walk_every_legal_move_and_say_every_word() -> None:
    walked = {move for _, _, moves in PATHS.values() for move in moves}
    legal = {(before, after) for before, afters in MOVES.items() for after in afters}

    assert walked == legal
    assert {word for _, words, _ in PATHS.values() for word in words} == set(WORDS)


async def test_a_change_that_is_rolled_back_is_not_told(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.store.webhooks.subscribe([EVERYTHING])
        await planned(app, contact(), statement())
        walk = await Walk(app).claim()
        async with app.store.database.engine.connect() as connection:
            await app.store.outbox.settle(connection, [Ending(walk.claimed, S.CANCELLED, "")], NOW)
            await connection.rollback()

        assert await tellings(app) == []


async def test_a_statement_written_by_hand_is_told_too(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.store.webhooks.subscribe([EVERYTHING])
        await planned(app, contact(), statement())
        async with app.store.database.write() as connection:
            await connection.execute(text("UPDATE notifications SET state = 'cancelled'"))
            await connection.execute(text("UPDATE notifications SET state = 'cancelled'"))

        assert await tellings(app) == ["cancelled"]


async def test_an_endpoint_is_told_only_the_words_it_wants_and_only_from_when_it_is_known(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        walk = await Walk(app).begin()
        await app.store.webhooks.subscribe([Subscriber("few", "m", ("accepted",), ())])
        await walk.finish(Outcome.ACCEPTED, S.ACCEPTED)
        await walk.report("delivered")

        assert await tellings(app, "endpoint", "word") == [("few", "accepted")]


async def test_a_digest_is_told_to_those_who_want_the_kind_of_a_line(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        wanting = Subscriber("wanting", "m", ("cancelled",), ("statement",))
        other = Subscriber("other", "m", ("cancelled",), ("payment",))
        await app.store.webhooks.subscribe([wanting, other])
        await planned(app, contact(digest="daily"), statement())
        (row,) = await app.store.operations.notifications(limit=2)
        assert row.kind == "digest"
        await Walk(app).move(S.CANCELLED)

        assert await tellings(app, "endpoint") == ["wanting"]


async def test_nothing_is_written_down_while_nobody_is_to_be_told(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock, **smtp(1)) as app:
        await app.store.webhooks.subscribe([EVERYTHING])
        new, gone, alone = await app.store.webhooks.subscribe([])
        await planned(app, contact(), statement())
        await _delivered(Walk(app))

        assert (new, gone, alone) == ([], ["everything"], [])
        assert await tellings(app) == []


async def test_what_waited_for_an_endpoint_that_is_gone_has_failed(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.store.webhooks.subscribe([EVERYTHING])
        await planned(app, contact(), statement())
        await Walk(app).move(S.CANCELLED)
        await app.store.webhooks.subscribe([])

        assert await tellings(app, "state") == ["failed"]
