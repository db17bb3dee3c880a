"""A process of its own for tests to kill: `worker.py scan|deliver|defaults|stall URL PORT`.

`deliver` runs the delivery loop against the relay on PORT, `defaults` does so with the default
settings; `stall` stops for ever while it renders, which is after its claim and before its
commitment to send; `scan` scans the statements.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.product import NOW, smtp
from workers.app import open_app
from workers.deliver import Delivery
from workers.model import Notice
from workers.providers import Mail, Sms
from workers.render import Renderer
from workers.settings import Settings


class Stalls(Renderer):
    """Says so and never comes back."""

    def __init__(self) -> None:
        """Needs no templates."""

    def is_quick(self, notice: Notice) -> bool:
        """It isn't."""
        return False

    def render(self, notice: Notice) -> Mail | Sms:
        """Never returns in a test's time."""
        # Two chunks are rendered at a time: each says it in one write, so that lines stay whole.
        os.write(sys.stdout.fileno(), b"stalled\n")
        time.sleep(600)
        raise AssertionError("the test forgot this process")


async def main(what: str, url: str, port: int) -> None:
    delivery = {} if what == "defaults" else {"lease_s": 2, "poll_s": 0.1, "share": 1}
    settings = Settings.model_validate(
        {"database_url": url, "delivery": delivery, **smtp(port, connections=4)}
    )
    async with open_app(settings, clock=lambda: NOW) as app:
        if what == "scan":
            await app.scan.run("statement")
            return
        worker = app.delivery
        if what == "stall":
            parts = (app.store, app.registry, Stalls(), app.providers, app.links)
            worker = Delivery(*parts, app.settings, app.clock)
        await worker.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
