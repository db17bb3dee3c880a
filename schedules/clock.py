"""The clock: APScheduler ticks, in memory. The only importer of apscheduler.

A tick carries its fire time, a multiple of the rule's period since 1970 in UTC: the same for every
scheduler, so the store's unique key (rule, fire time) lets N of them fire once, and neither DST
nor a restart skips or repeats one. What was missed while nothing ran is fired once on start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

Tick = Callable[[str, datetime], Awaitable[None]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fire_time(now: datetime, every: timedelta) -> datetime:
    """The latest fire time at or before `now`."""
    return now - (now - _EPOCH) % every


def missed_firings(last: datetime | None, now: datetime, every: timedelta) -> int:
    """How many fire times lie between the last one fired and the one that is due now."""
    if last is None:
        return 0
    return max(0, int((fire_time(now, every) - last) / every) - 1)


class Ticker:
    """Calls `tick(name, fire_at)` for each name at each of its fire times while it runs."""

    def __init__(
        self, periods: Mapping[str, timedelta], tick: Tick, now: Callable[[], datetime]
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
                IntervalTrigger(
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

    async def _fire(self, name: str, every: timedelta) -> None:
        await self._tick(name, fire_time(self._now(), every))

    def stop(self) -> None:
        """Ends ticking; what a tick began goes on."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
