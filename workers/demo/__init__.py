"""The demo: made-up data through the real doors, real scans, real messages, a local inbox.

It touches no network and no settings file, and writes only into its folder: the files as somebody
would have exported them, and `demo.db` beside them. Both are made anew each time.
"""

from __future__ import annotations

import asyncio
import fcntl
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path

from rich.console import Console

from schedules.calendar import WorkingCalendar
from schedules.clock import fire_time
from schedules.fields import BEIJING
from schedules.rule import Rule
from schedules.rules.operations_digest import month_before
from workers.app import App, open_app
from workers.core import utc_now
from workers.daemon import ROLES, serve
from workers.demo.data import DemoData, make_data
from workers.demo.people import UNWANTED_MAIL
from workers.demo.summary import Outcome, show
from workers.errors import InputError, SettingsError
from workers.events import EventResult
from workers.importing import Imported, import_file
from workers.logs import configure_logs
from workers.operations_digest import gather, make, partners_of
from workers.settings import Brand, Digest, Mail, Scheduler, Settings, Sms, Web

FOLDER = Path("demo-data")
DATABASE = "demo.db"
HOST = "127.0.0.1"
PORT = 8025
PORTS = 50
"""So many ports from PORT on are tried before the demo gives up."""
BEGINS = time_of_day(10, 0)
EVERYTHING = 100_000


async def run_demo(
    once: bool,
    port: int | None = None,
    folder: Path | None = None,
    *,
    start: datetime | None = None,
) -> int:
    """Runs the demo; returns the exit code: 0, or 1 when the ledger is off or nothing was sent.

    `once` ends by itself; else it stays up until SIGINT or SIGTERM. `port` 0 takes any free one,
    None the first free one from 8025 on. `start` (aware) is where its clock begins, by default
    the latest working morning. Raises InputError when the folder can't be used, SettingsError when
    the port can't.
    """
    began = time.monotonic()
    stopping = asyncio.Event()
    if not once:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
    console = Console(highlight=False)
    place = FOLDER if folder is None else folder
    calendar = WorkingCalendar.load()
    start = start or demo_start(utc_now(), calendar)
    data = make_data(start, calendar)
    with _folder_of_its_own(place):
        _clear(place, data)
        settings = _settings(place / DATABASE, _free_port(port))
        # The summary is the output; what goes wrong is in it, or is an error.
        configure_logs(settings.logs, least="error")
        clock = DemoClock(start)
        async with open_app(settings, clock=clock) as app:
            outcome = await _load(app, clock, data, place, console, stopping)
            if outcome is None:
                return 0
            clock.go_on()
            outcome.seconds = time.monotonic() - began
            show(console, outcome)
            if not once:
                await serve(app, ROLES, stopping, ready=lambda url: _invite(console, url))
    return 0 if outcome.adds_up and outcome.sent else 1


def demo_start(now: datetime, calendar: WorkingCalendar) -> datetime:
    """The latest ten o'clock of a Beijing working day that isn't after `now` (aware).

    Never in the future: the scheduler would wait for it.
    """
    here = now.astimezone(BEIJING)
    day = here.date() if here.time() >= BEGINS else here.date() - timedelta(days=1)
    while not calendar.is_working(day):
        day -= timedelta(days=1)
    return datetime.combine(day, BEGINS, tzinfo=BEIJING)


class DemoClock:
    """Business time: it stands at `start` while the data are loaded, and then runs on."""

    def __init__(self, start: datetime) -> None:
        self._start = start.astimezone(UTC)
        self._began: datetime | None = None

    def go_on(self) -> None:
        """Lets it run at its usual pace from here on."""
        self._began = utc_now()

    def skip(self, to: datetime) -> None:
        """Goes on to a later instant at once, while it stands."""
        self._start = max(self._start, to)

    def __call__(self) -> datetime:
        return self._start + (utc_now() - self._began if self._began else timedelta(0))


def _settings(database: Path, port: int) -> Settings:
    """The defaults, with names for a fictional vendor and the countries of the made-up numbers."""
    return Settings(
        database_url=f"sqlite:///{database.resolve()}",
        web=Web(host=HOST, port=port),
        # The demo's time begins on a working morning, whatever the database's clock says.
        scheduler=Scheduler(clock_tolerance_s=0),
        mail=Mail(
            sender="Partner Centre <reminders@vendor.example>", reply_to="partners@vendor.example"
        ),
        # Australian numbers stay out, so that one refusal by setting is to be seen.
        sms=Sms(countries=("CN", "DE", "US")),
        # So that those who wish one mail a day get it while the demo is being looked at.
        digest=Digest(send_at=BEGINS),
        brand=Brand(
            contact="partners@vendor.example", partner_centre_url="https://partner.example.com"
        ),
    )


