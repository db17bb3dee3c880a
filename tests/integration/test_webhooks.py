"""Endpoints are told by signed posts, again over days, and left alone once they want no more."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from tests.fakes.clock import FakeClock
from tests.fakes.webhook_receiver import SECRET, Receiver
from tests.integration.test_metrics import watched
from tests.integration.test_webhook_changes import tellings
from tests.product import contact, opened, partner, planned, statement, states
from workers.app import App
from workers.doctor import examine
from workers.endpoints import Endpoint
from workers.errors import SettingsError, StateError
from workers.settings import Web
from workers.store.gauges import Gauges
from workers.store.retention import Ages, Retention
from workers.store.webhook_tables import webhook_tellings
from workers.store.webhooks import Answered
from workers.webhooks.letter import reply_code
from workers.webhooks.teller import SCHEDULE, Teller, subscriber

DAY = timedelta(days=1)


def teller(app: App, lookup: Any = None) -> Teller:
    """A worker's teller."""
    return Teller(app.store, app.settings.webhooks, "https://due.example.com", app.clock, lookup)


@asynccontextmanager
async def sending(
    url: str, clock: FakeClock, count: int = 1, **endpoints: Mapping[str, Any]
) -> AsyncIterator[tuple[App, Teller]]:
    """The product with these endpoints; so many mails have just been accepted."""
    async with opened(url, clock, webhooks=endpoints, web=Web(port=0)) as app:
        tells = teller(app)
        await tells.subscribe(app.rules)
        await mailed(app, *range(1, count + 1))
        try:
            yield app, tells
        finally:
            await tells.close()


async def mailed(app: App, *numbers: int) -> None:
    """A statement each, told by a mail that is accepted."""
    people = [contact(f"C{n}", partner=f"P{n}", name="Wang Fang") for n in numbers]
    partners = [partner(f"P{n}") for n in numbers]
    await planned(app, *partners, *people, *(statement(f"S{n}", partner=f"P{n}") for n in numbers))
    await app.delivery.drain()


async def test_a_producer_is_told_what_became_of_a_notification_and_by_whom(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver() as receiver,
        sending(database_url, clock, erp=receiver.settings()) as (app, tells),
    ):
        assert await tells.drain() == 1
        (row,) = await app.store.operations.notifications(limit=2)
        (got,) = receiver.got

        assert got.event == {
            "specversion": "1.0",
            "id": got.uid,
            "source": "https://due.example.com",
            "type": "duewatch.notification.accepted.v1",
            "time": "2026-11-24T01:00:00Z",
            "datacontenttype": "application/json",
            "subject": row.uid,
            "data": {
                "notification": row.uid,
                "kind": "statement",
                "message": row.message,
                "channel": "mail",
                "role": "finance",
                "state": "accepted",
                "attempt": 1,
                "records": [{"kind": "statement", "ref": "S1", "stage": "T-2"}],
                "record_count": 1,
                "outcome": "accepted",
            },
        }
        assert got.headers["content-type"].startswith("application/cloudevents+json")
        for private in (b"c1@example.com", b"Wang Fang", b"C1"):
            assert private not in got.body
        assert await tells.drain() == 0


async def test_it_is_signed_with_every_secret_in_force(database_url: str, clock: FakeClock) -> None:
    old = "whsec_" + base64.b64encode(b"an older key of 24 bytes").decode()
    async with (
        Receiver() as receiver,
        sending(database_url, clock, erp=receiver.settings(old_secrets=[old])) as (_, tells),
    ):
        await tells.drain()
        (got,) = receiver.got
        stamp = got.headers["webhook-timestamp"]
        content = b".".join((got.uid.encode(), stamp.encode(), got.body))
        expected = []
        for secret in (SECRET, old):
            key = base64.b64decode(secret.removeprefix("whsec_"))
            mac = hmac.new(key, content, hashlib.sha256).digest()
            expected.append("v1," + base64.b64encode(mac).decode())

        assert got.headers["webhook-signature"].split(" ") == expected
        assert int(stamp) == int(clock().timestamp())
        assert "." not in got.uid


