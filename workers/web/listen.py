"""Listening: the web server's socket, from the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web

from workers.app import App
from workers.errors import SettingsError
from workers.web import build_web


async def listen(app: App, stack: AsyncExitStack) -> str:
    """Begins to answer and returns the address; ends with `stack`.

    Raises SettingsError when the address can't be listened on.
    """
    settings = app.settings.web
    # Paths carry tokens, so there is no access log.
    runner = web.AppRunner(build_web(app), access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        raise SettingsError(
            f"web.port: can't listen on {settings.host}:{settings.port}: {error.strerror}: "
            "choose another port, or stop what uses it"
        ) from None
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
