"""What was seen ahead of a message's turn holds for a moment, and never against what changed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, line, opened, partner, payment, planned, statement
from workers import foresight
from workers.app import App
from workers.foresight import Foresight
from workers.last_look import Ready, Settled
from workers.store.attempts import Claimed

LEASE = timedelta(seconds=60)


async def _seen_ahead(app: App) -> tuple[Foresight, list[Claimed]]:
    """A message in hand that was looked at and rendered before its turn."""
    await planned(app, contact(), statement())
    claimed = await app.store.outbox.claim(NOW, 10, LEASE)
    ahead = Foresight(app.delivery.look, lambda: claimed)
    ahead.ahead()
    for _ in range(500):
        if ahead.known:
            break
        await asyncio.sleep(0.01)
    assert ahead.known == {one.id for one in claimed}
    return ahead, claimed


async def test_what_was_seen_a_moment_ago_isnt_looked_at_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        ahead, claimed = await _seen_ahead(app)
        clock.set(NOW + timedelta(hours=1))  # a new look would write another date
        (one,) = await ahead.take(claimed)

        assert isinstance(one, Ready)
        assert b"01:00:00 +0000" in getattr(one.message, "source", b"")
        assert ahead.known == set()


async def test_what_changed_since_it_was_seen_isnt_begun(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        ahead, claimed = await _seen_ahead(app)
        await app.intake.take([statement(status="CONFIRMED")])
        looked = await ahead.take(claimed)
        names = {one.id: "inbox" for one in claimed}
        begun, _, again = await app.delivery.commitment.to(looked, names)

        assert [type(one) for one in looked] == [Ready]
        assert begun == []
        assert again


async def test_what_was_seen_too_long_ago_is_looked_at_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        ahead, claimed = await _seen_ahead(app)
        await app.intake.take([statement(status="CONFIRMED")])
        await asyncio.sleep(foresight.FRESH_S + 0.1)
        (one,) = await ahead.take(claimed)

        assert isinstance(one, Settled)
        assert one.reason.startswith("moot: ")


async def test_what_was_given_back_and_claimed_anew_is_looked_at_again(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        ahead, claimed = await _seen_ahead(app)
        async with app.store.database.write() as connection:
            waits = {one.id: (NOW, "") for one in claimed}
            await app.store.outbox.put_off(connection, claimed, waits)
        anew = await app.store.outbox.claim(NOW, 10, LEASE)
        clock.set(NOW + timedelta(hours=1))
        (one,) = await ahead.take(anew)

        assert isinstance(one, Ready)
        assert one.claimed.fence == anew[0].fence
        assert b"02:00:00 +0000" in getattr(one.message, "source", b"")


async def test_what_takes_long_is_looked_at_alone_and_the_rest_in_its_turn(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(f"sqlite:///{tmp_path}/d.db", clock) as app:
        await app.intake.take([partner(), contact()])
        await app.intake.take([payment("F"), line("F")])
        for number in range(4):
            await app.intake.take(
                [contact(f"D{number}", partner=f"Q{number}"), partner(f"Q{number}")]
            )
            await app.intake.take([payment(f"G{number}", partner=f"Q{number}"), line(f"G{number}")])
        await app.scan.run("payment")
        claimed = await app.store.outbox.claim(NOW, 10, LEASE)
        looked = await app.delivery.look.at(claimed, most_s=0.0)
        rest = await app.delivery.look.at(claimed[len(looked) :])

        assert len(claimed) == 5
        assert len(looked) == 1
        assert {one.claimed.id for one in (*looked, *rest)} == {one.id for one in claimed}
