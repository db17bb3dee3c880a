"""The core: settings -> rules, store and records; what most commands need, and the product's base.

It is kept apart from `app` so that a command which sends and renders nothing starts quickly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from schedules.calendar import WorkingCalendar
from schedules.rule import Rule
from schedules.rules import load_rules
from workers.cadences import check_rules
from workers.errors import SettingsError
from workers.records import Records, Registry
from workers.settings import Settings
from workers.store import Store


def utc_now() -> datetime:
    """The machine's clock, as aware UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Core:
    """What is watched, and by which rules. `clock` is business time, aware UTC."""

    settings: Settings
    clock: Callable[[], datetime]
    store: Store
    rules: Mapping[str, Rule]
    registry: Registry
    records: Records


@asynccontextmanager
async def open_core(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    migrate: bool = True,
) -> AsyncIterator[Core]:
    """Opens the database and loads the rules, and closes it at the end.

    Raises SettingsError naming the key, UnavailableError when the database can't be reached.
    """
    rules = load_rules()
    check_rules(settings, rules)
    registry = Registry(rules, settings, _calendar(settings))
    store = await Store.open(settings.database_url, migrate=migrate)
    try:
        yield Core(settings, clock, store, rules, registry, Records(store, registry))
    finally:
        await store.close()


def _calendar(settings: Settings) -> WorkingCalendar:
    try:
        return WorkingCalendar.load(settings.calendar.folder)
    except (ValueError, OSError) as error:
        raise SettingsError(f"calendar.folder: {error}") from None
