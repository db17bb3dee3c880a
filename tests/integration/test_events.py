"""Producers' events over HTTP: taken once, in any order; refused with the place and the remedy."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.integration.test_web import House, served
from tests.product import contact, inbox, partner

SINGLE = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
DATA: dict[str, Any] = {
    "ref": "F1",
    "partner": "P1",
    "programme": "FH",
    "status": "付款申请审核通过",
    "approved_at": "2026-11-20T02:00:00Z",
    "amount_incl_tax": "106.00",
    "buyer_title": "Example Cloud",
    "buyer_tax_no": "91520900MA6J6CBN9Q",
    "lines": [
        {
            "payment": "F1",
            "line": 1,
            "item_name": "Consulting",
            "tax_rate": "6%",
            "amount_incl_tax": "106.00",
        }
    ],
}


def event(number: str = "1", kind: str = "payment", verb: str = "opened", **data: Any) -> Any:
    return {
        "specversion": "1.0",
        "id": number,
        "source": "billing",
        "type": f"duewatch.{kind}.{verb}.v1",
        "data": DATA | data if kind == "payment" else data,
    }


async def send(house: House, body: Any, headers: dict[str, str] = SINGLE) -> tuple[int, Any]:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    status, answer, _ = await house.post("/v1/events", data=text, headers=headers)
    return status, json.loads(answer)


async def _state(house: House, ref: str = "F1") -> str:
    rows = await house.app.store.records.find(ref)
    return rows[0].state if rows else "missing"


async def test_a_due_event_is_told_at_once(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock) as house:
        await house.app.intake.take([partner(), contact()])
        stopping = asyncio.Event()
        loop = asyncio.create_task(house.app.delivery.run(stopping))
        house.app.bell.listen(house.app.delivery.ring)
        assert (await send(house, event()))[0] == 200
        for _ in range(200):
            if await inbox(house.app):
                break
            await asyncio.sleep(0.05)
        stopping.set()
        await loop

        assert await inbox(house.app) == ["c1@example.com"]


async def test_the_same_event_again_is_a_repeat_and_other_content_a_conflict(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        first = await send(house, event())
        again = await send(house, event())
        other = await send(house, event(amount_incl_tax="107.00"))

        assert (first[0], first[1]["status"], first[1]["outcome"]) == (200, "taken", "new")
        assert (again[0], again[1]["status"]) == (200, "repeat")
        assert other[0] == 409


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_any_order_of_events_gives_the_same_end(
    order: tuple[int, ...], tmp_path: Path, clock: FakeClock
) -> None:
    story = [
        event("1", status="付款申请审核中", version=1),
        event("2", version=2, verb="updated"),
        event("3", status="发票待审核", version=3, verb="updated"),
        event("4", status="已完成", version=4, verb="closed"),
    ]
    async with served(tmp_path, clock) as house:
        for index in order:
            assert (await send(house, story[index]))[0] == 200
        (row,) = await house.app.store.records.find("F1")

        assert (row.state, row.version, row.data["status"]) == ("closed", 4, "已完成")


async def test_in_a_batch_each_event_stands_by_itself(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock) as house:
        batch = [event("1"), event("2", amount_incl_tax="1,234.5O"), event("3", ref="F3", lines=[])]
        status, answer = await send(house, batch, BATCH)

        assert status == 422
        assert [one["status"] for one in answer["results"]] == ["taken", "refused", "taken"]
        assert "amount_incl_tax" in json.dumps(answer["results"][1])
        assert (await _state(house), await _state(house, "F3")) == ("open", "held")


async def test_an_event_carries_the_whole_list(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock) as house:
        two = [DATA["lines"][0] | {"line": n, "amount_incl_tax": "53.00"} for n in (1, 2)]
        await send(house, event("1", lines=two))
        assert await _state(house) == "open"
        await send(house, event("2", verb="updated"))

        assert await _state(house) == "open", "the second line of before is gone"


async def test_people_come_as_events_too_and_binary_mode_is_understood(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        headers = {
            "Content-Type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "7",
            "ce-source": "crm",
            "ce-type": "duewatch.contact.upserted.v1",
        }
        data = {"partner": "P1", "role": "finance", "mail": "ann@example.com"}
        status, _ = await send(house, data, headers)
        (row,) = await house.app.store.records.contacts_of("P1")

        assert status == 200
        assert row.data["mail"] == "ann@example.com"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("{", 400, ""),
        ('{"a": 1, "a": 2}', 400, "a"),
        ('{"a": NaN}', 400, ""),
        ("[" * 5000 + "]" * 5000, 400, ""),
        (json.dumps(event() | {"specversion": "0.3"}), 422, "specversion"),
        (json.dumps(event(kind="rebate")), 422, "type"),
        (json.dumps(event(approved_at="2026-02-30")), 422, "approved_at"),
        (json.dumps(event(partner="P\r\nBcc: x")), 422, "partner"),
        (json.dumps(event(nonsense=1)), 422, "nonsense"),
        (json.dumps(event(amount_incl_tax="1e999")), 422, "amount_incl_tax"),
        (json.dumps(event(buyer_title="x" * 70_000)), 422, ""),
    ],
)
async def test_what_is_wrong_is_named(
    body: str, status: int, says: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        found, answer = await send(house, body)

        assert found in {status, 413}
        assert answer["type"].startswith("urn:duewatch:problem:")
        assert says in json.dumps(answer, ensure_ascii=False)
        assert await _state(house) == "missing"


async def test_a_body_that_is_too_large_is_refused_unread(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock) as house:
        status, _, _ = await house.post(
            "/v1/events", data=io.BytesIO(b"x" * 2_000_000), headers=SINGLE
        )

        assert status == 413
