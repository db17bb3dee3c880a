"""What comes in is stored once, in order, and never made worse; on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from schedules.rule import ContactData
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
    statement,
)
from workers.app import App
from workers.intake import Taken


async def stored(app: App, ref: str) -> dict[str, object]:
    (row,) = await app.store.records.find(ref)
    return {**row.data, "state": row.state, "why": row.why, "next_due_at": row.next_due_at}


async def test_the_same_things_twice_change_nothing(database_url: str, clock: FakeClock) -> None:
    things = [partner(), contact(), statement(), invitation(), line(), payment()]
    async with opened(database_url, clock) as app:
        first = await app.intake.take(things)
        before = await app.store.records.find("S1")
        clock.advance(timedelta(hours=1))
        second = await app.intake.take(things)

        assert set(first.outcomes) == {Taken.NEW}
        assert set(second.outcomes) == {Taken.UNCHANGED}
        assert await app.store.records.find("S1") == before


async def test_a_later_word_in_the_same_batch_counts(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        batch = await app.intake.take([statement(), statement(status="CONFIRMED")])

        assert batch.outcomes == [Taken.NEW, Taken.CHANGED]
        assert (await stored(app, "S1"))["state"] == "closed"


async def test_a_stale_version_is_ignored(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([statement(version=7, status="CONFIRMED")])
        late = await app.intake.take([statement(version=6, status="PENDING")])

        assert late.outcomes == [Taken.STALE]
        assert (await stored(app, "S1"))["state"] == "closed"


async def test_an_older_update_is_ignored(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([statement(updated_at=NOW, status="CONFIRMED")])
        late = await app.intake.take([statement(updated_at=NOW - timedelta(hours=1))])

        assert late.outcomes == [Taken.STALE]


async def test_equal_content_of_a_later_version_still_outdates_what_lies_between(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([statement(version=5)])
        await app.intake.take([statement(version=7)])
        late = await app.intake.take([statement(version=6, status="CONFIRMED")])

        assert late.outcomes == [Taken.STALE]
        assert (await stored(app, "S1"))["state"] == "open"


async def test_a_masked_address_never_replaces_a_clear_one(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(mobile="13800138000")])
        again = await app.intake.take([contact(mail="c***@example.com", mobile="138****8000")])

        assert again.outcomes == [Taken.UNCHANGED]
        (row,) = await app.store.records.contacts_of("P1")
        assert (row.data["mail"], row.data["mobile"]) == ("c1@example.com", "+8613800138000")


async def test_a_clear_address_replaces_a_masked_one(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(mail="c***@example.com")])
        await app.intake.take([contact(mail="c1@example.com")])

        (row,) = await app.store.records.contacts_of("P1")
        assert row.data["mail"] == "c1@example.com"


async def test_a_column_that_a_file_lacks_keeps_what_is_stored(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([statement(url="https://partner.example.com/s/1", period="2026-10")])
        await app.intake.take([statement(status="DISPUTED")])

        now = await stored(app, "S1")
        assert (now["url"], now["period"]) == ("https://partner.example.com/s/1", "2026-10")
        assert now["state"] == "paused"


async def test_lines_may_come_before_their_record(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([line()])
        await app.intake.take([payment()])

        assert (await stored(app, "F1"))["state"] == "open"


async def test_a_line_that_completes_the_list_opens_the_held_payment(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([payment(amount="212.00"), line()])
        held = await stored(app, "F1")
        await app.intake.take([line(number=2)])

        assert (held["state"], held["next_due_at"]) == ("held", None)
        assert "212.00" in str(held["why"])
        assert (await stored(app, "F1"))["state"] == "open"


async def test_a_record_without_a_partner_or_contact_is_held_until_one_comes(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([statement()])
        tally = await app.scan.run("statement")
        held = await stored(app, "S1")
        await app.intake.take([contact()])
        await app.scan.run("statement")
        await app.delivery.drain()

        assert tally is not None
        assert (tally.planned, tally.held) == (0, 1)
        assert held["state"] == "held"
        assert "partner P1 has no contact with the role finance" in str(held["why"])
        assert await inbox(app) == ["c1@example.com"]


async def test_a_contact_that_changes_has_its_partners_records_looked_at_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(mail="c***@example.com"), statement()])
        await app.scan.run("statement")
        held = await stored(app, "S1")
        await app.intake.take([contact()])

        assert held["state"] == "held"
        assert (await stored(app, "S1"))["next_due_at"] == NOW


async def test_a_contact_that_moves_to_another_partner_is_told_of_that_ones_records_only(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement(), statement("S2", partner="P2")])
        await app.intake.take([contact(partner="P2")])
        await app.scan.run("statement")
        (row,) = await app.store.operations.notifications()
        whole = await app.store.operations.whole(row.uid)

        assert [one.ref for one in whole.lines] == ["S2"]
        assert (await stored(app, "S1"))["state"] == "held"


async def test_two_batches_that_add_the_same_records_at_once_both_succeed(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        refs = [f"S{number}" for number in range(50)]
        forward = [statement(ref) for ref in refs]
        backward = [statement(ref) for ref in reversed(refs)]
        batches = await asyncio.gather(
            *(app.intake.take(things) for things in (forward, backward) * 3)
        )

        outcomes = [outcome for batch in batches for outcome in batch.outcomes]
        assert outcomes.count(Taken.NEW) == 50
        assert outcomes.count(Taken.UNCHANGED) == 250


async def test_batches_that_change_the_same_things_in_another_order_dont_block_each_other(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        refs = [f"S{number}" for number in range(40)]
        await app.intake.take([statement(ref) for ref in refs] + [contact()])

        async def change(times: int) -> None:
            order = refs if times % 2 else list(reversed(refs))
            things = [statement(ref, period=f"{times}") for ref in order]
            people = [contact(f"C{ref}", name=f"{times}") for ref in order]
            await app.intake.take(things + people)

        await asyncio.gather(*(change(times) for times in range(6)))

        periods = {(await stored(app, ref))["period"] for ref in refs}
        assert len(periods) == 1


async def test_what_was_closed_by_hand_stays_closed_until_it_is_issued_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact("C1", "sales"), invitation()])
        (row,) = await app.store.records.find("I1")
        closed = {"state": "closed", "why": "by hand", "closed_by_hand": "by hand"}
        await app.store.operations.change_record(
            row.id, "ops", "close", "settled by phone", NOW, **closed, next_due_at=None
        )
        await app.intake.take([invitation(link_label="fair")])
        still = (await stored(app, "I1"))["state"]
        await app.intake.take([invitation(attempt_no=2)])
        again = (await stored(app, "I1"))["state"]
        await app.intake.take([invitation(attempt_no=2, link_label="shop")])

        assert (still, again) == ("closed", "open")
        assert (await stored(app, "I1"))["state"] == "open"


async def test_a_long_role_and_a_contact_without_a_ref_fit_every_database(
    database_url: str, clock: FakeClock
) -> None:
    mail = f"{'m' * 60}@{'d' * 60}.{'d' * 60}.example.com"
    async with opened(database_url, clock) as app:
        long = contact(role="r" * 190, ref=None, mail=mail)
        first = await app.intake.take([long])
        second = await app.intake.take([long])

        assert (first.outcomes, second.outcomes) == ([Taken.NEW], [Taken.UNCHANGED])


@pytest.mark.parametrize(
    "wrong", [{"version": 2**63}, {"version": -1}], ids=["too large", "negative"]
)
def test_numbers_that_no_database_holds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="version"):
        statement(**wrong)


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_line_numbers_that_no_list_has_are_refused(number: int) -> None:
    with pytest.raises(ValidationError, match="line"):
        line(number=number)


def test_quiet_hours_are_checked_where_they_come_in() -> None:
    with pytest.raises(ValidationError, match=r"write them like 21:00-08:00"):
        contact(quiet_hours="late")
    written = ContactData(partner="P1", quiet_hours=" 9:00   -       18:00 ")
    assert written.quiet_hours == "09:00-18:00"
