"""Lives a made-up year: the real product on a throw-away database, and its judge beside it.

The clock is virtual and jumps from one instant at which anything may be due to the next. At each
there is a scan of the rules that have something due, and two minutes later the deliveries; what
comes in between counts. Nothing is left out but waiting.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

from schedules.rule import ContactData, PartnerData
from workers.app import App, open_app
from workers.deliver import Delivery
from workers.intake import Incoming
from workers.logs import configure_logs
from workers.model import Notice
from workers.providers import Mail, Sms
from workers.render import Renderer
from workers.settings import Delivery as DeliverySettings
from workers.settings import Settings
from workers.simulation.days import DAY, MINUTE
from workers.simulation.events import CONTACT, LINE, PARTNER, UNSUBSCRIBED, Event, in_order
from workers.simulation.life import Life
from workers.simulation.oracle import DELIVERED_AFTER, Oracle, Rhythm
from workers.simulation.report import Lived, Report, compare
from workers.store.census import Census, Soonest
from workers.store.direct import in_this_thread

SCAN_EVERY = timedelta(minutes=15)
MEMORY = next((one for one in (Path("/dev/shm"),) if one.is_dir()), None)  # noqa: S108
"""Where a throw-away database costs no disk, on machines that have it."""


class Clock:
    """Business time of the simulation (aware UTC): it stands still until it is set."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """The instant it shows."""
        return self.at


class Blank(Renderer):
    """Leaves messages unwritten, to measure all the rest."""

    def render(self, notice: Notice) -> Mail | Sms:
        """A message with nothing in it but its uid."""
        uid, to = notice.uid, notice.recipient.address
        if notice.channel == "sms":
            return Sms(uid, to, uid, f"{notice.kind}.{notice.message}", (), 1)
        return Mail(uid, "simulation@example.com", to, uid, uid.encode())


def rhythm_of(life: Life, every: timedelta = SCAN_EVERY) -> Rhythm:
    """Scans at every quarter of an hour, but for a day or two on which the machine is down."""
    chance = Random(f"{life.seed}/down")  # noqa: S311 - nothing here is secret
    days = (life.end - life.start) // DAY
    down = []
    for _ in range(days // 150):
        first = life.start + chance.randrange(days) * DAY + chance.randrange(24 * 4) * every
        down.append((first, first + chance.choice((6, 20, 70)) * timedelta(hours=1)))
    return Rhythm(life.start, life.end, every, tuple(down))


async def simulate(
    life: Life,
    *,
    render: bool = True,
    jobs: int = 1,
    folder: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """Lives through it and compares with what the oracle expects.

    `render` false leaves the messages' texts out. `jobs` processes share the partners among them,
    each with a database of its own, which is made in `folder` (default: in memory where the machine
    offers that). `progress` is told the part of the span that is over, from 0 to 1; with several
    jobs only at its end.
    """
    began = time.monotonic()
    if jobs <= 1:
        report = await live_share(life, render=render, folder=folder, progress=progress)
    else:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            shares = [
                loop.run_in_executor(
                    pool, partial(_in_process, life.share(number, jobs), render, folder)
                )
                for number in range(jobs)
            ]
            reports = await asyncio.gather(*shares)
        report = Report.of(reports)
        if progress is not None:
            progress(1.0)
    report.seconds = time.monotonic() - began
    return report


def _in_process(life: Life, render: bool, folder: Path | None) -> Report:
    return asyncio.run(live_share(life, render=render, folder=folder))


async def live_share(
    life: Life,
    *,
    render: bool = True,
    folder: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """One process's part of `simulate`."""
    rhythm = rhythm_of(life)
    clock = Clock(life.start - DAY)
    async with _throw_away(clock, rhythm, folder) as app:
        story = Story(app, clock, rhythm, life, render=render)
        began = time.monotonic()
        await story.live(progress)
        lived = await story.outcome()
        lived.seconds = time.monotonic() - began
    began = time.monotonic()
    verdict = Oracle(life.events, rhythm).live()
    report = compare(life, verdict, lived)
    report.oracle_seconds = time.monotonic() - began
    return report


@asynccontextmanager
async def _throw_away(clock: Clock, rhythm: Rhythm, folder: Path | None) -> AsyncIterator[App]:
    place = folder or MEMORY
    with tempfile.TemporaryDirectory(prefix="duewatch-", dir=place) as made:
        database = Path(made) / "simulation.db"
        settings = _settings(f"sqlite:///{database}", rhythm.every)
        configure_logs(settings.logs, least="error")
        with in_this_thread(database):
            async with open_app(settings, clock=clock) as app:
                yield app


