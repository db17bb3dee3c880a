"""What is planned is sent once, unless it has become moot, and every end has a name; both databases."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import DROP, SmtpServer
from tests.fakes.twilio_server import DROP as CUT
from tests.fakes.twilio_server import TwilioServer
from tests.product import (
    NOW,
    contact,
    inbox,
    invitation,
    line,
    opened,
    payment,
    smtp,
    statement,
    states,
)
from workers.app import TEMPLATES, App
from workers.deliver import Delivery
from workers.model import Notice, NotificationState
from workers.providers import Mail, Sms
from workers.render import Renderer
from workers.store.tables import attempts

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
Change = Callable[[App], Awaitable[Any]]


async def planned(app: App, *things: Any, kind: str = "statement") -> None:
    await app.intake.take(things)
    await app.scan.run(kind)


async def reasons(app: App) -> dict[str, str]:
    rows = await app.store.operations.notifications(limit=5000)
    return {row.address: row.reason for row in rows}


async def outcomes(app: App) -> list[str]:
    async with app.store.database.read() as connection:
        found = await connection.execute(select(attempts.c.outcome).order_by(attempts.c.id))
        return list(found.scalars())


def another(app: App, renderer: Renderer | None = None) -> Delivery:
    """A second worker on the same database."""
    return Delivery(
        app.store,
        app.registry,
        renderer or app.renderer,
        app.providers,
        app.links,
        app.settings,
        app.clock,
    )


class Interrupted(Renderer):
    """The product's renderer, but something happens first: once, while a message is written."""

    def __init__(self, app: App, happens: Change) -> None:
        self._app, self._happens, self._loop = app, happens, asyncio.get_running_loop()
        self.times = 0

    def render(self, notice: Notice) -> Mail | Sms:
        self.times += 1
        if self.times == 1:
            what = self._happens(self._app)
            asyncio.run_coroutine_threadsafe(_wait_for(what), self._loop).result(20)
        return self._app.renderer.render(notice)


async def _wait_for(what: Awaitable[Any]) -> None:
    await what


def unsubscribed(app: App) -> Awaitable[Any]:
    return app.store.operations.suppress(
        "mail", "c1@example.com", "statement", "unsubscribed", "c1", NOW
    )


