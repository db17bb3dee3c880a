"""Many workers, slow ones, stale ones: each message once; both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, make_url, select

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import SmtpServer
from tests.faults.suite.wire import Wire
from tests.product import (
    NOW,
    another,
    contact,
    inbox,
    opened,
    outcomes,
    planned,
    smtp,
    statement,
    states,
)
from workers.model import NotificationState
from workers.store.attempts import Beginning, Ending
from workers.store.tables import attempts

DAY = timedelta(days=1)


class Stalling(SmtpServer):
    """Answers the final dot only when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled, self.go = asyncio.Event(), asyncio.Event()

    async def _answer(self, session: Any, verb: str, usual: str) -> str:
        if verb == ".":
            self.stalled.set()
            await self.go.wait()
        return await super()._answer(session, verb, usual)


async def test_a_lease_is_renewed_while_a_slow_server_takes_its_time(
    database_url: str, clock: FakeClock
) -> None:
    settings = {"lease_s": 2, "poll_s": 0.2}
    async with (
        Stalling() as server,
        opened(database_url, clock, **smtp(server.port), delivery=settings) as app,
    ):
        await planned(app, contact(), statement())
        slow = asyncio.create_task(app.delivery.drain())
        await server.stalled.wait()
        stopping = asyncio.Event()
        neighbour = asyncio.create_task(another(app).run(stopping))
        await asyncio.sleep(4)
        server.go.set()
        await slow
        stopping.set()
        await neighbour

        assert await outcomes(app) == ["accepted"]
        assert len(server.messages) == 1


