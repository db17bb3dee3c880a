"""What people choose by the link in a message: kinds, channels and how reminders come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from tests.fakes.clock import FakeClock
from tests.integration.test_web import House
from tests.product import (
    NOW,
    contact,
    inbox,
    invitation,
    line,
    opened,
    partner,
    payment,
    planned,
    statement,
    states,
)
from workers.app import App
from workers.settings import Web
from workers.store.tables import records
from workers.web import serve

MAIL, MOBILE = "c1@example.com", "+8613800138000"
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@asynccontextmanager
async def house_of(url: str, clock: FakeClock) -> AsyncIterator[House]:
    async with (
        opened(url, clock, web=Web(port=0)) as app,
        serve(app) as (host, port),
        aiohttp.ClientSession() as client,
    ):
        yield House(app, f"http://{host}:{port}", client)


def wang(**more: Any) -> Any:
    """The finance contact of P1, who takes mail and SMS."""
    return contact(**{"mobile": MOBILE, "channels": "mail,sms", **more})


async def tell(app: App, *things: Any, deliver: bool = True) -> None:
    """Statements and payments are planned, and sent unless they are to wait."""
    await planned(app, partner(), *things)
    await app.scan.run("payment")
    await app.scan.run("invitation")
    if deliver:
        await app.delivery.drain()


async def link(app: App, kind: str, channel: str = "mail", address: str | None = None) -> str:
    """The path of the newest notification's unsubscription."""
    rows = await app.store.operations.notifications(kind=kind, channel=channel, address=address)
    return "/u/" + app.links.token("unsubscribe", rows[0].id, rows[0].link_until)


def form(page: str) -> dict[str, Any]:
    """The choice form as a browser would send it, unchanged."""
    boxes = re.findall(r'name="on" value="([^"]+)"[^>]*?( checked)?( disabled)?>', page)
    radio = re.search(r'name="digest" value="(\w+)" checked', page)
    return {
        "save": "1",
        "shown": re.findall(r'name="shown" value="([^"]+)"', page),
        "on": [name for name, checked, disabled in boxes if checked and not disabled],
        **({"digest": radio[1]} if radio else {}),
    }


async def off(app: App) -> set[tuple[str, str, str, str]]:
    rows = await app.store.operations.suppressions()
    return {(row.channel, row.address, row.kind, row.by) for row in rows}


async def written(app: App) -> list[tuple[str, str, str]]:
    """What the audit says of preferences, oldest first."""
    rows = reversed(await app.store.operations.audit())
    return [(row.by, row.target, row.reason) for row in rows if row.action == "prefer"]


async def next_looks(app: App) -> dict[str, datetime | None]:
    async with app.store.database.read() as connection:
        found = await connection.execute(select(records.c.ref, records.c.next_due_at))
        return {row.ref: row.next_due_at for row in found}


# --- one click ----------------------------------------------------------------------------------


async def test_one_click_on_a_days_digest_stops_every_kind_that_has_a_line_in_it(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        daily = wang(digest="daily")
        await tell(house.app, daily, line(), payment(), statement(), deliver=False)
        path = await link(house.app, "digest")
        status, page, _ = await house.post(path, data=ONE_CLICK)

        assert status == 200
        assert "Payment, Statement" in page
        assert await off(house.app) == {
            ("mail", MAIL, "payment", "recipient"),
            ("mail", MAIL, "statement", "recipient"),
        }
        assert await written(house.app) == [
            ("recipient", "contact C1", "payment by mail: off"),
            ("recipient", "contact C1", "statement by mail: off"),
        ]


async def test_one_click_in_a_multipart_form_counts_and_twice_is_once(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        path = await link(house.app, "statement")
        for _ in range(2):
            body = aiohttp.MultipartWriter("form-data")
            body.append("One-Click").set_content_disposition("form-data", name="List-Unsubscribe")
            assert (await house.post(path, data=body))[0] == 200

        assert await off(house.app) == {("mail", MAIL, "statement", "recipient")}
        assert len(await written(house.app)) == 1


# --- the form -----------------------------------------------------------------------------------


async def test_the_form_has_the_kinds_a_person_was_told_of_and_all_on_demand(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), line(), payment(), statement())
        path = await link(house.app, "payment")
        few = form((await house.get(path))[1])
        many = form((await house.get(f"{path}?all=1"))[1])

        assert few["shown"] == few["on"]
        assert set(few["shown"]) == {
            f"{kind}:{channel}" for kind in ("payment", "statement") for channel in ("mail", "sms")
        }
        assert few["digest"] == "each"
        assert {f"{kind}:mail" for kind in house.app.registry.enabled()} == {
            name for name in many["shown"] if name.endswith(":mail")
        }


async def test_looking_at_the_form_changes_nothing(database_url: str, clock: FakeClock) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        path = await link(house.app, "statement")
        before = await next_looks(house.app)
        for query in ("", "?all=1", "?save=1&digest=daily&shown=statement:mail"):
            assert (await house.get(path + query))[0] == 200
            async with house.client.head(house.url + path + query) as got:
                assert got.status == 200

        assert await off(house.app) == set()
        assert await written(house.app) == []
        assert await next_looks(house.app) == before


async def test_a_choice_is_saved_whole_and_once_with_a_line_of_the_audit_for_each_change(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), line(), payment(), statement())
        path = await link(house.app, "payment")
        wished = form((await house.get(path))[1])
        wished |= {"on": ["payment:mail", "statement:mail"], "digest": "daily"}
        first = await house.post(path, data=wished)
        again = await house.post(path, data=wished)

        assert "Your choice is saved" in first[1]
        assert "Nothing had to be changed" in again[1]
        shown = form(again[1])
        assert (set(shown["on"]), shown["digest"]) == (set(wished["on"]), "daily")
        assert await off(house.app) == {
            ("sms", MOBILE, "payment", "recipient"),
            ("sms", MOBILE, "statement", "recipient"),
        }
        assert sorted(await written(house.app)) == [
            ("recipient", "contact C1", "digest: daily"),
            ("recipient", "contact C1", "payment by sms: off"),
            ("recipient", "contact C1", "statement by sms: off"),
        ]
        await house.post(path, data=wished | {"on": wished["shown"], "digest": "each"})
        assert await off(house.app) == set()
        assert len(await written(house.app)) == 6


