"""Who may do what: every route with every scope, tokens that ended, tokens in the wrong place."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.api import API_TOKEN, Program, asked
from tests.fakes.clock import FakeClock
from tests.product import partner
from workers.tokens import Scope
from workers.web.api import find_operations
from workers.web.api._operation import Operation

OPERATIONS = find_operations()
PLACES = {
    "kind": "statement",
    "ref": "S1",
    "uid": "0" * 32,
    "id": "1",
    "name": "inbox",
    "prefix": "0" * 12,
    "key": "x",
}


def path_of(one: Operation) -> str:
    """An operation's path with something in every place."""
    return re.sub(r"\{(\w+)\}", lambda found: PLACES[found[1]], one.path)


def body_of(one: Operation) -> dict[str, str] | None:
    """A body that reads as one where something must be sent, and changes nothing that is there."""
    return {"nothing": "of ours"} if one.body is not None else None


async def test_every_route_answers_exactly_the_scopes_it_names(
    tmp_path: Path, clock: FakeClock
) -> None:
    wrong: list[str] = []
    async with asked(f"sqlite:///{tmp_path}/a.db", clock, api_token=API_TOKEN) as ask:
        tokens = {scope: await ask.token(scope, name=f"one {n}") for n, scope in enumerate(Scope)}
        for one in OPERATIONS:
            for scope, token in tokens.items():
                got = await ask(one.method, path_of(one), body_of(one), token)
                may = one.open or scope in {one.scope, Scope.ADMIN}
                refused = got.status in {401, 403}
                if refused == may or got.status >= 500 or (not may and got.problem != "scope"):
                    wrong.append(f"{one.method} {one.path} with {scope}: {got.status}")

    assert wrong == []
    assert len(OPERATIONS) >= 45
    assert {one.path for one in OPERATIONS if one.scope is None} == {"/callbacks/{name}/{key}"}


async def test_nobody_without_a_good_token_gets_any_answer_but_the_refusal(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock, api_token=API_TOKEN) as ask:
        expired = await ask.token("admin", name="short", expires_at=clock() + timedelta(hours=1))
        revoked = await ask.token("admin", name="gone")
        live = await ask.token("admin", name="live")
        await ask.app.store.tokens.revoke("gone", "test", "", clock())
        clock.advance(timedelta(hours=1))
        other = live[:-1] + ("0" if live[-1] != "0" else "1")
        bad = [
            "",
            "dw_",
            "x" * 80,
            expired,
            revoked,
            other,
            live.upper(),
            live + "0",
            API_TOKEN[1:],
        ]
        for one in OPERATIONS:
            if not one.open:
                got = {(await ask(one.method, path_of(one), None, token)).status for token in bad}
                assert got == {401}, one.path

        assert (await ask("GET", "/openapi.json")).status == 401
        assert (await ask("GET", "/docs")).status == 401
        assert (await ask("GET", "/v1/tokens", None, live)).status == 200


async def test_without_the_setting_this_machine_is_answered_and_a_wrong_token_is_still_refused(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        token = await ask.token("records:read")

        assert (await ask("GET", "/v1/tokens")).status == 200
        assert (await ask("GET", "/v1/tokens", X_Forwarded_For="10.0.0.1")).status == 403
        assert (
            await ask("GET", "/v1/records", token=token, Host="elsewhere.example")
        ).status == 200
        assert (await ask("GET", "/v1/tokens", token=token)).problem == "scope"
        assert (await ask("GET", "/v1/records", token="wrong")).status == 401
        evil = await ask("POST", "/v1/rules/statement/run", Origin="https://evil.example")
        assert evil.problem == "cross-site"


@pytest.mark.parametrize("name", ["token", "access_token", "API_KEY"])
async def test_a_token_in_the_address_is_refused_even_with_a_good_one_beside_it(
    name: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        token = await ask.token("admin")
        for query in (f"{name}=x", f"text={token}"):
            got = await ask("GET", f"/v1/records?{query}", token=token)
            assert got.problem == "token-in-query"


async def test_the_use_of_a_token_is_noted_at_most_once_a_minute(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        token = await ask.token("records:read", name="reader")

        async def used() -> object:
            (row,) = await ask.app.store.tokens.all()
            return row.used_at

        assert await used() is None
        first = clock()
        await ask("GET", "/v1/records", token=token)
        assert await used() == first
        clock.advance(timedelta(seconds=59))
        await ask("GET", "/v1/records", token=token)
        assert await used() == first
        clock.advance(timedelta(seconds=1))
        await ask("GET", "/v1/records", token=token)
        assert await used() == clock()


async def test_nothing_of_a_secret_is_kept(tmp_path: Path, clock: FakeClock) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        got = await ask("POST", "/v1/tokens", {"name": "one", "scopes": ["records:read"]})
        secret = got.json["token"].rpartition("_")[2]
        assert len(bytes.fromhex(secret)) * 8 >= 128
        listed = await ask("GET", "/v1/tokens")
        assert secret not in listed.text
        again = await ask("POST", "/v1/tokens", {"name": "one", "scopes": ["records:read"]})
        assert again.problem == "state"

    stored = await asyncio.to_thread(_bytes_of, tmp_path)
    assert b"one" in stored
    assert secret.encode() not in stored


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


async def test_a_producer_sends_and_sees_events_of_its_kinds_alone(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        await ask.app.intake.take([partner()])
        token = await ask.token("events:write", "events:read", name="crm", kinds=["partner"])
        mine = await _send(ask, token, "1", "partner", {"ref": "P2", "name": "Two"})
        theirs = await _send(ask, token, "2", "contact", {"partner": "P1", "role": "finance"})
        await _send(ask, "", "3", "contact", {"partner": "P1", "role": "finance"})

        assert (mine[0], theirs[0]) == (200, 422)
        assert "may not send contact events" in theirs[1]
        seen = [
            (await ask("GET", f"/v1/events?source=crm&id={n}", token=token)).status for n in "123"
        ]
        assert seen == [200, 404, 404]
        with pytest.raises(Exception, match="limit events:write and events:read only"):
            await ask.token("admin", kinds=["partner"])


async def _send(
    ask: Program, token: str, number: str, kind: str, data: dict[str, str]
) -> tuple[int, str]:
    event = {"specversion": "1.0", "id": number, "source": "crm", "data": data}
    event["type"] = f"duewatch.{kind}.upserted.v1"
    got = await ask("POST", "/v1/events", event, token, Content_Type="application/cloudevents+json")
    return got.status, got.text
