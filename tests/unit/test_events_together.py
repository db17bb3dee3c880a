"""Events stored together: each is what it would be alone, and a bad one harms only itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.product import opened
from workers.envelope import Sender
from workers.events import Gathering

PRODUCER = Sender("shop")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database file of the test's own."""
    return f"sqlite:///{tmp_path / 'events.db'}"


def event(number: str, type_: str = "statement.upserted", **data: Any) -> dict[str, Any]:
    """One event of a statement."""
    content = {
        "ref": f"S{number}",
        "partner": "P1",
        "statement_kind": "INCENTIVE",
        "generated_at": "2026-11-20",
        "amount_incl_tax": "100.00",
        **data,
    }
    head = {"specversion": "1.0", "source": "/shop", "id": number}
    return {**head, "type": f"duewatch.{type_}.v1", "data": content}


def listed(number: str, *amounts: str) -> dict[str, Any]:
    """One event of a payment with its list."""
    lines = [
        {"item_name": "Consulting", "tax_rate": "6%", "amount_incl_tax": one} for one in amounts
    ]
    data = {"ref": "F1", "programme": "FH", "status": "付款申请审核通过", "lines": lines}
    data |= {"partner": "P1", "approved_at": "2026-11-20", "amount_incl_tax": "106.00"}
    head = {"specversion": "1.0", "source": "/shop", "id": number}
    return {**head, "type": "duewatch.payment.opened.v1", "data": data}


async def test_one_that_cannot_be_taken_harms_only_itself(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        said = await app.events.take(
            [event("1"), event("2", "statement.closed"), event("3", nonsense="x"), event("4")],
            PRODUCER,
        )
        rows = await app.store.records.search(kind="statement")

    assert [one.status for one in said] == ["taken", "refused", "refused", "taken"]
    assert "not closed" in said[1].why
    assert [row.ref for row in rows] == ["S1", "S4"]


async def test_repeats_and_later_words_within_one_batch_count(url: str, clock: FakeClock) -> None:
    later = event("5", ref="S1", amount_incl_tax="200.00")
    async with opened(url, clock) as app:
        said = await app.events.take(
            [event("1"), event("1"), event("1", amount_incl_tax="7.00"), later], PRODUCER
        )
        (row,) = await app.store.records.search(kind="statement")

    assert [one.status for one in said] == ["taken", "repeat", "conflict", "taken"]
    assert [one.outcome for one in said] == ["new", "new", "", "changed"]
    assert row.data["amount_incl_tax"] == "200.00"


async def test_a_list_is_replaced_whole(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        said = await app.events.take(
            [listed("1", "53.00", "53.00"), listed("2", "106.00"), listed("3", "106.00")], PRODUCER
        )
        async with app.store.database.read() as connection:
            lines = await app.store.records.lines(connection, "payment", ["F1"])
        (row,) = await app.store.records.search(kind="payment")

    assert [one.outcome for one in said] == ["new", "changed", "unchanged"]
    assert [line.data["amount_incl_tax"] for line in lines["F1"]] == ["106.00"]
    assert row.state == "open"


async def test_events_that_come_one_by_one_are_taken_together(url: str, clock: FakeClock) -> None:
    async with opened(url, clock) as app:
        gathering = Gathering(app.events)
        said = await asyncio.gather(
            *(gathering.take(event(str(number))) for number in range(5)),
            gathering.take({"specversion": "0.3"}),
        )
        rows = await app.store.records.search(kind="statement")

    assert [one.status for one in said] == ["taken"] * 5 + ["refused"]
    assert len(rows) == 5
