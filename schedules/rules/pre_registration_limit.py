"""Registrations pending: a partner may have a hundred customers registered and not associated.

Opens:      ninety are pending; made from the partner's registrations (报备), nobody sends it
Closes:     fewer than ninety are pending again
Deadline:   none: at the limit no further customer can be registered until one is associated or ends
Tells:      the sales and the administrator, once near the limit and once more when it is reached
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field

from schedules.calendar import WorkingCalendar
from schedules.fields import Column, Instant
from schedules.people import Partner
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    Plain,
    Record,
    RecordData,
    Related,
    Rule,
    Sample,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._samples import SALES_TEAM, iso, sample_of

LIMIT = 100
"""How many customers of one partner may be under review or registered at a time."""

NEAR = 90
"""From so many on the partner is told."""


class PreRegistrationLimitData(RecordData):
    """How many of a partner's registrations are pending, under the partner's own ref.

    `since` is when they first were so many that the partner is told.
    """

    noun: ClassVar[str] = "a count of pending ones"
    pending: Annotated[int, Field(ge=0), Column("待关联数量")]
    limit: Annotated[int, Field(ge=1), Column("报备上限")] = LIMIT
    since: Annotated[Instant, Column("开始时间")]


class PreRegistrationLimit(Rule):
    """So many registrations are pending that soon no more will be taken."""

    kind = "pre_registration_limit"
    title: ClassVar[Mapping[str, str]] = {"en": "Registrations pending", "zh-CN": "报备额度"}
    Data = PreRegistrationLimitData
    derives_from = ("pre_registration",)
    made_here = True
    cadence = Cadence(stages=(stage("warn", "opened", Tell("sales"), Tell("administrator")),))

    def opened_at(self, data: PreRegistrationLimitData) -> datetime:
        """Since when so many are pending."""
        return data.since

    def deadline(self, data: PreRegistrationLimitData, calendar: WorkingCalendar) -> Deadline:
        """None: nothing ends by itself."""
        return Deadline(None)

    def assess(self, data: PreRegistrationLimitData, lines: Sequence[Any]) -> Assessment:
        """Open as long as it is there."""
        return Assessment(State.OPEN, f"{data.pending} of {data.limit} registrations are pending")

    def derive(
        self,
        partner: Partner,
        watched: Sequence[Related],
        present: PreRegistrationLimitData | None,
        now: datetime,
    ) -> PreRegistrationLimitData | None:
        """The partner's pending registrations, counted, from ninety on."""
        pending = sum(_is_pending(one, now) for one in watched)
        if pending < NEAR:
            return None
        return PreRegistrationLimitData(
            ref=partner.ref,
            partner=partner.ref,
            pending=pending,
            since=now if present is None else present.since,
        )

    def ladder(self, data: PreRegistrationLimitData) -> str:
        """Reaching the limit is told of by itself, and so is coming near it another time."""
        reached = "limit" if data.pending >= data.limit else "near"
        return f"{reached}:{data.since.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds how many are pending, how many may be, how many are left, and since when."""
        data = data_of(record, PreRegistrationLimitData)
        return {
            **super().view(record),
            "pending": data.pending,
            "limit": data.limit,
            "left": max(0, data.limit - data.pending),
            "since": data.since,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Near the limit, one short of it (English), and at it."""
        hour = timedelta(hours=1)
        return (
            _sample("P-1001", 92, now - hour, english=False),
            _sample("P-1002", 99, now - 26 * hour, english=True),
            _sample("P-1003", 100, now - 50 * hour, english=False),
        )


def _is_pending(one: Related, now: datetime) -> bool:
    counted = one.kind == "pre_registration" and one.state in {State.OPEN, State.WAITING}
    return counted and (one.due_at is None or one.due_at > now)


def _sample(ref: str, pending: int, since: datetime, english: bool) -> Sample:
    data = {"partner": ref, "pending": pending, "since": iso(since), "url": None}
    return sample_of(ref, english, "registrations", data, *SALES_TEAM)
