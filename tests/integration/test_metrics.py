"""What machines are told: lanes, ages, missed firings, ill parts; and what reading it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, line, opened, partner, payment, planned, statement
from workers.app import App
from workers.meter import LATENESS, Histogram, SendMeter
from workers.settings import Web
from workers.store.gauges import Gauges, Reading
from workers.store.quarantine import Quarantine
from workers.web import serve
from workers.web.figures import SHARE, WAIT_S, Readings
from workers.web.health import Broker, serve_health

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Watcher:
    """Asks a process' three routes."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url, self.client = url, client

    async def ready(self) -> tuple[int, dict[str, str]]:
        """Status, and what is said of each part."""
        async with self.client.get(f"{self.url}/readyz") as got:
            said = json.loads(await got.text())
            return got.status, said["checks"] | {"status": said["status"]}

    async def scrape(self) -> Samples:
        """Every sample by name and labels, as Prometheus' own parser reads them."""
        async with self.client.get(f"{self.url}/metrics") as got:
            assert got.status == 200
            found: Samples = {}
            for family in text_string_to_metric_families(await got.text()):
                for one in family.samples:
                    labels = tuple(sorted(one.labels.items()))
                    found.setdefault(one.name, {})[labels] = one.value
            return found


def _labels(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


@asynccontextmanager
async def watched(app: App) -> AsyncIterator[Watcher]:
    async with serve(app) as (host, port), aiohttp.ClientSession() as client:
        yield Watcher(f"http://{host}:{port}", client)


async def two_waiting(app: App) -> None:
    """A statement and a payment, each of which a mail is pending of."""
    await planned(app, partner(), contact(), statement(), line(), payment())
    await app.scan.run("payment")


async def test_the_queue_is_told_by_lane_and_by_what_it_waits_for(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock, web=Web(port=0)) as app, watched(app) as watcher:
        await two_waiting(app)
        clock.advance(timedelta(minutes=7))
        first = await watcher.scrape()
        await app.store.operations.pause("payment", "Ann", "a try", clock())
        gauges = Gauges(app.store.database)
        second = await gauges.read(["payment", "statement"], clock())
        async with app.store.database.write() as connection:
            await connection.execute(
                text("UPDATE notifications SET not_before = :at WHERE kind = 'statement'"),
                {"at": _stored(app, clock() + timedelta(hours=9))},
            )
        third = await gauges.read(["payment", "statement"], clock())

    lane = {"channel": "mail", "urgency": "normal"}
    depth, oldest = first["duewatch_queue_depth"], first["duewatch_oldest_due_seconds"]
    assert depth[_labels(**lane, waits_for="worker")] == 2
    assert oldest[_labels(**lane)] == 420
    assert first["duewatch_oldest_pending_seconds"][()] == 420
    assert second.depth["mail", False, "rule"] == 1
    assert second.depth["mail", False, "worker"] == 1
    assert second.paused == {"payment"}
    # What nobody would send now, a paused rule's or tomorrow's, isn't late.
    assert third.depth["mail", False, "time"] == 1
    assert third.oldest == {}


def _stored(app: App, at: datetime) -> Any:
    """An instant as the database's driver takes it in plain SQL."""
    return at if app.store.database.dialect != "sqlite" else f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"


async def test_missed_firings_are_told_for_a_day(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        outbox = app.store.outbox
        await outbox.start_run("payment", NOW - timedelta(hours=30), "clock", NOW, 5)
        await outbox.start_run("payment", NOW - timedelta(hours=3), "clock", NOW, 7)
        await outbox.start_run("payment", NOW - timedelta(hours=2), "clock", NOW, 1)
        await outbox.start_run("payment", NOW - timedelta(hours=1), "hand", NOW, 0)
        said = await Gauges(app.store.database).fired(["payment", "statement"], NOW)

    assert said.missed == {"payment": 8}
    assert said.fired == {"payment": NOW - timedelta(hours=2)}


async def test_a_scrape_tells_what_was_delivered_suppressed_and_awaits_a_person(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, web=Web(port=0)) as app, watched(app) as watcher:
        await two_waiting(app)
        await app.delivery.drain()
        await app.store.operations.suppress("mail", "c9@example.com", "*", "asked", "Ann", NOW)
        letters = Quarantine(app.store.database)
        await letters.keep("events", "it isn't JSON", b"{", NOW)
        await letters.keep("events", "it has no type", b"{}", NOW)
        said = await watcher.scrape()

    accepted = {"kind": "statement", "channel": "mail", "state": "accepted"}
    assert said["duewatch_notifications"][_labels(**accepted)] == 1
    assert said["duewatch_records"][_labels(kind="statement", state="open")] == 1
    assert said["duewatch_suppressions"][_labels(channel="mail", kind="*")] == 1
    assert said["duewatch_quarantine"][_labels(door="events")] == 2
    assert said["duewatch_needs_a_person"][_labels(what="quarantine")] == 2
    assert said["duewatch_database_up"][()] == 1
    assert {dict(labels)["what"] for labels in said["duewatch_needs_a_person"]} >= {
        "held_records",
        "parked",
        "failed",
        "unknown",
        "quarantine",
    }
    assert said["process_resident_memory_bytes"][()] > 1e6


async def test_a_database_that_does_not_answer_is_told_and_not_counted(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, web=Web(port=0)) as app, watched(app) as watcher:
        async with app.store.database.write() as connection:
            await connection.execute(text("ALTER TABLE provider_states RENAME TO away"))
        said = await watcher.scrape()
        status, checks = await watcher.ready()
        async with app.store.database.write() as connection:
            await connection.execute(text("ALTER TABLE away RENAME TO provider_states"))

    assert said["duewatch_database_up"][()] == 0
    assert "duewatch_notifications" not in said
    assert status == 503
    assert checks["database"].startswith("doesn't answer")


# --- what a reading costs --------------------------------------------------------------------


class _Slow(Gauges):
    """A database of so many rows that counting them takes a while."""

    reads = 0
    cost = 0.2

    async def read(self, kinds: Any, now: datetime) -> Reading:
        """Counts how often it was asked."""
        self.reads += 1
        await asyncio.sleep(self.cost)
        return await super().read(kinds, now)


async def test_readings_are_kept_so_long_that_they_cost_a_small_share_of_the_time(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
        gauges = _Slow(app.store.database)
        readings = Readings(gauges, ["payment"], clock)
        taken = [await readings.latest() for _ in range(20)]
        await readings.close()

    assert gauges.reads == 1
    assert len({id(one) for one in taken}) == 1
    assert taken[0] is not None
    assert taken[0].cost >= gauges.cost
    assert gauges.cost / SHARE > 1  # the next one would come much later than those twenty scrapes


async def test_a_scrape_does_not_wait_for_a_reading_that_takes_long(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
        gauges = _Slow(app.store.database)
        gauges.cost = 20 * WAIT_S
        readings = Readings(gauges, ["payment"], clock)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await readings.latest() is None
        assert loop.time() - began < 10 * WAIT_S
        await readings.close()


async def test_a_worker_tells_of_itself_and_does_not_count_the_database_too(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with (
        opened(url, clock, web=Web(health_port=0)) as app,
        serve_health(app) as (host, port),
        aiohttp.ClientSession() as client,
    ):
        await two_waiting(app)
        await app.delivery.drain()
        watcher = Watcher(f"http://{host}:{port}", client)
        said = await watcher.scrape()
        status, checks = await watcher.ready()
        async with client.get(f"{watcher.url}/inbox") as got:
            inbox = got.status

    assert said["duewatch_attempts_total"][_labels(channel="mail", outcome="accepted")] == 2
    assert "duewatch_notifications" not in said
    assert (status, checks["status"]) == (200, "ready")
    assert inbox == 404


# --- which part is ill -----------------------------------------------------------------------


async def test_a_provider_that_is_left_alone_is_named_and_stops_nobody(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, web=Web(port=0)) as app, watched(app) as watcher:
        before = await watcher.scrape()
        async with app.store.database.write() as connection:
            await app.store.breakers.by_hand(connection, "inbox", "open", "maintenance", "Ann")
        status, checks = await watcher.ready()
        after = await watcher.scrape()

    state = "duewatch_provider_state"
    assert before[state][_labels(provider="inbox", state="closed")] == 1
    assert after[state][_labels(provider="inbox", state="closed")] == 0
    assert after[state][_labels(provider="inbox", state="open")] == 1
    assert (status, checks["status"]) == (200, "degraded")
    assert checks["providers"] == "inbox is open"


async def test_rules_that_nobody_fires_any_more_are_named(tmp_path: Path, clock: FakeClock) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, web=Web(port=0)) as app, watched(app) as watcher:
        for kind in ("payment", "statement", "invitation"):
            await app.store.outbox.start_run(kind, NOW, "clock", NOW)
        await app.store.operations.pause("invitation", "Ann", "a try", NOW)
        clock.advance(timedelta(minutes=9))
        well = await watcher.ready()
        clock.advance(timedelta(minutes=4))
        await app.store.outbox.start_run("payment", clock(), "clock", clock())
        status, checks = await watcher.ready()

    assert well[1]["status"] == "ready"
    assert (status, checks["status"]) == (200, "degraded")
    assert checks["scheduler"] == "not fired since 2026-11-24 01:00 UTC: statement"


async def test_a_schema_that_this_program_cannot_work_on_makes_it_unready(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, web=Web(port=0)) as app, watched(app) as watcher:
        async with app.store.database.write() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        status, checks = await watcher.ready()

    assert status == 503
    assert checks["status"] == "not ready"
    assert "duewatch migrate" in checks["schema"]


async def test_a_broker_that_is_away_is_named_and_stops_nobody(
    tmp_path: Path, clock: FakeClock
) -> None:
    async def nod(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    broker = await asyncio.start_server(nod, "127.0.0.1", 0)
    there = f"redis://127.0.0.1:{broker.sockets[0].getsockname()[1]}/0"
    url = f"sqlite:///{tmp_path}/d.db"
    async with opened(url, clock, web=Web(port=0)) as app:
        # Only whoever watches is told of a broker; the bell rings within this process.
        told = replace(app, settings=app.settings.model_copy(update={"broker_url": there}))
        async with watched(told) as watcher:
            up, well = await watcher.scrape(), await watcher.ready()
        broker.close()
        await broker.wait_closed()
        async with watched(told) as watcher:
            down, (status, checks) = await watcher.scrape(), await watcher.ready()

    assert up["duewatch_broker_up"][()] == 1
    assert well[1]["broker"] == "ok"
    assert down["duewatch_broker_up"][()] == 0
    assert (status, checks["status"]) == (200, "degraded")
    assert "polling goes on" in checks["broker"]


async def test_a_broker_is_not_knocked_at_for_every_scrape() -> None:
    knocks = []

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        asked = Broker(f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert [await asked.ill() for _ in range(20)] == [""] * 20

    assert len(knocks) == 1


# --- counting in memory ----------------------------------------------------------------------


def test_a_histogram_counts_each_value_in_every_bucket_that_holds_it() -> None:
    held = Histogram((0.1, 1.0, 10.0))
    for seconds in (0.1, 0.5, 100.0, -3.0):
        held.observe(seconds, "mail")

    (series,) = held.series()
    assert series.labels == ("mail",)
    assert series.buckets == [("0.1", 2), ("1", 3), ("10", 3), ("+Inf", 4)]
    assert series.total == pytest.approx(100.6)


async def test_an_attempt_is_as_late_as_its_message_became_due(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
        await two_waiting(app)
        rows = await app.store.operations.notifications(limit=10)
        first, again = (_claimed(row, count) for row, count in zip(rows, (0, 2), strict=True))
        meter = SendMeter()
        meter.sent(first, "smtp", "accepted", 0.3, NOW + timedelta(seconds=4))
        meter.sent(again, "smtp", "accepted", 0.3, NOW + timedelta(minutes=40))
        meter.sent(first, "smtp", "deferred", 9.0, NOW + timedelta(hours=9))

    (late,) = meter.late.series()
    assert meter.sends == {("mail", "smtp", "accepted"): 2, ("mail", "smtp", "deferred"): 1}
    # Put off to a later time, it is as late as since it was planned.
    assert late.total == pytest.approx(4 + 40 * 60)
    assert late.labels == ("mail", "normal")
    assert len(late.buckets) == len(LATENESS) + 1


def _claimed(row: Any, attempts: int) -> Any:
    """A claimed row of so many attempts so far; a later one was put off by half an hour."""

    class Row:
        channel, urgent, created_at = row.channel, row.urgent, row.created_at
        attempt_count = attempts
        not_before = row.not_before + timedelta(minutes=30 if attempts else 0)

    return Row