CHANGES: dict[str, Change] = {
    "confirmed": lambda app: app.intake.take([statement(status="CONFIRMED")]),
    "disputed": lambda app: app.intake.take([statement(feedback_open=True)]),
    "later deadline": lambda app: app.intake.take([statement(confirm_by="2026-12-11")]),
    "contact gone": lambda app: app.intake.take([contact(active=False)]),
    "contact moved": lambda app: app.intake.take([contact(partner="P2")]),
    "no mail wished": lambda app: app.intake.take([contact(channels="sms")]),
    "unsubscribed": unsubscribed,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_became_moot_after_the_scan_is_cancelled(
    change: str, database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await CHANGES[change](app)
        await app.delivery.drain()

        assert await states(app) == {"c1@example.com": "cancelled"}
        assert (await reasons(app))["c1@example.com"].startswith("moot: ")
        assert await inbox(app) == []
        assert await outcomes(app) == []


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "unsubscribed"])
async def test_what_becomes_moot_while_it_is_written_is_cancelled(
    change: str, database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await another(app, Interrupted(app, CHANGES[change])).drain()

        assert await states(app) == {"c1@example.com": "cancelled"}
        assert await inbox(app) == []


async def test_who_unsubscribes_while_it_is_written_is_suppressed(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await another(app, Interrupted(app, unsubscribed)).drain()

        assert await states(app) == {"c1@example.com": "suppressed"}
        assert await inbox(app) == []


async def test_a_change_that_matters_not_is_sent_as_it_stands_then(
    database_url: str, clock: FakeClock
) -> None:
    async with SmtpServer() as server, opened(database_url, clock, **smtp(server.port)) as app:
        await planned(app, contact(), statement())
        renderer = Interrupted(
            app, lambda app: app.intake.take([statement(amount_incl_tax="987654.32")])
        )
        await another(app, renderer).drain()

        (message,) = server.messages
        assert renderer.times == 2
        assert b"987,654.32" in message.content


async def test_a_reissued_invitation_starts_anew_and_the_old_word_is_cancelled(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact("C1", "sales"), invitation(), kind="invitation")
        await app.intake.take([invitation(attempt_no=2, sent_at=NOW - 5 * DAY)])
        await app.delivery.drain()
        cancelled, why = await states(app), await reasons(app)
        await app.scan.run("invitation")
        await app.delivery.drain()

        assert set(cancelled.values()) == {"cancelled"}
        assert set(why.values()) == {"moot: a new ladder has begun"}
        assert sorted(await inbox(app)) == ["c1@example.com", "i1@customer.example"]


async def test_an_address_that_is_corrected_after_the_scan_gets_the_message(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(mail="wrong@example.com"), statement())
        await app.intake.take([contact()])
        await app.delivery.drain()
        await app.scan.run("statement")
        await app.delivery.drain()

        assert await inbox(app) == ["c1@example.com"]


async def test_a_suppressed_address_isnt_written_to(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), contact("C2"), statement())
        await app.store.operations.suppress("mail", "c1@example.com", "*", "bounced", "ops", NOW)
        await app.delivery.drain()

        assert await states(app) == {"c1@example.com": "suppressed", "c2@example.com": "accepted"}
        assert await inbox(app) == ["c2@example.com"]


async def test_a_digest_loses_what_closed_and_keeps_the_rest(
    database_url: str, clock: FakeClock
) -> None:
    async with SmtpServer() as server, opened(database_url, clock, **smtp(server.port)) as app:
        await planned(app, contact(), statement("S-OPEN"), statement("S-DONE"))
        await app.intake.take([statement("S-DONE", status="CONFIRMED")])
        await app.delivery.drain()

        (message,) = server.messages
        assert b"S-OPEN" in message.content
        assert b"S-DONE" not in message.content


async def test_a_deferred_message_is_tried_again_after_a_while(
    database_url: str, clock: FakeClock
) -> None:
    replies = {"RCPT": ["451 4.3.0 later", "451 4.3.0 later"]}
    async with (
        SmtpServer(replies=replies) as server,
        opened(database_url, clock, **smtp(server.port)) as app,
    ):
        await planned(app, contact(), statement())
        waits = []
        for _ in range(2):
            await app.delivery.drain()
            (row,) = await app.store.operations.notifications()
            assert row.state == "pending"
            waits.append((row.not_before - clock()) / MINUTE)
            clock.set(row.not_before - MINUTE / 60)
            await app.delivery.drain()
            clock.set(row.not_before)
        await app.delivery.drain()

        assert [round(wait / expected) for wait, expected in zip(waits, (1, 2), strict=True)] == [1, 1]
        assert await outcomes(app) == ["deferred", "deferred", "accepted"]
        assert len(server.messages) == 1


async def test_a_refused_address_fails_at_once_and_isnt_written_to_again(
    database_url: str, clock: FakeClock
) -> None:
    replies = {"RCPT": ["550 5.1.1 no such user"]}
    async with (
        SmtpServer(replies=replies) as server,
        opened(database_url, clock, **smtp(server.port, connections=1)) as app,
    ):
        await planned(app, contact(), statement())
        await app.delivery.drain()
        first = await states(app)
        await planned(app, contact(), contact("C2"), invitation(inviter="C1"), kind="invitation")
        await app.delivery.drain()

        assert first == {"c1@example.com": "failed"}
        assert await states(app) == {
            "c1@example.com": "suppressed",
            "i1@customer.example": "accepted",
        }
        (suppression,) = await app.store.operations.suppressions()
        assert (suppression.address, suppression.kind) == ("c1@example.com", "*")
        assert "5.1.1" in suppression.reason


async def test_a_mail_whose_answer_was_lost_is_sent_again_with_the_same_message_id(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        SmtpServer(replies={".": [DROP]}) as server,
        opened(database_url, clock, **smtp(server.port)) as app,
    ):
        await planned(app, contact(), statement())
        await app.delivery.drain()
        unknown = await app.store.operations.notifications(state="unknown")
        clock.advance(2 * MINUTE)
        await app.delivery.drain()

        assert len(unknown) == 1
        assert await outcomes(app) == ["unknown", "accepted"]
        ids = [re.findall(rb"(?im)^message-id: *(\S+)", one.content) for one in server.messages]
        assert len(ids) == 2
        assert ids[0] == ids[1] != []


def twilio(server: TwilioServer, **more: Any) -> dict[str, Any]:
    table = {"base_url": server.url, "account_sid": "AC0123", "auth_token": "tok-secret"}
    return {
        "sms": {"providers": ["twilio"], **more},
        "providers": {"twilio": {**table, "sender": "+15005550006"}},
    }


def mobile(ref: str = "C1", number: str = "+8613800138001", **more: Any) -> Any:
    return contact(ref, mobile=number, mail=None, channels="sms", **more)


async def test_an_sms_whose_answer_was_lost_is_parked_for_a_person(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        TwilioServer(script=[CUT]) as server,
        opened(database_url, clock, **twilio(server)) as app,
    ):
        await planned(app, mobile(), statement())
        await app.delivery.drain()
        clock.advance(DAY / 4)
        await app.delivery.drain()
        (row,) = await app.store.operations.notifications(state="unknown")

        assert row.state == "parked"
        assert row.reason.startswith("unknown outcome: ")
        assert len(server.requests) == 1


async def test_an_sms_that_a_person_releases_is_sent_again(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        TwilioServer(script=[CUT]) as server,
        opened(database_url, clock, **twilio(server)) as app,
    ):
        await planned(app, mobile(), statement())
        await app.delivery.drain()
        (row,) = await app.store.operations.notifications(state="unknown")
        await app.store.operations.move(
            row.uid, NotificationState.PENDING, "ops", "release", "not received", clock()
        )
        await app.delivery.drain()

        assert await outcomes(app) == ["unknown", "accepted"]
        assert len(server.requests) == 2


async def test_after_the_last_attempt_a_message_has_failed(
    database_url: str, clock: FakeClock
) -> None:
    replies = {"RCPT": ["451 4.3.0 later"] * 9}
    settings = {"attempts": 3, "longest_retry_s": 60}
    async with (
        SmtpServer(replies=replies) as server,
        opened(database_url, clock, **smtp(server.port), delivery=settings) as app,
    ):
        await planned(app, contact(), statement())
        for _ in range(6):
            await app.delivery.drain()
            clock.advance(2 * MINUTE)

        assert await outcomes(app) == ["deferred"] * 3
        assert await states(app) == {"c1@example.com": "failed"}
        assert (await reasons(app))["c1@example.com"].startswith("gave up after 3 attempts: ")


async def test_a_template_that_is_broken_parks_its_messages_and_no_others(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    broken = list((tmp_path / "templates/messages/en/statement").iterdir())
    for file in broken:
        file.write_text("{{ no_such_thing.at_all }}")
    async with opened(database_url, clock, templates=tmp_path / "templates") as app:
        await planned(app, contact(), contact("C2", language="zh-CN"), statement())
        await planned(app, contact("C3", "sales"), invitation(), kind="invitation")
        await app.delivery.drain()

        assert broken != []
        assert await states(app) == {
            "c1@example.com": "parked",
            "c2@example.com": "accepted",
            "c3@example.com": "accepted",
            "i1@customer.example": "accepted",
        }
        assert "no_such_thing" in (await reasons(app))["c1@example.com"]


async def test_a_number_gets_two_sms_a_minute(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock, delivery={"concurrency": 1}) as app:
        people = [mobile(f"C{number}", partner=f"P{number}") for number in range(5)]
        things = [statement(f"S{number}", partner=f"P{number}") for number in range(5)]
        await planned(app, *people, *things)
        seen = []
        for _ in range(3):
            await app.delivery.drain()
            seen.append(len(await inbox(app)))
            clock.advance(MINUTE + MINUTE / 60)

        assert seen == [2, 4, 5]


async def test_a_number_gets_so_many_sms_a_day(database_url: str, clock: FakeClock) -> None:
    settings = {"per_number_a_day": 3, "quiet_hours": "none"}
    async with opened(database_url, clock, sms=settings) as app:
        people = [mobile(f"C{number}", partner=f"P{number}") for number in range(5)]
        things = [statement(f"S{n}", partner=f"P{n}") for n in range(5)]
        await planned(app, *people, *things)
        for _ in range(10):
            await app.delivery.drain()
            clock.advance(2 * MINUTE)
        today = len(await inbox(app))
        clock.advance(DAY)
        await app.delivery.drain()

        assert today == 3
        assert len(await inbox(app)) == 5


async def test_numbers_of_other_countries_fail_and_name_the_setting(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, mobile("C1", "+4915123456789"), mobile("C2"), statement())
        await app.delivery.drain()

        assert await states(app) == {"+4915123456789": "failed", "+8613800138001": "accepted"}
        assert (await reasons(app))["+4915123456789"] == (
            "numbers of DE aren't allowed: add it to sms.countries"
        )


async def test_an_sms_that_quiet_hours_catch_up_with_waits_for_their_end(
    database_url: str, clock: FakeClock
) -> None:
    clock.set(NOW + 11 * HOUR + 55 * MINUTE)
    async with opened(database_url, clock) as app:
        await planned(app, mobile(), statement())
        clock.set(NOW + 12 * HOUR + 5 * MINUTE)
        await app.delivery.drain()
        (row,) = await app.store.operations.notifications()
        clock.set(NOW + 23 * HOUR)
        await app.delivery.drain()

        assert (row.state, row.not_before) == ("pending", NOW + 23 * HOUR)
        assert await states(app) == {"+8613800138001": "accepted"}


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
                await app.store.outbox.begin(connection, one, "inbox", seen, lease, NOW)
                for one in (stale, holder, holder)
            ]
            late = await app.store.outbox.settle(
                connection, stale, NotificationState.CANCELLED, "moot", NOW
            )

        assert nobody == []
        assert begun == [False, True, False]
        assert late is False


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
                seen = {row.id: row.revision}
                assert await app.store.outbox.begin(
                    connection, claimed, "inbox", seen, lapsed, NOW
                )
            await app.delivery._sweep()

        assert await states(app) == {"c1@example.com": "parked"}
        assert await outcomes(app) == ["unknown"] * 3


@pytest.mark.timeout(300)
async def test_four_workers_send_each_of_two_thousand_messages_exactly_once(
    database_url: str, clock: FakeClock
) -> None:
    count = 2000
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


async def test_payments_take_their_list_along(database_url: str, clock: FakeClock) -> None:
    async with SmtpServer() as server, opened(database_url, clock, **smtp(server.port)) as app:
        await planned(app, contact(), line(), payment(), kind="payment")
        await app.delivery.drain()

        (message,) = server.messages
        assert b"application/pdf" in message.content


async def test_a_deadline_that_moves_after_the_scan_has_its_own_stages_told(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await app.intake.take([statement(confirm_by="2026-12-11")])
        await app.delivery.drain()
        for day in (4, 9):
            clock.set(NOW.replace(month=12, day=day))
            await app.scan.run("statement")
            await app.delivery.drain()

        rows = await app.store.operations.notifications(state="accepted")
        whole = [await app.store.operations.whole(row.uid) for row in rows]
        assert [line.stage for one in reversed(whole) for line in one.lines] == ["T-5", "T-2"]
