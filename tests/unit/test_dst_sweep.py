"""Two years in twelve zones: every day's stage and digest at its own wall-clock time, once.

What is expected is reckoned here in another way than the product's: a zone is cut into spans of
one offset, and a wall-clock time belongs to the first span that reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from schedules.calendar import send_instant
from schedules.clock import fire_time, missed_firings
from schedules.planner import Step, Verdict, digest_instant, forecast
from schedules.rule import Tell, stage
from tests.unit.planning import DAY, HOUR, MINUTE, ZONES, around, person, record

# Two years of each zone that have its oddest changes: half an hour, a whole day, midnight, Ramadan.
FIRST_YEAR = {
    "America/Sao_Paulo": 2017,
    "Pacific/Apia": 2011,
    "Asia/Tehran": 2021,
    "Asia/Gaza": 2024,
}
TIMES = (time(0), time(1, 30), time(2), time(2, 30), time(3))
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to `end` (aware UTC) clocks are `offset` ahead of UTC."""

    start: datetime
    end: datetime
    offset: timedelta


def first_day(zone: str) -> date:
    """Where the sweep of a zone begins."""
    return date(FIRST_YEAR.get(zone, 2025), 1, 1)


def days(zone: str) -> list[date]:
    """The local dates of a zone's two years."""
    start = first_day(zone)
    return [start + timedelta(n) for n in range((date(start.year + 2, 1, 1) - start).days)]


@lru_cache
def spans(zone: str) -> tuple[Span, ...]:
    """The zone's offsets over its two years, and some days more on either side."""
    tz = ZoneInfo(zone)
    at = datetime.combine(first_day(zone), time(), tzinfo=UTC) - 5 * DAY
    end = at + 745 * DAY
    found = [(at, at.astimezone(tz).utcoffset())]
    while at < end:
        later = at + 30 * MINUTE
        if later.astimezone(tz).utcoffset() != found[-1][1]:
            while at.astimezone(tz).utcoffset() == found[-1][1]:
                at += MINUTE
            found.append((at, at.astimezone(tz).utcoffset()))
        at = later
    starts = [*found, (end, timedelta(0))]
    return tuple(
        Span(start, starts[n + 1][0], offset or timedelta(0))
        for n, (start, offset) in enumerate(found)
    )


def expected(day: date, at: time, zone: str) -> datetime:
    """When clocks of the zone first show the time on that day, or have passed over it."""
    wanted = datetime.combine(day, at, tzinfo=UTC)
    span = next(one for one in spans(zone) if one.end + one.offset > wanted)
    return max(span.start, wanted - span.offset)


def test_the_zones_change_their_clocks_in_the_ways_that_are_hard() -> None:
    changes = {zone: [b.offset - a.offset for a, b in pairwise(spans(zone))] for zone in ZONES}

    assert changes["Asia/Kolkata"] == changes["UTC"] == []
    assert 30 * MINUTE in changes["Australia/Lord_Howe"]
    assert DAY in changes["Pacific/Apia"]
    assert sum(map(len, changes.values())) >= 35


@pytest.mark.parametrize("zone", ZONES)
def test_every_wall_clock_time_of_two_years_is_its_first_instant(zone: str) -> None:
    tz = ZoneInfo(zone)
    wrong = [
        (day, at)
        for day in days(zone)
        for at in TIMES
        if send_instant(day, at, tz) != expected(day, at, zone)
    ]

    assert wrong == []


@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_stage_is_told_once_for_each_local_date(zone: str) -> None:
    """Two years in pieces of two months, as a ladder that long repeats itself."""
    daily = stage("daily", "opened + 1 day, then every 1 day", Tell("finance"))
    told: list[datetime] = []
    beijing = ZoneInfo("Asia/Shanghai")
    contact = person(time_zone=zone, quiet="none")
    every_day = days(zone)
    pieces = [every_day[n : n + 60] for n in range(0, len(every_day), 60)]
    for piece in pieces:
        # Opened the day before, by the vendor's calendar; told until the last day is over.
        opened = datetime.combine(piece[0] - DAY, time(12), tzinfo=beijing).astimezone(UTC)
        rule = around(daily, send_at=time(2, 30))
        of = replace(record(None), opened_at=opened)
        end = expected(piece[-1], time(2, 30), zone) + TICK
        told += [at for at, _ in forecast(of, [contact], {}, opened - 2 * DAY, end, rule)]

    assert told == [expected(day, time(2, 30), zone) for day in every_day]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("at", TIMES, ids=str)
def test_a_persons_digest_goes_out_once_for_each_local_date(zone: str, at: time) -> None:
    contact = person(time_zone=zone, quiet="none", daily=True)
    rule = around(stage("now", "opened + 1 hours", Tell("finance")), digest_at=at)
    # A date that a zone left out has its midnight in common with the next.
    wanted = list(dict.fromkeys(expected(day, at, zone) for day in days(zone)))
    now = wanted[0] - HOUR
    found: list[datetime] = []
    for _ in wanted:
        step = Step(
            stage="now",
            order=(now, 0),
            role="finance",
            channel="mail",
            message="reminder",
            urgent=False,
            contact=contact,
            at=now,
            until=None,
            verdict=Verdict.DUE,
        )
        digest = digest_instant(step, now, rule)
        assert digest is not None
        found.append(digest)
        now = digest + TICK  # the next line is told just too late for this one

    assert found == wanted


def test_fire_times_are_the_same_for_all_and_neither_skip_nor_repeat_over_two_years() -> None:
    """Each hour and a bit of two years, whatever clocks on the wall do."""
    start, every = datetime(2025, 1, 1, 0, 7, tzinfo=UTC), timedelta(minutes=5)
    last = fire_time(start, every)
    fired, missed = 1, 0
    now = start
    while now < start + 730 * DAY:
        now += 67 * MINUTE
        at = fire_time(now, every)
        assert at > last
        missed += missed_firings(last, now, every)
        last, fired = at, fired + 1

    assert fired + missed == (last - fire_time(start, every)) / every + 1
