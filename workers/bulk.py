"""Many notifications at once: what a move would do, doing it, and undoing it.

Each is moved by itself, by the way one alone is: whatever stands elsewhere by then is left there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from workers import by_hand
from workers.app import App
from workers.errors import StateError, UnknownThingError
from workers.jobs import Progress
from workers.store import Row

MOST = 20_000
"""Notifications that are moved at once."""
PAGE = 500
UNDO_WITHIN = timedelta(seconds=30)
"""So long what was retried or released by many waits before it goes, to be undone."""


@dataclass(slots=True)
class Effect:
    """What a move of many would do. `left` says how many stand where it doesn't apply, by state."""

    uids: list[str] = field(default_factory=list)
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and channel."""
    left: Counter[str] = field(default_factory=Counter)
    first: list[Row[Any]] = field(default_factory=list)
    """A few of them, to be looked at."""
    cut: bool = False
    """Whether there are more than MOST."""


async def effect(
    app: App, action: by_hand.Move, filters: Mapping[str, Any], uids: Sequence[str] = ()
) -> Effect:
    """What moving these would do: those named, or all that fit the filters."""
    found = Effect()
    if uids:
        for uid in uids[:MOST]:
            _add(found, action, (await app.store.operations.whole(uid)).row)
        return found
    before: int | None = None
    while rows := await app.store.operations.notifications(**filters, before=before, limit=PAGE):
        before = rows[-1].id
        for row in rows:
            if len(found.uids) + sum(found.left.values()) >= MOST:
                found.cut = True
                return found
            _add(found, action, row)
    return found


def _add(found: Effect, action: by_hand.Move, row: Row[Any]) -> None:
    _, only = by_hand.MOVES[action]
    if row.state not in only:
        found.left[row.state] += 1
        return
    found.uids.append(row.uid)
    found.moved[row.kind, row.channel] += 1
    if len(found.first) < 10:
        found.first.append(row)


async def move_all(
    app: App,
    action: by_hand.Move,
    uids: Sequence[str],
    by: str,
    reason: str,
    progress: Progress,
) -> None:
    """Moves these one by one; tells the workers once they may be sent."""
    wait = timedelta(0) if action == "cancel" else UNDO_WITHIN
    for number, uid in enumerate(uids, 1):
        try:
            row = await by_hand.move(app, uid, action, by, reason, after=wait)
        except (StateError, UnknownThingError):
            progress.counts["left"] += 1
        else:
            progress.counts["moved"] += 1
            if action != "cancel":
                progress.changed.append((uid, row.state))
        progress.at(number, len(uids))
    app.bell.ring()


async def undo_all(
    app: App, changed: Sequence[Sequence[str]], by: str, reason: str, progress: Progress
) -> None:
    """Puts back what a move of many sent, as far as it still waits."""
    for number, (uid, state) in enumerate(changed, 1):
        done = await by_hand.undo(app, uid, state, by, reason)
        progress.counts["moved" if done else "left"] += 1
        progress.at(number, len(changed))
