"""Procrastinate's worker for `bench.send`: `procrastinate --app bench.peers.speed_procrastinate.app
worker`; `python -m bench.peers.speed_procrastinate N` makes its tables and puts N messages in.
"""

from __future__ import annotations

import asyncio
import sys

from procrastinate import App, PsycopgConnector

from bench.peers.speed_mail import URL, Kept

app = App(connector=PsycopgConnector(conninfo=URL))
kept = Kept()


@app.task(name="deliver")  # type: ignore[untyped-decorator]
async def deliver(number: int) -> None:
    """Sends one message."""
    await kept.send(number)


async def put(count: int) -> None:
    """Makes the tables and puts the messages in."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            await deliver.batch_defer_async(*({"number": number} for number in numbers))


if __name__ == "__main__":
    asyncio.run(put(int(sys.argv[1])))
