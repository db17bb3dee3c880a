"""One trace from an event to its receipt, through the product as it runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from tests.fakes.clock import FakeClock
from tests.fakes.collector import collecting
from tests.product import contact, opened, partner, planned, statement, states
from workers import traces
from workers.app import App
from workers.providers import Report
from workers.settings import Web
from workers.web import serve

PRODUCER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ORDER = ("intake", "scan", "plan", "claim", "render", "attempt", "receipt")
SOON_S = 20.0


def _event(ref: str) -> dict[str, object]:
    data = json.loads(statement(ref).model.model_dump_json(exclude_none=True))
    return {
        "specversion": "1.0",
        "id": ref,
        "source": "desk",
        "type": "duewatch.statement.upserted.v1",
        "data": data,
    }


async def _sent_an_event(app: App, ref: str) -> None:
    """An event over HTTP with its producer's trace, told, delivered and reported."""
    async with serve(app) as (host, port), aiohttp.ClientSession() as client:
        headers = {"Content-Type": "application/cloudevents+json", "traceparent": PRODUCER}
        url = f"http://{host}:{port}/v1/events"
        async with client.post(url, data=json.dumps(_event(ref)), headers=headers) as got:
            assert got.status == 200, await got.text()
        async with asyncio.timeout(SOON_S):
            while not await states(app):  # noqa: ASYNC110  # the scan comes after the answer
                await asyncio.sleep(0.05)
        await app.delivery.drain()
        [row] = await app.store.operations.notifications(limit=5)
        report = Report(row.reference, "delivered", "", uid=row.uid)
        assert await app.store.outbox.receive("inbox", report, app.clock())


async def test_an_events_trace_goes_on_to_the_receipt_of_its_message(
    database_url: str, clock: FakeClock
) -> None:
    with collecting() as collector, traces.exporting(collector.url, 0.0):
        async with opened(database_url, clock, web=Web(port=0)) as app:
            await app.intake.take([partner(), contact()])
            await _sent_an_event(app, "S1")

    mine = [one for one in collector.spans if one.trace == PRODUCER.split("-")[1]]
    by_name = {one.name: one for one in mine}
    assert set(by_name) == set(ORDER)
    assert by_name["intake"].parent == PRODUCER.split("-")[2]
    assert by_name["scan"].parent == by_name["intake"].id
    assert by_name["plan"].parent == by_name["scan"].id
    for name in ("claim", "render", "attempt", "receipt"):
        assert by_name[name].parent == by_name["plan"].id, name
    assert by_name["attempt"].attributes["duewatch.outcome"] == "accepted"
    assert by_name["receipt"].attributes["duewatch.status"] == "delivered"
    # Sampled at 0, only what the producer asked for is there.
    assert {one.trace for one in collector.spans} == {by_name["intake"].trace}


async def test_spans_hold_nothing_of_whom_a_message_is_for_or_what_it_says(
    tmp_path: Path, clock: FakeClock
) -> None:
    with collecting() as collector, traces.exporting(collector.url, 1.0):
        async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
            person = contact("C-canary", name="Canary Wang")
            await planned(app, partner(name="Canary Ltd"), person, statement("CANARY-1"))
            await app.delivery.drain()

    told = repr([collector.spans, collector.resources]).lower()
    assert collector.named("attempt")
    assert "canary" not in told
    assert "example.com" not in told


async def test_messages_of_a_clocks_scan_have_traces_of_their_own_linked_with_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    with collecting() as collector, traces.exporting(collector.url, 1.0):
        async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
            people = [contact(), contact("C2", role="administrator")]
            await app.intake.take([partner(), *people, partner("P2"), statement()])
            await app.scan.run("statement", trigger="clock", fire_at=clock())
            await app.delivery.drain()

    (scan,) = collector.named("scan")
    plans, attempts = collector.named("plan"), collector.named("attempt")
    assert {one.links for one in plans} == {(scan.trace,)}
    assert {one.trace for one in plans} == {one.trace for one in attempts}
    assert scan.trace not in {one.trace for one in plans}


async def test_without_traces_a_message_is_kept_without_one(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
        await planned(app, partner(), contact(), statement())
        await app.delivery.drain()
        [row] = await app.store.operations.notifications(limit=5)
        whole = await app.store.operations.whole(row.uid)
        sends, late = app.delivery.meter.sends, list(app.delivery.meter.late.series())
        took = [one.labels for one in app.scan.took.series()]

    assert whole.row.traceparent is None
    assert sends == {("mail", "inbox", "accepted"): 1}
    assert [one.buckets[-1][1] for one in late] == [1]
    assert took == [("statement",)]
