"""What reminders led to: who was done before, after and never, by rule and stage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, invitation, opened, statement
from workers.app import App
from workers.effect import RuleEffect, StageEffect, effects, rule_effects
from workers.store.tables import attempts, notifications, occurrences, records

DAY = timedelta(days=1)
TOLD = {"accepted", "delivered"}


async def tell(
    app: App,
    ref: str,
    stage: str,
    at: datetime,
    *,
    ladder: str | None = None,
    state: str = "accepted",
    channel: str = "mail",
    dropped: str | None = None,
) -> None:
    """Writes down that a record was told at a stage, and when a provider accepted it."""
    async with app.store.database.write() as connection:
        row = (await connection.execute(select(records).where(records.c.ref == ref))).one()
        made = await connection.execute(
            notifications.insert()
            .values(
                uid=f"{ref} {stage} {channel} {ladder}"[:32],
                kind=row.kind,
                message="reminder",
                channel=channel,
                contact="C1",
                name="C1",
                role="finance",
                address="c1@example.com",
                language="en",
                time_zone="UTC",
                urgent=False,
                state=state,
                not_before=at,
                link_until=at,
                created_at=at,
                changed_at=at,
                accepted_at=at if state in {*TOLD, "failed"} else None,
            )
            .returning(notifications.c.id)
        )
        told = made.scalar_one()
        if state in TOLD:
            await connection.execute(
                attempts.insert().values(
                    notification_id=told,
                    number=1,
                    fence=1,
                    provider="inbox",
                    began_at=at,
                    ended_at=at,
                    outcome="accepted",
                    reply="250 accepted",
                )
            )
        await connection.execute(
            occurrences.insert().values(
                record_id=row.id,
                notification_id=told,
                ladder=ladder or row.ladder,
                stage=stage,
                channel=channel,
                contact="C1",
                dropped=dropped,
            )
        )


async def done(app: App, ref: str, at: datetime | None, **more: Any) -> None:
    """Writes down that a record was done at an instant; None where it only ended."""
    async with app.store.database.write() as connection:
        await connection.execute(
            update(records)
            .where(records.c.ref == ref)
            .values(state="closed", closed_at=at, next_due_at=None, **more)
        )


async def took(app: App, *refs: str, **more: Any) -> None:
    """Takes in statements that were opened long ago, to be confirmed by the 26th."""
    long_ago = {"generated_at": NOW - 60 * DAY}
    await app.intake.take([statement(ref, **long_ago | more) for ref in refs])


async def by_stage(app: App, kind: str = "statement", **asked: Any) -> Mapping[str, StageEffect]:
    """The effect of a rule's stages, by stage."""
    found = await effects(app.store, {kind: app.registry.cadences[kind]}, **asked)
    return {one.stage: one for one in found}


async def of_rule(app: App, kind: str = "statement", **asked: Any) -> RuleEffect:
    """The effect of one rule."""
    (found,) = await rule_effects(app.store, {kind: app.registry.cadences[kind]}, **asked)
    return found


