"""The doctor: looks at everything that sending needs, and says how to mend what is wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from schedules.fields import BEIJING
from workers.app import App
from workers.endpoints import Endpoint
from workers.errors import DuewatchError
from workers.providers import Finding
from workers.sources import Source
from workers.store import Row
from workers.store.webhooks import Standing
from workers.syncing import Syncing
from workers.web.elsewhere import BACK
from workers.web.openid import OpenId, OpenIdError

CLOCK_SKEW = timedelta(seconds=5)
LEAST_FREE_MB = 200
LATE = timedelta(minutes=15)
"""A source whose sync was due so long ago is late."""


async def examine(app: App) -> AsyncIterator[Finding]:
    """Each finding as it is made. Sends nothing."""
    async for finding in _database(app):
        yield finding
    if app.settings.broker_url:
        yield await _broker(app)
    for channel, named in app.providers.items():
        for provider in named.values():
            for finding in await provider.check():
                yield Finding(
                    f"{channel}: {finding.what}", finding.well, finding.detail, finding.remedy
                )
    gaps = app.renderer.check(app.clock(), app.registry.calendar)
    for gap in gaps:
        yield Finding("templates", False, gap, "add or correct the template")
    if not gaps:
        languages = ", ".join(app.renderer.languages)
        yield Finding("templates", True, f"every message renders in {languages}")
    for finding in _calendar(app):
        yield finding
    yield _public_url(app)
    for finding in (*await _sources(app), *await _webhooks(app), *await _sign_in(app)):
        yield finding


async def _database(app: App) -> AsyncIterator[Finding]:
    database = app.store.database
    misfit = await database.misfit()
    shown = f"{database.dialect}, schema {await database.schema_version()}"
    yield Finding("database", not misfit, shown, misfit)
    skew = abs(await database.clock() - app.clock())
    well = skew <= CLOCK_SKEW
    yield Finding(
        "clock",
        well,
        f"{skew.total_seconds():.1f} s from the database's",
        "" if well else "synchronise this machine's clock (NTP)",
    )
    file = database.engine.url.database
    if database.dialect == "sqlite" and file:
        free = _free_mb(Path(file))
        yield Finding(
            "disk",
            free >= LEAST_FREE_MB,
            f"{free:,} MB free beside {file}",
            "" if free >= LEAST_FREE_MB else "make room, or move the database",
        )


async def _broker(app: App) -> Finding:
    """Rings through the broker, and listens whether it is heard."""
    try:
        took, server, wrong, remedy = await asyncio.to_thread(app.bell.probe)
    except DuewatchError as error:
        return Finding(
            "broker",
            False,
            str(error),
            "until then workers look every few seconds, and events by the broker wait",
        )
    heard = f"{server}, heard after {took * 1000:.0f} ms"
    return Finding("broker", not wrong, f"{server} {wrong}" if wrong else heard, remedy)


def _free_mb(file: Path) -> int:
    return shutil.disk_usage(file.absolute().parent).free // 1_000_000


def _calendar(app: App) -> list[Finding]:
    now: datetime = app.clock().astimezone(BEIJING)
    wanted = [now.year, now.year + 1] if now.month >= 11 else [now.year]
    years = ", ".join(str(year) for year in app.registry.calendar.years)
    missing = [year for year in wanted if year not in app.registry.calendar.years]
    if not missing:
        return [Finding("working days", True, f"announced years: {years}")]
    # The State Council announces a year in November of the one before.
    late = now.year in missing
    return [
        Finding(
            "working days",
            not late,
            f"announced years: {years}; {missing[0]} is provisional (Monday to Friday)",
            f"put {missing[0]}.toml into calendar.folder once it is announced",
        )
    ]


async def _sign_in(app: App) -> list[Finding]:
    """Whether people can be sent to the provider, if there is one, and its keys be had."""
    if not app.settings.console.oidc.on:
        return []
    provider = OpenId(app.settings.console.oidc, app.clock)
    issuer = app.settings.console.oidc.issuer
    try:
        await provider.places()
        keys = len(await provider.keys())
    except OpenIdError as error:
        away = error.words == "away"
        remedy = "see that it runs and is reached from here" if away else "correct console.oidc"
        return [Finding("sign-in", False, f"{issuer}: {error.why}", remedy)]
    finally:
        await provider.close()
    back = app.settings.base_url + BACK
    none = "" if keys else "see that it publishes an RSA or EC key for signatures"
    return [Finding("sign-in", bool(keys), f"{issuer}: {keys} keys; leads back to {back}", none)]


async def _webhooks(app: App) -> list[Finding]:
    return list(_endpoints(app.settings.webhooks, await app.store.webhooks.standing()))


def _endpoints(
    endpoints: Mapping[str, Endpoint], standing: Mapping[str, Standing]
) -> Iterator[Finding]:
    for name in endpoints:
        one = standing.get(name)
        if one is None:
            detail, remedy = "no worker knows it yet", "start a worker with these settings"
        elif one.row.disabled_at is not None:
            detail = f"disabled since {one.row.disabled_at:%Y-%m-%d %H:%M} UTC: {one.row.answer}"
            remedy = f"mend the receiver, then duewatch webhooks enable {name}"
        elif one.row.failing_since is not None:
            detail = f"fails since {one.row.failing_since:%Y-%m-%d %H:%M} UTC: {one.row.answer}"
            remedy = f"mend the receiver; duewatch webhooks test {name} tries it"
        else:
            counts = {"waiting": 0, "failed": 0} | dict(one.counts)
            detail = ", ".join(f"{count} {state}" for state, count in counts.items())
            yield Finding(f"webhook {name}", True, detail)
            continue
        yield Finding(f"webhook {name}", False, detail, remedy)


async def _sources(app: App) -> list[Finding]:
    """Whether each source can be read, how its last sync went, and whether the next is late."""
    last = await app.store.sources.last_runs()
    syncing = Syncing(app)
    return [
        _source(app, source, last.get(name), await syncing.look(name))
        for name, source in syncing.sources.items()
    ]


def _source(app: App, source: Source, last: Row[Any] | None, fault: str) -> Finding:
    name = source.name
    about = f"source {name}"
    look = f"see what would come in: duewatch sync {name} --dry-run"
    if fault:
        return Finding(about, False, f"{source.place}: {fault}", look)
    if last is None:
        return Finding(about, True, f"{source.place}: never synced yet ({look})")
    when = f"{last.started_at:%Y-%m-%d %H:%M} UTC"
    if last.outcome in {"failed", "lost"}:
        why = last.detail or "its process ended before it was done"
        return Finding(about, False, f"{source.place}: broke off at {when}: {why[:200]}", look)
    late = source.settings.overdue(last.started_at, app.clock())
    if late > LATE:
        since = f"{app.clock() - late:%Y-%m-%d %H:%M} UTC"
        return Finding(
            about,
            False,
            f"{source.place}: last synced at {when}, and due again since {since}",
            "see that a scheduler runs: duewatch scheduler",
        )
    return Finding(about, True, f"{source.place}: {last.outcome or 'under way'} at {when}")


def _public_url(app: App) -> Finding:
    url = app.settings.public_url
    local = not url or "localhost" in url or "127.0.0.1" in url
    only_inbox = all(one.stays_here for one in app.by_name.values())
    return Finding(
        "links",
        not local or only_inbox,
        f"links lead to {app.settings.base_url}",
        "set public_url to the address that recipients reach" if local else "",
    )
