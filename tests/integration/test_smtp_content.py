"""What the SMTP provider lets over the wire: addresses, headers, bodies."""

from __future__ import annotations

import pytest

from tests.fakes.smtp_server import EARLY, SmtpServer
from tests.integration.smtp_mails import HEADERS, mail, smtp
from workers.errors import PermanentError, ProviderError, UnknownOutcomeError


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example>\r\nRCPT TO:<victim@c.example",
        "a@b.example\nDATA",
        "a@b.example\0",
        "a@b.example> SIZE=1",
        "a@b@c.example",
        "a b@c.example",
        '"a b"@c.example',
        "a@b.example\u2028x",
        "a@b\x85.example",
        "nobody",
        "@b.example",
        "a@",
        "",
        "a@-b.example",
        "a\ud800@b.example",
        "x" * 65 + "@b.example",
    ],
)
async def test_an_address_that_carries_more_than_an_address_is_refused_unsaid(address: str) -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        for message in (mail(recipient=address), mail(sender=address)):
            with pytest.raises(PermanentError) as raised:
                await provider.send(message)
            assert "victim" not in str(raised.value)

        assert server.lines == []


@pytest.mark.parametrize(
    "body",
    [
        b".\r\n",
        b"..\r\n",
        b".leading dot\r\nand\r\n..two\r\n",
        b"no end of line",
        b"",
        b"a\r\n.\r\nMAIL FROM:<e@x.example>\r\nRCPT TO:<v@x.example>\r\nDATA\r\n\r\nspam\r\n.\r\n",
        b"x\r\n\r\n.\r\n\r\nQUIT\r\n",
        "中文 8bit\r\n".encode(),
        b"line\r\n" * 60_000,
    ],
)
async def test_a_smuggled_second_message_arrives_as_text_of_the_first(body: bytes) -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail(body))

        (received,) = server.messages
        sent = HEADERS + b"\r\n" + body
        assert received.content == (sent if sent.endswith(b"\r\n") else sent + b"\r\n")
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize(
    "body",
    [
        b"a\n.\nb\r\n",
        b"a\r.\rb\r\n",
        b"a\r\n.\rb",
        b"a\n.\r\nb",
        b"nul\0\r\n",
        b"x" * 999 + b"\r\n",
    ],
)
async def test_a_body_that_can_be_read_two_ways_is_refused_unsaid(body: bytes) -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        with pytest.raises(PermanentError, match="not sent"):
            await provider.send(mail(body))

        assert server.lines == []


@pytest.mark.parametrize(
    "headers",
    [
        HEADERS + b"Bcc: victim@c.example\r\n",
        HEADERS + b"From: other@c.example\r\n",
        HEADERS + b"SUBJECT: again\r\n",
        HEADERS.replace(b"Date:", b"X-Date:"),
        HEADERS + b"not a header\r\n",
        HEADERS + b"To : spaced@c.example\r\n",
        b" folded first\r\n" + HEADERS,
        b"",
    ],
)
async def test_headers_other_than_the_plan_are_refused_unsaid(headers: bytes) -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        with pytest.raises(PermanentError, match="not sent"):
            await provider.send(mail(source=headers + b"\r\nbody\r\n"))

        assert server.lines == []


async def test_an_address_outside_ascii_needs_a_relay_that_takes_it() -> None:
    async with SmtpServer(extensions=["8BITMIME", "SMTPUTF8"]) as server, smtp(server) as provider:
        await provider.send(mail(recipient="李娜@例子.中国"))
        assert server.messages[0].recipients == ["李娜@xn--fsqu00a.xn--fiqs8s"]
        assert "SMTPUTF8" in server.messages[0].options

        await provider.send(mail())
        assert "SMTPUTF8" not in server.messages[1].options

    async with SmtpServer() as server, smtp(server) as provider:
        with pytest.raises(PermanentError, match="SMTPUTF8"):
            await provider.send(mail(recipient="李娜@例子.中国"))
        await provider.send(mail(recipient="li.na@例子.中国"))
        assert server.messages[0].recipients == ["li.na@xn--fsqu00a.xn--fiqs8s"]


async def test_an_8bit_body_needs_a_relay_that_takes_it() -> None:
    body = "中文\r\n".encode()
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail(body))
        assert "BODY=8BITMIME" in server.messages[0].options

    async with SmtpServer(extensions=[]) as server, smtp(server) as provider:
        with pytest.raises(PermanentError, match="8BITMIME"):
            await provider.send(mail(body))
        await provider.send(mail())
        assert server.messages[0].options == ""


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("552 5.3.4 too big", PermanentError), ("250 taken", UnknownOutcomeError)],
)
async def test_an_answer_before_the_end_of_the_content_is_not_taken_for_a_yes(
    answer: str, outcome: type[ProviderError]
) -> None:
    large = (b"x" * 900 + b"\r\n") * 20_000
    async with SmtpServer(replies={".": [EARLY + answer]}) as server, smtp(server) as provider:
        with pytest.raises(outcome):
            await provider.send(mail(large))
        await provider.send(mail())

        assert server.connections == 2
        assert len(server.messages) == 1