@pytest.mark.parametrize("status", [500, 503, 404, 401, 302])
async def test_what_is_not_taken_is_posted_again_as_the_schedule_says_with_the_same_id(
    status: int, database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(status) as receiver,
        sending(database_url, clock, erp=receiver.settings(disable_after_days=30)) as (app, tells),
    ):
        assert await tells.drain() == 1
        for span in SCHEDULE:
            assert await tells.drain() == 0, "not before its time"
            clock.advance(span - timedelta(milliseconds=1))
            assert await tells.drain() == 0, "not before its time"
            clock.advance(span / 10 + timedelta(milliseconds=2))
            assert await tells.drain() == 1

        assert len(receiver.got) == len(SCHEDULE) + 1 == 10
        assert len({(got.uid, got.body) for got in receiver.got}) == 1
        assert await tellings(app, "state", "tries") == [("failed", 10)]
        clock.advance(30 * DAY)
        assert await tells.drain() == 0


async def test_the_schedule_of_tries_lasts_three_days() -> None:
    assert timedelta(days=3) < sum(SCHEDULE, timedelta()) < timedelta(days=3.5)


async def test_an_event_is_told_once_when_the_receiver_is_back(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(500) as receiver,
        sending(database_url, clock, 3, erp=receiver.settings()) as (app, tells),
    ):
        await tells.drain()
        receiver.status = 200
        clock.advance(timedelta(seconds=6))
        await tells.drain()
        clock.advance(4 * DAY)
        await tells.drain()

        assert sorted(Counter(got.uid for got in receiver.got).values()) == [2, 2, 2]
        assert await tellings(app, "state") == ["told"] * 3
        standing = await app.store.webhooks.standing()
        assert standing["erp"].row.failing_since is None


@pytest.mark.parametrize("asked", ["3600", "Tue, 24 Nov 2026 02:00:00 GMT"])
async def test_retry_after_is_waited_for_where_it_is_longer(
    asked: str, database_url: str, clock: FakeClock
) -> None:
    headers = {"Retry-After": asked, "Date": "Tue, 24 Nov 2026 01:00:00 GMT"}
    async with (
        Receiver(429, headers) as receiver,
        sending(database_url, clock, erp=receiver.settings()) as (_, tells),
    ):
        await tells.drain()
        clock.advance(timedelta(minutes=59))
        assert await tells.drain() == 0
        clock.advance(timedelta(minutes=1))
        assert await tells.drain() == 1


async def test_gone_disables_at_once_and_what_waits_goes_on_when_it_is_enabled(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(410) as receiver,
        sending(database_url, clock, 3, erp=receiver.settings(at_a_time=1)) as (app, tells),
    ):
        with capture_logs() as logs:
            await tells.drain()
        assert len(receiver.got) == 1
        assert ("webhook disabled", "erp", "HTTP 410 Gone") in [
            (one["event"], one.get("endpoint"), one.get("answer")) for one in logs
        ]
        await mailed(app, 9)
        clock.advance(timedelta(hours=1))
        await tells.drain()
        await tells.subscribe(app.rules)
        assert len(receiver.got) == 1, "nothing more, not even after a start"
        assert Counter(await tellings(app, "state")) == {"failed": 1, "waiting": 2}

        receiver.status = 200
        one = subscriber("erp", app.settings.webhooks["erp"])
        assert await app.store.webhooks.enable(one, "ann", clock()) == 2
        assert await app.store.webhooks.retry("ann", clock(), name="erp") == 1
        await mailed(app, 10)
        await tells.drain()
        assert Counter(await tellings(app, "state")) == {"told": 4}
        with pytest.raises(StateError, match="isn't disabled"):
            await app.store.webhooks.enable(one, "ann", clock())
        done = [row.action for row in await app.store.operations.audit()]
        assert done[:2] == ["webhook retry", "webhook enable"]


async def test_days_of_nothing_but_failures_disable_it_and_everybody_who_looks_is_told(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(500) as receiver,
        Receiver() as other,
        sending(database_url, clock, dead=receiver.settings(), well=other.settings()) as (
            app,
            tells,
        ),
    ):
        await tells.drain()
        found = {one.what: one async for one in examine(app)}
        assert not found["webhook dead"].well
        assert found["webhook dead"].detail.startswith("fails since 2026-11-24 01:00 UTC")
        assert found["webhook well"].well
        with capture_logs() as logs:
            for _ in range(100):
                clock.advance(timedelta(hours=1))
                await tells.drain()
        disabled = [one for one in logs if one["event"] == "webhook disabled"]
        assert [(one["endpoint"], one["answer"]) for one in disabled] == [
            ("dead", "HTTP 500 Internal Server Error")
        ]
        found = {one.what: one async for one in examine(app)}
        assert found["webhook dead"].detail.startswith("disabled since 2026-11-27")
        assert "duewatch webhooks enable dead" in found["webhook dead"].remedy
        reading = await Gauges(app.store.database).read([], clock())
        stand = {
            name: (one.row.disabled_at is not None, dict(one.counts))
            for name, one in reading.webhooks.items()
        }
        assert stand == {"dead": (True, {"failed": 1}), "well": (False, {})}
        assert len(other.got) == 1
        assert len(receiver.got) == 10


