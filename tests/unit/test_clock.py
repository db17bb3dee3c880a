"""Cron times are the same instants for everybody, through DST and downtimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from schedules.clock import Cron


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "now", "latest"),
    [
        ("30 2 * * *", "2026-11-24T01:00", "2026-11-23T18:30"),
        ("30 2 * * *", "2026-11-23T18:30", "2026-11-23T18:30"),
        ("30 2 * * mon-fri", "2026-11-22T01:00", "2026-11-19T18:30"),
        ("*/15 * * * *", "2026-11-24T01:14:59", "2026-11-24T01:00"),
        ("0 8 1 1 *", "2026-11-24T01:00", "2026-01-01T00:00"),
    ],
)
def test_the_latest_time_is_an_instant_on_beijing_s_clock(text: str, now: str, latest: str) -> None:
    assert Cron.parse(text, "Asia/Shanghai").latest(utc(now)) == utc(latest)


def times(cron: Cron, first: str, last: str) -> list[datetime]:
    """Every latest time that is seen by who looks each ten minutes."""
    at, found = utc(first), set()
    while at < utc(last):
        if (latest := cron.latest(at)) is not None and latest > utc(first):
            found.add(latest)
        at += timedelta(minutes=10)
    return sorted(found)


def test_neither_night_of_dst_skips_or_repeats_a_time() -> None:
    nightly = Cron.parse("30 2 * * *", "Europe/Berlin")

    # On 29 March there is no 02:30, so it is 03:30; on 25 October there are two.
    assert times(nightly, "2026-03-27T12:00", "2026-03-30T12:00") == [
        utc("2026-03-28T01:30"),
        utc("2026-03-29T01:30"),
        utc("2026-03-30T00:30"),
    ]
    assert times(nightly, "2026-10-24T12:00", "2026-10-26T12:00") == [
        utc("2026-10-25T00:30"),
        utc("2026-10-26T01:30"),
    ]
    often = Cron.parse("*/30 * * * *", "Europe/Berlin")
    assert len(times(often, "2026-10-24T22:00", "2026-10-25T04:00")) == 11


def test_times_missed_in_a_downtime_are_counted() -> None:
    hourly = Cron.parse("0 * * * *", "Asia/Shanghai")

    assert hourly.missed(utc("2026-11-24T01:00"), utc("2026-11-24T02:00")) == 0
    assert hourly.missed(utc("2026-11-24T01:00"), utc("2026-11-24T05:00")) == 3
    assert hourly.missed(utc("2020-01-01T00:00"), utc("2026-11-24T05:00")) == 1_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 2 * *", "has 4 fields"),
        ("0 2 * * 1", "write weekdays by name"),
        ("61 2 * * *", "61"),
        ("0 2 * * someday", "someday"),
    ],
)
def test_a_wrong_cron_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="cron") as wrong:
        Cron.parse(text, "Asia/Shanghai")
    assert said in str(wrong.value)
