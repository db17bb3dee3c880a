"""A scan plans each due stage once, whatever happens around it; on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from tests.fakes.clock import FakeClock
from tests.product import (
    NOW,
    contact,
    inbox,
    invitation,
    line,
    opened,
    payment,
    planned,
    record,
    statement,
)
from workers.app import App
from workers.errors import StateError, UnknownThingError
from workers.store.tables import contacts, occurrences, records, runs

DAY = timedelta(days=1)


async def told_lines(app: App) -> int:
    async with app.store.database.read() as connection:
        found = await connection.execute(
            select(func.count()).select_from(occurrences).where(occurrences.c.dropped.is_(None))
        )
        return int(found.scalar_one())


async def test_one_recipient_gets_one_digest_a_rule_and_run(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        people = [contact(), contact("C2"), contact("C3", partner="P2")]
        mine = [statement(f"S{number}") for number in range(12)]
        theirs = [statement("T1", partner="P2")]
        await app.intake.take([*people, *mine, *theirs])
        tally = await app.scan.run("statement")
        rows = await app.store.operations.notifications()

        assert tally is not None
        assert (tally.looked_at, tally.planned, tally.held) == (13, 3, 0)
        assert sorted((row.contact, row.line_count) for row in rows) == [
            ("C1", 12),
            ("C2", 12),
            ("C3", 1),
        ]


async def test_a_second_scan_tells_nothing_again(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement()])
        await app.scan.run("statement")
        again = await app.scan.run("statement")

        assert again is not None
        assert (again.looked_at, again.planned) == (0, 0)


async def test_five_schedulers_fire_once(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), *(statement(f"S{number}") for number in range(30))])
        tallies = await asyncio.gather(
            *(app.scan.run("statement", trigger="clock", fire_at=NOW) for _ in range(5))
        )

        fired = [tally for tally in tallies if tally is not None]
        assert [tally.planned for tally in fired] == [1]
        assert await told_lines(app) == 30


async def test_scans_by_hand_at_the_same_time_tell_each_stage_once(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        people = [contact(f"C{number}", partner=f"P{number}") for number in range(40)]
        things = [statement(f"S{number}", partner=f"P{number % 40}") for number in range(200)]
        await app.intake.take([*people, *things])
        await asyncio.gather(*(app.scan.run("statement") for _ in range(5)))
        await app.delivery.drain()

        assert await told_lines(app) == 200
        assert len(set(await inbox(app))) == 40


async def test_a_scan_that_is_broken_off_between_batches_is_completed_by_the_next(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        people = [contact(f"C{number}", partner=f"P{number}") for number in range(120)]
        things = [statement(f"S{number}", partner=f"P{number % 120}") for number in range(1200)]
        await app.intake.take([*people, *things])
        broken_off = asyncio.Event()
        scan = asyncio.create_task(
            app.scan.run("statement", progress=lambda done, total: broken_off.set())
        )
        await broken_off.wait()
        scan.cancel()
        await asyncio.gather(scan, return_exceptions=True)
        before = await told_lines(app)
        await app.scan.run("statement")
        await app.delivery.drain()

        assert 0 < before < 1200
        assert await told_lines(app) == 1200
        assert sorted(await inbox(app)) == sorted(f"c{number}@example.com" for number in range(120))


async def test_after_a_downtime_only_the_latest_stage_is_told(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), contact("C2", "administrator"), statement()])
        clock.set(NOW + 2 * DAY)
        await app.scan.run("statement")
        rows = await app.store.operations.notifications()
        whole = [await app.store.operations.whole(row.uid) for row in rows]

        assert sorted((one.row.contact, line.stage) for one in whole for line in one.lines) == [
            ("C1", "T-0"),
            ("C2", "T-0"),
        ]


async def test_nobody_to_tell_holds_the_record_and_says_whom_to_import(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(mail=None, mobile=None), statement()])
        tally = await app.scan.run("statement")
        (row,) = await app.store.records.find("S1")

        assert tally is not None
        assert tally.held == 1
        assert (row.state, row.unheard, row.next_due_at) == ("held", True, None)
        assert row.why.startswith("nobody to tell: contact C1 has no mail address: import the full")


async def test_a_record_its_rule_no_longer_accepts_harms_only_itself(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement("S1"), statement("S2"), statement("S3")])
        async with app.store.database.write() as connection:
            broken = {"ref": "S2", "amount": "from an older version"}
            await connection.execute(
                update(records).where(records.c.ref == "S2").values(data=broken, hash="older")
            )
        tally = await app.scan.run("statement")
        (row,) = await app.store.records.find("S2")

        assert tally is not None
        assert (tally.planned, tally.held) == (1, 1)
        assert await told_lines(app) == 2
        assert row.state == "held"
        assert "the rule no longer accepts its data" in row.why


async def test_a_contact_that_is_no_longer_accepted_harms_only_itself(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), contact("C2"), statement()])
        async with app.store.database.write() as connection:
            older = {"partner": "P1", "ref": "C2", "role": "finance", "quiet_hours": "late"}
            await connection.execute(
                update(contacts).where(contacts.c.ref == "C2").values(data=older, hash="older")
            )
        await app.scan.run("statement")
        await app.delivery.drain()

        assert await inbox(app) == ["c1@example.com"]


async def test_a_role_longer_than_its_column_is_told_all_the_same(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        role = "head of " * 10
        await app.intake.take([contact("C1", role), invitation(inviter="C1")])
        await app.scan.run("invitation")
        await app.delivery.drain()

        assert sorted(await inbox(app)) == ["c1@example.com", "i1@customer.example"]


async def test_a_dry_run_says_the_same_and_writes_nothing(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement(), statement("S2", partner="P2")])
        dry = await app.scan.dry_run("statement")
        rows = await app.store.operations.notifications()
        real = await app.scan.run("statement")

        assert rows == []
        assert real is not None
        assert (dry.looked_at, dry.planned, dry.held) == (2, 1, 1)
        assert (real.looked_at, real.planned, real.held) == (2, 1, 1)


async def test_a_paused_rule_is_scanned_neither_by_the_clock_nor_by_hand(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement()])
        await app.store.operations.pause("statement", "ops", "wrong amounts", NOW)
        fired = await app.scan.run("statement", trigger="clock", fire_at=NOW)
        with pytest.raises(StateError, match="duewatch resume statement"):
            await app.scan.run("statement")

        assert fired is None
        assert await told_lines(app) == 0


async def test_an_unknown_rule_is_named_with_those_there_are(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        with pytest.raises(UnknownThingError, match=r"there are .*invitation.*payment.*statement"):
            await app.scan.run("invoice")


async def test_a_run_counts_what_it_did(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), line(), payment(), payment("F2", amount="1.00")])
        tally = await app.scan.run("payment", missed=3)
        async with app.store.database.read() as connection:
            (row,) = await connection.execute(select(runs))

        assert tally is not None
        assert (row.id, row.missed, row.looked_at, row.planned) == (tally.run_id, 3, 1, 1)
        assert row.finished_at == NOW


async def test_a_deadline_that_is_moved_is_told_of_in_time_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        await app.delivery.drain()
        await app.intake.take([statement(confirm_by="2026-12-10")])
        for _ in range(18):
            await app.scan.run("statement")
            await app.delivery.drain()
            clock.advance(timedelta(days=1))

        history = await app.store.operations.history(1)
        assert [row.stage for row in history] == ["T-2", "T-5", "T-2", "T-0", "ended"]


async def test_a_settlement_that_waits_is_called_to_mind_again_out_of_the_store(
    database_url: str, clock: FakeClock
) -> None:
    # What happens at a deadline comes back from a database as plain text.
    async with opened(database_url, clock) as app:
        waits = statement(statement_kind="EI_PROCUREMENT", confirm_by="2026-11-23")
        await app.intake.take([contact(), contact("C2", "administrator"), waits])
        for day in range(10):
            clock.set(NOW + day * DAY)
            await app.scan.run("statement")
            await app.delivery.drain()
        assert len(await inbox(app)) == 4, "ended, and waiting five working days later, to both"


async def test_a_stage_that_reaches_nobody_costs_no_later_one(
    database_url: str, clock: FakeClock
) -> None:
    voucher = {
        "ref": "V1",
        "partner": "P1",
        "customer_name": "Northwind",
        "customer_mobile": "+8613800138000",
        "face_value": "100",
        "balance": "60",
        "issued_at": NOW - 60 * DAY,
        "expires_at": "2026-12-20",  # a month ahead only mail is sent, and there is no address
    }
    async with opened(database_url, clock) as app:
        await app.intake.take([record("voucher", voucher)])
        await app.scan.run("voucher")
        [found] = await app.store.records.search()
        assert (found.state, await inbox(app)) == ("open", [])
        clock.set(NOW + 19 * DAY)
        await app.scan.run("voucher")
        await app.delivery.drain()
        assert await inbox(app) == ["+8613800138000"]
