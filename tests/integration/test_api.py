"""The API does what ops do by hand, reads strictly, and goes on where a page ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.api import Program, asked
from tests.fakes.clock import FakeClock
from tests.product import contact, partner, payment, planned, statement
from workers.store.quarantine import Quarantine

S1 = "/v1/records/statement/S1"


async def seeded(ask: Program, *more: Any) -> None:
    """A statement that is told of by mail."""
    await planned(ask.app, partner(), contact(), statement(), *more)


async def test_a_record_is_found_shown_with_an_etag_and_explained(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await seeded(ask, payment())
        for query in ("kind=statement", "ref=S1", "text=s1", "text=partner%20p1&kind=statement"):
            found = await ask("GET", f"/v1/records?{query}")
            assert [one["ref"] for one in found.json["items"]] == ["S1"], query
        one = await ask("GET", S1)
        same = await ask("GET", S1, If_None_Match=one.headers["ETag"])
        told = await ask("GET", f"{S1}/explanation")

        assert (one.json["partner"], one.json["data"]["amount_incl_tax"]) == ("P1", "100.00")
        assert (same.status, same.text) == (304, "")
        assert [step["contact"] for step in told.json["steps"] if step["verdict"] == "told"] == [
            "C1"
        ]
        assert (await ask("GET", "/v1/records/statement/nothing")).problem == "not-found"
        assert (await ask("GET", "/v1/records?kind=nothing")).problem == "not-found"


async def test_a_record_is_snoozed_closed_and_reopened_with_a_line_in_the_audit_each(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await seeded(ask)
        before = (await ask("GET", S1)).headers["ETag"]
        token = await ask.token("records:write", name="desk")
        until = (clock() + timedelta(days=1)).isoformat()
        past = await ask("POST", f"{S1}/snooze", {"until": clock().isoformat()}, token)
        snoozed = await ask("POST", f"{S1}/snooze", {"until": until}, token)
        closed = await ask("POST", f"{S1}/close", {"reason": "by phone"}, token)
        twice = await ask("POST", f"{S1}/close", {"reason": "by phone"}, token)
        opened_again = await ask("POST", f"{S1}/reopen", None, token)

        assert (past.status, past.problem) == (400, "bad-request")
        assert snoozed.json["snoozed_until"] == "2026-11-25T01:00:00Z"
        assert (closed.json["state"], twice.problem) == ("closed", "state")
        assert opened_again.json["state"] == "open"
        assert (await ask("GET", S1)).headers["ETag"] != before
        audit = (await ask("GET", "/v1/audit")).json["items"]
        done = [(one["action"], one["by"]) for one in audit if one["by"] == "token desk"]
        assert done == [(what, "token desk") for what in ("reopen", "close", "snooze")]


async def test_a_list_neither_repeats_nor_hides_anything_while_more_comes_in(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await ask.app.intake.take([partner(), *(statement(f"S{n}") for n in range(7))])
        await ask.app.intake.take([contact(f"C{n}") for n in range(5)])
        await ask.app.scan.run("statement")
        for path, key in (
            ("/v1/records", "ref"),
            ("/v1/contacts", "ref"),
            ("/v1/notifications", "uid"),
        ):
            before = [one[key] for one in (await ask("GET", path)).json["items"]]
            seen: list[str] = []
            query = "?limit=2"
            while True:
                page = (await ask("GET", path + query)).json
                seen += [one[key] for one in page["items"]]
                if page["next"] is None:
                    break
                await ask.app.intake.take(
                    [statement(f"N{len(seen)}{key}"), contact(f"A{len(seen)}")]
                )
                await ask.app.scan.run("statement")
                query = f"?limit=2&cursor={page['next']}"
            assert [one for one in seen if one in before] == before
            assert len(set(seen)) == len(seen)


async def test_a_cursor_of_another_list_or_of_nobody_is_refused(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await ask.app.intake.take([partner(), *(statement(f"S{n}") for n in range(3))])
        cursor = (await ask("GET", "/v1/records?limit=1")).json["next"]
        for path in (
            f"/v1/records?state=open&cursor={cursor}",
            f"/v1/runs?cursor={cursor}",
            "/v1/records?cursor=AAAA",
            "/v1/records?cursor=W10",
        ):
            assert (await ask("GET", path)).problem == "cursor", path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/records?limit=0", "limit"),
        ("/v1/records?limit=1_0", "limit"),
        ("/v1/records?state=nothing", "state"),
        ("/v1/records?colour=red", "colour"),
        ("/v1/records?state=open&state=held", "state"),
        ("/v1/records?text=%00", "text"),
        ("/v1/records/statement/S1/explanation?at=1700000000", "at"),
        ("/v1/notifications?day=2026-13-01", "day"),
        ("/v1/runs/x", "id"),
    ],
)
async def test_a_wrong_parameter_is_named(
    path: str, name: str, database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        got = await ask("GET", path)
        assert (got.status, got.problem) == (400, "invalid-parameter")
        assert [one["parameter"] for one in got.json["errors"]] == [name]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "/reason"),
        ({"reason": 5}, 422, "/reason"),
        ({"reason": ""}, 422, "/reason"),
        ({"reason": "x", "colour": "red"}, 422, "/colour"),
        ({"reason": "a\0b"}, 422, "/reason"),
        (b'{"reason": "x", "reason": "y"}', 400, None),
        (b'{"reason": "\xff"}', 400, None),
        (b"[" * 100_000, 413, None),
        (b"[]", 422, ""),
    ],
)
async def test_a_wrong_body_is_refused_with_the_place(
    body: Any, status: int, field: str | None, database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        got = await ask("POST", "/v1/rules/statement/pause", body)
        assert got.status == status
        assert got.headers["Content-Type"].startswith("application/problem+json")
        if field is not None:
            assert [one["field"] for one in got.json["errors"]] == [field]
        assert (await ask("GET", "/v1/rules/statement")).json["state"] == "on"


async def test_a_rule_is_paused_run_and_dry_run_and_its_runs_are_listed(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await ask.app.intake.take([partner(), contact(), statement()])
        due = (await ask("GET", "/v1/due?kind=statement")).json["items"][0]
        paused = await ask("POST", "/v1/rules/statement/pause", {"reason": "audit"})
        shut = await ask("POST", "/v1/rules/statement/run")
        resumed = await ask("POST", "/v1/rules/statement/resume")
        done = await ask("POST", "/v1/rules/statement/run")
        again = (await ask("GET", "/v1/due?kind=statement")).json["items"][0]
        run = await ask("GET", f"/v1/runs/{done.json['run']}")

        assert (due["planned"], due["notifications"][0]["records"]) == (1, ["S1"])
        assert (paused.json["state"], paused.json["reason"]) == ("paused", "audit")
        assert (shut.problem, resumed.json["state"]) == ("state", "on")
        assert (done.json["planned"], again["planned"]) == (1, 0)
        assert (run.json["planned"], run.json["trigger"]) == (1, "hand")


async def test_the_forecast_goes_on_page_by_page_from_where_it_began(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        people = [contact(f"C{n}") for n in range(4)]
        await ask.app.intake.take([partner(), *people, statement(confirm_by="2026-12-04")])
        whole = (await ask("GET", "/v1/forecast?days=30")).json["items"]
        seen, query = [], "days=30&limit=3"
        while True:
            page = (await ask("GET", f"/v1/forecast?{query}")).json
            seen += page["items"]
            if page["next"] is None:
                break
            clock.advance(timedelta(seconds=20))
            query = f"days=30&limit=3&cursor={page['next']}"

        assert len(whole) > 4
        assert seen == whole


async def test_notifications_are_listed_shown_retried_and_cancelled(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "scheduler": {"clock_tolerance_s": 0},
        "state": {"file": tmp_path / "state"},
    }
    async with asked(database_url, clock, **settings) as ask:
        await seeded(ask)
        queries = ("state=pending", "kind=statement&record=S1", "contact=C1&channel=mail")
        for query in (*queries, "day=2026-11-24", "address=c1@example.com"):
            found = (await ask("GET", f"/v1/notifications?{query}")).json["items"]
            assert [one["address"] for one in found] == ["c1@example.com"], query
        uid = found[0]["uid"]
        assert (await ask("GET", "/v1/notifications?day=2026-11-23")).json["items"] == []
        one = f"/v1/notifications/{uid}"
        assert (await ask("POST", f"{one}/retry")).problem == "state"
        assert (await ask("GET", f"{one}/source")).problem == "not-found"
        assert (await ask("POST", "/v1/deliveries")).json == {"pending": 1}
        await ask.app.delivery.drain()
        shown = (await ask("GET", one)).json
        source = await ask("GET", f"{one}/source")

        assert (shown["state"], shown["lines"][0]["ref"]) == ("accepted", "S1")
        assert [each["outcome"] for each in shown["attempts"]] == ["accepted"]
        assert source.headers["Content-Type"] == "message/rfc822"
        assert "Message-ID" in source.text
        assert (await ask("POST", f"{one}/cancel")).problem == "state"
        await planned(ask.app, statement("S2"))
        (pending,) = (await ask("GET", "/v1/notifications?state=pending")).json["items"]
        stopped = await ask("POST", f"/v1/notifications/{pending['uid']}/cancel", {"reason": "no"})
        assert (stopped.json["state"], stopped.json["reason"]) == ("cancelled", "no")


async def test_nothing_is_delivered_by_hand_while_sending_is_shut(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        got = await ask("POST", "/v1/deliveries")

    assert got.problem == "state"
    assert "clock_tolerance_s" in got.json["detail"], "the test's clock isn't the database's"


async def test_people_are_brought_in_and_their_wishes_kept(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        made = await ask("POST", "/v1/partners", {"ref": "P9", "name": "Nine"})
        again = await ask("POST", "/v1/partners", {"ref": "P9", "name": "Nine"})
        person = {"partner": "P9", "ref": "C/9", "role": "财务", "mail": "nine@example.com"}
        new = await ask("POST", "/v1/contacts", person)
        wrong = await ask("POST", "/v1/contacts", person | {"mail": "nobody"})
        one = f"/v1/contacts/{quote('C/9', safe='')}"
        shown = await ask("GET", one)
        choice = {"digest": "daily", "off": [{"kind": "statement", "channel": "mail"}]}
        chosen = await ask("POST", f"{one}/preferences", choice)

        assert (made.json, again.json["outcome"]) == ({"ref": "P9", "outcome": "new"}, "unchanged")
        assert new.json == {"ref": "C/9", "outcome": "new"}
        assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "/mail")
        assert (shown.json["role"], shown.json["digest"]) == ("finance", "each")
        assert chosen.json["changes"] == ["statement by mail: off", "digest: daily"]
        assert (await ask("GET", f"{one}/preferences")).json["digest"] == "daily"
        assert (await ask("GET", "/v1/partners?text=nin")).json["items"][0]["ref"] == "P9"
        off = (await ask("GET", "/v1/suppressions")).json["items"]
        assert [(row["address"], row["kind"]) for row in off] == [("nine@example.com", "statement")]


async def test_nothing_of_others_is_off_for_a_person_without_an_address(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await ask("POST", "/v1/suppressions", {"address": "a@example.com", "reason": "other"})
        made = await ask("POST", "/v1/contacts", {"partner": "P1", "role": "finance"})
        shown = await ask("GET", f"/v1/contacts/{made.json['ref']}/preferences")

        assert (shown.status, shown.json["off"]) == (200, [])


async def test_an_address_is_suppressed_and_written_to_again(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        body = {"address": "A@Example.com", "reason": "asked by phone"}
        made = await ask("POST", "/v1/suppressions", body)
        again = await ask("POST", "/v1/suppressions", body)
        lifted = await ask("POST", "/v1/suppressions/lift", {"address": "A@example.com"})
        gone = await ask("POST", "/v1/suppressions/lift", {"address": "A@example.com"})

        assert (made.json["changed"], again.json["changed"]) == (True, False)
        assert (lifted.json["suppressed"], gone.problem) == (False, "not-found")


async def test_what_could_not_be_taken_is_shown_replayed_and_dropped(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        letters = Quarantine(ask.app.store.database)
        good = b'{"specversion":"1.0","id":"1","source":"crm","type":"duewatch.partner.upserted.v1"'
        await letters.keep(
            "duewatch.events", "no partner", good + b',"data":{"ref":"P7"}}', clock()
        )
        await letters.keep("duewatch.events", "isn't JSON", b"{", clock())
        listed = (await ask("GET", "/v1/quarantine")).json["items"]
        bad, fine = (one["id"] for one in listed)
        shown = (await ask("GET", f"/v1/quarantine/{bad}")).json
        taken = await ask("POST", f"/v1/quarantine/{fine}/replay")
        refused = await ask("POST", f"/v1/quarantine/{bad}/replay")
        dropped = await ask("POST", f"/v1/quarantine/{bad}/drop", {"reason": "a test"})

        assert "body" not in listed[0]
        assert (shown["body"], shown["reason"]) == ("{", "isn't JSON")
        assert (taken.json["outcome"], taken.json["refused"]) == ("new", "")
        assert refused.json["refused"]
        assert dropped.json == {"id": bad}
        assert (await ask("GET", "/v1/quarantine")).json["items"] == []
        assert (await ask("GET", "/v1/partners/P7")).status == 200


async def test_a_producer_learns_what_became_of_its_event(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await ask.app.intake.take([partner(), contact()])
        event = {
            "specversion": "1.0",
            "id": "7",
            "source": "urn:example:billing",
            "type": "duewatch.statement.opened.v1",
            "data": {
                "ref": "S1",
                "partner": "P1",
                "statement_kind": "INCENTIVE",
                "generated_at": "2026-11-19T01:00:00Z",
                "confirm_by": "2026-11-26",
                "amount_incl_tax": "100.00",
            },
        }
        media = "application/cloudevents+json"
        assert (await ask("POST", "/v1/events", event, Content_Type=media)).status == 200
        path = f"/v1/events?source={quote('urn:example:billing')}&id=7"
        for _ in range(100):
            story = (await ask("GET", path)).json
            if story["notifications"]:
                break
            await asyncio.sleep(0.05)

        assert (story["outcome"], story["record"]["state"]) == ("new", "open")
        assert [(one["contact"], one["state"]) for one in story["notifications"]] == [
            ("C1", "pending")
        ]
        assert (await ask("GET", path + "8")).problem == "not-found"


async def test_providers_and_effects_are_shown_and_a_provider_left_alone(
    database_url: str, clock: FakeClock
) -> None:
    async with asked(database_url, clock) as ask:
        await seeded(ask)
        await ask.app.delivery.drain()
        alone = await ask("POST", "/v1/providers/inbox/open", {"reason": "their outage"})
        again = await ask("POST", "/v1/providers/inbox/close", {"reason": "it is over"})
        effect = (await ask("GET", "/v1/effect?kind=statement")).json["items"]

        assert alone.json["items"][0]["state"] == "open"
        assert again.json["items"][0]["state"] == "closed"
        assert (await ask("POST", "/v1/providers/nobody/open", {"reason": "x"})).status == 404
        assert sum(stage["told"] for stage in effect[0]["stages"]) == 1
