"""Working days against two independent calendars, wall-clock times at changes of the clocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import chinese_calendar
import holidays
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schedules.calendar import Counted, QuietHours, WorkingCalendar, out_of_quiet, send_instant

CALENDAR = WorkingCalendar.load()
BEIJING = ZoneInfo("Asia/Shanghai")
ZONES = [
    ZoneInfo(name)
    for name in (
        "Asia/Shanghai",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Asia/Kolkata",
    )
]
NIGHT = QuietHours(time(21), time(8))
announced_days = st.dates(date(2024, 3, 1), date(2026, 10, 1))
any_days = st.dates(date(2020, 1, 1), date(2035, 12, 31))
instants = st.integers(0, 19 * 366 * 24 * 60).map(
    lambda minutes: datetime(2011, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
wall_times = st.builds(time, st.integers(0, 23), st.integers(0, 59))


def days_of(year: int) -> list[date]:
    first = date(year, 1, 1)
    return [first + timedelta(n) for n in range((date(year + 1, 1, 1) - first).days)]


def test_the_announced_years_are_shipped() -> None:
    assert CALENDAR.years == (2024, 2025, 2026)


@pytest.mark.parametrize("year", CALENDAR.years)
def test_every_day_of_an_announced_year_agrees_with_chinesecalendar(year: int) -> None:
    wrong = [d for d in days_of(year) if CALENDAR.is_working(d) != chinese_calendar.is_workday(d)]

    assert wrong == []


@pytest.mark.parametrize("year", CALENDAR.years)
def test_every_day_of_an_announced_year_agrees_with_holidays(year: int) -> None:
    china = holidays.country_holidays("CN", years=year)

    assert [d for d in days_of(year) if CALENDAR.is_working(d) != china.is_working_day(d)] == []


def test_a_year_that_isnt_announced_is_provisional_where_the_libraries_raise_or_keep_quiet() -> (
    None
):
    day = date(2027, 2, 10)

    with pytest.raises(NotImplementedError):
        chinese_calendar.is_workday(day)
    # holidays answers as though it knew, yet has no weekend day that is worked.
    china = holidays.country_holidays("CN", years=2027)
    assert not any(china.is_working_day(d) for d in days_of(2027) if d.weekday() >= 5)
    assert CALENDAR.is_provisional(day)
    assert not CALENDAR.is_provisional(date(2026, 12, 31))


@pytest.mark.parametrize("day", [(1, 4), (2, 14), (2, 28), (5, 9), (9, 20), (10, 10)])
def test_every_make_up_day_of_2026_is_worked_and_counted(day: tuple[int, int]) -> None:
    make_up = date(2026, *day)

    assert make_up.weekday() >= 5
    assert CALENDAR.is_working(make_up)
    assert CALENDAR.before(make_up, 0).day == make_up
    assert CALENDAR.after(make_up - timedelta(1), 1).day == make_up


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ((1, 1), (1, 3)),
        ((2, 15), (2, 23)),
        ((4, 4), (4, 6)),
        ((5, 1), (5, 5)),
        ((6, 19), (6, 21)),
        ((9, 25), (9, 27)),
        ((10, 1), (10, 7)),
    ],
)
def test_no_day_of_a_2026_holiday_is_worked(first: tuple[int, int], last: tuple[int, int]) -> None:
    span = [d for d in days_of(2026) if first <= (d.month, d.day) <= last]

    assert span
    assert not any(CALENDAR.is_working(day) for day in span)


def test_the_day_of_the_event_is_day_zero() -> None:
    friday, monday = date(2026, 11, 20), date(2026, 11, 23)

    assert CALENDAR.after(friday, 1).day == monday
    assert CALENDAR.after(friday, 0).day == friday
    assert CALENDAR.after(date(2026, 11, 21), 0).day == monday
    assert CALENDAR.before(monday, 1).day == friday
    assert CALENDAR.before(date(2026, 11, 22), 0).day == friday
    assert CALENDAR.before(date(2026, 11, 22), 1).day == date(2026, 11, 19)


def test_three_working_days_across_the_spring_festival_of_2026() -> None:
    counted = CALENDAR.after(date(2026, 2, 13), 3)  # Sat 14 worked, Tue 24, Wed 25

    assert counted.day == date(2026, 2, 25)
    assert not counted.provisional


def test_counting_into_a_year_that_isnt_announced_is_marked() -> None:
    assert not CALENDAR.after(date(2026, 12, 30), 1).provisional
    assert CALENDAR.after(date(2026, 12, 30), 2).provisional
    assert CALENDAR.before(date(2027, 1, 4), 1).provisional
    # Back from a provisional day to an announced one: what was passed counts.
    assert CALENDAR.before(date(2027, 1, 2), 0).provisional


def test_a_provisional_year_leans_to_the_early_side() -> None:
    # 1 January 2027 is a Friday and off by law; whether Monday is, only the announcement says.
    assert CALENDAR.after(date(2026, 12, 31), 1).day == date(2027, 1, 1)
    assert CALENDAR.before(date(2027, 1, 4), 1).day == date(2026, 12, 31)
    assert CALENDAR.before(date(2027, 10, 4), 1).day == date(2027, 9, 30)
    assert CALENDAR.before(date(2028, 5, 2), 0).day == date(2028, 4, 28)
    assert CALENDAR.before(date(2028, 10, 4), 1).day == date(2028, 9, 29)


@pytest.mark.parametrize("count", [CALENDAR.after, CALENDAR.before])
def test_a_negative_count_is_refused(count: Callable[[date, int], Counted]) -> None:
    with pytest.raises(ValueError, match="count 0 or more"):
        count(date(2026, 1, 1), -1)


@given(announced_days, st.integers(0, 60))
def test_before_undoes_after_for_a_working_day(day: date, count: int) -> None:
    assume(CALENDAR.is_working(day))
    there = CALENDAR.after(day, count).day
    assume(there.year <= 2026)

    assert CALENDAR.before(there, count).day == day


@given(any_days, st.integers(0, 60))
def test_what_after_finds_is_worked_and_has_so_many_working_days_on_the_way(
    day: date, count: int
) -> None:
    found = CALENDAR.after(day, count).day

    assert CALENDAR.is_working(found)
    way = [day + timedelta(n) for n in range(1, (found - day).days + 1)]
    if count:
        assert sum(map(CALENDAR.is_working, way)) == count
    else:
        assert not any(CALENDAR.is_working(d) for d in [day, *way] if d < found)


@given(any_days, any_days, st.integers(0, 30))
def test_a_later_day_never_counts_to_an_earlier_one(one: date, other: date, count: int) -> None:
    first, second = sorted((one, other))

    assert CALENDAR.after(first, count).day <= CALENDAR.after(second, count).day
    assert CALENDAR.before(first, count).day <= CALENDAR.before(second, count).day


@given(any_days, st.integers(0, 30))
def test_one_working_day_more_is_strictly_further_away(day: date, count: int) -> None:
    # From a day off, the first working day on or after it is also the first one after it.
    assume(count > 0 or CALENDAR.is_working(day))

    assert CALENDAR.after(day, count).day < CALENDAR.after(day, count + 1).day
    assert CALENDAR.before(day, count).day > CALENDAR.before(day, count + 1).day


def test_a_folder_adds_years_and_replaces_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "2027.toml").write_text("off = [[2027-01-01, 2027-01-03]]\nworking = [2027-01-09]")
    (tmp_path / "2026.toml").write_text("off = []\nworking = []")

    calendar = WorkingCalendar.load(tmp_path)

    assert calendar.years == (2024, 2025, 2026, 2027)
    assert calendar.is_working(date(2027, 1, 9))
    assert not calendar.after(date(2027, 1, 4), 3).provisional
    assert calendar.is_working(date(2026, 10, 1))
    assert not CALENDAR.is_working(date(2026, 10, 1))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("2027.toml", "off = [", "2027.toml: not TOML"),
        ("2027.toml", "off = []", r"2027.toml: working: missing: write working = \[\]"),
        ("2027.toml", "off=[]\nworking=[]\nholidays=[]", "2027.toml: holidays: no such key"),
        ("2027.toml", "off=[2027-01-01]\nworking=[]", "off: .* the first and the last day"),
        ("2027.toml", "off=1\nworking=[]", "off: must be a list"),
        ("2027.toml", "off=[[2027-01-03, 2027-01-01]]\nworking=[]", "off: .*swap the days"),
        ("2027.toml", "off=[]\nworking=['2027-01-09']", "working: '2027-01-09' isn't a day"),
        ("2027.toml", "off=[]\nworking=[2027-01-09T10:00:00]", "working: .* isn't a day"),
        ("2027.toml", "off=[]\nworking=[2026-01-09]", "working: .*move it to 2026.toml"),
        ("2027.toml", "off=[[2027-01-01,2027-01-03]]\nworking=[2027-01-02]", "is off as well"),
        ("next.toml", "off=[]\nworking=[]", "next.toml: name a file .* like 2027.toml"),
    ],
)
def test_a_malformed_year_names_file_key_and_remedy(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=words):
        WorkingCalendar.load(tmp_path)


def test_a_folder_of_years_that_isnt_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder: make it"):
        WorkingCalendar.load(tmp_path / "years")


@pytest.mark.parametrize(
    ("zone", "day", "at", "expected"),
    [
        ("Asia/Shanghai", date(2026, 11, 24), time(9), datetime(2026, 11, 24, 1, tzinfo=UTC)),
        # 2026-03-29 02:00 becomes 03:00: what is skipped means 03:00, 01:00 UTC
        ("Europe/Berlin", date(2026, 3, 29), time(2, 30), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        # 2026-10-25 03:00 becomes 02:00: the first 02:30 is summer time
        (
            "Europe/Berlin",
            date(2026, 10, 25),
            time(2, 30),
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),
        ("America/New_York", date(2026, 3, 8), time(2), datetime(2026, 3, 8, 7, tzinfo=UTC)),
        # clocks moved at midnight: the day began at 01:00
        ("America/Sao_Paulo", date(2018, 11, 4), time(0, 30), datetime(2018, 11, 4, 3, tzinfo=UTC)),
        # half an hour
        (
            "Australia/Lord_Howe",
            date(2026, 10, 4),
            time(2, 15),
            datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
        ),
        # a whole day that never was
        ("Pacific/Apia", date(2011, 12, 30), time(9), datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_wall_clock_time_becomes_the_first_valid_instant(
    zone: str, day: date, at: time, expected: datetime
) -> None:
    assert send_instant(day, at, ZoneInfo(zone)) == expected


@given(st.dates(date(2011, 1, 2), date(2035, 1, 1)), wall_times, st.sampled_from(ZONES))
def test_a_send_time_shows_itself_or_follows_a_gap(day: date, at: time, zone: ZoneInfo) -> None:
    instant = send_instant(day, at, zone)
    shown = instant.astimezone(zone).replace(tzinfo=None)
    wanted = datetime.combine(day, at)

    before = (instant - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
    assert shown == wanted or before < wanted < shown


@pytest.mark.parametrize(
    ("at", "deadline", "expected"),
    [
        ((20, 59), None, (20, 59)),
        ((8, 0), None, (8, 0)),
        ((21, 0), None, (32, 0)),
        ((7, 59), None, (8, 0)),
        ((22, 0), (33, 0), (32, 0)),
        ((22, 0), (32, 0), (20, 59)),
        ((3, 0), (4, 0), (-4, 59)),
        ((3, 0), (-5, 0), None),
    ],
)
def test_quiet_hours_move_a_time_later_or_before_a_deadline_earlier(
    at: tuple[int, int], deadline: tuple[int, int] | None, expected: tuple[int, int] | None
) -> None:
    def moment(clock: tuple[int, int]) -> datetime:
        return datetime(2026, 11, 24, tzinfo=BEIJING) + timedelta(hours=clock[0], minutes=clock[1])

    found = out_of_quiet(moment(at), NIGHT, BEIJING, deadline and moment(deadline))

    assert found == (expected and moment(expected))


def test_quiet_hours_that_clocks_run_through_twice_end_after_the_second_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    at = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 for the second time

    moved = out_of_quiet(at, QuietHours(time(21), time(2, 30)), berlin, None)

    assert moved == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_without_quiet_hours_nothing_moves() -> None:
    at = datetime(2026, 11, 24, 19, tzinfo=UTC)

    assert out_of_quiet(at, None, BEIJING, at) == at


def in_a_gap(instant: datetime, end: time, zone: ZoneInfo) -> bool:
    """Whether quiet hours that end at `end` had to end late, since clocks skipped that time."""
    before = (instant - timedelta(seconds=1)).astimezone(zone)
    return before.utcoffset() != instant.astimezone(zone).utcoffset() and before.time() < end


@given(instants, wall_times, wall_times, st.sampled_from(ZONES), st.integers(0, 48 * 60))
def test_what_leaves_the_quiet_hours_lies_outside_them_and_before_the_deadline(
    at: datetime, start: time, end: time, zone: ZoneInfo, minutes_left: int
) -> None:
    assume(start != end)
    quiet = QuietHours(start, end)
    deadline = at + timedelta(minutes=minutes_left)
    assume(quiet.covers(at.astimezone(zone).time()))

    free, bound = out_of_quiet(at, quiet, zone, None), out_of_quiet(at, quiet, zone, deadline)

    assert free is not None
    assert free > at
    assert not quiet.covers(free.astimezone(zone).time()) or in_a_gap(free, quiet.end, zone)
    assert bound is None or bound < deadline
    if bound is not None and bound < at:
        assert free >= deadline


@pytest.mark.parametrize("text", ["none", "", None, "无"])
def test_no_quiet_hours_are_none(text: str | None) -> None:
    assert QuietHours.parse(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9pm-8am", "write them like 21:00-08:00"),
        ("21:00-21:00", "same time"),
        ("24:00-08:00", "from 00:00 to 23:59"),
    ],
)
def test_unclear_quiet_hours_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        QuietHours.parse(text)
