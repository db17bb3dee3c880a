"""What happens to one record reaches those it has to do with; on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from tests.fakes.clock import FakeClock
from tests.product import (
    NOW,
    contact,
    inbox,
    invitation,
    line,
    opened,
    partner,
    payment,
    reasons,
    record,
    statement,
)
from workers.app import App
from workers.intake import Incoming, Taken
from workers.store.tables import records

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def registration(ref: str = "R1", **more: Any) -> Incoming:
    data = {
        "ref": ref,
        "partner": "P1",
        "customer_name": "Northwind",
        "registered_at": NOW - 5 * DAY,
        "status": "REGISTERED",
        **more,
    }
    return record("pre_registration", data)


def task(**more: Any) -> Incoming:
    data = {
        "ref": "T1",
        "partner": "P1",
        "name": "Renewal",
        "task_type": "LEAD",
        "customer_name": "Northwind",
        "assigned_at": NOW - 10 * DAY,
        "due_on": "2026-11-26",
        "status": "PENDING",
        **more,
    }
    return record("sales_task", data)


async def states(app: App) -> dict[str, str]:
    return {row.ref: row.state for row in await app.store.records.search()}


async def row(app: App, ref: str) -> Any:
    return next(row for row in await app.store.records.search() if row.ref == ref)


async def test_the_registration_s_end_is_the_invitation_s_when_it_comes_first(
    database_url: str, clock: FakeClock
) -> None:
    ends = NOW + 30 * HOUR
    async with opened(database_url, clock) as app:
        await app.intake.take([contact("C1", "sales"), invitation(registration="R1")])
        own = (await row(app, "I1")).due_at
        await app.intake.take([registration(expires_at=ends)])
        found = await row(app, "I1")
        assert (own, found.due_at, found.effect) == (NOW + 60 * HOUR, ends, "registration_ends")

        await app.intake.take([registration(expires_at=NOW + 9 * DAY)])
        found = await row(app, "I1")
        assert (found.due_at, found.effect) == (own, "link_dies")
        assert found.next_due_at == clock(), "it is planned anew"


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_an_accepted_invitation_closes_its_registration_in_any_order(
    database_url: str, clock: FakeClock, order: tuple[int, ...]
) -> None:
    things = [
        registration(),
        invitation(registration="R1", version=1),
        invitation(registration="R1", version=2, status="ACCEPTED"),
    ]
    async with opened(database_url, clock) as app:
        for index in order:
            await app.intake.take([things[index]])
        assert await states(app) == {"R1": "closed", "I1": "closed"}


async def test_a_payment_closes_the_statements_and_incentives_that_it_bills(
    database_url: str, clock: FakeClock
) -> None:
    incentive = record(
        "incentive",
        {
            "ref": "B1",
            "partner": "P1",
            "programme": "FH",
            "generated_at": NOW - DAY,
            "total_incl_tax": "50.00",
            "status": "PENDING",
        },
    )
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement(), statement("S2"), incentive])
        await app.scan.run("statement")
        await app.intake.take([payment(bill_ids="S1,B1"), line()])
        found = await states(app)

        assert (found["S1"], found["S2"], found["B1"], found["F1"]) == (
            "closed",
            "open",
            "closed",
            "open",
        )
        assert (await row(app, "S1")).why == "payment F1 bills it"
        await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com"]
        [message] = await app.store.operations.notifications()
        assert message.line_count == 1, "the closed one has left the digest"


async def test_a_cancelled_statement_holds_the_payment_that_bills_it(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), payment(bill_ids="S1"), line(), statement()])
        await app.intake.take([statement(status="CANCELLED")])
        found = await row(app, "F1")
        assert found.state == "held"
        assert "S1" in found.why


async def test_a_close_by_hand_goes_on_to_linked_records(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), payment(bill_ids="S1"), line()])
        await app.intake.take([statement()])
        assert (await states(app))["S1"] == "closed"
        found = await row(app, "F1")
        assert found.closed_at is None
        assert (await row(app, "S1")).closed_at == clock()


async def test_a_reseller_s_task_is_told_to_its_distributor_and_never_to_it(
    database_url: str, clock: FakeClock
) -> None:
    people = [
        contact("C1", "sales"),
        contact("C2", "administrator"),
        contact("D1", "sales", partner="D"),
        contact("D2", "administrator", partner="D"),
    ]
    async with opened(database_url, clock) as app:
        await app.intake.take([partner("P1", type="云经销商", parent="D"), *people, task()])
        await app.scan.run("sales_task")
        await app.delivery.drain()
        assert await inbox(app) == ["d1@example.com"]


async def test_a_task_waits_for_the_distributor_to_be_known_and_is_told_then(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([partner("P1", type="云经销商"), contact("C1", "sales"), task()])
        await app.scan.run("sales_task")
        held = await row(app, "T1")
        assert held.state == "held"
        assert "distributor" in held.why

        await app.intake.take([partner("P1", type="云经销商", parent="D")])
        await app.scan.run("sales_task")
        assert (await row(app, "T1")).state == "held", "and nobody is there yet"
        await app.intake.take([contact("D1", "sales", partner="D")])
        await app.scan.run("sales_task")
        await app.delivery.drain()
        assert await inbox(app) == ["d1@example.com"]


async def test_a_final_failure_is_told_to_the_inviter_once_and_closed_with_that(
    database_url: str, clock: FakeClock
) -> None:
    gone = {"status": "FAILED", "failure_reason": "已是其他伙伴的客户"}
    async with opened(database_url, clock) as app:
        await app.intake.take([contact("C1", "sales"), invitation(**gone)])
        assert (await states(app))["I1"] == "open"
        await app.scan.run("invitation")
        found = await row(app, "I1")
        assert (found.state, found.closed_at) == ("closed", None), "closed, and not acted on"
        await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com"]

        await app.intake.take([invitation(**gone, link_label="again")])
        await app.scan.run("invitation")
        await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com"]


async def test_an_invitation_sent_again_after_its_last_word_makes_that_moot(
    database_url: str, clock: FakeClock
) -> None:
    gone = {"status": "FAILED", "failure_reason": "已是其他伙伴的客户"}
    async with opened(database_url, clock) as app:
        await app.intake.take([contact("C1", "sales"), invitation(**gone)])
        await app.scan.run("invitation")
        await app.intake.take([invitation(attempt_no=2, status="PENDING", sent_at=NOW)])
        await app.delivery.drain()
        assert await inbox(app) == []
        assert (await states(app))["I1"] == "open"
        assert "a new ladder" in (await reasons(app))["c1@example.com"]


async def test_an_account_that_is_not_authenticated_is_watched_while_something_waits(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([partner("P1", account_authenticated="否"), contact()])
        assert await states(app) == {}
        await app.intake.take([payment(), line()])
        found = await row(app, "P1")
        assert (found.kind, found.state) == ("settlement_account", "open")

        await app.scan.run("settlement_account")
        await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com"]

        await app.intake.take([partner("P1", account_authenticated="是")])
        found = await row(app, "P1")
        assert (found.state, found.closed_at) == ("closed", clock())
        clock.advance(DAY)
        await app.intake.take([partner("P1", account_authenticated="否")])
        await app.scan.run("settlement_account")
        await app.delivery.drain()
        assert len(await inbox(app)) == 2, "it is a new ladder"


@pytest.mark.parametrize(
    "again",
    [
        [statement()],
        [statement(version=2)],
        [statement(version=3), contact(), partner("P1", account_authenticated="否")],
        [statement(version=3), payment(), line()],
    ],
    ids=["the same", "a later version", "with its people", "among others"],
)
async def test_unchanged_content_derives_nothing_anew(
    again: list[Incoming], database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([partner("P1", account_authenticated="否"), contact()])
        await app.intake.take([payment(), line(), statement(version=1)])
        assert await _accounts(app) == 1
        # Behind the product's back: whoever derives again makes it again.
        async with app.store.database.write() as connection:
            await connection.execute(delete(records).where(records.c.kind == "settlement_account"))
        clock.advance(HOUR)
        batch = await app.intake.take(again)
        assert set(batch.outcomes) == {Taken.UNCHANGED}
        assert await _accounts(app) == 0

        batch = await app.intake.take([statement(version=4, amount_incl_tax="101.00")])
        assert batch.outcomes == [Taken.CHANGED]
        assert await _accounts(app) == 1


async def _accounts(app: App) -> int:
    """How many accounts are watched."""
    counted = select(func.count()).where(records.c.kind == "settlement_account")
    async with app.store.database.read() as connection:
        return int((await connection.execute(counted)).scalar_one())


async def test_the_watch_ends_when_nothing_waits_any_more(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([partner("P1", account_authenticated="否"), contact(), statement()])
        assert (await states(app))["P1"] == "open"
        await app.intake.take([statement(status="CONFIRMED")])
        assert (await states(app))["P1"] == "closed"


async def test_ninety_registrations_warn_and_a_hundred_warn_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact("C1", "sales"), *(registration(f"R{n}") for n in range(89))])
        assert "P1" not in await states(app)
        for more in (range(89, 90), range(90, 91), range(91, 100)):
            await app.intake.take([registration(f"R{n}") for n in more])
            await app.scan.run("pre_registration_limit")
            await app.delivery.drain()
        assert await inbox(app) == ["c1@example.com", "c1@example.com"]

        await app.intake.take([registration(f"R{n}", status="ASSOCIATED") for n in range(50)])
        assert (await states(app))["P1"] == "closed"


async def test_batches_that_link_crosswise_at_the_same_time_all_get_in(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        batches = [
            [payment(f"F{n}", bill_ids=f"S{n},S{(n + 1) % 12}"), line(f"F{n}")] for n in range(12)
        ] + [[statement(f"S{n}"), statement(f"S{11 - n}")] for n in range(12)]
        await asyncio.gather(*(app.intake.take(batch) for batch in batches))
        found = await states(app)
        assert {ref: state for ref, state in found.items() if ref.startswith("S")} == {
            f"S{n}": "closed" for n in range(12)
        }
