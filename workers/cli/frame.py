"""What the commands share: opening the product, tables for people and JSON for scripts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schedules.fields import BEIJING, read_instant
from workers.addresses import address_of
from workers.core import Core, open_core
from workers.errors import InputError
from workers.logs import configure_logs
from workers.settings import Settings, load_settings
from workers.shown import row_dict

if TYPE_CHECKING:
    from workers.app import App

T = TypeVar("T")
__all__ = [
    "Call",
    "address_of",
    "call",
    "cell",
    "console",
    "dump",
    "few",
    "json_option",
    "local",
    "moment",
    "row_dict",
    "table",
    "with_app",
    "with_core",
]

STYLES = {
    "accepted": "green",
    "delivered": "green",
    "open": "green",
    "pending": "cyan",
    "sending": "cyan",
    "parked": "yellow",
    "held": "yellow",
    "paused": "yellow",
    "suppressed": "yellow",
    "failed": "red",
    "cancelled": "dim",
    "closed": "dim",
    "waiting": "dim",
}


@dataclass(frozen=True, slots=True)
class Call:
    """How the command was called: settings, who calls, and whether logs are wanted."""

    settings: Settings
    by: str


def console(*, err: bool = False) -> Console:
    """A terminal, or plain text of full width where the output goes to a file."""
    target = Console(stderr=err, highlight=False)
    if not target.is_terminal:
        target = Console(stderr=err, highlight=False, width=200, soft_wrap=False)
    return target


def call(*, daemon: bool = False) -> Call:
    """Reads the settings and sets logging up. Raises SettingsError."""
    given: dict[str, Any] = click.get_current_context().find_root().obj
    settings = load_settings(Path(given["file"]) if given["file"] else None)
    configure_logs(settings.logs, least=None if daemon or given["verbose"] else "warning")
    return Call(settings, given["by"])


def with_core(work: Callable[[Core, Call], Awaitable[T]]) -> T:
    """Opens the database and the rules only, does the work and closes them."""
    called = call()

    async def opened() -> T:
        async with open_core(called.settings) as core:
            return await work(core, called)

    return asyncio.run(opened())


def with_app(work: Callable[[App, Call], Awaitable[T]], *, migrate: bool = True) -> T:
    """Opens the whole product, does the work and closes it."""
    from workers.app import open_app

    called = call()

    async def opened() -> T:
        async with open_app(called.settings, migrate=migrate) as app:
            return await work(app, called)

    return asyncio.run(opened())


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")(function)


def moment(text: str | None) -> datetime | None:
    """A time a person gave: ISO 8601, or `2026-11-24 09:00` in Beijing. Raises InputError."""
    if text is None:
        return None
    try:
        return read_instant(text)
    except ValueError as error:
        raise InputError(f"time {text!r}: {error}") from None


def local(at: datetime | None, zone: ZoneInfo = BEIJING) -> str:
    """An instant as a person reads it, in Beijing unless another zone is given."""
    return "" if at is None else at.astimezone(zone).strftime("%Y-%m-%d %H:%M")


MAY_WRAP = {"", "reason", "why", "records", "who", "remedy", "value", "look at", "equation"}
MAY_FOLD = {"address", "to", "mail", "what", "detail", "reply", "cadence"}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table; cells that are states are coloured.

    A column whose name ends in `#` holds numbers. On a narrow terminal long texts wrap first, then
    addresses fold; references and times stay whole.
    """
    shown = Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for name in columns:
        words = name.removesuffix("#").strip()
        shown.add_column(
            words,
            justify="right" if name.endswith("#") else "left",
            overflow="fold",
            no_wrap=words not in MAY_WRAP | MAY_FOLD,
            header_style="bold",
        )
    count = 0
    for row in rows:
        count += 1
        shown.add_row(*(cell(value) for value in row))
    if count:
        console().print(shown)
    else:
        console().print(f"{title + ': ' if title else ''}none")


def cell(value: Any) -> Text:
    """One cell: plain text, never read as markup."""
    if isinstance(value, datetime):
        value = local(value)
    text = "" if value is None else str(value)
    return Text(text, style=STYLES.get(text, ""))


def few(words: Sequence[str], most: int = 3) -> str:
    """The first of several words, and how many more there are."""
    more = f" +{len(words) - most}" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def dump(value: Any) -> None:
    """Prints JSON: instants in UTC with Z, amounts as text."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=_plain)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, set | frozenset | tuple):
        return sorted(value) if not isinstance(value, tuple) else list(value)
    return str(value)
