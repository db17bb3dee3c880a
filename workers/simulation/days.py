"""The judge's own calendar and clocks: it shares none of the product's.

Working days of mainland China as the State Council announced them for 2024 to 2026. In a year
that isn't announced Monday to Friday are worked; counting back, the holidays that the law fixes by
date are left out as well, since a reminder must rather be early than late.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

BEIJING = ZoneInfo("Asia/Shanghai")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NINE, HALF_PAST_NINE = time(9), time(9, 30)
Person = Mapping[str, Any]


def _days(year: int, spans: str) -> set[date]:
    """`5/1-5 10/1-8`: the days from the first to the last of each span of a month."""
    found = set()
    for span in spans.split():
        month, _, days = span.partition("/")
        first, _, last = days.partition("-")
        found |= {date(year, int(month), day) for day in range(int(first), int(last or first) + 1)}
    return found


ANNOUNCED = {2024, 2025, 2026}
OFF = (
    _days(2024, "1/1 2/10-17 4/4-6 5/1-5 6/10 9/15-17 10/1-7")
    | _days(2025, "1/1 1/28-31 2/1-4 4/4-6 5/1-5 5/31 6/1-2 10/1-8")
    | _days(2026, "1/1-3 2/15-23 4/4-6 5/1-5 6/19-21 9/25-27 10/1-7")
)
MADE_UP = (
    _days(2024, "2/4 2/18 4/7 4/28 5/11 9/14 9/29 10/12")
    | _days(2025, "1/26 2/8 4/27 9/28 10/11")
    | _days(2026, "1/4 2/14 2/28 5/9 9/20 10/10")
)
FIXED = {(1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3)}


def working(day: date) -> bool:
    """Whether Beijing works on a day."""
    return day in MADE_UP or (day.weekday() < 5 and day not in OFF)


def surely_working(day: date) -> bool:
    """The same, on the safe side for years that aren't announced."""
    return working(day) and (day.year in ANNOUNCED or (day.month, day.day) not in FIXED)


@lru_cache(maxsize=100_000)
def later(day: date, count: int) -> date:
    """The `count`-th working day after a day."""
    while count:
        day += DAY
        count -= working(day)
    return day


@lru_cache(maxsize=100_000)
def earlier(day: date, count: int) -> date:
    """The last working day on or before a day, and `count` further back."""
    while not surely_working(day):
        day -= DAY
    while count:
        day -= DAY
        count -= surely_working(day)
    return day


def here(at: datetime) -> date:
    """Beijing's date at an instant."""
    return at.astimezone(BEIJING).date()


@lru_cache(maxsize=100_000)
def clock(day: date, at: time, zone: str) -> datetime:
    """The instant at which a zone's clocks show a time (none of ours is one that clocks skip)."""
    return datetime.combine(day, at, ZoneInfo(zone)).astimezone(UTC)


def midnight_after(day: date) -> datetime:
    """The first instant after a day of Beijing."""
    return clock(day + DAY, time(), "Asia/Shanghai")


def end(value: date | datetime | None) -> datetime | None:
    """An end given as an instant, or as a day that still counts."""
    if value is None or isinstance(value, datetime):
        return value
    return midnight_after(value)


def quiet_span(person: Person, channel: str) -> tuple[time, time] | None:
    """A person's quiet hours for a channel: by default SMS don't come from 21:00 to 08:00."""
    text = person.get("quiet_hours") or ("21:00-08:00" if channel == "sms" else "none")
    return None if text == "none" else _span(text)


@lru_cache(maxsize=1000)
def _span(text: str) -> tuple[time, time]:
    first, last = (time.fromisoformat(part) for part in text.split("-"))
    return first, last


def is_quiet(person: Person, channel: str, at: datetime) -> bool:
    """Whether a person mustn't be written to at an instant."""
    span = quiet_span(person, channel)
    if span is None:
        return False
    local = at.astimezone(ZoneInfo(person["time_zone"])).time()
    return span[0] <= local < span[1] if span[0] < span[1] else not span[1] <= local < span[0]


def turn(person: Person, channel: str, at: datetime, which: int) -> datetime:
    """The end of the quiet hours around `at` (which 1), or their beginning (which 0)."""
    span = quiet_span(person, channel)
    assert span is not None
    zone, sign = person["time_zone"], 1 if which else -1
    day = at.astimezone(ZoneInfo(zone)).date()
    found = [clock(day + n * DAY, span[which], zone) for n in (-1, 0, 1)]
    near = (one for one in found if (one - at) * sign >= timedelta(0))
    return min(near, key=lambda one: abs(one - at))


def digest_time(person: Person, now: datetime, until: datetime | None) -> datetime | None:
    """When a person's daily mail goes out at or after `now`; None when that is too late."""
    zone = person["time_zone"]
    day = now.astimezone(ZoneInfo(zone)).date()
    at = clock(day, HALF_PAST_NINE, zone)
    if at < now:
        at = clock(day + DAY, HALF_PAST_NINE, zone)
    if is_quiet(person, "mail", at):
        at = turn(person, "mail", at, 1)
    return at if until is None or at < until else None
