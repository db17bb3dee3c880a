"""The Twilio provider against a compatible API on a real socket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme

from tests.fakes.twilio_server import DRIP, DROP, HANG, TwilioServer
from workers.errors import InputError, PermanentError, TransientError, UnknownOutcomeError
from workers.providers import CallbackRequest, Mail, ProviderContext, Report, Sms
from workers.providers.twilio import Twilio, TwilioSettings, signature

CALLBACK = "https://due.example/receipts/twilio/u7Gk2"


def sms(number: str = "+14155552671", text: str = "3 statements are due & waiting") -> Sms:
    return Sms("n 7", number, text, "statement.reminder.en", (), 1)


def settings(url: str, **changes: Any) -> TwilioSettings:
    values: dict[str, Any] = {
        "base_url": url,
        "account_sid": "AC0123",
        "auth_token": "tok-secret",
        "sender": "+14155550100",
        "timeout_s": 2,
    }
    return TwilioSettings.model_validate({**values, **changes})


@asynccontextmanager
async def twilio(url: str, *, callback: str = "", **changes: Any) -> AsyncIterator[Twilio]:
    provider = Twilio(settings(url, **changes), ProviderContext(callback_url=callback))
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


async def test_an_sms_arrives_as_it_was_written() -> None:
    async with TwilioServer() as server, twilio(server.url, callback=CALLBACK) as provider:
        accepted = await provider.send(sms(text="您有 3 份对账单 & 待确认 😀"))

        assert accepted.reference == "SM" + "1".zfill(32)
        assert server.requests == [
            {
                "To": "+14155552671",
                "From": "+14155550100",
                "Body": "您有 3 份对账单 & 待确认 😀",
                "StatusCallback": f"{CALLBACK}?uid=n+7",
            }
        ]


async def test_a_messaging_pool_stands_in_for_a_sender() -> None:
    service = {"sender": "", "messaging_service_sid": "MG9"}
    async with TwilioServer() as server, twilio(server.url, **service) as provider:
        await provider.send(sms())

        assert server.requests[0]["MessagingServiceSid"] == "MG9"
        assert "From" not in server.requests[0]
        assert "StatusCallback" not in server.requests[0]


@pytest.mark.parametrize("both", ["", "MG9"])
def test_exactly_one_kind_of_sender_is_set(both: str) -> None:
    with pytest.raises(ValueError, match="one of sender and messaging_service_sid"):
        settings("https://api.example", sender=both, messaging_service_sid=both)


async def test_a_wrong_token_fails_no_message_for_good() -> None:
    async with TwilioServer() as server, twilio(server.url, auth_token="wr0ng") as provider:
        with pytest.raises(TransientError, match="auth_token") as raised:
            await provider.send(sms())

        assert "wr0ng" not in str(raised.value) + raised.value.reply
        assert server.requests == []


def refusal(code: int, status: int = 400) -> tuple[int, Any, dict[str, str]]:
    return status, {"code": code, "message": f"to +14155552671: {code}", "status": status}, {}


@pytest.mark.parametrize(
    ("answer", "outcome", "bad"),
    [
        (refusal(21211), PermanentError, True),
        (refusal(21610), PermanentError, True),
        (refusal(21614), PermanentError, True),
        (refusal(21408), PermanentError, False),
        (refusal(21617), PermanentError, False),
        (refusal(21606), TransientError, False),
        (refusal(20429, 429), TransientError, False),
        (refusal(14107), TransientError, False),
        (refusal(20003, 401), TransientError, False),
        (refusal(20404, 404), TransientError, False),
        ((503, "down", {}), TransientError, False),
        ((307, "", {"Location": "https://elsewhere.example"}), TransientError, False),
        (refusal(20500, 500), UnknownOutcomeError, False),
        ((502, "bad gateway", {}), UnknownOutcomeError, False),
        ((201, {}, {}), UnknownOutcomeError, False),
        ((201, [], {}), UnknownOutcomeError, False),
        (DROP, UnknownOutcomeError, False),
        (HANG, UnknownOutcomeError, False),
        (DRIP, UnknownOutcomeError, False),
    ],
)
async def test_each_answer_has_its_outcome(
    answer: tuple[int, Any, dict[str, str]] | str, outcome: type[Exception], bad: bool
) -> None:
    async with TwilioServer([answer]) as server, twilio(server.url, timeout_s=0.3) as provider:
        with pytest.raises(outcome) as raised:
            await provider.send(sms())

        assert type(raised.value) is outcome
        assert getattr(raised.value, "address_is_bad", False) is bad
        assert "1415" not in str(raised.value)
        assert len(server.requests) == 1


async def test_a_429_passes_the_vendor_s_wish_on() -> None:
    busy = (429, {"code": 20429}, {"Retry-After": "7"})
    async with TwilioServer([busy]) as server, twilio(server.url) as provider:
        with pytest.raises(TransientError) as raised:
            await provider.send(sms())

        assert raised.value.retry_after == timedelta(seconds=7)


async def test_an_api_that_is_not_there_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with twilio(f"http://127.0.0.1:{unused.getsockname()[1]}") as provider:
            with pytest.raises(TransientError, match="no connection"):
                await provider.send(sms())


async def test_an_api_that_takes_no_connection_is_transient() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with twilio(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=0.3) as provider:
            with pytest.raises(TransientError, match="no connection"):
                await provider.send(sms())


async def test_a_certificate_that_is_not_trusted_gets_no_request() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with TwilioServer(tls=tls) as server, twilio(server.url) as provider:
        with pytest.raises(TransientError, match="certificate"):
            await provider.send(sms())

        assert server.requests == []


async def test_what_can_not_be_an_sms_is_refused_unsaid() -> None:
    async with TwilioServer() as server, twilio(server.url) as provider:
        for message in (
            sms("4155552671"),
            sms(text="half \ud83d"),
            Mail("n-1", "a@b.example", "c@d.example", "s", b""),
        ):
            with pytest.raises(PermanentError):
                await provider.send(message)

        assert server.requests == []


async def test_check_sends_nothing_and_finds_a_wrong_token() -> None:
    async with TwilioServer() as server:
        async with twilio(server.url, callback=CALLBACK) as provider:
            assert all(finding.well for finding in await provider.check())
        assert [form["To"] for form in server.requests] == [""]

        async with twilio(server.url, callback=CALLBACK, auth_token="wrong") as provider:
            bad = [finding for finding in await provider.check() if not finding.well]
        assert len(bad) == 1
        assert "auth_token" in bad[0].remedy


# -- status callbacks ------------------------------------------------------------------------------


def test_the_signature_equals_twilio_s_published_example() -> None:
    """The worked example of www.twilio.com/docs/usage/security."""
    pairs = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ]
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"

    assert signature("12345", url, pairs[::-1]) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def callback(
    pairs: Sequence[tuple[str, str]], *, url: str = CALLBACK, key: str = "tok-secret"
) -> CallbackRequest:
    signed = {"x-twilio-signature": signature(key, url, pairs)}
    return CallbackRequest(url, signed, urlencode(pairs).encode())


def reports(request: CallbackRequest) -> Sequence[Report]:
    provider = Twilio(settings("https://api.example"), ProviderContext(callback_url=CALLBACK))
    return provider.reports(request)


@pytest.mark.parametrize(
    ("status", "code", "meaning", "bad"),
    [
        ("delivered", "", "delivered", False),
        ("read", "", "delivered", False),
        ("undelivered", "30003", "bounced", False),
        ("undelivered", "30005", "bounced", True),
        ("failed", "30006", "bounced", True),
        ("failed", "30007", "bounced", False),
        ("canceled", "", "bounced", False),
        ("novel", "", "unknown", False),
    ],
)
def test_each_status_has_its_meaning(status: str, code: str, meaning: str, bad: bool) -> None:
    pairs = [("MessageSid", "SM1"), ("MessageStatus", status), ("To", "+14155552671")]
    pairs += [("ErrorCode", code)] if code else []

    (found,) = reports(callback(pairs))

    assert (found.reference, found.status, found.address_is_bad) == ("SM1", meaning, bad)
    assert found.detail == f"{status} {code}".strip()


@pytest.mark.parametrize("status", ["accepted", "queued", "sending", "sent"])
def test_progress_up_to_the_carrier_is_no_report(status: str) -> None:
    assert not reports(callback([("MessageSid", "SM1"), ("MessageStatus", status)]))


def test_the_callback_names_the_message_by_our_uid() -> None:
    pairs = [("MessageSid", "SM1"), ("MessageStatus", "delivered")]

    (found,) = reports(callback(pairs, url=f"{CALLBACK}?uid=n+7"))

    assert found.uid == "n 7"


def test_a_proxy_that_changes_the_address_does_not_break_the_signature() -> None:
    pairs = [("MessageSid", "SM1"), ("MessageStatus", "delivered")]
    signed = callback(pairs, url=f"{CALLBACK}?uid=n7")
    inside = CallbackRequest("http://10.0.0.5:8080/x?uid=n7", signed.headers, signed.body)

    assert [found.uid for found in reports(inside)] == ["n7"]


@pytest.mark.parametrize("change", ["key", "body", "url", "missing", "letters"])
def test_a_forged_callback_is_refused(change: str) -> None:
    pairs = [("MessageSid", "SM1"), ("MessageStatus", "delivered")]
    good = callback(pairs)
    forged = {
        "key": callback(pairs, key="guess"),
        "body": CallbackRequest(good.url, good.headers, good.body.replace(b"SM1", b"SM2")),
        "url": CallbackRequest(good.url + "?uid=other", good.headers, good.body),
        "missing": CallbackRequest(good.url, {}, good.body),
        "letters": CallbackRequest(good.url, {"X-Twilio-Signature": "é签"}, good.body),
    }[change]

    assert reports(good)
    with pytest.raises(InputError, match="signature"):
        reports(forged)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("MessageSid", "SM1")],
        [("MessageStatus", "delivered")],
        [("MessageSid", "SM1"), ("MessageStatus", "delivered\n")],
        [("MessageSid", "a b"), ("MessageStatus", "delivered")],
    ],
)
def test_what_is_not_a_report_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match="lacks"):
        reports(callback(pairs))


@pytest.mark.parametrize("body", [b"\xff", b"a=%FF", b"x" * 70_000, b"&".join([b"a=1"] * 300)])
def test_a_body_that_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(InputError, match="twilio"):
        reports(CallbackRequest(CALLBACK, {}, body))