async def test_the_same_choice_from_two_windows_at_once_is_one_change(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        path = await link(house.app, "statement")
        wished = form((await house.get(path))[1]) | {"on": ["statement:mail"], "digest": "daily"}
        answers = await asyncio.gather(*(house.post(path, data=wished) for _ in range(6)))

        assert {answer[0] for answer in answers} == {200}
        assert sorted(await written(house.app)) == [
            ("recipient", "contact C1", "digest: daily"),
            ("recipient", "contact C1", "statement by sms: off"),
        ]


async def test_a_kind_that_was_not_on_the_page_is_left_as_it_is(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), line(), payment(), statement())
        path = await link(house.app, "payment")
        wished = form((await house.get(path))[1])
        wished |= {"shown": ["payment:mail", "payment:fax", "no_such:mail"], "on": []}
        await house.post(path, data=wished)

        assert await off(house.app) == {("mail", MAIL, "payment", "recipient")}


async def test_no_choice_lifts_what_came_back_or_what_an_operator_stopped(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), line(), payment(), statement())
        suppress = house.app.store.operations.suppress
        await suppress("sms", MOBILE, "*", "refused: 550 <b>gone</b>", "provider", NOW)
        await suppress("mail", MAIL, "payment", "left the team", "alice", NOW)
        before = await off(house.app)
        path = await link(house.app, "payment")
        _, page, _ = await house.get(path)
        everything = [f"{kind}:{by}" for kind in ("payment", "statement") for by in ("mail", "sms")]
        wished = form(page) | {"shown": everything, "on": everything}
        await house.post(path, data=wished)

        assert form(page)["shown"] == ["statement:mail"]
        assert "Switched off by the sender: left the team" in page
        assert "refused: 550 &lt;b&gt;gone&lt;/b&gt;" in page
        assert await off(house.app) == before
        assert await written(house.app) == []