def _settings(url: str, every: timedelta) -> Settings:
    from schedules.rules import load_rules

    rules: Mapping[str, Any] = {
        kind: {"scan_every_s": int(every.total_seconds())} for kind in load_rules()
    }
    return Settings(
        database_url=url,
        # Large steps: nobody else waits for this database.
        delivery=DeliverySettings(concurrency=200, batch=1000, lease_s=600),
        rules=dict(rules),
    )


class Story:
    """One life, as the product lives it."""

    def __init__(
        self, app: App, clock: Clock, rhythm: Rhythm, life: Life, *, render: bool = True
    ) -> None:
        self.app = app
        self.clock = clock
        self.rhythm = rhythm
        self.span = life.end - life.start
        self.events = deque(sorted(life.events, key=in_order))
        self.census = Census(app.store.database)
        self.delivery = app.delivery if render else _unwritten(app)
        self._known: Soonest | None = None
        self.instants = 0
        self.scans = 0

    async def live(self, progress: Callable[[float], None] | None = None) -> None:
        """Everything from the first event to the end of the span."""
        at = await self._next()
        while at is not None and at < self.rhythm.end:
            self.instants += 1
            await self._take(at)
            if at == self.rhythm.tick(at):
                await self._scan(at)
            await self._take(at + DELIVERED_AFTER)
            await self._deliver(at + DELIVERED_AFTER)
            at = await self._next()
            if progress is not None and self.instants % 50 == 0 and at is not None:
                progress(min(1.0, (at - self.rhythm.start) / self.span))

    async def _next(self) -> datetime | None:
        soonest = await self._look()
        times = [self.rhythm.tick(at) for at in soonest.due.values()]
        if soonest.send is not None:
            times.append(self.rhythm.awake(soonest.send))
        if self.events:
            times.append(self.rhythm.tick(self.events[0].at))
        return min(times, default=None)

    async def _look(self) -> Soonest:
        """What is due next, asked once until something changes."""
        if self._known is None:
            self._known = await self.census.soonest()
        return self._known

    async def _take(self, until: datetime) -> None:
        while self.events and self.events[0].at <= until:
            now = self.events[0].at
            batch = []
            while self.events and self.events[0].at == now:
                batch.append(self.events.popleft())
            self.clock.at = now
            for event in batch:
                if event.kind == UNSUBSCRIBED:
                    data = event.data
                    await self.app.store.operations.suppress(
                        data["channel"], data["address"], data["kind"], "asked", "simulation", now
                    )
            things = [self._incoming(event) for event in batch if event.kind != UNSUBSCRIBED]
            self._known = None
            if things:
                await self.app.intake.take(things)

    def _incoming(self, event: Event) -> Incoming:
        people: dict[str, type[BaseModel]] = {PARTNER: PartnerData, CONTACT: ContactData}
        if model := people.get(event.kind):
            return Incoming(model.model_validate(event.data))
        if event.kind == LINE:
            line = self.app.rules["payment"].Line
            assert line is not None
            return Incoming(line.model_validate(event.data), "payment")
        return Incoming(self.app.rules[event.kind].Data.model_validate(event.data), event.kind)

    async def _scan(self, tick: datetime) -> None:
        self.clock.at = tick
        soonest = await self._look()
        for kind in sorted(kind for kind, at in soonest.due.items() if at <= tick):
            self.scans += 1
            self._known = None
            await self.app.scan.run(kind, trigger="clock", fire_at=tick)

    async def _deliver(self, at: datetime) -> None:
        """What may go by now, and what two SMS a minute to a number held up."""
        self.clock.at = at
        latest = at + SCAN_EVERY - DELIVERED_AFTER - MINUTE
        while self.clock.at <= latest:
            soonest = await self._look()
            if soonest.send is None or soonest.send > self.clock.at + MINUTE:
                return
            if soonest.send > self.clock.at:
                self.clock.at += MINUTE
            self._known = None
            await self.delivery.drain()

    async def outcome(self) -> Lived:
        """What was told, and how the ledger stands."""
        operations = self.app.store.operations
        return Lived(
            told=[tuple(row) for row in await self.census.told()],
            records=await self.app.store.records.count(),
            counts=await operations.counts(),
            kept=await operations.kept_count(),
            dropped=await self.census.dropped(),
            broken=[(what, count) for what, count, _ in await operations.verify() if count],
            instants=self.instants,
            scans=self.scans,
        )


def _unwritten(app: App) -> Delivery:
    from workers.app import TEMPLATES, _brand

    renderer = Blank(app.settings.templates or TEMPLATES, app.rules, _brand(app.settings))
    return Delivery(
        app.store, app.registry, renderer, app.providers, app.links, app.settings, app.clock
    )