async def test_a_stale_holder_can_neither_begin_nor_finish(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        lapsed, lease = timedelta(seconds=-1), timedelta(seconds=60)
        (stale,) = await app.store.outbox.claim(NOW, 10, lapsed)
        (holder,) = await app.store.outbox.claim(NOW, 10, lease)
        nobody = await app.store.outbox.claim(NOW, 10, lease)
        (row,) = await app.store.records.find("S1")
        async with app.store.database.write() as connection:
            seen = {row.id: row.revision}
            begun = [
                await app.store.outbox.begin(
                    connection, [Beginning(one, "inbox", seen)], lease, NOW
                )
                for one in (stale, holder, holder)
            ]
            late = await app.store.outbox.settle(
                connection, [Ending(stale, NotificationState.CANCELLED, "moot")], NOW
            )

        assert nobody == []
        assert begun == [set(), {holder.id}, set()]
        assert late == set()


async def test_what_a_stale_holder_holds_moot_stays_with_the_one_who_sends_it(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        lapsed = timedelta(seconds=-1)
        (stale,) = await app.store.outbox.claim(NOW, 10, lapsed)
        await app.delivery.drain()
        clock.set(NOW + 3 * DAY)
        await app.delivery._prepare([stale])
        whole = await app.store.operations.whole(str(stale.id))

        assert whole.row.state == "accepted"
        assert [one.dropped for one in whole.lines] == [None]


async def test_what_is_in_flight_by_our_fence_is_known_and_its_lease_begins_anew(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(
            app, contact(), contact("C2", "administrator"), statement(confirm_by="2026-11-24")
        )
        lapsed, lease = timedelta(seconds=-1), timedelta(seconds=60)
        begun, claimed = await app.store.outbox.claim(NOW, 10, lapsed)
        (row,) = await app.store.records.find("S1")
        async with app.store.database.write() as connection:
            seen = {row.id: row.revision}
            one = Beginning(begun, "inbox", seen)
            await app.store.outbox.begin(connection, [one], lapsed, NOW)
        mine = {one.id: one.fence for one in (begun, claimed)}
        theirs = {begun.id: begun.fence + 1}

        assert await app.store.outbox.still_sending(theirs, lease) == set()
        assert await app.store.outbox.still_sending(mine, lease) == {begun.id}
        assert await app.store.outbox.sweep(["inbox"], 10, NOW) == (0, 0)


async def test_a_message_whose_commits_answer_is_lost_is_sent_all_the_same(
    postgres_url: str, clock: FakeClock
) -> None:
    url = make_url(postgres_url)
    said = ["cut"]

    async def cut_once(answer: bytes) -> None:
        said.extend(word for word in ("INSERT 0 1", "COMMIT") if f"{word}\0".encode() in answer)
        if said[-2:] == ["INSERT 0 1", "COMMIT"] and "cut" not in said:
            said.append("cut")
            raise ConnectionResetError

    async with Wire(url.port or 0, cut_once) as wire:
        through = url.set(drivername="postgresql", port=wire.port)
        async with opened(through.render_as_string(hide_password=False), clock) as app:
            await planned(app, contact(), statement())
            said[:] = []
            await app.delivery.drain()

            assert "cut" in said
            assert await outcomes(app) == ["accepted"]
            assert len(await inbox(app)) == 1


async def test_who_unsubscribes_while_a_message_is_committed_to_waits_for_that_commit(
    postgres_url: str, clock: FakeClock
) -> None:
    async with opened(postgres_url.replace("+asyncpg", "", 1), clock) as app:
        await planned(app, contact(), statement())
        (row,) = await app.store.operations.notifications(limit=10)
        async with app.store.database.write() as connection:
            await app.store.outbox.hold(connection, [row.id])
            unsubscribing = asyncio.create_task(
                app.store.operations.suppress("mail", row.address, "*", "unsubscribed", "S1", NOW)
            )
            await asyncio.sleep(0.5)
            waited = not unsubscribing.done()

        assert waited
        assert await unsubscribing


async def test_a_stale_holder_doesnt_renew_what_another_holds(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        lapsed = timedelta(seconds=-1)
        (stale,) = await app.store.outbox.claim(NOW, 10, lapsed)
        await app.store.outbox.claim(NOW, 10, lapsed)
        await app.store.outbox.renew([stale], timedelta(seconds=60))

        assert len(await app.store.outbox.claim(NOW, 10, lapsed)) == 1


async def test_all_that_is_in_hand_is_renewed_at_once(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await planned(
            app, contact(), contact("C2", "administrator"), statement(confirm_by="2026-11-24")
        )
        lapsed = timedelta(seconds=-1)
        held = await app.store.outbox.claim(NOW, 10, lapsed)
        assert len(held) == 2
        await app.store.outbox.renew(held, timedelta(seconds=60))

        assert await app.store.outbox.claim(NOW, 10, lapsed) == []


@pytest.mark.postgres
async def test_a_renewal_doesnt_wait_for_what_is_begun_or_finished_meanwhile(
    postgres_url: str, clock: FakeClock
) -> None:
    async with opened(postgres_url.replace("+asyncpg", "", 1), clock) as app:
        await planned(
            app, contact(), contact("C2", "administrator"), statement(confirm_by="2026-11-24")
        )
        lapsed, lease = timedelta(seconds=-1), timedelta(seconds=60)
        first, second = await app.store.outbox.claim(NOW, 10, lapsed)
        async with app.store.database.write() as connection:
            await app.store.outbox.put_off(connection, [second], {second.id: (NOW, "")})
            # Whoever waited here for the second would hold the first, which is wanted next.
            async with asyncio.timeout(5):
                await app.store.outbox.renew([first, second], lease)
            assert await app.store.outbox.put_off(connection, [first], {first.id: (NOW, "")})
            await connection.rollback()
        (left,) = await app.store.outbox.claim(NOW, 10, lapsed)

        assert left.id == second.id


async def test_a_message_that_ends_its_worker_each_time_is_parked_at_last(
    database_url: str, clock: FakeClock
) -> None:
    lapsed = timedelta(seconds=-1)
    async with opened(database_url, clock, delivery={"attempts": 3}) as app:
        await planned(app, contact(), statement())
        (row,) = await app.store.records.find("S1")
        for _ in range(3):
            (claimed,) = await app.store.outbox.claim(NOW, 10, lapsed)
            async with app.store.database.write() as connection:
                one = Beginning(claimed, "inbox", {row.id: row.revision})
                assert await app.store.outbox.begin(connection, [one], lapsed, NOW)
            await app.delivery._sweep()

        assert await states(app) == {"c1@example.com": "parked"}
        assert await outcomes(app) == ["unknown"] * 3


@pytest.mark.timeout(300)
async def test_four_workers_send_each_of_a_thousand_messages_exactly_once(
    database_url: str, clock: FakeClock
) -> None:
    count = 1000
    quick = {"answer_timeout_s": 30, "connections": 8}
    async with (
        SmtpServer() as server,
        opened(database_url, clock, **smtp(server.port, **quick)) as app,
    ):
        people = [contact(f"C{number}", partner=f"P{number}") for number in range(count)]
        things = [statement(f"S{number}", partner=f"P{number}") for number in range(count)]
        await planned(app, *people, *things)
        await asyncio.gather(*(another(app).drain() for _ in range(4)))

        async with app.store.database.read() as connection:
            tries = await connection.execute(select(func.count()).select_from(attempts))
            assert tries.scalar_one() == count
        to = [address for message in server.messages for address in message.recipients]
        assert len(to) == count
        assert len(set(to)) == count
