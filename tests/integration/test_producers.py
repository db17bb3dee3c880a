"""What producers may send beside records: wishes, messages on request, sealed events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.product import contact, inbox, opened, partner, statement
from workers.app import App
from workers.envelope import Sender, seal
from workers.events import EventResult

SECRET = "a-secret-of-24-characters-or-more"
BILLING = {"billing": {"keys": {"2026a": SECRET}, "kinds": ["payment", "request"]}}


def event(type_: str, number: str = "1", **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": number,
        "source": "billing",
        "type": f"duewatch.{type_}.v1",
        "data": data,
    }


def wanted(number: str = "1", **data: Any) -> dict[str, Any]:
    words = {"title": "Maintenance", "text": "On Saturday."}
    given = {"ref": f"R{number}", "partner": "P1", "contact": "C1", "values": words}
    asked = {"requested_at": "2026-11-24T01:00:00Z"}
    return event("notification.requested", number, **{**given, **asked, **data})


async def take(app: App, raw: Any, sender: Sender | None = None) -> EventResult:
    (result,) = await app.events.take([raw], sender)
    return result


def sealed(app: App, raw: dict[str, Any], secret: str = SECRET) -> Any:
    time = app.clock().isoformat(timespec="seconds")
    return json.loads(seal(raw, "billing", "2026a", secret, time))


def why(result: EventResult) -> str:
    return "; ".join(f"{one.field} {one.detail}" for one in result.faults)


async def test_a_message_on_request_goes_to_whom_it_names_once(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([partner(), contact()])
        first = await take(app, wanted())
        again = await take(app, wanted())
        assert (first.status, again.status) == ("taken", "repeat")
        assert first.kinds == {"request"}

        for _ in range(2):
            await app.scan.run("request")
            await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com"]
        (kept,) = await app.store.operations.kept()
        assert kept.subject == "Notice: Maintenance"
        (row,) = await app.store.records.find("R1")
        assert row.state == "closed"


async def test_a_message_on_request_that_is_withdrawn_in_time_isnt_sent(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([partner(), contact()])
        await take(app, wanted())
        await app.scan.run("request")
        await take(app, wanted("2", ref="R1", status="WITHDRAWN"))
        await app.delivery.drain()

        assert await inbox(app) == []


async def test_words_that_arent_there_are_refused_with_the_file_to_add(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        result = await take(app, wanted(template="price_list"))

        assert result.status == "refused"
        assert "request/price_list.words.txt" in why(result)


async def test_a_wish_for_a_scan_names_its_kind_and_stores_nothing(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        taken = await take(app, event("scan.requested", kind="payment"))
        wrong = await take(app, event("scan.requested", "2", kind="paiment"))

        assert taken.status == "taken"
        assert taken.kinds == {"payment"}
        assert wrong.status == "refused"
        assert "/data/kind there is no such kind" in why(wrong)
        assert await app.store.records.count() == {}


async def test_what_must_be_sealed_is_taken_only_sealed(
    database_url: str, clock: FakeClock
) -> None:
    settings = {"producers": BILLING, "events": {"require_signature": True}}
    async with opened(database_url, clock, **settings) as app:
        await app.intake.take([partner(), contact()])
        bare = await take(app, wanted())
        forged = await take(app, sealed(app, wanted(), "another-secret-of-24-characters"))
        good = await take(app, sealed(app, wanted()))
        again = await take(app, sealed(app, wanted()))

        assert (bare.status, forged.status) == ("refused", "refused")
        assert "isn't sealed" in why(bare)
        assert "/signature" in why(forged)
        assert (good.status, good.id, again.status) == ("taken", "1", "repeat")


async def test_a_producer_sends_of_its_kinds_only_by_whatever_door(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock, producers=BILLING) as app:
        raw = event("statement.opened", ref="S1", partner="P1")
        for result in (
            await take(app, sealed(app, raw)),
            await take(app, raw, Sender("crm", frozenset({"payment"}))),
        ):
            assert result.status == "refused"
            assert "may not send statement events" in why(result)
        wish = event("scan.requested", kind="statement")
        assert (await take(app, sealed(app, wish))).status == "refused"


@pytest.mark.parametrize("kind", ["partner", "contact"])
async def test_what_limits_a_producer_limits_people_too(
    kind: str, database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        raw = event(f"{kind}.upserted", ref="P9", partner="P9")
        result = await take(app, raw, Sender("billing", frozenset({"payment"})))

        assert result.status == "refused"


async def test_records_come_by_any_sender_that_may(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([statement()])
        result = await take(app, wanted(), Sender("anybody"))

        assert result.status == "taken"
