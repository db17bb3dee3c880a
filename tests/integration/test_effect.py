"""What reminders led to: who was done before, after and never, by rule and stage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, invitation, opened, partner, statement
from workers.app import App
from workers.effect import RuleEffect, StageEffect, effects, rule_effects
from workers.model import NotificationState
from workers.store.tables import notifications, occurrences, records

DAY = timedelta(days=1)
STATEMENT_STAGES = ["+1", "+3", "+7", "T-5", "T-2", "T-0", "ended", "waiting"]


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
    """Writes down that a record was told at a stage, accepted at an instant."""
    async with app.store.database.write() as connection:
        row = (await connection.execute(select(records).where(records.c.ref == ref))).one()
        uid = f"{ref}{stage}{channel}{ladder}"[:32]
        made = await connection.execute(
            notifications.insert()
            .values(
                uid=uid,
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
                accepted_at=at if state in {"accepted", "delivered", "failed"} else None,
            )
            .returning(notifications.c.id)
        )
        await connection.execute(
            occurrences.insert().values(
                record_id=row.id,
                notification_id=made.scalar_one(),
                ladder=ladder or row.ladder,
                stage=stage,
                channel=channel,
                contact="C1",
                dropped=dropped,
            )
        )


async def done(app: App, ref: str, at: datetime, **more: Any) -> None:
    """Writes down that a record was done at an instant."""
    async with app.store.database.write() as connection:
        await connection.execute(
            update(records)
            .where(records.c.ref == ref)
            .values(state="closed", closed_at=at, **more)
        )


async def took(app: App, *refs: str, **more: Any) -> None:
    """Takes statements in that were opened long ago, to be confirmed by the 26th."""
    await app.intake.take(
        [statement(ref, **{"generated_at": NOW - 30 * DAY, **more}) for ref in refs]
    )


async def by_stage(
    app: App, kind: str = "statement", **asked: Any
) -> Mapping[str, StageEffect]:
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
    async with unproven(database_url, clock) as app:
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