async def test_another_address_is_tried_anew(database_url: str, clock: FakeClock) -> None:
    async with (
        Receiver(410) as receiver,
        Receiver() as other,
        sending(database_url, clock, erp=receiver.settings()) as (app, tells),
    ):
        await tells.drain()
        moved = Endpoint.model_validate(other.settings())
        anew = Teller(app.store, {"erp": moved}, "", app.clock)
        await anew.subscribe(app.rules)
        await mailed(app, 2)
        await anew.drain()
        await anew.close()

        assert len(other.got) == 1


async def test_redirects_are_not_followed(database_url: str, clock: FakeClock) -> None:
    async with Receiver() as target:
        for status in (301, 302, 303, 307, 308):
            async with Receiver(status, {"Location": target.url}) as receiver:
                one = Endpoint.model_validate(receiver.settings())
                async with opened(database_url, clock) as app:
                    tells = Teller(app.store, {"erp": one}, "", app.clock)
                    await tells.subscribe(app.rules)
                    await mailed(app, status)
                    await tells.drain()
                    await tells.close()
                    assert len(receiver.got) >= 1
                    standing = await app.store.webhooks.standing()
                    assert "redirects aren't followed" in standing["erp"].row.answer

        assert target.got == []


async def test_two_workers_tell_each_change_once(database_url: str, clock: FakeClock) -> None:
    async with (
        Receiver(wait_s=0.01) as receiver,
        sending(database_url, clock, 60, erp=receiver.settings(at_a_time=2)) as (app, tells),
    ):
        second = teller(app)
        posts = await asyncio.gather(tells.drain(), second.drain())
        await second.close()

        assert sum(posts) == 60
        assert min(posts) > 0
        assert Counter(Counter(got.uid for got in receiver.got).values()) == {1: 60}


async def test_what_a_dead_worker_claimed_is_told_after_its_lease_and_its_word_counts_no_more(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver() as receiver,
        sending(database_url, clock, erp=receiver.settings()) as (app, tells),
    ):
        store = app.store.webhooks
        (dead,) = await store.claim("erp", clock(), 8, timedelta(minutes=5))
        clock.advance(timedelta(hours=1))
        assert await tells.drain() == 0, "leases are compared by the database's clock"
        async with app.store.database.write() as connection:
            await connection.execute(
                update(webhook_tellings).values(lease_until=clock() - 900 * DAY)
            )
        receiver.status = 500
        assert await tells.drain() == 1
        await store.answered("erp", [Answered(dead, True, "late")], clock(), DAY)
        assert await tellings(app, "state", "held") == [("waiting", 2)]


async def test_a_slow_endpoint_slows_neither_the_others_nor_the_mail(
    database_url: str, clock: FakeClock
) -> None:
    count = 60
    async with Receiver(wait_s=60) as slow, Receiver() as quick:
        ends = {
            "quick": quick.settings(at_a_time=2),
            "slow": slow.settings(at_a_time=4, timeout_s=60),
        }
        async with opened(database_url, clock, webhooks=ends) as app:
            only = Teller(app.store, {"quick": app.settings.webhooks["quick"]}, "", app.clock)
            await only.subscribe(app.rules)
            await mailed(app, *range(count))
            alone = await _told(only, quick, count)
            tells = teller(app)
            await tells.subscribe(app.rules)
            await mailed(app, *range(1000, 1000 + count))
            beside = await _told(tells, quick, count, slow)

            assert len(slow.got) == 4, "it was slow, not unasked"
            assert beside <= 2 * alone + 1


