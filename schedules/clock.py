"""The clock: APScheduler ticks, in memory. The only importer of apscheduler.

A tick carries its fire time, a multiple of the period since 1970 in UTC or a cron's instant: the
same for every scheduler, so the store's unique key (name, fire time) lets N of them fire once, and
neither DST nor a restart skips or repeats one. What was missed while nothing ran is fired once on
start.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

Tick = Callable[[str, datetime], Awaitable[None]]
LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=367))
"""How far back a cron's latest fire time is looked for, the nearest first."""
MOST_MISSED = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fire_time(now: datetime, every: timedelta) -> datetime:
    """The latest fire time at or before `now`."""
    return now - (now - _EPOCH) % every


def missed_firings(last: datetime | None, now: datetime, every: timedelta) -> int:
    """How many fire times lie between the last one fired and the one that is due now."""
    if last is None:
        return 0
    return max(0, int((fire_time(now, every) - last) / every) - 1)


@dataclass(frozen=True, slots=True)
class Cron:
    """Fire times on a wall clock: `30 2 * * mon-fri` in a named zone. Made by `parse`."""

    text: str
    zone: str

    @classmethod
    def parse(cls, text: str, zone: str) -> Cron:
        """Raises ValueError that says what is wrong with the five fields."""
        fields = text.split()
        if len(fields) != 5:
            raise ValueError(
                f"cron {text!r} has {len(fields)} fields: write minute hour day month weekday, "
                "like 30 2 * * mon-fri"
            )
        if re.search(r"(?<!/)\d", fields[4]):
            # Sunday is 0 to some and 6 to others.
            raise ValueError(f"cron {text!r}: write weekdays by name: mon,tue,wed,thu,fri,sat,sun")
        made = cls(" ".join(fields), zone)
        try:
            made.trigger()
        except ValueError as error:
            raise ValueError(f"cron {text!r}: {error}") from None
        return made

    def trigger(self) -> Any:
        """The same for APScheduler."""
        from apscheduler.triggers.cron import CronTrigger

        return CronTrigger.from_crontab(self.text, timezone=ZoneInfo(self.zone))

    def latest(self, now: datetime) -> datetime | None:
        """The latest fire time at or before `now`, aware UTC; None when the last year had none."""
        for span in LOOK_BACK:
            last = deque(self._between(now - span, now), maxlen=1)
            if last:
                return last[0]
        return None

    def missed(self, last: datetime, fire_at: datetime) -> int:
        """How many fire times lie between two, at most MOST_MISSED."""
        within = self._between(last + timedelta(microseconds=1), fire_at)
        return max(0, sum(1 for _ in islice(within, MOST_MISSED + 1)) - 1)

    def _between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        trigger = self.trigger()
        # An hour that DST brings twice is fired once, unless every hour is.
        once = not self.text.split()[1].startswith("*")
        at = trigger.get_next_fire_time(None, first)
        while at is not None and at <= last:
            if not (once and at.fold):
                yield at.astimezone(UTC)
            at = trigger.get_next_fire_time(at, at)


class Ticker:
    """Calls `tick(name, fire_at)` for each name at each of its fire times while it runs."""

    def __init__(
        self,
        periods: Mapping[str, timedelta | Cron],
        tick: Tick,
        now: Callable[[], datetime],
    ) -> None:
        self._periods = periods
        self._tick = tick
        self._now = now
        from apscheduler.schedulers.asyncio import AsyncIOScheduler

        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def start(self) -> None:
        """Begins to tick; each name fires at once for its latest fire time."""
        from apscheduler.triggers.interval import IntervalTrigger

        for name, every in self._periods.items():
            self._scheduler.add_job(
                self._fire,
                every.trigger()
                if isinstance(every, Cron)
                else IntervalTrigger(
                    seconds=int(every.total_seconds()), start_date=_EPOCH, timezone=UTC
                ),
                args=(name, every),
                id=name,
                coalesce=True,
                # Late is better than never: the default grace of a second skips silently.
                misfire_grace_time=None,
                max_instances=1,
                next_run_time=self._now(),
            )
        self._scheduler.start()

    async def _fire(self, name: str, every: timedelta | Cron) -> None:
        now = self._now()
        at = every.latest(now) if isinstance(every, Cron) else fire_time(now, every)
        if at is not None:
            await self._tick(name, at)

    def stop(self) -> None:
        """Ends ticking; what a tick began goes on."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
