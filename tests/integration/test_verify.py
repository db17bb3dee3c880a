"""The ledger's proof: true while workers are at work, bounded, and wrong when something is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from tests.acceptance.shell import Shell, load
from tests.fakes.clock import FakeClock
from tests.product import contact, opened, planned, statement
from workers.app import App
from workers.store.ledger import Proof
from workers.store.tables import attempts, notifications, occurrences, runs

MINUTE = timedelta(minutes=1)


def periods(app: App) -> Mapping[str, timedelta]:
    """How often each rule is scanned."""
    return {kind: app.registry.cadences[kind].scan_every for kind in app.registry.enabled()}


async def proof_of(app: App, **more: Any) -> Proof:
    """The proof as it stands."""
    return await app.store.operations.prove(app.clock(), periods(app), **more)


def broken(proof: Proof) -> list[str]:
    """The equations that don't hold, by their first words."""
    return [" ".join(one.what.split()[:3]) for one in proof.checks if one.exceptions]


FAULTS: dict[str, Any] = {
    "every notification is": update(notifications).values(state="lost"),
    "every run planned": update(runs).values(planned=runs.c.planned + 1),
    "everything accepted has": update(attempts).values(reply=""),
    "nothing cancelled or": update(notifications).values(state="cancelled"),
    "everything being sent": update(notifications).values(state="sending"),
    "nothing but what": update(attempts).values(ended_at=None, outcome=None),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_fault_is_found_and_counted(
    database_url: str, clock: FakeClock, name: str
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await app.delivery.drain()
        assert broken(await proof_of(app)) == []
        async with app.store.database.write() as connection:
            kept = {
                table: list(await connection.execute(table.select()))
                for table in (runs, notifications, attempts)
            }
            await connection.execute(FAULTS[name])
        found = await proof_of(app)
        async with app.store.database.write() as connection:
            for table, rows in kept.items():
                for row in rows:
                    values = {k: v for k, v in row._mapping.items() if k != "id"}
                    await connection.execute(
                        update(table).where(table.c.id == row.id).values(**values)
                    )

        assert name in broken(found)
        assert found.broken


async def test_a_message_that_says_nothing_any_more_is_found(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        async with app.store.database.write() as connection:
            await connection.execute(update(occurrences).values(dropped="moot"))
        found = broken(await proof_of(app))
        await app.delivery.drain()

    assert found == ["everything waiting to"]


async def test_a_due_record_that_no_scan_has_looked_at_is_found_a_minute_later(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement()])
        every = periods(app)["statement"]
        (record,) = await app.store.records.find("S1")
        due = record.next_due_at
        clock.set(due + every + MINUTE)
        assert broken(await proof_of(app)) == []
        clock.advance(MINUTE)
        assert broken(await proof_of(app)) == ["nothing is due"]
        await app.store.operations.pause("statement", "ann", "x", clock.now())
        assert broken(await proof_of(app)) == []
        await app.store.operations.resume("statement", "ann", "x", clock.now())
        await app.scan.run("statement")
        assert broken(await proof_of(app)) == []


async def test_a_bounded_proof_looks_at_the_newest_and_at_all_that_is_open(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        people = [contact(f"C{n}", partner=f"P{n}") for n in range(6)]
        await app.intake.take(people)
        for n in range(6):
            await planned(app, statement(f"S{n}", partner=f"P{n}"))
            await app.delivery.drain()
        rows = await app.store.operations.notifications(limit=10)
        oldest = min(row.id for row in rows)
        async with app.store.database.write() as connection:
            reply = update(attempts).where(attempts.c.notification_id == oldest)
            await connection.execute(reply.values(reply=""))
        few = await proof_of(app, newest=3)
        everything = await proof_of(app, newest=None)
        async with app.store.database.write() as connection:
            await connection.execute(reply.values(reply="kept"))

        assert few.after == oldest + 2
        assert broken(few) == []
        assert broken(everything) == ["everything accepted has"]
        assert few.states == everything.states == {"accepted": 6}


async def test_workers_and_scans_at_work_make_no_false_alarm(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock, delivery={"poll_s": 0.05}) as app:
        count = 120
        await app.intake.take([contact(f"C{n}", partner=f"P{n}") for n in range(count)])
        stopping = asyncio.Event()
        worker = asyncio.create_task(app.delivery.run(stopping))
        alarms: list[str] = []
        proofs = 0

        async def work() -> None:
            for n in range(0, count, 10):
                part = [statement(f"S{m}", partner=f"P{m}") for m in range(n, n + 10)]
                await planned(app, *part)

        working = asyncio.create_task(work())
        while not working.done() or proofs < 5:
            alarms += broken(await proof_of(app))
            proofs += 1
            await asyncio.sleep(0.02)
        await working
        stopping.set()
        await worker
        await app.delivery.drain()

        assert alarms == []
        assert (await proof_of(app)).states == {"accepted": count}


async def test_a_check_that_takes_too_long_is_given_up_and_nothing_counts_as_proved(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await app.delivery.drain()
        async with app.store.database.write() as connection:
            await connection.execute(_many(app))
        found = await proof_of(app, limit_s=0.005)
        async with app.store.database.write() as connection:
            await connection.execute(delete(notifications).where(notifications.c.uid.like("X%")))

        assert found.unfinished
        assert not (await proof_of(app)).unfinished


def _many(app: App) -> Any:
    """Ninety thousand more of the same message, so that counting them takes a while."""
    names = ", ".join(
        f'"{column.name}"' for column in notifications.columns if column.name not in {"id", "uid"}
    )
    series = "generate_series(1, 90000) AS n(value)"
    if app.store.database.dialect == "sqlite":
        series = (
            "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n "
            "LIMIT 90000) SELECT value FROM n)"
        )
    return text(
        f"INSERT INTO notifications (uid, {names}) "
        f"SELECT 'X' || value, {names} FROM notifications, {series}"
    )


@pytest.mark.acceptance
def test_the_command_ends_with_a_code_for_cron(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    load(shell)
    shell("scan")
    shell("deliver")
    proved = shell("verify")
    assert proved.code == 0
    assert "planned 2 = 2 accepted" in proved.out
    assert "The ledger adds up." in proved.out
    with closing(sqlite3.connect(tmp_path / "duewatch.db")) as connection:
        connection.execute("UPDATE attempts SET reply = ''")
        connection.commit()
    wrong = shell("verify", "--json")
    assert wrong.code == 1
    assert wrong.json["adds_up"] is False
    assert [one["exceptions"] for one in wrong.json["checks"] if one["exceptions"]] == [2]
    away = shell("verify", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert away.code == 3
