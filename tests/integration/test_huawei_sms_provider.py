"""The Huawei Cloud SMS provider against an endpoint on a real socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.huawei_server import (
    CUT,
    DROP,
    HANG,
    Answer,
    HuaweiServer,
    vendor_signature,
)
from workers.errors import InputError, PermanentError, TransientError, UnknownOutcomeError
from workers.providers import CallbackRequest, Mail, ProviderContext, Report, Sms
from workers.providers.huawei_sms import HuaweiSms, HuaweiSmsSettings
from workers.vendor_signature import sign

PATH = "/sms/batchSendDiffSms/v1"
TEMPLATE = "payment.reminder.zh-CN"
CALLBACK = "https://due.example/receipts/huawei_sms/u7Gk2"


ACCEPTED = {"code": "000000", "result": [{"status": "000000", "smsMsgId": "m-1"}]}


def sms(number: str = "+8613812345678", **variables: str) -> Sms:
    values = {"name": "上海云启", "amount": "12345.67", "token": "Ab3dE6", **variables}
    return Sms("n-7", number, "【云】您有付款", TEMPLATE, tuple(values.items()), 1)


def settings(url: str, **changes: Any) -> HuaweiSmsSettings:
    values: dict[str, Any] = {
        "endpoint": url,
        "access_key": "AK-TEST",
        "secret_key": "SK-test-secret",
        "sender": "8823031000",
        "signature": "云启",
        "templates": {TEMPLATE: {"id": "tpl-1", "variables": ["amount", "name"]}},
        "timeout_s": 2,
    }
    return HuaweiSmsSettings.model_validate({**values, **changes})


@asynccontextmanager
async def huawei(url: str, *, callback: str = "", **changes: Any) -> AsyncIterator[HuaweiSms]:
    provider = HuaweiSms(settings(url, **changes), ProviderContext(callback_url=callback))
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


async def test_an_sms_goes_by_its_template_with_variables_in_the_template_s_order() -> None:
    async with HuaweiServer() as server, huawei(server.url, callback=CALLBACK) as provider:
        accepted = await provider.send(sms())

        assert accepted.reference == "d6e3cdd0-522b-4692-8304-a07553cdf591_1"
        assert server.requests == [
            {
                "from": "8823031000",
                "extend": "n-7",
                "statusCallback": CALLBACK,
                "smsContent": [
                    {
                        "to": ["+8613812345678"],
                        "templateId": "tpl-1",
                        "templateParas": ["12345.67", "上海云启"],
                        "signature": "云启",
                    }
                ],
            }
        ]


@given(
    body=st.binary(max_size=200),
    at=st.integers(1_600_000_000, 2_200_000_000).map(lambda n: datetime.fromtimestamp(n, UTC)),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    path=st.sampled_from(["/sms/batchSendDiffSms/v1", "/a b/%E4%B8%AD/~x/", "/"]),
    port=st.sampled_from(["", ":8443"]),
)
def test_the_signature_equals_the_vendor_s_own_signer(
    body: bytes, at: datetime, secret: str, path: str, port: str
) -> None:
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    ours = sign(
        "POST",
        f"https://h.example{port}{path}",
        headers,
        body,
        "AK",
        secret,
        at,
    )

    dated = {**headers, "X-Sdk-Date": ours["X-Sdk-Date"]}
    theirs = vendor_signature(f"h.example{port}", path, dated, body, ("AK", secret))
    assert ours["Authorization"] == theirs


async def test_a_wrong_secret_fails_no_message_for_good_and_is_not_repeated() -> None:
    async with HuaweiServer() as server, huawei(server.url, secret_key="wr0ng-key") as provider:
        with pytest.raises(TransientError, match="secret_key") as raised:
            await provider.send(sms())

        assert "wr0ng-key" not in str(raised.value) + raised.value.reply
        assert server.requests == []


# -- variables and templates -----------------------------------------------------------------------


async def test_a_message_without_an_approved_template_names_the_setting() -> None:
    async with HuaweiServer() as server, huawei(server.url, templates={}) as provider:
        with pytest.raises(PermanentError, match=r'templates\."payment\.reminder\.zh-CN"'):
            await provider.send(sms())

        assert server.requests == []


async def test_a_template_variable_the_message_lacks_names_the_setting() -> None:
    wrong = {TEMPLATE: {"id": "tpl-1", "variables": ["due"]}}
    async with HuaweiServer() as server, huawei(server.url, templates=wrong) as provider:
        with pytest.raises(PermanentError, match=r'"due".*variables'):
            await provider.send(sms())


async def test_names_are_cut_to_20_and_lose_what_the_vendor_refuses() -> None:
    long = "Shanghai Yunqi {Network} Co., Ltd."
    async with HuaweiServer() as server, huawei(server.url) as provider:
        await provider.send(sms(name=long))

        amount, name = server.requests[0]["smsContent"][0]["templateParas"]
        assert amount == "12345.67"
        assert name == "Shanghai Yunqi （Net…"
        assert len(name) == 20


@pytest.mark.parametrize(
    "amount",
    [
        "CNY 1,234,567,890,123.45",
        "123456789012345678901",
        "人民币壹仟贰佰叁拾肆万伍仟陆佰柒拾捌元玖角壹分整",
    ],
)
async def test_an_amount_is_never_cut(amount: str) -> None:
    async with HuaweiServer() as server, huawei(server.url) as provider:
        with pytest.raises(PermanentError, match="amount"):
            await provider.send(sms(amount=amount))

        assert server.requests == []


async def test_an_empty_variable_is_refused_before_it_is_sent() -> None:
    async with HuaweiServer() as server, huawei(server.url) as provider:
        with pytest.raises(PermanentError, match=r'"name".*empty'):
            await provider.send(sms(name="  "))

        assert server.requests == []


@pytest.mark.parametrize("number", ["13812345678", "+86 138", "+8613812345678,+8613900000000", ""])
async def test_a_number_that_is_not_e164_is_refused_unsaid(number: str) -> None:
    async with HuaweiServer() as server, huawei(server.url) as provider:
        with pytest.raises(PermanentError, match=r"E\.164"):
            await provider.send(sms(number))

        assert server.requests == []


async def test_mail_is_refused() -> None:
    async with HuaweiServer() as server, huawei(server.url) as provider:
        with pytest.raises(PermanentError, match="SMS only"):
            await provider.send(Mail("n-1", "a@b.example", "c@d.example", "s", b""))


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("E200028", PermanentError),
        ("E200029", PermanentError),
        ("E200033", PermanentError),
        ("E200041", PermanentError),
        ("E299999", PermanentError),
        ("E200015", TransientError),
        ("E200018", TransientError),
        ("E200030", TransientError),
        (Answer(400, {"code": "E000503", "description": "to is wrong"}), PermanentError),
        (Answer(400, {"code": "E000000", "description": "System error."}), TransientError),
        (Answer(400, {"code": "E000111", "description": "password"}), TransientError),
        (Answer(400, {"code": "E000112", "description": "frozen"}), TransientError),
        (Answer(403, {"code": "E000620", "description": "ip"}), TransientError),
        (Answer(200, {"code": "E000623", "description": "quota"}), TransientError),
        (Answer(200, {"code": "E000510", "description": "no result"}), PermanentError),
        (Answer(403, "forbidden"), TransientError),
        (Answer(404, "not found"), TransientError),
        (Answer(500, {"error_code": "CBC.0999", "error_msg": "other"}), TransientError),
        (Answer(503, "busy"), TransientError),
        (Answer(502, "<html>bad gateway"), UnknownOutcomeError),
        (Answer(504, ""), UnknownOutcomeError),
        (Answer(200, "<html>"), UnknownOutcomeError),
        (Answer(200, {"code": "000000"}), UnknownOutcomeError),
        (Answer(200, {"code": "000000", "result": [{"status": "000000"}]}), UnknownOutcomeError),
        (Answer(200, {"code": "000000", "result": "x"}), UnknownOutcomeError),
        (Answer(200, [1]), UnknownOutcomeError),
        (Answer(200, {**ACCEPTED, "padding": "x" * 70_000}), UnknownOutcomeError),
        (Answer(200, "[" * 50_000), UnknownOutcomeError),
        (DROP, UnknownOutcomeError),
        (CUT, UnknownOutcomeError),
        (HANG, UnknownOutcomeError),
    ],
)
async def test_each_answer_has_its_outcome(answer: Answer | str, outcome: type[Exception]) -> None:
    async with HuaweiServer([answer]) as server, huawei(server.url, timeout_s=0.5) as provider:
        with pytest.raises(outcome) as raised:
            await provider.send(sms())

        assert type(raised.value) is outcome
        assert len(server.requests) == 1


async def test_an_answer_with_more_than_is_known_is_accepted() -> None:
    answer = Answer(200, {**ACCEPTED, "padding": "x"})
    async with HuaweiServer([answer]) as server, huawei(server.url) as provider:
        assert (await provider.send(sms())).reference == "m-1"


async def test_a_redirect_is_not_followed() -> None:
    async with HuaweiServer() as other, HuaweiServer() as server, huawei(server.url) as provider:
        server.script.append(Answer(307, "", (("Location", f"{other.url}{PATH}"),)))
        with pytest.raises(TransientError, match=r"HTTP 307.*endpoint"):
            await provider.send(sms())

        assert other.requests == []


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ({"Retry-After": "30"}, timedelta(seconds=30)),
        ({"Retry-After": "99999999999"}, timedelta(days=1)),
        (
            {
                "Retry-After": "Tue, 24 Nov 2026 01:02:00 GMT",
                "Date": "Tue, 24 Nov 2026 01:00:00 GMT",
            },
            timedelta(minutes=2),
        ),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
async def test_a_429_passes_the_vendor_s_wish_on(
    headers: dict[str, str], wish: timedelta | None
) -> None:
    busy = Answer(429, {"error_code": "APIGW.0308", "error_message": "x"}, tuple(headers.items()))
    async with HuaweiServer([busy]) as server, huawei(server.url) as provider:
        with pytest.raises(TransientError) as raised:
            await provider.send(sms())

        assert raised.value.retry_after == wish


async def test_an_endpoint_that_is_not_there_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with huawei(f"http://127.0.0.1:{unused.getsockname()[1]}") as provider:
            with pytest.raises(TransientError, match="no connection"):
                await provider.send(sms())


async def test_replies_carry_no_personal_data() -> None:
    said = Answer(400, {"code": "E000503", "description": "to +8613812345678 of li@b.example bad"})
    async with HuaweiServer([said]) as server, huawei(server.url) as provider:
        with pytest.raises(PermanentError) as raised:
            await provider.send(sms())

        assert raised.value.reply == "HTTP 400 E000503 to <address> of <address> bad"
        assert "138" not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    ["http://smsapi.example", "ftp://x.example", "https://", "https://a:b@x.example", "x"],
)
def test_keys_go_to_encrypted_endpoints_only(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        settings(endpoint)


async def test_check_sends_nothing_and_finds_a_wrong_key() -> None:
    async with HuaweiServer() as server:
        async with huawei(server.url, callback=CALLBACK) as provider:
            assert all(finding.well for finding in await provider.check())
        assert [request["smsContent"] for request in server.requests] == [[]]

        async with huawei(server.url, callback=CALLBACK, secret_key="wrong") as provider:
            bad = [finding for finding in await provider.check() if not finding.well]
        assert len(bad) == 1
        assert "secret_key" in bad[0].remedy


# -- status reports --------------------------------------------------------------------------------


def report(**fields: str) -> Report:
    values = {"smsMsgId": "b9d9_6", "status": "DELIVRD", **fields}
    (found,) = provider_for_reports().reports(request(urlencode(values).encode()))
    return found


def request(body: bytes) -> CallbackRequest:
    return CallbackRequest(CALLBACK, {"Content-Type": "application/x-www-form-urlencoded"}, body)


def provider_for_reports() -> HuaweiSms:
    return HuaweiSms(settings("https://sms.example"), ProviderContext(callback_url=CALLBACK))


def test_a_report_carries_its_part_our_uid_and_its_time() -> None:
    found = report(
        sequence="2", total="3", source="2", extend="n-7", updateTime="2026-11-24T01:02:03Z"
    )

    assert (found.reference, found.uid, found.part, found.parts) == ("b9d9_6", "n-7", 2, 3)
    assert found.at == datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
    assert found.status == "delivered"
    assert found.detail == "DELIVRD (source carrier)"


@pytest.mark.parametrize(
    ("status", "meaning", "bad"),
    [
        ("DELIVRD", "delivered", False),
        ("EXPIRED", "bounced", False),
        ("DELETED", "bounced", False),
        ("UNDELIV", "bounced", False),
        ("REJECTD", "bounced", False),
        ("E200026", "bounced", False),
        ("SC:0013", "bounced", False),
        ("MK:0014", "bounced", False),
        ("2:12", "bounced", False),
        ("MK:0001", "bounced", True),
        ("BLACK", "complained", True),
        ("SC:0016", "complained", True),
        ("ACCEPTD", "unknown", False),
        ("UNKNOWN", "unknown", False),
        ("NEWWORD", "unknown", False),
    ],
)
def test_each_status_has_its_meaning(status: str, meaning: str, bad: bool) -> None:
    found = report(status=status)

    assert (found.status, found.address_is_bad) == (meaning, bad)
    assert status in found.detail


@pytest.mark.parametrize(
    ("fields", "part", "parts"),
    [
        ({}, 1, 1),
        ({"sequence": "9", "total": "2"}, 2, 2),
        ({"sequence": "0", "total": "-4"}, 1, 1),
        ({"sequence": "x", "total": "99999"}, 1, 1),
        ({"sequence": "1", "total": "300"}, 1, 255),
    ],
)
def test_part_numbers_are_kept_in_bounds(fields: dict[str, str], part: int, parts: int) -> None:
    found = report(**fields)

    assert (found.part, found.parts) == (part, parts)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"status=DELIVRD",
        b"smsMsgId=x",
        b"\xff\xfe",
        b'{"smsMsgId":"x","status":"DELIVRD"}',
        b"smsMsgId=x&status=" + b"A" * 50,
        b"smsMsgId=x&status=DELIVRD%0A",
        b"smsMsgId=" + b"y" * 20_000 + b"&status=DELIVRD",
        b"&".join(b"a=%d" % n for n in range(100)) + b"&smsMsgId=x&status=DELIVRD",
    ],
)
def test_what_is_not_a_report_is_refused(body: bytes) -> None:
    with pytest.raises(InputError, match="huawei_sms"):
        provider_for_reports().reports(request(body))
