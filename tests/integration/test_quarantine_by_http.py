"""What HTTP refuses is kept with its reason, as what comes by a queue is, and taken by hand."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from tests.fakes.clock import FakeClock
from tests.integration.test_events import BATCH, SINGLE, _state, event, send
from tests.integration.test_web import served
from tests.product import NOW, contact, opened, partner
from workers import by_hand
from workers.app import App
from workers.store.quarantine import MAX_KEPT_BYTES, Quarantine, Refused
from workers.web.events import MAX_BODY_BYTES


async def _kept(app: App) -> dict[int, Any]:
    return {row.id: row for row in await Quarantine(app.store.database).all()}


async def test_a_refused_event_is_kept_whole_with_its_reason_and_the_answer_names_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    wrong = json.dumps(event(amount_incl_tax="1,234.5O"))
    async with served(tmp_path, clock) as house:
        status, answer = await send(house, wrong)
        kept = await _kept(house.app)

    (row,) = kept.values()
    assert status == 422
    assert answer["quarantine"] == row.id
    assert row.door == "http this machine"
    assert row.body == wrong
    assert "/data/amount_incl_tax" in row.reason


async def test_what_isnt_json_is_kept_and_the_same_again_is_one_row(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        answers = [await send(house, b'{"specversion": "1.0", "\xff\x00') for _ in range(3)]
        kept = await _kept(house.app)

    (row,) = kept.values()
    assert [status for status, _ in answers] == [400] * 3
    assert {answer["quarantine"] for _, answer in answers} == {row.id}
    assert (row.times, row.reason) == (3, "isn't UTF-8 at byte 24: encode it as UTF-8")
    assert row.body == '{"specversion": "1.0", "\\xff\\x00'


async def test_in_a_batch_each_refused_one_is_kept_and_its_neighbours_are_taken(
    tmp_path: Path, clock: FakeClock
) -> None:
    batch = [
        event("1"),
        event("2", verb="vanished"),
        "nonsense",
        event("4", amount_incl_tax="much"),
    ]
    async with served(tmp_path, clock) as house:
        await house.app.intake.take([partner(), contact()])
        status, answer = await send(house, batch, BATCH)
        kept = await _kept(house.app)
        state = await _state(house)

    assert (status, state) == (422, "open")
    said = [result.get("quarantine") for result in answer["results"]]
    assert said[0] is None
    assert [json.loads(kept[number].body) for number in said[1:]] == batch[1:]
    assert len(kept) == 3


async def test_a_conflict_is_kept_too(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock) as house:
        await send(house, event())
        status, answer = await send(house, event(amount_incl_tax="107.00"))
        kept = await _kept(house.app)

    assert status == 409
    assert "before with other content" in kept[answer["quarantine"]].reason


async def test_of_a_long_one_the_beginning_is_kept_and_how_long_it_was(
    tmp_path: Path, clock: FakeClock
) -> None:
    long = json.dumps(event(buyer_title="x" * 100_000))
    async with served(tmp_path, clock) as house:
        status, answer = await send(house, long)
        row = (await _kept(house.app))[answer["quarantine"]]

    assert status == 422
    assert (row.size, len(row.body)) == (len(long), MAX_KEPT_BYTES)


async def test_by_hand_it_is_taken_in_though_queues_must_be_sealed(
    tmp_path: Path, clock: FakeClock
) -> None:
    late = event(partner="P1", wanted_later="not known yet")
    sealed = {"events": {"require_signature": True}}
    async with served(tmp_path, clock, **sealed) as house:
        await house.app.intake.take([partner(), contact()])
        _, answer = await send(house, late)
        again = await by_hand.replay(house.app, answer["quarantine"], "ops")
        async with house.app.store.database.write() as connection:
            row = (await _kept(house.app))[answer["quarantine"]]
            mended = json.loads(row.body)
            del mended["data"]["wanted_later"]
            await connection.exec_driver_sql(
                "UPDATE dead_letters SET body = ?", (json.dumps(mended),)
            )
        done = await by_hand.replay(house.app, answer["quarantine"], "ops")
        kept, state = await _kept(house.app), await _state(house)

    assert "wanted_later" in again.refused
    assert (done.outcome, done.refused) == ("new", "")
    assert (kept, state) == ({}, "open")


async def test_who_isnt_let_in_leaves_nothing_behind(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock, web={"api_token": "right-" * 8}) as house:
        status, _, _ = await house.post(
            "/v1/events",
            data=b"{not json",
            headers={**SINGLE, "Authorization": "Bearer wrong"},
        )
        kept = await _kept(house.app)

    assert (status, kept) == (401, {})


async def test_what_is_refused_unread_is_kept_by_its_size(tmp_path: Path, clock: FakeClock) -> None:
    async with served(tmp_path, clock) as house:
        large = b"x" * (MAX_BODY_BYTES + 5)
        answers = [
            await house.post("/v1/events", data=io.BytesIO(large), headers=SINGLE),
            await house.post(
                "/v1/events", data=b"small", headers={**SINGLE, "Content-Encoding": "gzip"}
            ),
        ]
        kept = await _kept(house.app)

    rows = [kept[json.loads(text)["quarantine"]] for _, text, _ in answers]
    assert [status for status, _, _ in answers] == [413, 415]
    assert [(row.size, row.body, row.hash) for row in rows] == [(len(large), "", ""), (5, "", "")]
    assert "too large" in rows[0].reason
    assert "compressed" in rows[1].reason


async def test_an_event_that_comes_as_something_else_is_kept_whole(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        status, answer = await send(house, event(), {"Content-Type": "text/plain"})
        row = (await _kept(house.app))[answer["quarantine"]]

    assert (status, row.reason.split(".")[0]) == (415, "came as text/plain")
    assert json.loads(row.body) == event()
    assert row.hash == hashlib.sha256(row.body.encode()).hexdigest()


async def test_the_same_message_from_another_or_for_another_reason_is_a_row_of_its_own(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        quarantine = Quarantine(app.store.database)
        said = [("http a", "why"), ("http b", "why"), ("http a", "else"), ("http a", "why")]
        refused = [Refused(door, reason, b"{") for door, reason in said]
        numbers = await quarantine.keep_all(refused, NOW)
        again = await quarantine.keep("http a", "why", b"{", NOW)
        kept = await _kept(app)

    assert len(set(numbers)) == 3
    assert numbers[0] == numbers[3] == again
    assert [kept[number].times for number in numbers[:3]] == [3, 1, 1]


async def test_who_sends_without_end_pushes_out_only_what_came_from_it(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        quarantine = Quarantine(app.store.database, most=10)
        await quarantine.keep("http other", "why", b"of somebody else", NOW)
        for number in range(40):
            await quarantine.keep("http busy", "why", b"%d" % number, NOW)
        rows = [(row.door, row.body) for row in await quarantine.all()]

    assert ("http other", "of somebody else") in rows
    mine = [body for door, body in rows if door == "http busy"]
    assert 10 <= len(mine) <= 20
    assert mine == [str(number) for number in range(39, 39 - len(mine), -1)]
