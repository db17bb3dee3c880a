"""Working days of mainland China, wall-clock send times and quiet hours. Pure.

The State Council announces each year's days off, and the weekend days worked in exchange, about
November of the year before. The announced years are data (`working_days/<year>.toml`); a folder of
files of the same form adds or replaces years without a release:

    source = "where it was announced"
    off = [[2026-01-01, 2026-01-03], [2026-06-19, 2026-06-21]]   # first and last day of each span
    working = [2026-01-04]                                       # weekend days that are worked

For a year without a file Monday to Friday is assumed, the result is marked provisional, and leans
to the early side: see `WorkingCalendar.after` and `WorkingCalendar.before`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_SHIPPED = Path(__file__).with_name("working_days")
_ONE_DAY = timedelta(days=1)
KNOWN = 16_384
"""Answers that are kept, of each question that records of the same days ask again."""

# What the law itself fixes by the solar calendar, whatever a year's announcement adds
# (全国年节及纪念日放假办法, State Council order 795, since 2025): the rest follows the moon.
_FIXED_HOLIDAYS = frozenset({(1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3)})


@dataclass(frozen=True, slots=True)
class Counted:
    """A day found by counting working days (of the calendar's country, so Beijing's date).

    `provisional` is true when a day passed on the way lies in a year not yet announced.
    """

    day: date
    provisional: bool


@dataclass(frozen=True, slots=True)
class _Year:
    off: frozenset[date]
    working: frozenset[date]


class WorkingCalendar:
    """Working days of mainland China, make-up weekends included."""

    def __init__(self, years: Mapping[int, _Year]) -> None:
        self._years = dict(years)
        # A hundred thousand records share a few hundred days.
        self._after = lru_cache(KNOWN)(
            lambda day, count: self._count(day, count, _ONE_DAY, self.is_working)
        )
        self._before = lru_cache(KNOWN)(self._count_back)

    @classmethod
    def load(cls, overrides: Path | None = None) -> WorkingCalendar:
        """The shipped years, and those of a folder of `<year>.toml` files, which replace them.

        Raises ValueError that names file, key and remedy for a folder that isn't there and for a
        malformed file.
        """
        if overrides is not None and not overrides.is_dir():
            raise ValueError(f"{overrides}: no such folder: make it, or leave the setting out")
        folders = [_SHIPPED] if overrides is None else [_SHIPPED, overrides]
        files = [file for folder in folders for file in sorted(folder.glob("*.toml"))]
        return cls({_year_of(file): _read(file) for file in files})

    @property
    def years(self) -> tuple[int, ...]:
        """The announced years, ascending."""
        return tuple(sorted(self._years))

    @property
    def content(self) -> str:
        """All announced days as text: equal for calendars that count alike."""
        return repr(sorted((y, sorted(d.off), sorted(d.working)) for y, d in self._years.items()))

    def is_provisional(self, day: date) -> bool:
        """Whether the day's year isn't announced, so that Monday to Friday is assumed."""
        return day.year not in self._years

    def is_working(self, day: date) -> bool:
        """Whether the day is worked; Monday to Friday where its year isn't announced."""
        year = self._years.get(day.year)
        if year is None:
            return day.weekday() < 5
        return day in year.working or (day.weekday() < 5 and day not in year.off)

    def after(self, day: date, count: int) -> Counted:
        """The `count`-th working day after `day`, which is day 0; 0: the first on or after it.

        In a provisional year every Monday to Friday counts, holidays too, so that a deadline found
        by counting forward is early rather than late. Weekends that will be worked aren't known:
        where some lie on the way and no holiday does, it is late by as many days. Raises ValueError
        for a negative count.
        """
        return self._after(day, count)

    def before(self, day: date, count: int) -> Counted:
        """The last working day on or before `day`, and `count` working days further back.

        In a provisional year the holidays that the law fixes by date (1 January, 1-2 May, 1-3
        October) don't count, so that a reminder found by counting back isn't late because of them.
        Those that follow the moon aren't known before the announcement. Raises ValueError for a
        negative count.
        """
        return self._before(day, count)

    def _count_back(self, day: date, count: int) -> Counted:
        found = self._count(day, 0, -_ONE_DAY, self._surely_working)
        rest = self._count(found.day, count, -_ONE_DAY, self._surely_working)
        return Counted(rest.day, found.provisional or rest.provisional)

    def _surely_working(self, day: date) -> bool:
        fixed = self.is_provisional(day) and (day.month, day.day) in _FIXED_HOLIDAYS
        return self.is_working(day) and not fixed

    def _count(
        self, day: date, count: int, step: timedelta, working: Callable[[date], bool]
    ) -> Counted:
        if count < 0:
            raise ValueError(f"{count} working days: count 0 or more, and choose after or before")
        provisional = self.is_provisional(day)
        if count == 0:
            while not working(day):
                day += step
                provisional = provisional or self.is_provisional(day)
        while count:
            day += step
            provisional = provisional or self.is_provisional(day)
            count -= working(day)
        return Counted(day, provisional)