async def _told(tells: Teller, quick: Receiver, count: int, slow: Receiver | None = None) -> float:
    """From its first message to its last, s; meanwhile the slow one says nothing."""
    quick.got.clear()
    running = asyncio.create_task(tells.run(asyncio.Event()))
    await quick.reached(count)
    if slow is not None:
        await slow.reached(4)
        assert {name for name, _ in tells.outcomes} == {"quick"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return quick.got[-1].at - quick.got[0].at


async def test_mail_goes_on_while_an_endpoint_does_not_answer(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(wait_s=60) as slow,
        sending(database_url, clock, 8, slow=slow.settings(at_a_time=4, timeout_s=60)) as (
            app,
            tells,
        ),
    ):
        running = asyncio.create_task(tells.run(asyncio.Event()))
        await slow.reached(4)
        await mailed(app, *range(100, 110))
        assert set((await states(app)).values()) == {"accepted"}
        assert not tells.outcomes
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_worker_that_stops_waits_for_answers_and_posts_nothing_new(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(wait_s=0.5) as receiver,
        sending(database_url, clock, 10, erp=receiver.settings(at_a_time=2)) as (app, tells),
    ):
        stopping = asyncio.Event()
        running = asyncio.create_task(tells.run(stopping))
        await receiver.reached(1)
        stopping.set()
        await running

        assert Counter(await tellings(app, "state")) == {"told": 2, "waiting": 8}
        assert await tellings(app, "lease_until") == [None] * 10


async def test_a_kind_that_no_rule_has_is_refused_on_start(
    database_url: str, clock: FakeClock
) -> None:
    async with Receiver() as receiver:
        ends = {"erp": receiver.settings(kinds=["statment"])}
        async with opened(database_url, clock, webhooks=ends) as app:
            with pytest.raises(SettingsError, match=r"webhooks\.erp\.kinds: there is no rule"):
                await teller(app).subscribe(app.rules)


async def test_what_is_told_is_kept_for_its_days(database_url: str, clock: FakeClock) -> None:
    async with (
        Receiver() as receiver,
        sending(database_url, clock, 2, erp=receiver.settings()) as (app, tells),
    ):
        await tells.drain()
        retention = Retention(app.store.database)
        ages = replace(Ages(*[900 * DAY] * 6), webhooks=10 * DAY)
        clock.advance(9 * DAY)
        assert (await retention.prune(ages, clock()))["webhooks"] == 0
        clock.advance(2 * DAY)
        assert (await retention.prune(ages, clock()))["webhooks"] == 2
        assert await tellings(app) == []


async def test_what_is_still_to_be_told_goes_with_its_notification(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(410) as receiver,
        sending(database_url, clock, 1, erp=receiver.settings()) as (app, tells),
    ):
        await tells.drain()
        await mailed(app, 2)
        for record in (*await app.store.records.find("S1"), *await app.store.records.find("S2")):
            await app.store.operations.change_record(
                record.id, "ann", "close", "done", clock(), state="closed", next_due_at=None
            )
        clock.advance(900 * DAY)
        ages = replace(Ages(*[400 * DAY] * 6), webhooks=2000 * DAY)
        removed = await Retention(app.store.database).prune(ages, clock())

        # The newest attempt's message stays, because a restore is known by it.
        assert (removed["messages"], removed["webhooks"]) == (1, 0)
        assert await tellings(app) == []


async def test_metrics_say_who_is_disabled_and_what_waits(
    database_url: str, clock: FakeClock
) -> None:
    async with (
        Receiver(410) as receiver,
        sending(
            database_url, clock, 2, erp=receiver.settings(at_a_time=1), new=receiver.settings()
        ) as (app, _),
        watched(app) as watcher,
    ):
        alone = Teller(app.store, {"erp": app.settings.webhooks["erp"]}, "", app.clock)
        await alone.drain()
        await alone.close()
        said = await watcher.scrape()

    of_erp, of_new = (("endpoint", "erp"),), (("endpoint", "new"),)
    assert said["duewatch_webhook_disabled"] == {of_erp: 1, of_new: 0}
    assert said["duewatch_webhook_tellings"] == {
        (*of_erp, ("state", "failed")): 1,
        (*of_erp, ("state", "waiting")): 1,
        (*of_new, ("state", "failed")): 0,
        (*of_new, ("state", "waiting")): 2,
    }


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("250 2.0.0 Ok: queued as 4AB", "250 2.0.0"),
        ("250 Ok", "250"),
        ("550 5.1.1 <a@b.org>: no such user", "550 5.1.1"),
        ("451-4.7.1 wait", "451 4.7.1"),
        ("HTTP 400 21211 invalid number", "400 21211"),
        ("HTTP 200 E000510 too many", "200 E000510"),
        ("HTTP 503", "503"),
        ("queued", ""),
        ("13800138000 refused", ""),
        ("call 13800138000", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_of_a_reply_only_its_numbers_are_told(reply: str | None, code: str) -> None:
    assert reply_code(reply) == code
