"""What people do in the console: each act takes effect, and the audit says who did it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.integration.test_console import furnish
from tests.integration.test_sign_in import PASSWORD, Browser, house
from tests.product import statement
from workers.model import NotificationState
from workers.store.quarantine import Quarantine
from workers.users import Role

WHY = {"reason": "asked by phone"}


@asynccontextmanager
async def signed_in(
    tmp_path: Path, clock: FakeClock, role: Role = Role.ADMINISTRATOR
) -> AsyncIterator[Browser]:
    """Somebody of a role, in a server with something of everything."""
    async with house(tmp_path, clock, *Role) as browser:
        await furnish(browser.program.app)
        await browser.sign_in(role)
        yield browser


async def send(browser: Browser, path: str, **form: str) -> Any:
    """Sends a form of the console with its mark."""
    return await browser.post(path, {"mark": await browser.mark("/"), "back": "/", **form})


async def job(browser: Browser, answer: Any) -> Any:
    """The job that a form began, once it has ended."""
    uid = answer.headers["Location"].rpartition("/")[2]
    for _ in range(200):
        row = await browser.program.app.store.jobs.one(uid, whole=True)
        if row.state != "running":
            return row
        await asyncio.sleep(0.02)
    raise AssertionError("the job didn't end")


async def did(browser: Browser) -> list[tuple[str, str]]:
    """(by, action) of the audit, newest first."""
    return [(row.by, row.action) for row in await browser.program.app.store.operations.audit()]


async def fail(browser: Browser, count: int = 1) -> list[str]:
    """Makes some of what was sent as if it had failed; their uids."""
    operations = browser.program.app.store.operations
    rows = [row for row in await operations.notifications() if row.channel == "mail"][:count]
    for row in rows:
        now = browser.program.app.clock()
        await operations.divert(row.uid, row.address, "test", "", now)
        failed = NotificationState.FAILED
        await operations.move(row.uid, failed, "test", "fail", "no such mailbox", now)
    return [row.uid for row in rows]


async def state(browser: Browser, uid: str) -> str:
    """Where a notification stands."""
    return str((await browser.program.app.store.operations.whole(uid)).row.state)


# --- rules ----------------------------------------------------------------------------------


async def test_a_rule_is_paused_with_a_reason_and_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        without = await send(browser, "/rules/payment/pause")
        assert without.status == 400
        assert "nothing was changed" in without.text
        there = await send(browser, "/rules/payment/pause", reason="prices are wrong")
        assert there.headers["Location"] == "/rules/payment?said=paused"
        page = (await browser.get("/rules/payment?said=paused")).text
        assert "Paused by operator: prices are wrong" in page
        assert (await send(browser, "/rules/payment/run")).status == 303
        assert (await send(browser, "/rules/payment/resume")).status == 303
        assert [what for _, what in await did(browser)][:2] == ["resume", "pause"]


async def test_a_dry_run_changes_nothing_and_the_run_does_what_it_said(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        app = browser.program.app
        await app.intake.take([statement("S2"), statement("S3")])
        before = len(await app.store.operations.notifications())
        shown = (await browser.get("/rules/statement/run")).text
        assert "2 messages would be planned" in shown
        assert "c1@example.com" in shown
        assert len(await app.store.operations.notifications()) == before
        row = await job(browser, await send(browser, "/rules/statement/run"))
        assert (row.state, row.by) == ("done", "operator")
        assert row.counts["planned"] == len(await app.store.operations.notifications()) - before


@pytest.mark.parametrize(("language", "said"), [("en", "invoice"), ("zh-CN", "发票")])
async def test_a_preview_has_mail_text_and_sms_with_its_parts(
    language: str, said: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        shown = await browser.get(f"/rules/payment/preview?in={language}&record=F1")
        assert said in shown.text
        assert "106.00" in shown.text
        assert re.search(r"\d parts?", shown.text)
        frame = await browser.get(f"/rules/payment/preview/frame?in={language}&record=F1")
        assert "sandbox" in frame.headers["Content-Security-Policy"]
        assert "106.00" in frame.text


# --- records --------------------------------------------------------------------------------


async def test_a_record_is_explained_snoozed_closed_and_reopened(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        page = (await browser.get("/records/statement/S1")).text
        for words in ("It is open", "has been told", "Attempt 1 by inbox", "Deadline"):
            assert words in page, words
        past = await send(browser, "/records/statement/S1/snooze", until="2020-01-01T09:00", **WHY)
        assert past.status == 400
        until = "2026-11-25T09:00"
        await send(browser, "/records/statement/S1/snooze", until=until, **WHY)
        assert "Nobody is reminded before" in (await browser.get("/records/statement/S1")).text
        await send(browser, "/records/statement/S1/close", **WHY)
        page = (await browser.get("/records/statement/S1")).text
        assert "asked by phone" in page
        again = await send(browser, "/records/statement/S1/close", **WHY)
        assert again.status == 409
        await send(browser, "/records/statement/S1/reopen")
        assert "It is open" in (await browser.get("/records/statement/S1")).text
        done = [what for by, what in await did(browser) if by == "operator"]
        assert done[:3] == ["reopen", "close", "snooze"]


async def test_one_number_that_fits_leads_straight_to_its_record(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock) as browser:
        there = await browser.get("/records?text=S1")
        assert there.headers["Location"] == "/records/statement/S1"
        assert (await browser.get("/records/statement/none")).status == 404


# --- notifications --------------------------------------------------------------------------


async def test_one_is_retried_and_says_so(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        (uid,) = await fail(browser)
        there = await send(browser, f"/notifications/{uid}/retry")
        assert there.headers["Location"].endswith("said=retried")
        assert await state(browser, uid) == "pending"
        assert (await send(browser, f"/notifications/{uid}/retry")).status == 409
        assert (await did(browser))[0] == ("operator", "retry")


async def test_one_is_sent_again_to_another_address_and_arrives_there(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        app = browser.program.app
        rows = await app.store.operations.notifications()
        sent = next(row for row in rows if row.kind == "statement" and row.channel == "mail")
        path = f"/notifications/{sent.uid}/resend"
        assert (await send(browser, path, address="+8613900139000", **WHY)).status == 400
        await app.store.operations.suppress("mail", "no@example.com", "*", "x", "y", clock())
        refused = await send(browser, path, address="no@example.com", **WHY)
        assert refused.status == 409
        assert "lift the suppression" in refused.text
        await send(browser, path, address="Boss@Example.com", **WHY)
        await app.delivery.drain()
        whole = await app.store.operations.whole(sent.uid)
        assert (whole.row.state, whole.row.address.lower()) == ("accepted", "boss@example.com")
        assert len(whole.attempts) == 2
        assert "sent elsewhere by hand" in (await browser.get(f"/notifications/{sent.uid}")).text


async def test_what_is_closed_meanwhile_isnt_sent_elsewhere(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        app = browser.program.app
        rows = await app.store.operations.notifications()
        sent = next(row for row in rows if row.kind == "statement" and row.channel == "mail")
        await send(browser, "/records/statement/S1/close", **WHY)
        path = f"/notifications/{sent.uid}/resend"
        await send(browser, path, address="boss@example.com", **WHY)
        await app.delivery.drain()
        whole = await app.store.operations.whole(sent.uid)
        assert whole.row.state == "cancelled"
        assert [line.dropped for line in whole.lines] == [None], "it was told once: that stands"


async def test_many_are_retried_after_a_look_and_put_back(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        uids = await fail(browser, 3)
        form = {"action": "retry", "which": "all", "q.state": "failed"}
        shown = await send(browser, "/notifications/many", **form)
        assert "3 notifications" in shown.text
        assert [await state(browser, uid) for uid in uids] == ["failed"] * 3
        row = await job(browser, await send(browser, "/notifications/many/do", **form, **WHY))
        assert (row.counts, len(row.changed)) == ({"moved": 3}, 3)
        assert [await state(browser, uid) for uid in uids] == ["pending"] * 3
        await browser.program.app.delivery.drain()
        assert await state(browser, uids[0]) == "pending", "it waits for second thoughts"
        assert "Undo" in (await browser.get(f"/jobs/{row.uid}")).text
        undone = await job(browser, await send(browser, f"/jobs/{row.uid}/undo"))
        assert undone.counts == {"moved": 3}
        assert [await state(browser, uid) for uid in uids] == ["failed"] * 3
        assert (await send(browser, f"/jobs/{row.uid}/undo")).status == 409


async def test_many_go_out_once_the_time_for_second_thoughts_is_over(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        (uid,) = await fail(browser)
        form = {"action": "retry", "uid": uid, **WHY}
        row = await job(browser, await send(browser, "/notifications/many/do", **form))
        clock.advance(timedelta(seconds=31))
        assert "/undo" not in (await browser.get(f"/jobs/{row.uid}")).text
        await browser.program.app.delivery.drain()
        assert await state(browser, uid) in {"accepted", "cancelled"}


async def test_what_stands_elsewhere_is_left_by_a_move_of_many(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        await fail(browser)
        shown = await send(browser, "/notifications/many", action="cancel", which="all")
        assert "0 notifications" in shown.text
        assert "Left as they are" in shown.text
        nothing = await send(browser, "/notifications/many", action="retry")
        assert nothing.status == 400
        assert "nothing is chosen" in nothing.text


# --- people, doors, the system --------------------------------------------------------------


async def test_a_contacts_choice_is_made_in_their_name(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        form = {"digest": "daily", "shown": "statement:mail", **WHY}
        there = await send(browser, "/contacts/C1/choose", **form)
        assert there.headers["Location"] == "/contacts/C1?said=chosen"
        off = await browser.program.app.store.operations.unsubscribed("statement")
        assert ("mail", "c1@example.com") in off
        page = (await browser.get("/contacts/C1")).text
        assert 'value="daily" checked' in page
        form = {"digest": "each", "shown": "statement:mail", "on": "statement:mail", **WHY}
        await send(browser, "/contacts/C1/choose", **form)
        assert not await browser.program.app.store.operations.unsubscribed("statement")


async def test_what_a_bounce_stops_isnt_taken_for_a_choice(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        operations = browser.program.app.store.operations
        await operations.suppress("mail", "c1@example.com", "*", "bounced", "relay", clock())
        page = (await browser.get("/contacts/C1")).text
        assert 'name="shown" value="statement:sms"' in page
        assert 'name="shown" value="statement:mail"' not in page
        form = {"digest": "each", "shown": "statement:mail", **WHY}
        await send(browser, "/contacts/C1/choose", **form)
        assert not await operations.unsubscribed("statement")
        assert 'value="each" checked' in page
        chosen = await browser.program.app.store.lists.contacts(partner="P1", after=None, limit=1)
        assert chosen[0].chosen is None, "what was so already is nobody's choice"


async def test_lifting_one_kind_leaves_the_others(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        for kind in ("statement", "payment"):
            await send(browser, "/suppressions", address="b@example.com", kind=kind, **WHY)
        form = {"address": "b@example.com", "kind": "payment", **WHY}
        await send(browser, "/suppressions/lift", **form)
        rows = await browser.program.app.store.operations.suppressions()
        assert [row.kind for row in rows if row.address == "b@example.com"] == ["statement"]


async def test_an_address_is_suppressed_and_lifted(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        await send(browser, "/suppressions", address="a@example.com", **WHY)
        assert "a@example.com" in (await browser.get("/suppressions?text=a@ex")).text
        await send(browser, "/suppressions/lift", address="a@example.com", **WHY)
        assert "a@example.com" not in (await browser.get("/suppressions")).text
        gone = await send(browser, "/suppressions/lift", address="a@example.com", **WHY)
        assert gone.status == 404


async def test_a_letter_is_dropped_and_refused_again(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        store = Quarantine(browser.program.app.store.database)
        number = await store.keep("queue", "not JSON", b"nonsense", clock())
        again = await send(browser, f"/quarantine/{number}/replay")
        assert again.status == 400
        assert "refused again" in again.text
        await send(browser, f"/quarantine/{number}/drop", **WHY)
        assert (await browser.get(f"/quarantine/{number}")).status == 404
        page = (await browser.get("/quarantine")).text
        (until,) = set(re.findall(r'name="until" value="(\d+)"', page))
        assert "<strong>1 message</strong>" in page
        later = await store.keep("queue", "came since", b"{}", clock())
        form = {"action": "drop", "until": until, **WHY}
        row = await job(browser, await send(browser, "/quarantine/many", **form))
        assert row.counts == {"moved": 1}
        assert (await browser.get(f"/quarantine/{later}")).status == 200, "nobody saw it"
        assert (await send(browser, "/quarantine/many", action="drop", **WHY)).status == 400


async def test_a_letter_thats_mended_is_taken_in_and_the_audit_says_why(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        app = browser.program.app
        event = {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/crm",
            "type": "duewatch.partner.upserted.v1",
            "data": {"ref": "P8", "name": "Kept"},
        }
        store = Quarantine(app.store.database)
        kept = await store.keep("http crm", "away", json.dumps(event).encode(), clock())
        form = {"action": "replay", "until": str(kept), **WHY}
        row = await job(browser, await send(browser, "/quarantine/many", **form))
        assert row.counts["moved"] == 1
        assert (await app.store.lists.partner("P8")).data["name"] == "Kept"
        rows = await app.store.operations.audit()
        assert any(one.action == "replay" and "asked by phone" in one.reason for one in rows)


async def test_a_letter_that_is_made_to_be_long_is_shown_as_it_came(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        store = Quarantine(browser.program.app.store.database)
        body = b"[" * 900 + b"1," * 30_000 + b"1" + b"]" * 900
        number = await store.keep("queue", "deep", body, clock())
        shown = await browser.get(f"/quarantine/{number}")
        assert shown.status == 200
        assert len(shown.text) < 100_000


async def test_a_file_is_tried_then_taken_in(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock, Role.OPERATOR) as browser:
        app, edge = browser.program.app, "x" * 12
        rows = "partner,role,name,mail\nP1,sales,陈晨,chen@example.com\nP1,sales,,not an address\n"
        part = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
        parts = [
            part.format("mark", "", await browser.mark("/")),
            part.format("file", '; filename="../people.csv"', rows),
        ]
        body = "".join(f"--{edge}\r\n{one}" for one in parts) + f"--{edge}--\r\n"
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        answer = await browser.send("/import", body.encode(), **headers)
        trial = await job(browser, answer)
        assert trial.about == {"file": "people.csv", "trial": True}
        assert trial.counts == {"contact: new": 1, "contact: refused": 1}
        assert "line 3" in trial.detail
        assert len(await app.store.lists.contacts(partner="P1", after=None, limit=9)) == 1
        await browser.sign_in("viewer")
        seen = (await browser.get(f"/jobs/{trial.uid}")).text
        assert "not an address" not in seen, "what a file holds is people's own"
        await browser.sign_in("operator")
        taken = await job(browser, await send(browser, f"/import/{trial.uid}"))
        assert (taken.state, taken.counts) == ("done", trial.counts)
        assert len(await app.store.lists.contacts(partner="P1", after=None, limit=9)) == 2
        again = await send(browser, f"/import/{trial.uid}")
        assert again.status == 409, "the file is let go once it was taken in"


async def test_a_provider_is_left_alone_and_used_again(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock) as browser:
        await send(browser, "/providers/inbox/open", reason="it repeats")
        assert "it repeats" in (await browser.get("/providers")).text
        await send(browser, "/providers/inbox/close", **WHY)
        assert "it repeats" not in (await browser.get("/providers")).text


async def test_a_token_is_shown_once_and_ends_when_revoked(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock) as browser:
        made = await send(browser, "/tokens", name="billing", days="90", scope="rules:read")
        found = re.search(r"dw_([0-9a-f]{12})_[0-9a-f]{48}", made.text)
        assert found is not None
        assert found[0] not in (await browser.get("/tokens")).text
        assert (await browser.program("GET", "/v1/rules", token=found[0])).status == 200
        await send(browser, f"/tokens/{found[1]}/revoke", **WHY)
        assert (await browser.program("GET", "/v1/rules", token=found[0])).status == 401
        assert (await send(browser, "/tokens", name="x", scope="rules:write")).status == 400


async def test_a_user_is_let_in_changed_and_let_in_no_more(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock) as browser:
        weak = await send(browser, "/users", name="li.na", role="viewer", password="short")
        assert (weak.status, "short" in weak.text.replace("too short", "")) == (400, False)
        await send(browser, "/users", name="li.na", role="viewer", password=PASSWORD)
        other = Browser(browser.program)
        await other.sign_in("li.na")
        assert (await other.get("/records")).status == 200
        await send(browser, "/users/li.na/role", role="operator")
        assert (await other.get("/records")).status == 303, "the session ended"
        await send(browser, "/users/li.na/disable", **WHY)
        assert (await other.sign_in("li.na")).status == 401
        assert (await send(browser, "/users/administrator/disable", **WHY)).status == 409
        assert "li.na" in (await browser.get("/audit?target=li.na")).text


async def test_settings_are_shown_without_their_secrets(tmp_path: Path, clock: FakeClock) -> None:
    secret = "correct://horse/battery"
    providers = {
        "smtp": {"host": "127.0.0.1", "password": secret, "username": "desk"},
        "other": {"address": f"redis://:pa/ss{secret[-7:]}@h/0"},
    }
    async with house(tmp_path, clock, *Role, providers=providers) as browser:
        await browser.sign_in("administrator")
        page = (await browser.get("/settings")).text
        assert "127.0.0.1" in page
        assert secret not in page
        assert "battery" not in page


# --- what is seen ---------------------------------------------------------------------------


async def test_the_calendar_counts_what_the_forecast_says(tmp_path: Path, clock: FakeClock) -> None:
    async with signed_in(tmp_path, clock) as browser:
        page = (await browser.get("/calendar")).text
        (total,) = re.findall(r">(\d+) messages<", page)
        counts = [int(one) for one in re.findall(r"<strong>(\d+)</strong></a>", page)]
        assert sum(counts) == int(total) > 0
        day = re.findall(r'href="(/calendar/2026-[0-9-]+)"[^>]*>.*?<strong>\d', page)[0]
        assert "example" in (await browser.get(day)).text
        assert (await browser.get("/calendar/tomorrow")).status == 400


async def test_the_overview_counts_what_went_out_and_why_some_did_not(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with signed_in(tmp_path, clock) as browser:
        await fail(browser, 2)
        page = (await browser.get("/")).text
        assert "no such mailbox" in page
        rows = await browser.program.app.store.operations.notifications()
        mails = sum(1 for row in rows if row.channel == "mail")
        assert f"Mail {mails}" in page
        assert "/notifications?state=failed" in page
