"""Moving a whole database to another: SQLite to PostgreSQL, or back. Whole or not at all.

The source stops sending first and is held still while it is copied; the target takes everything in
one transaction, so a failure or a kill leaves it empty. What was moved says so of itself: a worker
that was forgotten on the old database sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from workers.errors import StateError
from workers.store import Store
from workers.store.copying import (
    Progress,
    copy_all,
    held_still,
    refuse_unless_empty,
    refuse_while_sending,
)
from workers.store.engine import shown_url
from workers.store.guard import Guard, Refusal

MOVING = "this database is being moved"
MOVED = "this database was moved"


async def move_database(
    source_url: str, target_url: str, clock: Callable[[], datetime], progress: Progress
) -> dict[str, int]:
    """Copies everything to an empty database and returns the rows by table.

    `progress` is told the table, the rows done and the rows in all. Raises StateError when the
    target isn't empty, the source is being sent from or may not send, or the copy isn't whole;
    SettingsError and UnavailableError as Store.open.
    """
    source = await Store.open(source_url, migrate=False)
    try:
        target = await Store.open(target_url)
        try:
            return await _move(source, target, shown_url(target_url), clock, progress)
        finally:
            await target.close()
    finally:
        await source.close()


async def _move(
    source: Store, target: Store, where: str, clock: Callable[[], datetime], progress: Progress
) -> dict[str, int]:
    versions = [await one.database.schema_version() for one in (source, target)]
    if versions[0] != versions[1]:
        raise StateError(
            f"the source's schema is version {versions[0]}, the target's {versions[1]}: "
            "move with the newest Duewatch"
        )
    await refuse_unless_empty(target.database)
    guard = Guard(source.database)
    standing = (await guard.standing()).refusal
    if standing is not None and not standing.why.startswith(MOVING):
        raise StateError(f"{standing.why}: duewatch resume-after-restore first")
    await guard.refuse(Refusal(f"{MOVING} to {where}", clock()))
    moved = False
    try:
        async with held_still(source.database) as reading:
            await refuse_while_sending(reading)
            async with target.database.write() as writing:
                copied = await copy_all(reading, writing, progress)
            moved = True
            await guard.say(reading, Refusal(f"{MOVED} to {where}", clock()))
    except BaseException:
        if not moved:  # else both would send
            await guard.withdraw(MOVING)
        raise
    home = Guard(target.database)
    await home.settle_in(await home.identity())
    return copied
