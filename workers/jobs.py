"""Long work begun from a page: done in this process, seen by all, ended by whoever may.

A job says twice a second how far it is. One whose process died says nothing any more: it is told
as lost, and what it did stands.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from workers.errors import DuewatchError
from workers.store import Row
from workers.store.jobs import JobStore

log = structlog.get_logger("jobs")

SAY_EVERY_S = 0.5
LOST_AFTER = timedelta(seconds=20)
CHANGED_KEPT = 20_000
"""So many changes of a job can be undone."""


@dataclass(slots=True)
class Progress:
    """How far a job is; its work sets it. `changed` has (uid, state before) of what can be undone.

    `file` is what it made: name and content.
    """

    done: int = 0
    total: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    detail: str = ""
    changed: list[tuple[str, str]] = field(default_factory=list)
    file: tuple[str, bytes] | None = None

    def at(self, done: int, total: int) -> None:
        """Says how much is done, of how much."""
        self.done, self.total = done, total


Work = Callable[[Progress], Awaitable[None]]


class Jobs:
    """The jobs of this process."""

    def __init__(self, store: JobStore, clock: Callable[[], datetime]) -> None:
        self.store = store
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()

    async def begin(self, kind: str, about: Mapping[str, Any], by: str, work: Work) -> str:
        """Begins a job and returns its uid; `about` fills in its title, or has it as `title`."""
        uid = uuid.uuid4().hex
        await self.store.begin(uid, kind, about, by, self._clock())
        task = asyncio.create_task(self._run(uid, work), name=f"job {kind}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return uid

    async def close(self) -> None:
        """Ends what is running, where it is."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, uid: str, work: Work) -> None:
        progress = Progress()
        task = asyncio.ensure_future(work(progress))
        teller = asyncio.create_task(self._tell(uid, progress, task))
        state, detail = "done", ""
        try:
            await task
        except asyncio.CancelledError:
            state, detail = "ended", "ended before it was done: what was done by then stands"
        except DuewatchError as error:
            state, detail = "failed", str(error)
        except Exception as error:
            log.exception("job", uid=uid)
            state, detail = "failed", f"{type(error).__name__}: the operator's log says more"
        finally:
            task.cancel()
            teller.cancel()
            await asyncio.gather(task, teller, return_exceptions=True)
            with suppress(asyncio.CancelledError):
                await asyncio.shield(
                    self.store.end(
                        uid,
                        state,
                        self._clock(),
                        detail=detail or progress.detail,
                        counts=progress.counts,
                        done=progress.done,
                        changed=progress.changed[:CHANGED_KEPT],
                        file=progress.file,
                    )
                )

    async def _tell(self, uid: str, progress: Progress, task: asyncio.Future[None]) -> None:
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            try:
                ended = await self.store.say(
                    uid, progress.done, progress.total, progress.counts, self._clock()
                )
            except Exception as error:  # the work may well go on while the database is away
                log.warning("job can't say how far it is", uid=uid, error=type(error).__name__)
                continue
            if ended:
                task.cancel()
                return


def standing(row: Row[Any], now: datetime) -> str:
    """running, done, failed, ended or lost."""
    if row.state == "running" and now - row.said_at > LOST_AFTER:
        return "lost"
    return str(row.state)
