"""The effect of reminders: by rule and stage, how many records were done before, after, never.

A record is *told* at a stage once a message that says so was accepted by a provider (delivered
counts too; failed, parked, cancelled ones and dropped lines don't). A repetition (`+7#2`) counts as
its stage (`+7`). A record is *done* at its `closed_at`; one that only ended, unacted on, never is.

For each rule and stage, of the ladders of records first told at the stage within the span asked
for:

told     how many; it is `after` + `elsewhere` + `never`
after    done after being told at this stage and before the next stage was told: the last stage
         told before it was done has the credit, and no other
within   of `after`, done within N days (of 24 hours) of the last telling of the stage
never    not done to the present: still open, or ended
median   days from the first telling of the stage until it was done, over `after`

and of the records done within the span:

before   done while the stage was still to come: with nothing told of it nor of a later stage
untold   done without any reminder (a line a rule)

A telling counts towards what was done in the record's present ladder, or since its present
opening. Where a rule has stages before a deadline and stages after the opening, a record is counted
before those of the kind that fits it: by the last stage it was told, else by whether it has a
deadline. What is told after a deadline to records without one is never *before*. Which of several
sets of stages from the opening is a record's own (a rejected delivery's, a running one's) isn't
known once it is done, so there `before` is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from schedules.rule import Cadence, Stage
from workers.store import Row, Store
from workers.store.effects import DAY_S, Closings

WITHIN_DAYS = 3
"""The usual N of `within`."""
_HOURS = {"hour": 1.0, "day": 24.0, "working day": 24.0 * 7 / 5}


@dataclass(frozen=True, slots=True)
class StageEffect:
    """What came of one stage of one rule; the words are this file's.

    `median_days` has one decimal place, and is None where `after` is 0.
    """

    kind: str
    stage: str
    told: int
    after: int
    within: int
    never: int
    before: int
    median_days: Decimal | None

    @property
    def elsewhere(self) -> int:
        """Done, with the credit elsewhere: at another stage, or done before it was told."""
        return self.told - self.after - self.never


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """What came of one rule: records done in the span, those of them never told, and its stages."""

    kind: str
    closed: int
    untold: int
    stages: tuple[StageEffect, ...]


async def effects(
    store: Store,
    kinds: Mapping[str, Cadence],
    since: datetime | None = None,
    until: datetime | None = None,
    within_days: int = WITHIN_DAYS,
    partner: str | None = None,
) -> list[StageEffect]:
    """What came of each stage, by rule and in the ladder's order (see `rule_effects`)."""
    found = await rule_effects(store, kinds, since, until, within_days, partner)
    return [stage for rule in found for stage in rule.stages]


async def rule_effects(
    store: Store,
    kinds: Mapping[str, Cadence],
    since: datetime | None = None,
    until: datetime | None = None,
    within_days: int = WITHIN_DAYS,
    partner: str | None = None,
) -> list[RuleEffect]:
    """What came of each rule and each of its stages, in the order of `kinds`.

    `kinds` are the rules asked for with their cadences (`Registry.cadences`, or some of them);
    stages that were told but left the cadence since come last. The span goes from `since` up to,
    not including, `until` (aware UTC; None is unbounded): of first tellings for what was told, of
    when it was done for `before` and `untold`. `partner` leaves others' records out.
    """
    within = timedelta(days=within_days)
    told = await store.effects.by_stage(kinds, since, until, within, partner)
    done = await store.effects.closings(kinds, since, until, partner)
    return [
        _rule(
            kind,
            cadence,
            {row.stage: row for row in told if row.kind == kind},
            [one for one in done if one.kind == kind],
        )
        for kind, cadence in kinds.items()
    ]


def _rule(
    kind: str, cadence: Cadence, told: Mapping[str, Row[Any]], done: Sequence[Closings]
) -> RuleEffect:
    ladder = {one.name: one for one in sorted(cadence.stages, key=_order)}
    names = [*ladder, *(name for name in told if name not in ladder)]
    return RuleEffect(
        kind=kind,
        closed=sum(one.number for one in done),
        untold=sum(one.number for one in done if one.stage is None),
        stages=tuple(
            _stage(kind, name, told.get(name), _before(name, ladder, done)) for name in names
        ),
    )


def _stage(kind: str, name: str, row: Row[Any] | None, before: int) -> StageEffect:
    if row is None:
        return StageEffect(kind, name, 0, 0, 0, 0, before, None)
    return StageEffect(
        kind=kind,
        stage=name,
        told=int(row.told),
        after=int(row.after),
        within=int(row.within),
        never=int(row.never),
        before=before,
        median_days=_days(row.median_s),
    )


def _order(one: Stage) -> tuple[bool, float]:
    """Where a stage stands in its ladder: settings may have added one anywhere."""
    hours = one.when.count * _HOURS[one.when.unit]
    # A day's stage is told in its morning, hours before the deadline at its end.
    return one.after_deadline, hours if one.when.unit == "hour" else hours - 15


def _before(name: str, ladder: Mapping[str, Stage], done: Iterable[Closings]) -> int:
    if name not in ladder:
        return 0
    anchors = {one.when.anchor for one in ladder.values() if not one.after_deadline}
    places = {stage: number for number, stage in enumerate(ladder)}
    mine, found = ladder[name], 0
    for one in done:
        last = ladder.get(one.stage) if one.stage is not None else None
        if last is not None:
            fits = last.when.anchor == mine.when.anchor
        elif mine.when.anchor == "due":
            fits = one.dated
        else:
            fits = not mine.after_deadline and not (one.dated and "due" in anchors)
        earlier = last is None or places[last.name] < places[name]
        found += one.number if fits and earlier else 0
    return found


def _days(seconds: Any) -> Decimal | None:
    if seconds is None:
        return None
    return (Decimal(str(seconds)) / DAY_S).quantize(Decimal("0.1"), ROUND_HALF_UP)
