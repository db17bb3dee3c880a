"""What is claimed next: urgent first, then each rule its share, however much of one waits."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, literal_column, text
from sqlalchemy.dialects import postgresql

from tests.product import NOW
from workers.store import Store
from workers.store.attempts import Claimed
from workers.store.lanes import Lanes
from workers.store.tables import Instant, notifications

pytestmark = pytest.mark.slow

LEASE = timedelta(seconds=60)
HOUR = timedelta(hours=1)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """An empty store."""
    opened = await Store.open(database_url)
    yield opened
    await opened.close()


def waiting(kind: str, count: int, *, urgent: bool = False, **more: Any) -> list[dict[str, Any]]:
    """Rows that wait to be sent, each a second older than the next."""
    return [
        {
            "uid": uuid.uuid4().hex,
            "kind": kind,
            "message": "reminder",
            "channel": "mail",
            "contact": "C1",
            "name": "C1",
            "role": "finance",
            "address": f"c{number}@example.com",
            "language": "en",
            "time_zone": "Asia/Shanghai",
            "urgent": urgent,
            "state": "pending",
            "not_before": NOW - timedelta(seconds=count - number),
            "link_until": NOW + timedelta(days=30),
            "created_at": NOW,
            "changed_at": NOW,
            **more,
        }
        for number in range(count)
    ]


async def put(store: Store, *rows: Sequence[dict[str, Any]]) -> None:
    async with store.database.write() as connection:
        for some in rows:
            for start in range(0, len(some), 5000):
                await connection.execute(insert(notifications), some[start : start + 5000])


def kinds(claimed: Sequence[Claimed]) -> Counter[str]:
    return Counter(one.row.kind for one in claimed)


async def test_an_urgent_message_goes_before_any_backlog(store: Store) -> None:
    await put(store, waiting("statement", 5000), waiting("invitation", 1, urgent=True))
    claimed = await store.outbox.claim(NOW, 100, LEASE)

    assert claimed[0].row.kind == "invitation"
    assert kinds(claimed) == {"invitation": 1, "statement": 99}


async def test_a_backlog_of_one_rule_leaves_the_others_their_share(store: Store) -> None:
    await put(
        store,
        waiting("statement", 5000, not_before=NOW - HOUR),
        waiting("payment", 60, not_before=NOW),
        waiting("coupon", 10, not_before=NOW),
    )
    first = await store.outbox.claim(NOW, 100, LEASE)
    second = await store.outbox.claim(NOW, 100, LEASE)

    assert kinds(first) == {"statement": 45, "payment": 45, "coupon": 10}
    assert kinds(second) == {"statement": 85, "payment": 15}
    # In turn, so that the last of one rule doesn't wait for all of another.
    assert kinds(first[:30]) == {"statement": 10, "payment": 10, "coupon": 10}


async def test_few_places_go_to_the_rules_in_turn(store: Store) -> None:
    names = ["coupon", "payment", "statement"]
    await put(store, *(waiting(name, 50) for name in names))
    claimed = [one for _ in range(6) for one in await store.outbox.claim(NOW, 1, LEASE, "mail")]

    assert kinds(claimed) == dict.fromkeys(names, 2)


async def test_a_flood_of_urgent_messages_leaves_a_tenth_to_the_others(store: Store) -> None:
    await put(store, waiting("invitation", 500, urgent=True), waiting("statement", 500))

    assert kinds(await store.outbox.claim(NOW, 100, LEASE)) == {"invitation": 90, "statement": 10}


async def test_each_rules_oldest_are_claimed_first(store: Store) -> None:
    await put(store, waiting("statement", 300))
    claimed = await store.outbox.claim(NOW, 20, LEASE)

    assert [one.row.address for one in claimed] == [f"c{n}@example.com" for n in range(20)]


async def test_paused_rules_and_what_is_due_later_are_left_alone(store: Store) -> None:
    await put(
        store,
        waiting("statement", 5),
        waiting("payment", 5),
        waiting("coupon", 5, not_before=NOW + HOUR),
    )
    await store.operations.pause("payment", "ops", "wrong texts", NOW)

    assert kinds(await store.outbox.claim(NOW, 100, LEASE)) == {"statement": 5}
    assert await store.outbox.claim(NOW, 100, LEASE) == []


async def test_workers_that_claim_at_once_get_different_messages(store: Store) -> None:
    await put(store, waiting("statement", 400), waiting("payment", 400))
    lots = await asyncio.gather(*(store.outbox.claim(NOW, 100, LEASE) for _ in range(8)))
    ids = [one.id for lot in lots for one in lot]
    while more := await store.outbox.claim(NOW, 100, LEASE):
        ids += [one.id for one in more]

    assert len(ids) == len(set(ids)) == 800


async def test_a_claim_reads_the_index_of_lanes_and_not_the_backlog(postgres_url: str) -> None:
    store = await Store.open(postgres_url.replace("+asyncpg", "", 1))
    try:
        await put(store, waiting("statement", 5000), waiting("payment", 50))
        async with store.database.write() as connection:
            await connection.execute(text("ANALYZE notifications"))
            lanes = Lanes(connection, literal_column("clock_timestamp()", Instant), NOW, "mail")
            asked = lanes.oldest(False, ["statement", "payment"], 50)
            sql = asked.compile(
                dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
                compile_kwargs={"literal_binds": True},
            )
            said = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {sql}")
            plan = "\n".join(row[0] for row in said)

        assert plan.count("Index Scan using ix_notifications_lanes") == 2, plan
        assert "Seq Scan" not in plan
        assert "Sort" not in plan
        assert max(_rows(plan)) <= 100, plan
    finally:
        await store.close()


def _rows(plan: str) -> list[int]:
    return [
        int(part.split("rows=")[1].split()[0].split(".")[0])
        for part in plan.splitlines()
        if "rows=" in part
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_claim_costs_the_same_over_a_backlog_of_a_hundred_thousand(store: Store) -> None:
    await put(store, waiting("statement", 100_000), waiting("payment", 100))
    took = []
    for number in range(200):
        if number % 10 == 0:
            await put(store, waiting("invitation", 1, urgent=True, not_before=NOW))
        began = time.perf_counter()
        claimed = await store.outbox.claim(NOW, 100, LEASE)
        took.append(time.perf_counter() - began)
        assert (claimed[0].row.kind == "invitation") is (number % 10 == 0)
        assert len(claimed) == 100
    took.sort()
    p50, p99 = took[100] * 1000, took[197] * 1000
    print(
        f"claim of 100 over 100,000 ({store.database.dialect}): p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )

    assert p99 < 1000


async def test_lines_are_found_by_their_message_before_there_are_statistics(
    postgres_url: str,
) -> None:
    store = await Store.open(postgres_url.replace("+asyncpg", "", 1))
    count = 50_000
    try:
        async with store.database.write() as connection:
            await connection.execute(
                text("ALTER TABLE occurrences SET (autovacuum_enabled = false)")
            )
            # Only the lines matter here, not what they belong to.
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            await connection.execute(
                text(
                    "INSERT INTO occurrences "
                    "(record_id, notification_id, ladder, stage, channel, contact) "
                    "SELECT n, n, '1', 'T-2', 'mail', 'C1' "
                    "FROM generate_series(1, CAST(:count AS integer)) n"
                ),
                {"count": count},
            )
        before = await _lines_read(store)
        async with store.database.read() as connection:
            lines = await store.outbox.lines_of(connection, [7, 8, 9, 10, 11])
        read = await _lines_read(store) - before

        assert sorted(lines) == [7, 8, 9, 10, 11]
        assert read < 100
    finally:
        await store.close()


async def _lines_read(store: Store) -> int:
    """How many entries of the indexes of lines were read so far, and rows of their table."""
    await asyncio.sleep(0.1)
    async with store.database.read() as connection:
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
    async with store.database.read() as connection:
        found = await connection.execute(
            text(
                "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes "
                "WHERE relname = 'occurrences') + (SELECT seq_tup_read FROM pg_stat_user_tables "
                "WHERE relname = 'occurrences')"
            )
        )
        return int(found.scalar_one())
