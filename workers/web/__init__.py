"""The network's door: inbox, signed pages, events, status reports, health and metrics.

console inbox       pages for people        events callbacks    doors for programs
links preferences   what signed links open
sign_in sessions    who is signed in
elsewhere openid    who signs in at a provider
access problems     who may ask, and what is said when it goes wrong
statics             what all pages share
health              /healthz /readyz /metrics
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from workers.app import TEMPLATES, App
from workers.render.pages import Pages
from workers.web.access import Access
from workers.web.api import Api
from workers.web.api._operation import Doors
from workers.web.callbacks import Callbacks
from workers.web.console import Console
from workers.web.elsewhere import Elsewhere
from workers.web.events import MAX_BODY_BYTES, Events
from workers.web.health import Health
from workers.web.inbox import InboxViews
from workers.web.links import LinkViews
from workers.web.preferences import PreferenceViews
from workers.web.problems import PAGES, REQUESTS, answer_safely
from workers.web.sessions import Sessions
from workers.web.sign_in import SignIn
from workers.web.statics import Statics

FIRST_REQUEST_S = 15.0
"""A connection that hasn't sent a whole request head by then is closed (slow-header attack)."""
KEEP_ALIVE_S = 60.0
MAX_ADDRESS_BYTES = 16 * 1024
"""Of a request's first line; the longest filters of the API fit, percent-encoded."""
STOP_S = 10.0


def build_web(app: App) -> web.Application:
    """The server's routes. Run it with `serve`, which keeps paths out of logs and sets limits."""
    sessions = Sessions(app.store.users, app.settings.console, app.clock, app.console_key)
    access = Access(app.settings, app.store.tokens, app.clock, sessions)
    events, callbacks = Events(app), Callbacks(app)
    requests: Counter[tuple[str, str, str]] = Counter()
    health = Health(app, events, callbacks, requests)
    elsewhere = Elsewhere(app, access)
    built = web.Application(middlewares=[answer_safely], client_max_size=MAX_BODY_BYTES)
    built[REQUESTS] = requests
    own = (app.settings.templates or TEMPLATES) / "console"
    folder = own if (own / "pages").is_dir() else TEMPLATES / "console"
    pages = built[PAGES] = Pages(folder)
    console = Console(app, access, folder, pages)
    for part in (
        Statics(),
        console,
        SignIn(app, access),
        elsewhere,
        InboxViews(app, access),
        LinkViews(app),
        PreferenceViews(app),
        Api(Doors(app, events, callbacks), access),
        health,
    ):
        part.add_to(built.router)

    async def finish(_: web.Application) -> None:
        await console.close()
        await events.scans.finish()
        await health.close()
        await elsewhere.close()

    built.on_cleanup.append(finish)
    return built


@asynccontextmanager
async def serve(app: App) -> AsyncIterator[tuple[str, int]]:
    """Listens as `[web]` says; gives the address and port. At the end finishes what is in flight.

    Raises OSError when the port is taken.
    """
    runner = web.AppRunner(
        build_web(app),
        access_log=None,  # paths of signed links are secrets
        auto_decompress=False,  # encoded bodies are refused unread
        keepalive_timeout=KEEP_ALIVE_S,
        max_line_size=MAX_ADDRESS_BYTES,
        max_field_size=8190,
        max_headers=64,
        lingering_time=2.0,
        shutdown_timeout=STOP_S,
    )
    await runner.setup()
    watch = asyncio.create_task(_close_the_silent(runner))
    try:
        await web.TCPSite(runner, app.settings.web.host, app.settings.web.port).start()
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await runner.cleanup()


async def _close_the_silent(runner: web.AppRunner) -> None:
    """Closes connections without a first request; later ones are the keep-alive's to close."""
    since: dict[int, float] = {}
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(FIRST_REQUEST_S / 5)
        server = runner.server
        silent = [c for c in server.connections if not _has_asked(c)] if server else []
        since = {id(one): since.get(id(one), clock()) for one in silent}
        for one in silent:
            if clock() - since[id(one)] >= FIRST_REQUEST_S:
                one.force_close()


def _has_asked(connection: web.RequestHandler) -> bool:
    # aiohttp has a limit for the head of each later request, and none for the first.
    return bool(connection._request_count)
