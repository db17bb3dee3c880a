"""Providers' later word on what they took: delivered part by part, bounced, repeated, too early."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, opened, planned, statement, states
from workers.app import App
from workers.model import NotificationState, Outcome
from workers.providers import Report
from workers.store.attempts import Beginning, Claimed, Finished

ADDRESS = "c1@example.com"


async def _begun(app: App) -> Claimed:
    """A notification that is being sent."""
    await planned(app, contact(), statement())
    (claimed,) = await app.store.outbox.claim(NOW, 1, timedelta(seconds=60))
    (record,) = await app.store.records.find("S1")
    async with app.store.database.write() as connection:
        one = Beginning(claimed, "smtp", {record.id: record.revision})
        assert await app.store.outbox.begin(connection, [one], timedelta(seconds=60), NOW)
    return claimed


async def _accepted(app: App) -> Claimed:
    claimed = await _begun(app)
    done = Finished(claimed, Outcome.ACCEPTED, NotificationState.ACCEPTED, "ok", reference="m1")
    assert await app.store.outbox.finish([done], NOW) == 0
    return claimed


def _report(status: Any = "delivered", **more: Any) -> Report:
    return Report(reference="m1", status=status, detail=more.pop("detail", "DELIVRD"), **more)


async def test_a_long_message_is_delivered_once_all_its_parts_are(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await _accepted(app)
        receive = app.store.outbox.receive
        assert await receive("smtp", _report(part=2, parts=2), NOW)
        assert await receive("smtp", _report(part=2, parts=2), NOW)
        assert await states(app) == {ADDRESS: "accepted"}
        await receive("smtp", _report(part=1, parts=2), NOW)

        assert await states(app) == {ADDRESS: "delivered"}


async def test_the_same_report_twice_changes_nothing(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        claimed = await _accepted(app)
        for _ in range(3):
            await app.store.outbox.receive("smtp", _report(), NOW)
        whole = await app.store.operations.whole(str(claimed.id))

        assert len(whole.receipts) == 1


@pytest.mark.parametrize("status", ["bounced", "complained"])
async def test_a_bounce_fails_the_message_and_a_bad_address_is_not_written_to_again(
    status: str, database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await _accepted(app)
        report = _report(status, detail="no such user", address_is_bad=status == "bounced")
        await app.store.outbox.receive("smtp", report, NOW)
        (suppressed,) = await app.store.operations.suppressions()

        assert await states(app) == {ADDRESS: "failed"}
        assert (suppressed.address, suppressed.kind) == (ADDRESS, "*")


async def test_a_late_bounce_outweighs_a_delivery_and_a_delay_says_nothing(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await _accepted(app)
        await app.store.outbox.receive("smtp", _report("delayed", detail="greylisted"), NOW)
        assert await states(app) == {ADDRESS: "accepted"}
        await app.store.outbox.receive("smtp", _report(), NOW)
        await app.store.outbox.receive("smtp", _report("bounced", detail="full"), NOW)

        assert await states(app) == {ADDRESS: "failed"}


async def test_a_report_settles_what_was_parked_for_its_unknown_outcome(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        claimed = await _begun(app)
        lost = Finished(claimed, Outcome.UNKNOWN, NotificationState.PARKED, "", reason="lost")
        await app.store.outbox.finish([lost], NOW)
        report = _report(uid=claimed.row.uid)
        assert await app.store.outbox.receive("smtp", report, NOW)

        assert await states(app) == {ADDRESS: "delivered"}
        assert await app.store.operations.notifications(state="unknown") == []


async def test_a_report_that_is_quicker_than_the_reply_is_not_lost(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        claimed = await _begun(app)
        await app.store.outbox.receive("smtp", _report(uid=claimed.row.uid), NOW)
        late = Finished(claimed, Outcome.ACCEPTED, NotificationState.ACCEPTED, "ok")
        assert await app.store.outbox.finish([late], NOW) == 1, "the report stands"
        whole = await app.store.operations.whole(str(claimed.id))

        assert await states(app) == {ADDRESS: "delivered"}
        assert [one.outcome for one in whole.attempts] == ["accepted"]


async def test_a_report_that_fits_no_message_is_told_apart(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await _accepted(app)

        assert not await app.store.outbox.receive("smtp", Report("m2", "delivered", ""), NOW)
        assert not await app.store.outbox.receive("twilio", _report(), NOW)