def _free_port(wanted: int | None) -> int:
    """A port that can be listened on now. Raises SettingsError when there is none."""
    candidates = range(PORT, PORT + PORTS) if wanted is None else (wanted,)
    for port in candidates:
        with socket.socket() as one:
            # As the server does it: a port that was only just given up is free.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((HOST, port))
            except OSError:
                continue
            return int(one.getsockname()[1])
    ports = f"{PORT} to {PORT + PORTS - 1}" if wanted is None else str(wanted)
    raise SettingsError(f"--port: {ports} on {HOST} is taken: name another one, or 0 for any")


@contextmanager
def _folder_of_its_own(folder: Path) -> Iterator[None]:
    """Holds the folder for as long as the demo runs, since the next one would empty it.

    Raises InputError when it can't be written to, or when another demo runs in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder} can't be written to: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"a demo is running in {folder}: stop it first, or start this one elsewhere"
            ) from None
        yield


def _clear(folder: Path, data: DemoData) -> None:
    """Removes what an earlier demo left, and nothing else."""
    database = [f"{DATABASE}{end}" for end in ("", "-wal", "-shm", "-journal")]
    for name in (*database, "duewatch.state", *(file.name for file in data.files)):
        (folder / name).unlink(missing_ok=True)


async def _load(
    app: App,
    clock: DemoClock,
    data: DemoData,
    folder: Path,
    console: Console,
    stopping: asyncio.Event,
) -> Outcome | None:
    """From files to sent messages; None when it was stopped on the way."""
    imported: list[Imported] = []
    said: list[EventResult] = []
    started = app.clock()
    with console.status("Making up partners, people and records …") as status:
        for path in data.write(folder):
            status.update(f"Importing {path.name} …")
            imported.append(await import_file(app.intake, app.rules, path))
        said += await app.events.take(data.events)
        await app.store.operations.suppress(
            "mail", UNWANTED_MAIL, "*", "asked not to be written to", "demo", app.clock()
        )
        status.update("Reckoning the operations digests …")
        await _make_operations_digests(app)
        for number, kinds in enumerate(_in_order(app)):
            for kind in kinds:
                status.update(f"Scanning {kind} records …")
                # As the clock fires it, so that the scheduler doesn't at once scan the same again.
                every = app.registry.cadences[kind].scan_every
                await app.scan.run(kind, fire_at=fire_time(app.clock(), every))
                if stopping.is_set():
                    return None
            if number == 0:
                said += await app.events.take(data.late_events)
            status.update("Writing and sending messages …")
            await _drain(app, stopping)
            # Two SMS a minute to a number: the demo's clock needn't wait for the rest.
            while not stopping.is_set() and (later := await _put_off(app)):
                clock.skip(later)
                await _drain(app, stopping)
    if stopping.is_set():
        return None
    return await _outcome(app, started, folder / DATABASE, imported, said)


async def _make_operations_digests(app: App) -> None:
    """Last month's for every partner with customers, whatever day the demo is on."""
    now = app.clock()
    month = month_before(now)
    for ref in await partners_of(app, month):
        await make(app, await gather(app, ref, month, now))


def _in_order(app: App) -> list[list[str]]:
    """The rules in three parts; what is sent last, lists and charts, is on top of the inbox."""
    parts: list[list[str]] = [[], [], []]
    for kind in app.registry.enabled():
        rule = app.rules[kind]
        has_charts = type(rule).figures is not Rule.figures
        parts[2 if has_charts else 1 if rule.Line is not None else 0].append(kind)
    return parts


async def _drain(app: App, stopping: asyncio.Event) -> None:
    """Sends what is pending, or as much as there is time for before the signal."""
    sending = asyncio.create_task(app.delivery.drain())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({sending, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not sending.done():
        sending.cancel()
    await asyncio.gather(sending, stopped, return_exceptions=True)
    if not stopping.is_set():
        sending.result()


async def _put_off(app: App) -> datetime | None:
    """When the next message may be sent that waits for less than a quarter of an hour."""
    rows = await app.store.operations.notifications(state="pending", limit=EVERYTHING)
    soon = app.clock() + timedelta(minutes=15)
    return min((row.not_before for row in rows if row.not_before <= soon), default=None)


async def _outcome(
    app: App,
    started: datetime,
    database: Path,
    imported: list[Imported],
    events: list[EventResult],
) -> Outcome:
    store = app.store
    contacts = await store.records.contacts_of(None, limit=EVERYTHING)
    return Outcome(
        started=started,
        database=database,
        imported=imported,
        events=events,
        partners=await store.records.partner_count(),
        contacts=len(contacts),
        records=await store.records.count(),
        notifications=await store.operations.notifications(limit=EVERYTHING),
        held=await store.records.search(state="held", limit=EVERYTHING),
        ledger=await store.operations.verify(),
        seconds=0.0,
    )


def _invite(console: Console, url: str) -> None:
    console.print(f"\nLook at the messages: [bold cyan]{url}/inbox[/]   (Ctrl-C ends the demo)\n")
