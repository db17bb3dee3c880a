"""Points inside the product, by name, at which a process dies or lets something happen first.

It is put into a copy of the product's tree, as `workers/named_points.py`, with calls of it at those
points (see `points.py`); the product itself knows nothing of it.

DEATHS      a file: each life of the process ends at the point that fewest ended at so far, by
            chance, and writes down there where it died and with what in hand
DEATHS_EACH so many deaths a point are enough; then it lives
ASK_PORT    a port of this machine: whoever listens is told of a message that has come to the point
            that is its own, and is waited for
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

POINTS = (
    "before the claim's commit",
    "after the claim's commit",
    "after rendering",
    "before its beginning's commit",
    "after its beginning's commit",
    "after connecting",
    "after MAIL",
    "after RCPT",
    "after 354",
    "after half the content",
    "after the final dot",
    "before the outcome's commit",
    "after the outcome's commit",
    "before a retry's commit",
)
"""At which a process dies."""
CUTS = (
    "before the workers start",
    "before the claim's commit",
    "after the claim's commit",
    "after rendering",
    "before it was looked for refusals",
    "after it was looked for refusals",
    "before its beginning's commit",
    "after its beginning's commit",
    "after MAIL",
    "after RCPT",
)
"""At which something happens; a message's own is that of its number."""
CHANCE = 0.5
WAIT_S, WAIT_IN_TRANSACTION_S = 10.0, 0.3
"""So long it is waited for what happens; in a transaction it may be that one which holds it up."""
IN_TRANSACTION = frozenset({CUTS[1], *CUTS[4:7]})
RESTART_S = 0.05
_DEATHS, _EACH = os.environ.get("DEATHS", ""), int(os.environ.get("DEATHS_EACH", "0"))
_ASK_PORT = int(os.environ.get("ASK_PORT", "0"))
_fate: list[str] = []
_asked: set[tuple[str, str]] = set()


def live_again_and_again() -> None:
    """Returns in a child for each life, until enough have died at each point; the last one lives.

    Only what is imported already is shared, so that a life costs no interpreter's start.
    """
    child = 0

    def pass_on(number: int, _frame: object) -> None:
        if child:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    while _DEATHS:
        _fate[:] = _next_fate()
        signal.signal(signal.SIGTERM, pass_on)
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # with its parent it ends as well
            random.seed()
            return
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(os.waitstatus_to_exitcode(status))
        time.sleep(RESTART_S)


def _next_fate() -> list[str]:
    counts = Counter(dict.fromkeys(POINTS, 0))
    with suppress(FileNotFoundError), Path(_DEATHS).open() as file:
        counts.update(json.loads(line)["point"] for line in file)
    least = min(counts.values())
    if least >= _EACH:
        return []
    return [random.choice([point for point, count in counts.items() if count == least])]


async def reached(
    point: str, things: Iterable[Any], *, first: Callable[[], object] | None = None
) -> None:
    """Called at a point with the messages that have come there.

    `first` is done before a death, so that it comes in the middle of something.
    """
    addresses = [_address(one) for one in things]
    if not addresses:
        return
    if point in _fate and random.random() < CHANCE:
        if first is not None:
            first()
            await asyncio.sleep(0.05)
        line = json.dumps({"point": point, "addresses": addresses, "t": time.time()})
        file = os.open(_DEATHS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, line.encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if _ASK_PORT and point in CUTS:
        mine = [one for one in addresses if CUTS[number_of(one) % len(CUTS)] == point]
        wait_s = WAIT_IN_TRANSACTION_S if point in IN_TRANSACTION else WAIT_S
        for one in mine:
            if (point, one) not in _asked:
                _asked.add((point, one))
                with suppress(OSError, TimeoutError):
                    await asyncio.wait_for(_ask(point, one), wait_s)


async def _ask(point: str, address: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", _ASK_PORT)
    try:
        writer.write(json.dumps({"point": point, "address": address}).encode() + b"\n")
        await reader.readline()
    finally:
        writer.close()


def _address(thing: Any) -> str:
    """Of an envelope, or of what was claimed, by itself or within what became of it."""
    if hasattr(thing, "recipient"):
        return str(thing.recipient)
    return str(getattr(thing, "claimed", thing).row.address)


def number_of(address: str) -> int:
    """The number in a key, or in an address that has one."""
    return int("".join(filter(str.isdigit, address.partition("@")[0]))[-7:])
