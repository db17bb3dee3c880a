"""What is planned is sent once, unless it has become moot; both databases."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import DROP, SmtpServer
from tests.product import (
    NOW,
    another,
    contact,
    inbox,
    invitation,
    line,
    opened,
    outcomes,
    payment,
    planned,
    reasons,
    smtp,
    statement,
    states,
)
from workers.app import TEMPLATES, App
from workers.model import Notice
from workers.providers import Mail, Sms
from workers.render import Renderer

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
Change = Callable[[App], Awaitable[Any]]


class Interrupted(Renderer):
    """The product's renderer, but something happens first: once, while a message is written."""

    def __init__(self, app: App, happens: Change) -> None:
        self._app, self._happens, self._loop = app, happens, asyncio.get_running_loop()
        self.times = 0

    def is_quick(self, notice: Notice) -> bool:
        return False  # something takes its time

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

        assert [round(wait / expected) for wait, expected in zip(waits, (1, 2), strict=True)] == [
            1,
            1,
        ]
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


class Unhurried(SmtpServer):
    """Takes its time for each mail, as a relay does."""

    async def _answer(self, session: Any, verb: str, usual: str) -> str:
        if verb == "RCPT":
            await asyncio.sleep(0.02)
        return await super()._answer(session, verb, usual)


async def test_a_chunk_is_worth_its_transaction_though_places_come_free_one_by_one(
    database_url: str, clock: FakeClock
) -> None:
    begun: list[int] = []
    async with Unhurried() as relay:
        settings = smtp(relay.port) | {"delivery": {"concurrency": 60}}
        settings["providers"]["smtp"]["connections"] = 5
        async with opened(database_url, clock, **settings) as app:

            @event.listens_for(app.store.database.engine.sync_engine, "before_cursor_execute")
            def count(_c: Any, _cursor: Any, said: str, values: Any, *_: Any) -> None:
                if said.startswith("INSERT INTO attempts"):
                    begun.append(len(values))

            people = [contact(f"C{n}", partner=f"P{n}") for n in range(300)]
            things = [statement(f"S{n}", partner=f"P{n}") for n in range(300)]
            await planned(app, *people, *things)
            async with asyncio.timeout(60):
                await app.delivery.drain()
    assert len(relay.messages) == 300
    assert len(begun) <= 100, "several mails are begun at a time"
