"""SAQ's worker for `bench.send`: `saq bench.peers.speed_saq.settings --workers 2`; `python -m
bench.peers.speed_saq N` puts N messages into the queue.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from saq import Queue

from bench.peers.speed_mail import AT_A_TIME, URL, Kept

queue = Queue.from_url(URL)
kept = Kept()


async def deliver(_context: Any, *, number: int) -> None:
    """Sends one message."""
    await kept.send(number)


settings = {"queue": queue, "functions": [deliver], "concurrency": AT_A_TIME}


async def put(count: int) -> None:
    """Puts the messages into the queue."""
    await queue.connect()
    for number in range(count):
        await queue.enqueue("deliver", number=number)
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(put(int(sys.argv[1])))
