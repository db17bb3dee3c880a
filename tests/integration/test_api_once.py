"""Idempotency-Key: the same request again gets the same answer, and does nothing again."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest

from tests.api import asked
from tests.fakes.clock import FakeClock
from tests.product import contact, partner, statement

REASON = {"reason": "end of year"}


async def test_a_repeated_request_is_answered_the_same_and_done_once(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        first = await ask("POST", "/v1/rules/statement/pause", REASON, Idempotency_Key='"k1"')
        again = await ask("POST", "/v1/rules/statement/pause", REASON, Idempotency_Key="k1")
        anew = await ask("POST", "/v1/rules/statement/pause", REASON, Idempotency_Key="k2")

        assert (first.status, again.status, again.text) == (200, 200, first.text)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert anew.problem == "state"
        assert [row.action for row in await ask.app.store.operations.audit()] == ["pause"]


async def test_a_refusal_is_repeated_too_though_it_would_be_possible_by_now(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        first = await ask("POST", "/v1/rules/statement/resume", Idempotency_Key="k")
        await ask("POST", "/v1/rules/statement/pause", REASON)
        again = await ask("POST", "/v1/rules/statement/resume", Idempotency_Key="k")

        assert (first.problem, again.problem) == ("state", "state")
        assert again.headers["Content-Type"].startswith("application/problem+json")
        assert (await ask("POST", "/v1/rules/statement/resume")).status == 200


async def test_a_key_serves_one_request_of_one_caller_for_a_day(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        token = await ask.token("rules:run")
        path = "/v1/rules/statement/run"
        assert (await ask("POST", path, Idempotency_Key="k")).status == 200
        other = await ask("POST", "/v1/rules/payment/run", Idempotency_Key="k")
        assert other.problem == "idempotency-reused"
        mine = await ask("POST", path, token=token, Idempotency_Key="k")
        assert "Idempotency-Replayed" not in mine.headers
        clock.advance(timedelta(hours=25))
        after = await ask("POST", "/v1/rules/payment/run", Idempotency_Key="k")
        assert (after.status, after.json["kind"]) == (200, "payment")


async def test_of_many_at_once_one_is_done_and_the_others_wait_or_get_its_answer(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await ask.app.intake.take([partner(), contact(), statement()])
        got = await asyncio.gather(
            *(ask("POST", "/v1/rules/statement/run", Idempotency_Key="k") for _ in range(20))
        )

        assert {one.status for one in got} <= {200, 409}
        assert {one.problem for one in got if one.status == 409} <= {"idempotency-in-progress"}
        assert all("Retry-After" in one.headers for one in got if one.status == 409)
        assert len({one.text for one in got if one.status == 200}) == 1
        runs = (await ask("GET", "/v1/runs?kind=statement")).json["items"]
        assert [(run["planned"], run["trigger"]) for run in runs] == [(1, "hand")]


async def test_a_request_whose_process_died_may_be_sent_again_after_five_minutes(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        mark = hashlib.sha256(b"POST /v1/rules/statement/run\n").hexdigest()
        key = hashlib.sha256(b"k").hexdigest()
        await ask.app.store.answers.begin("here", key, mark, clock())
        early = await ask("POST", "/v1/rules/statement/run", Idempotency_Key="k")
        clock.advance(timedelta(minutes=6))
        late = await ask("POST", "/v1/rules/statement/run", Idempotency_Key="k")

        assert (early.problem, late.status) == ("idempotency-in-progress", 200)


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "caf\u00e9"])
async def test_a_key_that_cannot_be_used_is_refused(
    key: str, database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        got = await ask("POST", "/v1/rules/statement/run", Idempotency_Key=key)
        assert (got.status, got.problem) == (400, "idempotency-key")


async def test_the_answer_with_a_secret_is_not_kept(database_url: str, clock: FakeClock) -> None:
    async with asked(database_url, clock) as ask:
        body = {"name": "one", "scopes": ["records:read"]}
        got = await ask("POST", "/v1/tokens", body, Idempotency_Key="k")
        assert got.problem == "idempotency-key"
        assert (await ask("GET", "/v1/tokens")).json["items"] == []
