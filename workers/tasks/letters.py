"""What lies in a queue, made sense of before Dramatiq sees it.

Dramatiq trusts its messages: one that isn't JSON makes its Redis consumer forget the neighbours it
holds, one that names another queue ends a worker thread, one for an unknown actor is deleted after
a week. Here each becomes a letter of a known form, or is left for those who know it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from workers.errors import InputError

log = structlog.get_logger("broker")

DELIVER, SCAN, EVENT, UNREADABLE = "deliver", "scan", "event", "unreadable"
BELLS, SCANS, EVENTS = "duewatch.bells", "duewatch.scans", "duewatch.events"
QUEUES: Mapping[str, str] = {DELIVER: BELLS, SCAN: SCANS, EVENT: EVENTS, UNREADABLE: EVENTS}
"""Each actor's own queue: who doesn't know an actor doesn't fetch its messages."""
ARGUMENTS: Mapping[str, str] = {SCAN: "kind", EVENT: "event"}
MAX_LETTER_BYTES = 256 * 1024
"""Of a whole message; a longer one isn't even parsed."""
SAME_AGAIN_S = 5.0
PAUSE_S = 0.5
"""Between messages left for others, once nothing but such is waiting."""
MAX_REMEMBERED = 1000
LEFT_LONGEST_S = 600.0
"""How long an event for an unknown actor goes round, in case that a newer version takes it; then it
can't be taken.
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message: what it says, or why it can't be read.

    `again` is true when the broker gave it out before: whoever had it may have died of it.
    """

    queue: str
    actor: str
    body: bytes
    content: Any = None
    reason: str = ""
    again: bool = False


def open_letter(
    queue: str, body: bytes, read: Callable[[bytes], Any], *, again: bool = False
) -> Letter:
    """A Dramatiq message, or a bare CloudEvent as other programs send it, sealed or not.

    `read` is a JSON parser that raises ValueError or InputError. The letter's actor may be one that
    isn't known here.
    """
    actor, content, reason = _said(body, read)
    return Letter(queue, actor, body, content, reason, again)


def _said(body: bytes, read: Callable[[bytes], Any]) -> tuple[str, Any, str]:
    if len(body) > MAX_LETTER_BYTES:
        return UNREADABLE, None, f"is {len(body)} bytes long: at most {MAX_LETTER_BYTES}"
    try:
        said = read(body)
    except (ValueError, InputError, RecursionError) as error:
        return UNREADABLE, None, str(error) or "is nested too deep"
    if not isinstance(said, Mapping):
        return UNREADABLE, None, "is neither a Dramatiq message nor a CloudEvent: send an object"
    if ("specversion" in said or "sealed" in said) and "actor_name" not in said:
        return EVENT, said, ""
    actor, given, named = said.get("actor_name"), said.get("args"), said.get("kwargs")
    if not isinstance(actor, str) or not actor or actor == UNREADABLE:
        return UNREADABLE, None, "is neither a Dramatiq message nor a CloudEvent: actor_name"
    if actor not in ARGUMENTS:
        return actor, None, ""
    values = [*(given if isinstance(given, list | tuple) else ())]
    values += [*(named.items() if isinstance(named, Mapping) else ())]
    wanted = ARGUMENTS[actor]
    if len(values) != 1 or (isinstance(named, Mapping) and set(named) - {wanted}):
        return UNREADABLE, None, f"actor {actor} takes one argument: {wanted}"
    return actor, values[0][1] if named else values[0], ""


class Line:
    """What consumers of one process share: what it knows, and whether the broker is there.

    `known` are the actors that this process runs; `read` parses JSON. A broker that is away is said
    once, and once that it is back: consumers try every few seconds for as long as it takes.
    """

    def __init__(
        self,
        known: Collection[str],
        read: Callable[[bytes], Any],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.known = known
        self.read = read
        self._now = now
        self._away: set[str] = set()
        self._left: dict[bytes, tuple[float, float]] = {}
        """When a message was first left, and last."""
        self._lock = threading.Lock()

    def sort(self, queue: str, body: bytes, *, again: bool) -> Letter | None:
        """The letter, or None for one that is to be left for those who know it."""
        letter = open_letter(queue, body, self.read, again=again)
        if letter.actor in self.known:
            return letter
        if queue != EVENTS or UNREADABLE not in self.known or not self._is_nobodys(body):
            return None
        why = f"is for the actor {letter.actor[:60]!r}, which nobody has: send it to {EVENT}"
        return Letter(queue, UNREADABLE, body, None, why, again)

    def _is_nobodys(self, body: bytes) -> bool:
        """Whether a message went round for so long that nobody will take it."""
        mark, now = hashlib.sha256(body).digest(), self._now()
        with self._lock:
            first, _ = self._left.get(mark, (now, now))
            if now - first < LEFT_LONGEST_S:
                return False
            del self._left[mark]
            return True

    def pause_if_same(self, body: bytes) -> None:
        """Before a message is put to the queue's end: rests when it came round just now."""
        mark, now = hashlib.sha256(body).digest(), self._now()
        with self._lock:
            first, seen = self._left.get(mark, (now, None))
            if len(self._left) >= MAX_REMEMBERED and seen is None:
                # What somebody took in the meantime doesn't come round any more.
                gone = [one for one, (_, last) in self._left.items() if now - last > LEFT_LONGEST_S]
                for one in gone:
                    del self._left[one]
            if seen is not None or len(self._left) < MAX_REMEMBERED:
                self._left[mark] = first, now
        if seen is None:
            log.info("left for those who know it", bytes=len(body))
        elif now - seen < SAME_AGAIN_S:
            time.sleep(PAUSE_S)

    def lost(self, who: str, error: BaseException) -> None:
        """One of the consumers, or the bell, couldn't use the broker."""
        with self._lock:
            before = bool(self._away)
            self._away.add(who)
        if not before:
            # Never the text: it may repeat a message or a password.
            log.warning("broker away: polling goes on", error=type(error).__name__)

    def found(self, who: str) -> None:
        """It could."""
        if not self._away:
            return
        with self._lock:
            before = bool(self._away)
            self._away.discard(who)
            back = before and not self._away
        if back:
            log.info("broker back")
