"""The gate before all sends: shut while the database is an old one restored, or a clock is wrong.

What was sent since a backup is not in it, so a worker on a restored database would send it again.
The number of the last attempt is therefore kept outside too: in this process, and in a small file
(`state.file`) that outlives it. An attempt is committed before its message leaves, so a database
that knows of fewer than were seen once was restored. How else one is noticed: `store/guard.py`.
Once noticed it is written into the database, so that every worker on every machine stops, and only
`duewatch resume-after-restore` lets them go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog

from schedules.planner import Told
from workers.core import Core
from workers.records import plan_all
from workers.settings import Settings
from workers.store import Store, is_away
from workers.store.guard import Guard, Refusal, Standing, Waiting

log = structlog.get_logger("gate")

LOOK_EVERY_S = 2.0
"""Seconds between two looks at the database and two writings of the file, while it changes."""
SAY_EVERY_S = 60.0
ANSWER_S = 10.0
KEPT_EPOCHS = 8
BATCH = 500
REMEDY = "see what would be sent again and decide: duewatch resume-after-restore"


def state_file(settings: Settings) -> Path:
    """Where this machine keeps its marks: `state.file`, or beside the SQLite file."""
    if settings.state.file is not None:
        return settings.state.file
    name = "duewatch.state"
    if settings.database_url.startswith("sqlite"):
        return Path(urlsplit(settings.database_url).path.removeprefix("/")).with_name(name)
    return Path(name)


@dataclass(frozen=True, slots=True)
class Mark:
    """The last attempt that was ever seen in an epoch, and when it was (database's clock)."""

    sends: int
    at: datetime


class Marks:
    """The marks of this process and of the file, by epoch. A file that can't be written is said."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: dict[str, Mark] = {}
        self._written: dict[str, Mark] = {}
        self._said = False

    def of(self, epoch: str) -> Mark | None:
        """The highest mark known here."""
        known = [one for one in (self._seen.get(epoch), self._read().get(epoch)) if one]
        return max(known, key=lambda one: one.sends, default=None)

    def keep(self, epoch: str, mark: Mark) -> None:
        """Keeps a mark that isn't lower than the one known, here and in the file."""
        self._seen[epoch] = mark
        if (there := self._written.get(epoch)) is not None and there.sends == mark.sends:
            return
        marks = self._read()
        marks.pop(epoch, None)
        kept = dict(list(marks.items())[-(KEPT_EPOCHS - 1) :]) | {epoch: mark}
        try:
            self._write(kept)
        except OSError as error:
            if not self._said:
                self._said = True
                log.warning(
                    "state.file can't be written: a restored backup is noticed by running "
                    "processes only",
                    file=str(self._file),
                    error=error.strerror,
                )
            return
        self._written[epoch] = mark

    def _read(self) -> dict[str, Mark]:
        try:
            content = json.loads(self._file.read_text("utf-8"))["epochs"]
            return {
                epoch: Mark(int(one["sends"]), datetime.fromisoformat(one["at"]))
                for epoch, one in content.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write(self, marks: dict[str, Mark]) -> None:
        content = {
            "what": "The last send known of, by the database's epoch: keep it out of backups.",
            "epochs": {
                epoch: {"sends": one.sends, "at": one.at.isoformat()}
                for epoch, one in marks.items()
            },
        }
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)


async def clock_trouble(store: Store, clock: Callable[[], datetime], tolerance_s: float) -> str:
    """What is wrong with this machine's clock, compared with the database's; "" if nothing is."""
    if not tolerance_s:
        return ""
    before = clock()
    theirs = await store.database.clock()
    after = clock()
    ahead = (before - theirs).total_seconds()
    behind = (theirs - after).total_seconds()
    if max(ahead, behind) <= tolerance_s:
        return ""
    way = "ahead of" if ahead > 0 else "behind"
    return (
        f"this machine's clock is {max(ahead, behind):.0f} s {way} the database's, more than "
        f"scheduler.clock_tolerance_s = {tolerance_s:g}: set the clock, best by NTP"
    )


class Gate:
    """Says whether this process may send; notices restored databases and keeps the marks."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.guard = Guard(store.database)
        self.clock = clock
        self.closed = "nobody has looked at the database yet"
        """Why nothing may be sent; "" when it may."""
        self._settings = settings
        self._marks = Marks(state_file(settings))

    async def look(self) -> str:
        """Looks at the database; returns why nothing may be sent, or "".

        A database that doesn't answer shuts the gate too: it may come back as another.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                self.closed = await self._look()
        except Exception as error:
            if not is_away(error):
                raise
            self.closed = f"the database doesn't answer: {type(error).__name__}"
        return self.closed

    async def _look(self) -> str:
        now = await self.guard.standing()
        refusal = now.refusal
        if refusal is None and (refusal := await self._noticed(now)):
            await self.guard.refuse(refusal)
            log.error("restored database noticed", why=refusal.why)
        if refusal is not None:
            return f"{refusal.why}: {REMEDY}"
        await self.keep(now)
        return await clock_trouble(
            self.store, self.clock, self._settings.scheduler.clock_tolerance_s
        )

    async def keep(self, now: Standing) -> None:
        """Keeps the mark of a database that went on; between two looks it is asked for as well."""
        self.store.database.had_attempt = now.sends
        at = now.last_at or now.clock
        await asyncio.to_thread(self._marks.keep, now.epoch, Mark(now.sends, at))

    async def _noticed(self, now: Standing) -> Refusal | None:
        at = self.clock()
        if now.copied is not None:
            return Refusal(f"this is a copy that duewatch backup made at {now.copied}", at)
        home = await self.guard.identity()
        if now.home is None:
            await self.guard.settle_in(home)
        elif now.home != home:
            return Refusal("this database was read in from a dump of another place", at)
        known = await asyncio.to_thread(self._marks.of, now.epoch)
        if known is None:
            if now.sends and self._settings.state.required:
                why = "this machine has no state.file, and the database has sent before"
                return Refusal(why, at)
            return None
        if known.sends <= now.sends:
            return None
        missing = known.sends - now.sends
        return Refusal(
            f"an old state of the database was restored: {missing} attempts are missing, the last "
            f"of {known.at:%Y-%m-%d %H:%M:%S} UTC",
            at,
            known.at,
            missing,
        )


class Sender(Protocol):
    """What runs behind the gate: it sends until its event is set, and then finishes."""

    running: bool | None

    async def run(self, stopping: asyncio.Event) -> None:
        """Sends until `stopping` is set."""


async def send_behind(gate: Gate, sender: Sender, stopping: asyncio.Event) -> None:
    """Runs the sender while the gate is open; while it is shut, says why once a minute."""
    loop = asyncio.get_running_loop()
    said_at, said = 0.0, ""
    while not stopping.is_set():
        if not (why := await gate.look()):
            await _while_open(gate, sender, stopping)
            continue
        if why != said or loop.time() - said_at >= SAY_EVERY_S:
            said_at, said = loop.time(), why
            log.error("nothing is sent", why=why)
        await _set_within(stopping, LOOK_EVERY_S)


async def _while_open(gate: Gate, sender: Sender, stopping: asyncio.Event) -> None:
    closing = asyncio.Event()
    sending = asyncio.create_task(sender.run(closing))
    waiting = asyncio.create_task(stopping.wait())
    try:
        while not (stopping.is_set() or sending.done() or gate.closed):
            await asyncio.wait(
                {sending, waiting}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
            await gate.look()
        closing.set()
        await sending
        if not stopping.is_set():
            sender.running = None  # it hasn't died: it waits
        await gate.look()
    finally:
        waiting.cancel()
        if not sending.done():
            sending.cancel()
        await asyncio.gather(waiting, sending, return_exceptions=True)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


# --- resuming -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Again:
    """What an operator decides upon. `repeats` are the ids of what was probably sent before."""

    refusal: Refusal
    last_known: datetime | None
    lost_at: datetime
    waiting: Sequence[Waiting]
    repeats: Sequence[int]


async def what_would_be_sent(core: Core, lost_at: datetime | None) -> Again | None:
    """What a restored database would send, and which of it was sent before; None if it may send.

    `lost_at` (aware UTC) is when sends ended on the database that was lost; by default what the
    marks say, else now. A message is taken for a repeat when it was pending in the backup and due
    by then, or when it was planned since and a stage in it fell due by then.
    """
    gate = Gate(core.store, core.settings, core.clock)
    await gate.look()
    standing = await gate.guard.standing()
    refusal = standing.refusal
    if refusal is None:
        return None
    until = lost_at or refusal.lost_at or core.clock()
    repeats: list[int] = []
    last = 0
    while rows := await gate.guard.unsent(last, BATCH):
        last = rows[-1].id
        old = [row for row in rows if row.created_at <= until]
        repeats += [row.id for row in old if row.state == "sending" or row.not_before <= until]
        since = [row for row in rows if row.created_at > until]
        repeats += await _due_by(core, gate.guard, since, standing.last_at or until, until)
    return Again(refusal, standing.last_at, until, await gate.guard.waiting(until), sorted(repeats))


async def _due_by(
    core: Core, guard: Guard, rows: Sequence[Any], since: datetime, until: datetime
) -> list[int]:
    """Those of the notifications of which a stage fell due by `until`.

    It is planned as it stood at both ends: at the first, what was to come has its own time still;
    at the second, repeating stages have come as far.
    """
    ids = [row.id for row in rows]
    async with core.store.database.read() as connection:
        lines, records = await guard.lines(connection, ids)
        known = [one for one in records if one.kind in core.rules]
        watched, _ = await core.records.revive(connection, known, with_lines=True)
    due: dict[tuple[int, Told], datetime] = {}
    for kind in {one.kind for one in known}:
        # What is told already has no time of its own any more: it is planned as if untold.
        mine = {
            one.id: replace(one, told={})
            for one in watched.values()
            if one.record.kind == kind and one.record.opened_at <= until
        }
        around = core.registry.around(kind)
        plans = [
            *plan_all(mine, min(since, until), around)[0],
            *plan_all(mine, until, around)[0],
        ]
        for one, planned in plans:
            for step in planned.steps:
                if step.contact is not None and step.at is not None and step.at <= until:
                    due[one.id, Told(step.stage, step.channel, step.contact.ref)] = step.at
    found = {
        line.notification_id
        for line in lines
        if (line.record_id, Told(line.stage, line.channel, line.contact)) in due
    }
    return [one for one in ids if one in found]


async def resume(core: Core, again: Again, *, cancel: bool, by: str, reason: str) -> None:
    """Opens the gate for everybody; `cancel` first stops what was probably sent before."""
    guard = Guard(core.store.database)
    now = core.clock()
    if cancel:
        why = "probably sent before the database was restored"
        await guard.cancel(again.repeats, why, now)
    await guard.allow(secrets.token_hex(8), await guard.identity(), by, reason, now)
