"""The web server on a socket: inbox, signed pages, unsubscription, reports, health, who may ask."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from tests.product import contact, inbox, line, opened, partner, payment, planned, states
from workers.app import App
from workers.settings import Web
from workers.web import serve

NAME = "<img src=x onerror=alert(1)> 王芳"


@dataclass(frozen=True, slots=True)
class House:
    """The product, its address and a client."""

    app: App
    url: str
    client: aiohttp.ClientSession

    async def get(self, path: str, **more: Any) -> tuple[int, str, Any]:
        """Status, body and headers of a page."""
        async with self.client.get(self.url + path, allow_redirects=False, **more) as got:
            return got.status, await got.text(errors="replace"), got.headers

    async def post(self, path: str, **more: Any) -> tuple[int, str, Any]:
        """Status, body and headers of an answer."""
        async with self.client.post(self.url + path, **more) as got:
            return got.status, await got.text(), got.headers


@asynccontextmanager
async def served(tmp_path: Path, clock: FakeClock, **settings: Any) -> AsyncIterator[House]:
    settings.setdefault("web", Web(port=0))
    url = f"sqlite:///{tmp_path}/web.db"
    async with (
        opened(url, clock, **settings) as app,
        serve(app) as (host, port),
        aiohttp.ClientSession() as client,
    ):
        yield House(app, f"http://{host}:{port}", client)


async def _told(app: App) -> None:
    """A payment with a list, told by mail and SMS at nine in Beijing, and delivered."""
    people = contact(name=NAME, mobile="+8613800138000", channels="mail,sms", language="zh-CN")
    await planned(app, partner(), people, line(), payment())
    await app.scan.run("payment")
    await app.delivery.drain()


async def _link(app: App, letter: str) -> str:
    """The path of a signed link in the mail that was sent."""
    rows = await app.store.operations.kept()
    uid = next(row.uid for row in rows if row.channel == "mail")
    source = (await app.store.operations.kept_one(uid)).source
    mail = message_from_bytes(source, policy=policy.default)
    body = mail.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    found = re.search(rf"/{letter}/[A-Za-z0-9_-]{{20}}", text)
    assert found is not None
    return found.group()


async def test_the_inbox_shows_what_was_sent_and_runs_nothing_of_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        status, page, headers = await house.get("/inbox")
        rows = await house.app.store.operations.kept()
        mail = next(row.uid for row in rows if row.channel == "mail")
        one = await house.get(f"/inbox/{mail}")
        frame = await house.get(f"/inbox/{mail}/frame")
        source = await house.get(f"/inbox/{mail}/source")

        assert (status, one[0], frame[0], source[0]) == (200, 200, 200, 200)
        assert "<img src=x" not in page + one[1] + frame[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "allow-scripts" not in one[1]
        assert "sandbox" in one[1]
        assert "script-src" not in frame[2]["Content-Security-Policy"]
        assert "Message-ID" in source[1]
        assert (await house.get("/inbox/nothing"))[0] == 404


async def test_a_signed_link_opens_the_list_with_its_files_and_changes_nothing(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        path = await _link(house.app, "l")
        before = await states(house.app)
        status, page, headers = await house.get(path)
        names = re.findall(rf'href="({path}/[^"]+)"', page)
        files = [await house.get(name) for name in names]

        assert status == 200
        assert "106.00" in page
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "no-store" in headers["Cache-Control"]
        assert {name.rpartition(".")[2] for name in names} == {"xlsx", "pdf"}
        assert [one[0] for one in files] == [200, 200]
        assert await states(house.app) == before


async def test_a_link_that_is_forged_expired_or_for_something_else_is_refused(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        path = await _link(house.app, "l")
        token = path.rpartition("/")[2]
        swapped = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]

        assert (await house.get(f"/l/{swapped}"))[0] == 404
        assert (await house.get(f"/u/{token}"))[0] == 404, "a list's token unsubscribes nobody"
        assert (await house.get("/l/" + "A" * 20))[0] == 404
        clock.advance(timedelta(days=31))
        assert (await house.get(path))[0] == 410


async def test_a_paid_payment_is_no_longer_listed_behind_its_link(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        path = await _link(house.app, "l")
        await house.app.intake.take([payment(status="支付中")])
        status, page, _ = await house.get(path)

        assert status == 200
        assert "106.00" not in page


async def test_only_the_button_unsubscribes_and_a_scanner_that_follows_links_does_not(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        path = await _link(house.app, "u")
        for _ in range(3):
            assert (await house.get(path))[0] == 200
        assert await house.app.store.operations.suppressions() == []
        assert (await house.post(path, data={"x": "y"}))[0] == 400
        first = await house.post(path, data={"List-Unsubscribe": "One-Click"})
        again = await house.post(path, data={"List-Unsubscribe": "One-Click"})
        (row,) = await house.app.store.operations.suppressions()

        assert (first[0], again[0]) == (200, 200)
        assert (row.channel, row.address, row.kind) == ("mail", "c1@example.com", "payment")


async def test_what_was_unsubscribed_between_plan_and_send_is_not_sent(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        path = await _link(house.app, "u")
        sent = len(await inbox(house.app))
        await planned(house.app, payment("F2"), line("F2"))
        await house.post(path, data={"List-Unsubscribe": "One-Click"})
        await house.app.delivery.drain()
        mails = [one for one in (await inbox(house.app))[sent:] if "@" in one]

        assert mails == []


async def test_without_a_token_only_this_machine_is_answered(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        for headers in (
            {"Host": "evil.example"},  # DNS rebinding
            {"X-Forwarded-For": "203.0.113.9"},
            {"Forwarded": "for=203.0.113.9"},
        ):
            status, body, _ = await house.get("/inbox", headers=headers)
            assert status == 403, headers
            assert "web.api_token" in body
        crossed = await house.post(
            "/v1/events", json={}, headers={"Origin": "https://evil.example"}
        )
        assert crossed[0] == 403


async def test_with_a_token_everybody_must_give_it(tmp_path: Path, clock: FakeClock) -> None:
    web = Web(port=0, api_token="open-sesame-1234")
    async with served(tmp_path, clock, web=web) as house:
        right = {"Authorization": "Bearer open-sesame-1234"}
        wrong = {"Authorization": "Bearer open-sesame-1235"}
        basic = base64.b64encode(b"anyone:open-sesame-1234").decode()
        browser = {"Authorization": f"Basic {basic}"}

        assert (await house.get("/inbox"))[0] == 401
        assert (await house.get("/inbox", headers=wrong))[0] == 401
        assert (await house.get("/inbox", headers=right))[0] == 200
        assert (await house.get("/inbox", headers=browser))[0] == 200
        assert (await house.get("/healthz"))[0] == 200


async def test_health_and_metrics_tell_how_it_is_without_personal_data(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        _, metrics, _ = await house.get("/metrics")

        assert (await house.get("/healthz"))[0] == 200
        assert (
            'duewatch_notifications{channel="mail",kind="payment",state="accepted"} 1.0' in metrics
        )
        assert "example.com" not in metrics
        assert "13800138000" not in metrics


async def test_readiness_fails_while_the_delivery_loop_is_dead(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        stopping = asyncio.Event()
        loop = asyncio.create_task(house.app.delivery.run(stopping))
        await asyncio.sleep(0.1)
        assert (await house.get("/readyz"))[0] == 200
        stopping.set()
        await loop
        assert (await house.get("/readyz"))[0] == 503


@pytest.mark.parametrize("language", ["zh-CN", "en"])
async def test_the_inbox_is_narrowed_by_kind_channel_and_recipient(
    language: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        await _told(house.app)
        ours = {row.channel: row.uid for row in await house.app.store.operations.kept()}

        async def shown(query: str) -> set[str]:
            status, page, _ = await house.get(
                f"/inbox?{query}", headers={"Accept-Language": language}
            )
            assert status == 200, query
            return {name for name, uid in ours.items() if f'href="/inbox/{uid}' in page}

        assert await shown("kind=payment") == {"mail", "sms"}
        assert await shown("kind=statement") == set()
        assert await shown("kind=payment&channel=sms") == {"sms"}
        assert await shown("to=138001") == {"sms"}
        assert await shown("to=100%25") == set()
        assert await shown("channel=mail&before=1") == set()


@pytest.mark.parametrize("query", ["before=%00", "before=99999999999999999999", "kind=%27--"])
async def test_a_query_that_means_nothing_shows_the_inbox(
    query: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        assert (await house.get(f"/inbox?{query}"))[0] == 200


async def test_a_status_report_needs_the_unguessable_path(tmp_path: Path, clock: FakeClock) -> None:
    settings = {
        "public_url": "https://due.example.com",
        "sms": {"providers": ["huawei_sms"]},
        "providers": {
            "huawei_sms": {
                "access_key": "a",
                "secret_key": "s",
                "sender": "8822",
                "signature": "x",
                "templates": {},
            }
        },
    }
    async with served(tmp_path, clock, **settings) as house:
        key = house.app.callback_keys["huawei_sms"]
        form = {
            "smsMsgId": "m1",
            "total": "1",
            "sequence": "1",
            "status": "DELIVRD",
            "extend": "nobody",
        }

        assert (await house.post("/callbacks/huawei_sms/0000", data=form))[0] == 404
        assert (await house.post(f"/callbacks/huawei_sms/{key}", data=form))[0] == 200
        assert (await house.post(f"/callbacks/huawei_sms/{key}", data={"x": "y"}))[0] == 400


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /inbox/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /l/%f0%9f%98%80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /static/../settings.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n\xff\xfe\x00{}",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
        b"Content-Type: application/cloudevents+json\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_malformed_requests_are_the_callers_fault(
    raw: bytes, tmp_path: Path, clock: FakeClock
) -> None:
    async with served(tmp_path, clock) as house:
        port = int(house.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        await writer.drain()
        status = int((await asyncio.wait_for(reader.readline(), 10)).split()[1])
        writer.close()

        assert 400 <= status < 500
        assert (await house.get("/healthz"))[0] == 200
