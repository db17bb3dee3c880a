"""/: whether all is well, what goes out, what is stuck and why, and who has to do something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from schedules.fields import BEIJING
from workers.model import NotificationState
from workers.render.formats import N_
from workers.restore import Gate
from workers.store.pulse import Sent
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit

HOURS, DAYS, FAILING_DAYS = 24, 14, 7
_GOOD = ("accepted",)


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour's or day's attempts; heights and tops are in the chart's units."""

    at: datetime
    mail: int
    sms: int
    bad: int

    @property
    def all(self) -> int:
        """All of them."""
        return self.mail + self.sms + self.bad


def bars(sent: Sequence[Sent], now: datetime, *, by_day: bool) -> list[Bar]:
    """The attempts by hour of the last HOURS, or by day (Beijing) of the last DAYS."""
    step = timedelta(days=1) if by_day else timedelta(hours=1)
    local = now.astimezone(BEIJING).replace(minute=0, second=0, microsecond=0)
    last = local.replace(hour=0) if by_day else local
    starts = [last - step * back for back in range((DAYS if by_day else HOURS) - 1, -1, -1)]
    counts: Counter[tuple[datetime, str]] = Counter()
    for one in sent:
        at = one.hour.astimezone(BEIJING)
        start = at.replace(hour=0) if by_day else at
        which = one.channel if one.outcome in {*_GOOD, ""} else "bad"
        counts[start, which] += one.count
    return [Bar(at, counts[at, "mail"], counts[at, "sms"], counts[at, "bad"]) for at in starts]


async def _overview(visit: Visit) -> web.Response:
    store, now = visit.app.store, visit.now
    by_day = visit.query("by") == "day"
    since = now - (timedelta(days=DAYS) if by_day else timedelta(hours=HOURS))
    sent, cut = await store.pulse.sent(since)
    states: Counter[str] = Counter()
    for (_, _, state), count in (await store.operations.counts()).items():
        states[state] += count
    shown = bars(sent, now, by_day=by_day)
    return visit.page(
        "overview.html",
        needs=await store.operations.needs_a_person(),
        states=[(one.value, states[one.value]) for one in NotificationState],
        oldest=await store.operations.oldest_pending(now),
        shut=await Gate(store, visit.app.settings, visit.app.clock).look(),
        quarantined=len(await store.lists.newest("letters", before=None, limit=100)),
        providers=await visit.app.delivery.provider_states(),
        failures=await store.pulse.failures(now - timedelta(days=FAILING_DAYS), 6),
        bars=shown,
        most=max([one.all for one in shown] + [1]),
        cut=cut,
        by_day=by_day,
        rules=await _rules(visit),
        **await _coming(visit),
    )


async def _rules(visit: Visit) -> list[dict[str, Any]]:
    store = visit.app.store
    last, paused = await store.operations.last_runs(), await store.operations.paused()
    counts, enabled = await store.records.count(), visit.app.registry.enabled()
    return [
        {
            "kind": kind,
            "run": last.get(kind),
            "state": "paused" if kind in paused else "on" if kind in enabled else "off",
            "open": counts.get((kind, "open"), 0),
            "held": counts.get((kind, "held"), 0),
        }
        for kind in sorted(visit.app.rules)
    ]


async def _coming(visit: Visit) -> dict[str, Any]:
    """How many go out today and within the week, by rule."""
    forecast = await visit.console.foreseen.get()
    if forecast is None:
        return {"coming": None}
    today = visit.now.astimezone(BEIJING).date()
    by_kind: dict[str, list[int]] = {}
    for told in forecast.told:
        if told.day < today + timedelta(days=7):
            counts = by_kind.setdefault(told.kind, [0, 0])
            counts[0] += told.day == today
            counts[1] += 1
    return {"coming": sorted(by_kind.items(), key=lambda one: -one[1][1])}


ROUTES = (Route("GET", "/", _overview, Scope.NOTIFICATIONS_READ),)
NAV = Nav("watch", 10, "/", N_("Overview"), Scope.NOTIFICATIONS_READ)