@pytest.mark.parametrize(
    "body",
    [
        {"x": "y"},
        {"save": "1", "digest": "hourly", "shown": "statement:mail"},
        {"save": "1", "shown": ["statement:mail"] * 800},
        "save=1&digest=%ff%fe",
        "\0",
    ],
)
async def test_what_is_not_the_form_is_refused_and_changes_nothing(
    body: Any, database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        status, page, _ = await house.post(await link(house.app, "statement"), data=body)

        assert status in {400, 413}
        assert "saved" not in page
        assert await off(house.app) == set()


async def test_a_link_that_is_forged_or_has_expired_chooses_nothing(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        path = await link(house.app, "statement")
        forged = path[:-2] + ("A" if path[-2] != "A" else "B") + path[-1]
        wished = form((await house.get(path))[1]) | {"on": [], "digest": "daily"}
        assert (await house.post(forged, data=wished))[0] == 404
        clock.advance(timedelta(days=40))
        assert (await house.post(path, data=wished))[0] == 410
        assert (await house.post(path, data=ONE_CLICK))[0] == 410

        assert await off(house.app) == set()
        assert await written(house.app) == []


# --- who may choose what ------------------------------------------------------------------------


async def test_a_customer_chooses_for_the_address_that_was_written_to_and_nothing_else(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, contact("C2", "sales"), invitation(customer_mobile=MOBILE))
        path = await link(house.app, "invitation", address="i1@customer.example")
        _, page, _ = await house.get(path)
        wished = form(page)
        everything = form((await house.get(f"{path}?all=1"))[1])
        forged = wished | {"on": [], "digest": "daily"}
        forged["shown"] = [*wished["shown"], "invitation:sms", "payment:mail"]
        await house.post(path, data=forged)

        assert wished == {"save": "1", "shown": ["invitation:mail"], "on": ["invitation:mail"]}
        assert set(everything["shown"]) == {"invitation:mail", "voucher:mail", "cash_coupon:mail"}
        assert await off(house.app) == {("mail", "i1@customer.example", "invitation", "recipient")}


async def test_a_link_to_an_address_that_a_contact_has_left_says_nothing_of_the_contact(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        path = await link(house.app, "statement")
        await house.app.intake.take([wang(mail="new@example.com")])
        wished = form((await house.get(path))[1])
        await house.post(path, data=wished | {"on": [], "digest": "daily"})

        assert wished["shown"] == ["statement:mail"]
        assert await off(house.app) == {("mail", MAIL, "statement", "recipient")}
        assert await house.app.store.preferences.digests(["C1"]) == {}


async def test_a_link_of_an_sms_says_nothing_of_mail(database_url: str, clock: FakeClock) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        _, page, _ = await house.get(await link(house.app, "statement", "sms"))

        assert form(page) == {"save": "1", "shown": ["statement:sms"], "on": ["statement:sms"]}


async def test_the_page_speaks_the_recipients_language_and_tells_no_address_whole(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(language="zh-CN"), statement())
        path = await link(house.app, "statement")
        _, page, headers = await house.get(path, headers={"Accept-Language": "en"})

        assert "我收到的全部提醒" in page
        assert "最后一次提醒始终发送邮件" in page
        assert MAIL not in page
        assert "13800138000" not in page
        assert "script" not in headers["Content-Security-Policy"]
        assert "noindex" in headers["X-Robots-Tag"]


# --- what follows -------------------------------------------------------------------------------


async def test_an_sms_that_waits_is_dropped_once_only_urgent_ones_are_wished(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())  # to have a link
        path = await link(house.app, "statement")
        await tell(house.app, line(), payment(), deliver=False)
        sent = len(await inbox(house.app))
        wished = form((await house.get(path))[1]) | {"digest": "daily"}
        await house.post(path, data=wished)
        await house.app.delivery.drain()

        assert (await inbox(house.app))[sent:] == [MAIL]
        assert (await states(house.app))[MOBILE] == "cancelled"


async def test_what_was_switched_off_is_not_sent_and_told_once_it_is_wished_again(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, contact(), statement(), deliver=False)
        path = await link(house.app, "statement")
        page = form((await house.get(path))[1])
        await house.post(path, data=page | {"on": []})
        await house.app.delivery.drain()
        assert await inbox(house.app) == []

        await house.post(path, data=page)
        await house.app.scan.run("statement")
        await house.app.delivery.drain()
        assert await inbox(house.app) == [MAIL]


async def test_the_last_reminder_comes_by_mail_though_its_kind_is_off(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        await tell(house.app, wang(), statement())
        await house.post(await link(house.app, "statement"), data=ONE_CLICK)
        sent = len(await inbox(house.app))
        clock.set(NOW + timedelta(days=2))  # Thursday, the last day
        await house.app.scan.run("statement")
        await house.app.delivery.drain()
        later = (await inbox(house.app))[sent:]

        assert sorted(later) == [MOBILE, MAIL]


async def test_a_choice_has_the_partners_and_its_resellers_records_looked_at_again(
    database_url: str, clock: FakeClock
) -> None:
    async with house_of(database_url, clock) as house:
        reseller = partner("P2", parent="P1", type="reseller")
        others = [partner("P3"), statement("S2", partner="P2"), statement("S3", partner="P3")]
        people = [contact("C2", partner="P2"), contact("C3", partner="P3")]
        await tell(house.app, reseller, *others, *people, wang(), statement())
        path = await link(house.app, "statement", address=MAIL)
        wished = form((await house.get(path))[1]) | {"digest": "daily"}
        at = clock.advance(timedelta(minutes=7))
        await house.post(path, data=wished)
        looks = await next_looks(house.app)

        assert {ref for ref, when in looks.items() if when == at} == {"S1", "S2"}