async def test_the_last_stage_told_before_it_was_done_has_the_credit(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1")
        await tell(app, "S1", "T-5", NOW - 7 * DAY)
        await tell(app, "S1", "T-2", NOW - 2 * DAY)
        await done(app, "S1", NOW - DAY)
        await tell(app, "S1", "T-0", NOW)
        found = await by_stage(app)

        assert {
            stage: (one.told, one.after, one.elsewhere, one.never, one.median_days)
            for stage, one in found.items()
            if one.told
        } == {
            "T-5": (1, 0, 1, 0, None),
            "T-2": (1, 1, 0, 0, Decimal("1.0")),
            "T-0": (1, 0, 1, 0, None),
        }


async def test_what_is_not_done_or_only_ended_is_never_done(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1", "S2", "S3")
        for ref in ("S1", "S2", "S3"):
            await tell(app, ref, "T-2", NOW - 2 * DAY)
        await done(app, "S2", None)
        await done(app, "S3", NOW)
        one = (await by_stage(app))["T-2"]

        assert (one.told, one.after, one.never) == (3, 1, 2)


@pytest.mark.parametrize("state", ["failed", "parked", "cancelled", "suppressed"])
async def test_what_reached_nobody_was_not_told(
    database_url: str, clock: FakeClock, state: str
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1", "S2")
        await tell(app, "S1", "T-2", NOW - 2 * DAY, state=state)
        await tell(app, "S2", "T-2", NOW - 2 * DAY, dropped="moot")
        await done(app, "S1", NOW)
        await done(app, "S2", NOW)
        rule = await of_rule(app)

        assert [one.told for one in rule.stages] == [0] * len(rule.stages)
        assert (rule.closed, rule.untold) == (2, 2)


async def test_one_telling_by_two_channels_is_one_and_a_receipt_changes_nothing(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1")
        await tell(app, "S1", "T-2", NOW - 2 * DAY, state="delivered")
        await tell(app, "S1", "T-2", NOW - DAY, channel="sms")
        await done(app, "S1", NOW)
        one = (await by_stage(app))["T-2"]

        assert (one.told, one.after, one.median_days) == (1, 1, Decimal("2.0"))


async def test_a_repetition_counts_as_its_stage_and_within_counts_from_the_last(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1", "S2", confirm_by=None)
        for ref in ("S1", "S2"):
            await tell(app, ref, "+7", NOW - 20 * DAY)
            await tell(app, ref, "+7#2", NOW - 10 * DAY)
        await done(app, "S1", NOW - 7 * DAY)
        await done(app, "S2", NOW - 7 * DAY + timedelta(seconds=1))
        found = await by_stage(app)

        assert "+7#2" not in found
        assert (found["+7"].told, found["+7"].after, found["+7"].within) == (2, 2, 1)
        assert found["+7"].median_days == Decimal("13.0")
        assert (await by_stage(app, within_days=4))["+7"].within == 2


@pytest.mark.parametrize(
    ("days", "median"), [([1], "1.0"), ([4, 1, 2], "2.0"), ([8, 1, 2, 3], "2.5"), ([0.04], "0.0")]
)
async def test_the_median_is_the_middle_of_the_days_or_the_mean_of_the_two(
    database_url: str, clock: FakeClock, days: list[float], median: str
) -> None:
    async with opened(database_url, clock) as app:
        for number, each in enumerate(days):
            await took(app, f"S{number}")
            await tell(app, f"S{number}", "T-2", NOW - 9 * DAY)
            await done(app, f"S{number}", NOW - 9 * DAY + each * DAY)

        assert (await by_stage(app))["T-2"].median_days == Decimal(median)


async def test_a_record_is_before_each_stage_that_was_still_to_come(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1", "S2", "S3")
        await done(app, "S1", NOW - 9 * DAY)
        await tell(app, "S2", "T-5", NOW - 7 * DAY)
        await done(app, "S2", NOW - 6 * DAY)
        await tell(app, "S3", "T-0", NOW - 2 * DAY)
        await done(app, "S3", NOW - DAY)
        found = await by_stage(app)

        assert {stage: one.before for stage, one in found.items() if one.before} == {
            "T-5": 1,
            "T-2": 2,
            "T-0": 2,
            "ended": 3,
            "waiting": 3,
        }


async def test_only_stages_of_the_ladder_that_fits_have_a_record_before_them(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1", confirm_by=None)
        await done(app, "S1", NOW, due_at=None)
        found = await by_stage(app)

        assert {stage for stage, one in found.items() if one.before} == {"+1", "+3", "+7"}


async def test_a_new_ladder_leaves_what_the_old_one_told_behind(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([invitation("I1", attempt_no=2), invitation("I2", attempt_no=2)])
        for ref in ("I1", "I2"):
            # The first invitation, told and dead before the second was sent.
            await tell(app, ref, "T-24h", NOW - 9 * DAY, ladder="1")
        await tell(app, "I1", "T-72h", NOW, ladder="2")
        await done(app, "I1", NOW + DAY)
        await done(app, "I2", NOW + DAY)
        rule = await of_rule(app, "invitation")
        found = {one.stage: one for one in rule.stages}

        assert (found["T-24h"].told, found["T-24h"].after, found["T-24h"].elsewhere) == (2, 0, 2)
        assert (found["T-72h"].told, found["T-72h"].after) == (1, 1)
        assert (rule.closed, rule.untold) == (2, 1)


async def test_a_ladder_that_only_closing_began_takes_no_credit_away(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1")
        await tell(app, "S1", "T-2", NOW - 2 * DAY)
        await done(app, "S1", NOW, ladder="over")
        rule = await of_rule(app)

        assert {one.stage: one.after for one in rule.stages if one.told} == {"T-2": 1}
        assert rule.untold == 0


async def test_the_span_is_of_tellings_and_of_what_was_done(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await took(app, "S1", "S2", "S3")
        await tell(app, "S1", "T-5", NOW - 10 * DAY)
        await tell(app, "S1", "T-2", NOW - 5 * DAY)
        await done(app, "S1", NOW + 9 * DAY)
        await done(app, "S2", NOW - 10 * DAY)
        await done(app, "S3", NOW - DAY)
        rule = await of_rule(app, since=NOW - 5 * DAY, until=NOW)

        assert {one.stage: (one.told, one.after) for one in rule.stages if one.told} == {
            "T-2": (1, 1)
        }
        assert (rule.closed, rule.untold) == (1, 1)
        earlier = await by_stage(app, until=NOW - 5 * DAY)
        assert (earlier["T-5"].told, earlier["T-2"].told) == (1, 0)


async def test_one_partner_is_counted_alone(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), contact("C2", partner="P2")])
        await took(app, "S1")
        await took(app, "S2", partner="P2")
        for ref in ("S1", "S2"):
            await tell(app, ref, "T-2", NOW - 2 * DAY)
            await done(app, ref, NOW)

        assert (await by_stage(app))["T-2"].after == 2
        assert (await by_stage(app, partner="P2"))["T-2"].after == 1
        assert (await of_rule(app, partner="P2")).closed == 1


async def test_a_stage_that_left_the_cadence_is_still_accounted_for(
    database_url: str, clock: FakeClock
) -> None:
    cadence = {"rules": {"statement": {"stages": {"T-2": {"off": True}}}}}
    async with opened(database_url, clock, **cadence) as app:
        await took(app, "S1")
        await tell(app, "S1", "T-2", NOW - 2 * DAY)
        await done(app, "S1", NOW)
        stages = (await of_rule(app)).stages

        assert (stages[-1].stage, stages[-1].after, stages[-1].before) == ("T-2", 1, 0)


async def test_a_stage_that_settings_add_stands_where_its_time_is(
    database_url: str, clock: FakeClock
) -> None:
    added = {"T-3": {"when": "due - 3 working days", "tell": [{"role": "finance"}]}}
    async with opened(database_url, clock, rules={"statement": {"stages": added}}) as app:
        names = [one.stage for one in (await of_rule(app)).stages]

        assert names.index("T-5") < names.index("T-3") < names.index("T-2") < names.index("ended")


async def test_what_the_product_itself_sends_and_hears_of_is_counted(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await app.intake.take([contact(), statement("S1"), statement("S2")])
        await app.scan.run("statement")
        await app.delivery.drain()
        clock.advance(2 * DAY)
        await app.intake.take([statement("S1", status="CONFIRMED")])
        one = (await by_stage(app))["T-2"]

        assert (one.told, one.after, one.within, one.never) == (2, 1, 1, 1)
        assert one.median_days == Decimal("2.0")
