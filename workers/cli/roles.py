"""Commands that stay up: the daemon, whole or by role, and the demo."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from workers.cli.frame import call
from workers.daemon import ROLES, run_daemon


def _serve(roles: Collection[str]) -> None:
    run_daemon(call(daemon=True).settings, roles)


@click.command("run")
def run_command() -> None:
    """Run web, scheduler and worker in one process, until Ctrl-C or SIGTERM.

    What is in flight is finished before it ends. /healthz, /readyz and /metrics tell how it is.
    """
    _serve(ROLES)


def _role(name: str, text: str) -> click.Command:
    @click.command(name, help=text)
    def alone() -> None:
        _serve([name])

    return alone


web_command: Any = _role("web", "Run only the web server: API, signed pages, inbox, metrics.")
scheduler_command: Any = _role("scheduler", "Run only the clock; any number may run at once.")
worker_command: Any = _role("worker", "Run only delivery; any number may run at once.")


@click.command("demo")
@click.option(
    "--once", is_flag=True, help="End by itself after delivering, and print what was sent."
)
@click.option("--port", type=int, help="Web port (default 8025, or the next free one).")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the made-up files and the database go (default demo-data).",
)
def demo_command(once: bool, port: int | None, folder: Path | None) -> int:
    """Import made-up data, run every rule, deliver to the local inbox, and show it.

    Nothing leaves this machine. Ctrl-C ends it.
    """
    from workers.demo import run_demo

    return asyncio.run(run_demo(once, port, folder))
