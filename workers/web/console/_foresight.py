"""What will go out in the coming days, reckoned now and then and kept for a while.

A forecast costs in proportion to what is open. A page waits for it a moment at most; while it is
reckoned, the page says so and asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

import structlog

from schedules.fields import BEIJING
from workers.app import App
from workers.outlook import Foretold, foretell

log = structlog.get_logger("console")

DAYS = 30
KEPT = timedelta(minutes=5)
WAIT_S = 1.5


@dataclass(frozen=True, slots=True)
class Forecast:
    """All messages of DAYS days, as they were foretold at `at`, from now to the last day's end."""

    at: datetime
    told: Sequence[Foretold]


class Foreseen:
    """The forecast of this process."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._kept: Forecast | None = None
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> Forecast | None:
        """The forecast, at most some minutes old; None while the first one is reckoned."""
        now = self._app.clock()
        if self._kept is None or not now - KEPT <= self._kept.at <= now:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._reckon(now))
            done, _ = await asyncio.wait({self._task}, timeout=WAIT_S)
            if done and not self._task.cancelled() and (error := self._task.exception()):
                raise error
        return self._kept

    def forget(self) -> None:
        """Has it reckoned anew: something was changed by hand."""
        self._kept = None

    async def _reckon(self, now: datetime) -> None:
        last = now.astimezone(BEIJING).date() + timedelta(days=DAYS)
        end = datetime.combine(last, time(), BEIJING)
        days = (end - now).days + 1
        found = await foretell(self._app.store, self._app.registry, now, days)
        self._kept = Forecast(now, [one for one in found if one.day < last])

    async def close(self) -> None:
        """Ends what is being reckoned."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