def _year_of(file: Path) -> int:
    if not re.fullmatch(r"20\d\d|21\d\d", file.stem):
        raise ValueError(f"{file}: name a file of working days by its year, like 2027.toml")
    return int(file.stem)


def _read(file: Path) -> _Year:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not TOML in UTF-8 ({error}): correct that place") from None
    if unknown := sorted(content.keys() - {"source", "off", "working"}):
        raise ValueError(f"{file}: {unknown[0]}: no such key: there are source, off and working")
    if missing := sorted({"off", "working"} - content.keys()):
        raise ValueError(
            f"{file}: {missing[0]}: missing: write {missing[0]} = [] if there are none"
        )
    off: set[date] = set()
    for span in _list(file, "off", content["off"]):
        if not isinstance(span, list) or len(span) != 2:
            raise ValueError(
                f"{file}: off: {span!r}: write the first and the last day of each span"
            )
        first, last = (_day(file, "off", day) for day in span)
        if last < first:
            raise ValueError(f"{file}: off: {first} to {last} ends before it begins: swap the days")
        off.update(first + timedelta(days=n) for n in range((last - first).days + 1))
    working = {_day(file, "working", day) for day in _list(file, "working", content["working"])}
    if both := sorted(off & working):
        raise ValueError(f"{file}: working: {both[0]} is off as well: take it out of one of them")
    return _Year(frozenset(off), frozenset(working))


def _list(file: Path, key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{file}: {key}: must be a list: put it in [ ]")
    return value


def _day(file: Path, key: str, value: Any) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError(f"{file}: {key}: {value!r} isn't a day: write it like {file.stem}-01-31")
    if value.year != int(file.stem):
        raise ValueError(f"{file}: {key}: {value} is of another year: move it to {value.year}.toml")
    return value


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A daily span in which a recipient isn't written to: from `start` up to, not including, `end`.

    Wall-clock times of the recipient's own zone; a span over midnight is usual (21:00-08:00).
    """

    start: time
    end: time

    @classmethod
    @lru_cache(KNOWN)
    def parse(cls, text: str | None) -> QuietHours | None:
        """`21:00-08:00`, or None for `none` and empty. Raises ValueError otherwise."""
        if text is None or text.strip().lower() in {"", "none", "无"}:
            return None
        found = re.fullmatch(r"(\d{1,2}:\d{2})\s*[-–~]\s*(\d{1,2}:\d{2})", text.strip())
        if not found:
            raise ValueError(f"quiet hours {text!r}: write them like 21:00-08:00, or none")
        try:
            start, end = (time.fromisoformat(part.zfill(5)) for part in found.groups())
        except ValueError:
            raise ValueError(f"quiet hours {text!r}: the times run from 00:00 to 23:59") from None
        if start == end:
            raise ValueError(f"quiet hours {text!r} begin and end at the same time: write none")
        return cls(start, end)

    def covers(self, at: time) -> bool:
        """Whether the wall-clock time lies in the span."""
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


@lru_cache(KNOWN)
def send_instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The instant (aware UTC) at which clocks in `zone` show `at` on `day`.

    A time that clocks skip becomes the first instant after the gap; one that they show twice means
    the first of the two.
    """
    local = datetime.combine(day, at, tzinfo=zone)
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return instant
    # In a gap the two folds lie on either side of the change (PEP 495): halve towards it.
    low, high = local.replace(fold=1).astimezone(UTC), instant
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(KNOWN)
def out_of_quiet(
    at: datetime, quiet: QuietHours | None, zone: ZoneInfo, deadline: datetime | None
) -> datetime | None:
    """The nearest instant to `at` that the recipient's quiet hours allow (aware UTC).

    That is the end of the quiet hours, or, where the end wouldn't come before `deadline`, the last
    minute before they begin. None where that isn't before the deadline either. An instant outside
    the quiet hours is returned as it is, whatever the deadline.
    """
    local = at.astimezone(zone)
    if quiet is None or not quiet.covers(local.time()):
        return at
    over_midnight = quiet.start > quiet.end
    evening = local.time() >= quiet.start
    ends_on = local.date() + _ONE_DAY if over_midnight and evening else local.date()
    begins_on = local.date() - _ONE_DAY if over_midnight and not evening else local.date()
    later = send_instant(ends_on, quiet.end, zone)
    if later <= at:  # clocks went back, and this is the second time round
        later = datetime.combine(ends_on, quiet.end.replace(fold=1), tzinfo=zone).astimezone(UTC)
    if deadline is None or later < deadline:
        return later
    earlier = send_instant(begins_on, quiet.start, zone) - timedelta(minutes=1)
    return earlier if earlier < deadline else None
