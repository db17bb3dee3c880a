"""Commands about the broker: dead letters, wishes for a scan, and what the doctor finds."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable
from pathlib import Path

import pytest
import redis

from tests.acceptance.shell import Done, Shell
from tests.fakes.clock import FakeClock
from tests.integration.test_broker_events import _requested, at_work, until
from tests.integration.test_events import event
from tests.product import NOW, opened
from tests.redis import OwnServer
from workers.app import App
from workers.doctor import examine
from workers.providers import Finding
from workers.store.quarantine import MAX_KEPT_BYTES, Quarantine
from workers.tasks import EVENTS

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(300)]


async def test_dead_letters_are_listed_replayed_and_dropped(
    tmp_path: Path, clock: FakeClock
) -> None:
    shell = Shell(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path / 'duewatch.db'}"})
    async with opened(shell.environ["DATABASE_URL"], clock) as app:
        letters = Quarantine(app.store.database)
        await letters.keep(EVENTS, "no payment yet", json.dumps(event()).encode(), NOW)
        await letters.keep(EVENTS, "isn't JSON", b"\x00\xff[", NOW)
        wrong = json.dumps(event("2", amount_incl_tax="1O")).encode()
        await letters.keep(EVENTS, "unknown", wrong, NOW)
        await letters.keep(EVENTS, "too long", b"x" * (MAX_KEPT_BYTES + 1), NOW)

    def run(*words: str) -> Awaitable[Done]:
        return asyncio.to_thread(shell, *words)

    first = (await run("quarantine", "list", "--json")).json
    assert [(one["id"], one["reason"]) for one in first][-1] == (1, "no payment yet")
    assert first[-2]["body"] == "\\x00\\xff["
    assert (await run("quarantine", "list", "--door", "elsewhere", "--json")).json == []
    shown = (await run("quarantine", "show", "4")).out
    assert f"SHA-256: {hashlib.sha256(b'x' * (MAX_KEPT_BYTES + 1)).hexdigest()}" in shown
    assert shown.endswith(f"reason: too long\n\n{'x' * MAX_KEPT_BYTES}\n")
    replayed = await run("quarantine", "replay", "1")
    assert (replayed.code, replayed.out) == (0, "Message 1: new; scanned payment.\n")
    again = await run("quarantine", "replay", "3")
    assert again.code == 1
    assert "/data/amount_incl_tax" in again.err
    cut = await run("quarantine", "replay", "4")
    assert (cut.code, "only the beginning is kept" in cut.err) == (2, True)
    assert (await run("quarantine", "drop", "2", "--reason", "a test's")).code == 0
    async with opened(shell.environ["DATABASE_URL"], clock) as app:
        rest = await Quarantine(app.store.database).all()
        audit = await app.store.operations.audit()
    assert [row.id for row in rest] == [4, 3]
    assert "/data/amount_incl_tax" in rest[1].reason
    assert [(row.action, row.reason) for row in audit] == [
        ("drop", "a test's"),
        ("replay", "taken"),
    ]


async def test_a_scan_is_asked_for_from_the_command_line(
    redis_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    shell = Shell(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path / 'duewatch.db'}"})
    shell.environ["BROKER_URL"] = redis_url
    async with opened(shell.environ["DATABASE_URL"], clock, broker_url=redis_url) as app:
        done = await asyncio.to_thread(shell, "scan", "statement", "--request")
        assert done.out.startswith("Asked for a scan of statement.")
        async with at_work(app, "scheduler"):
            await until(lambda: _requested(app))
    without = await asyncio.to_thread(shell, "scan", "statement", "--request", BROKER_URL="")

    assert (without.code, "broker_url: is empty" in without.err) == (2, True)


async def test_the_doctor_rings_and_hears_and_names_a_broker_that_is_away(
    broker_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with opened(database, clock, broker_url=broker_url) as app:
        found = await _findings(app)
        assert found["broker"].well
        assert "heard after" in found["broker"].detail
        assert found["broker"].detail.startswith(("Redis 7", "Valkey", "RabbitMQ"))
    if broker_url.startswith("redis"):
        with redis.Redis.from_url(broker_url) as client:
            assert client.keys("*probe*") == []
    gone = broker_url.split(":")[0] + "://me:secret@127.0.0.1:1/"
    async with opened(database, clock, broker_url=gone) as app:
        found = await _findings(app)
        assert not found["broker"].well
        assert "secret" not in found["broker"].detail


async def _findings(app: App) -> dict[str, Finding]:
    """As far as the broker's."""
    findings, found = examine(app), dict[str, Finding]()
    while "broker" not in found:
        one = await anext(findings)
        found[one.what] = one
    return found


async def test_a_redis_that_may_throw_messages_away_is_found(
    own_redis: OwnServer, tmp_path: Path, clock: FakeClock
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    database = f"sqlite:///{tmp_path / 'duewatch.db'}"
    async with opened(database, clock, broker_url=own_redis.url) as app:
        found = await _findings(app)

    assert not found["broker"].well
    assert found["broker"].remedy == "set maxmemory-policy noeviction"
