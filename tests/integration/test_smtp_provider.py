"""The SMTP provider against servers on real sockets, obliging, broken and hostile."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from tests.fakes.smtp_server import BYE, DROP, FLOOD, HANG, SmtpServer
from tests.integration.smtp_mails import HEADERS, mail, smtp
from workers.errors import PermanentError, TransientError, UnknownOutcomeError
from workers.providers import Sms
from workers.providers.smtp import SmtpSettings


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


# -- the usual way ---------------------------------------------------------------------------------


async def test_a_mail_arrives_as_it_was_written() -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        accepted = await provider.send(mail(b"Two lines\r\nof text.\r\n"))

        (received,) = server.messages
        assert received.content == HEADERS + b"\r\nTwo lines\r\nof text.\r\n"
        assert received.sender == "due@sender.example"
        assert received.recipients == ["li.na@partner.example"]
        assert accepted.reference == "Q000001"
        assert "250" in accepted.reply


async def test_without_a_queue_id_the_message_id_is_the_reference() -> None:
    async with SmtpServer(replies={".": ["250 thank you"]}) as server, smtp(server) as provider:
        assert (await provider.send(mail())).reference == "n-1@sender.example"


async def test_one_connection_carries_many_mails() -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        for _ in range(5):
            await provider.send(mail())

        assert server.connections == 1
        assert len(server.messages) == 5


async def test_never_more_connections_than_set_are_open() -> None:
    async with SmtpServer() as server, smtp(server, connections=2) as provider:
        await asyncio.gather(*(provider.send(mail()) for _ in range(12)))

        assert server.connections == 2
        assert len(server.messages) == 12


async def test_closing_says_quit() -> None:
    async with SmtpServer() as server:
        async with smtp(server) as provider:
            await provider.send(mail())

        assert server.verbs()[-1] == "QUIT"


async def test_an_sms_is_refused() -> None:
    sms = Sms("n-2", "+8613812345678", "text", "payment.reminder.zh-CN", (), 1)
    async with SmtpServer() as server, smtp(server) as provider:
        with pytest.raises(PermanentError, match="mail only"):
            await provider.send(sms)


# -- encryption and login --------------------------------------------------------------------------


async def test_starttls_with_a_trusted_certificate_encrypts_and_logs_in(
    authority: trustme.CA, ca_file: Path
) -> None:
    tls = server_tls(authority, "127.0.0.1")
    async with (
        SmtpServer(tls=tls, users={"bot": "s3cret"}) as server,
        smtp(server, tls="starttls", ca_file=ca_file, username="bot", password="s3cret") as sender,
    ):
        await sender.send(mail())

        assert [message.over_tls for message in server.messages] == [True]
        assert server.verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


async def test_tls_from_the_first_byte_encrypts(authority: trustme.CA, ca_file: Path) -> None:
    tls = server_tls(authority, "127.0.0.1")
    async with (
        SmtpServer(tls=tls, implicit_tls=True) as server,
        smtp(server, tls="tls", ca_file=ca_file) as provider,
    ):
        await provider.send(mail())

        assert [message.over_tls for message in server.messages] == [True]


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_a_certificate_for_another_name_sends_nothing(
    authority: trustme.CA, ca_file: Path, mode: str
) -> None:
    tls = server_tls(authority, "other.example")
    async with (
        SmtpServer(tls=tls, implicit_tls=mode == "tls", users={"bot": "s3cret"}) as server,
        smtp(server, tls=mode, ca_file=ca_file, username="bot", password="s3cret") as provider,
    ):
        with pytest.raises(TransientError, match=r"certificate.*ca_file"):
            await provider.send(mail())

        assert not server.messages
        assert not {"AUTH", "MAIL"} & set(server.verbs())


async def test_a_certificate_of_an_unknown_issuer_sends_nothing(authority: trustme.CA) -> None:
    tls = server_tls(authority, "127.0.0.1")
    async with SmtpServer(tls=tls) as server, smtp(server, tls="starttls") as provider:
        with pytest.raises(TransientError, match="certificate"):
            await provider.send(mail())

        assert not server.messages


async def test_a_stripped_starttls_sends_nothing_in_clear_text() -> None:
    async with (
        SmtpServer(users={"bot": "s3cret"}) as server,
        smtp(server, tls="starttls", username="bot", password="s3cret") as provider,
    ):
        with pytest.raises(TransientError, match="STARTTLS"):
            await provider.send(mail())

        assert server.verbs() == ["EHLO"]


async def test_a_refused_starttls_sends_nothing_in_clear_text(authority: trustme.CA) -> None:
    tls = server_tls(authority, "127.0.0.1")
    async with (
        SmtpServer(tls=tls, replies={"STARTTLS": ["454 4.7.0 not now"]}) as server,
        smtp(server, tls="starttls") as provider,
    ):
        with pytest.raises(TransientError, match="454"):
            await provider.send(mail())

        assert server.verbs() == ["EHLO", "STARTTLS"]


async def test_a_wrong_password_fails_no_message_for_good_and_names_the_remedy() -> None:
    async with (
        SmtpServer(users={"bot": "s3cret"}) as server,
        smtp(server, username="bot", password="wrong-Pa55") as provider,
    ):
        with pytest.raises(TransientError, match="username, password") as raised:
            await provider.send(mail())

        assert "wrong-Pa55" not in str(raised.value) + raised.value.reply


async def test_a_server_that_wants_a_login_fails_no_message_for_good() -> None:
    async with SmtpServer(users={"bot": "s3cret"}) as server, smtp(server) as provider:
        with pytest.raises(TransientError, match=r"530.*username"):
            await provider.send(mail())


def test_clear_text_to_another_machine_must_be_allowed() -> None:
    with pytest.raises(ValueError, match="allow_clear_text"):
        SmtpSettings(host="relay.example", tls="none")

    assert SmtpSettings(host="relay.example", tls="none", allow_clear_text=True).tls == "none"
    assert SmtpSettings(host="localhost", tls="none").tls == "none"


# -- refusals --------------------------------------------------------------------------------------

STEPS = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."]
PLAIN = ("8BITMIME", "SIZE 50000000")
AT_ONCE = (*PLAIN, "PIPELINING")
either_way = pytest.mark.parametrize(
    "offers", [PLAIN, AT_ONCE], ids=["one by one", "several at once"]
)
"""Commands are said one by one, or at once where the relay takes them so (RFC 2920)."""


@pytest.mark.parametrize("step", STEPS)
@either_way
async def test_a_4xx_is_transient_at_every_step_and_the_next_mail_goes(
    step: str, offers: tuple[str, ...]
) -> None:
    async with (
        SmtpServer(replies={step: ["451 4.3.0 try later"]}, extensions=offers) as server,
        smtp(server) as provider,
    ):
        with pytest.raises(TransientError, match="451"):
            await provider.send(mail())
        await provider.send(mail())

        assert len(server.messages) == 1


@pytest.mark.parametrize("step", STEPS)
async def test_a_421_is_transient_and_gives_the_connection_up(step: str) -> None:
    async with SmtpServer(replies={step: [BYE]}) as server, smtp(server) as provider:
        with pytest.raises(TransientError):
            await provider.send(mail())
        await provider.send(mail())

        assert server.connections == 2
        assert len(server.messages) == 1


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
@either_way
async def test_a_5xx_is_permanent_and_keeps_the_connection_in_step(
    step: str, offers: tuple[str, ...]
) -> None:
    async with (
        SmtpServer(replies={step: ["550 5.7.1 policy"]}, extensions=offers) as server,
        smtp(server) as provider,
    ):
        with pytest.raises(PermanentError, match="550") as raised:
            await provider.send(mail())
        await provider.send(mail(recipient="next@partner.example"))

        assert not raised.value.address_is_bad
        assert server.connections == 1
        assert [m.recipients for m in server.messages] == [["next@partner.example"]]


@pytest.mark.parametrize("step", ["CONNECT", "EHLO"])
async def test_a_relay_that_serves_nobody_fails_no_message_for_good(step: str) -> None:
    async with SmtpServer(replies={step: ["554 no service"]}) as server, smtp(server) as provider:
        with pytest.raises(TransientError, match="554"):
            await provider.send(mail())


@pytest.mark.parametrize(
    ("step", "reply", "bad"),
    [
        ("RCPT", "550 5.1.1 no such user", True),
        ("RCPT", "553 5.1.3 bad syntax", True),
        ("RCPT", "556 5.1.10 null MX", True),
        (".", "550 5.1.1 no such user", True),
        ("RCPT", "550 no such user", False),
        ("RCPT", "550 5.7.1 relaying denied", False),
        ("RCPT", "552 5.2.2 mailbox full", False),
        ("RCPT", "550 5.1.8 sender's domain", False),
        ("MAIL", "550 5.1.1 sender", False),
    ],
)
async def test_only_a_word_on_the_address_itself_marks_it_bad(
    step: str, reply: str, bad: bool
) -> None:
    async with SmtpServer(replies={step: [reply]}) as server, smtp(server) as provider:
        with pytest.raises(PermanentError) as raised:
            await provider.send(mail())

        assert raised.value.address_is_bad is bad


async def test_replies_carry_no_personal_data() -> None:
    said = "550 5.1.1 <li.na@partner.example>: +86 138 1234 5678 unknown, 李@例子.中国"
    async with SmtpServer(replies={"RCPT": [said]}) as server, smtp(server) as provider:
        with pytest.raises(PermanentError) as raised:
            await provider.send(mail())

        words = raised.value.reply + str(raised.value)
        assert "550 5.1.1 <address>: <address> unknown, <address>" in words
        assert "@" not in words
        assert "1234" not in words


# -- lost replies and dead connections -------------------------------------------------------------


@pytest.mark.parametrize("fate", [DROP, HANG])
async def test_no_answer_after_the_final_dot_is_unknown_and_not_repeated(fate: str) -> None:
    async with (
        SmtpServer(replies={".": [fate]}) as server,
        smtp(server, answer_timeout_s=0.3) as provider,
    ):
        with pytest.raises(UnknownOutcomeError):
            await provider.send(mail())

        assert server.verbs().count("DATA") == 1
        assert len(server.messages) == 1


@pytest.mark.parametrize("answer", ["HTTP/1.1 200 OK", "354 go on", "999 what", "100 wait"])
async def test_an_answer_to_the_dot_that_is_neither_yes_nor_no_is_unknown(answer: str) -> None:
    async with SmtpServer(replies={".": [answer]}) as server, smtp(server) as provider:
        with pytest.raises(UnknownOutcomeError):
            await provider.send(mail())


@pytest.mark.parametrize("fate", [DROP, HANG, "nonsense"])
@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
@either_way
async def test_a_break_before_the_content_is_transient(
    step: str, fate: str, offers: tuple[str, ...]
) -> None:
    async with (
        SmtpServer(replies={step: [fate]}, extensions=offers) as server,
        smtp(server, timeout_s=0.3) as provider,
    ):
        with pytest.raises(TransientError):
            await provider.send(mail())

        assert not server.messages


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
async def test_a_kept_connection_found_dead_is_replaced_once(step: str) -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail())
        server.replies[step] = [DROP]

        await provider.send(mail())

        assert server.connections == 2
        assert len(server.messages) == 2


async def test_a_kept_connection_that_says_goodbye_is_replaced() -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail())
        server.replies["MAIL"] = [BYE]

        await provider.send(mail())

        assert len(server.messages) == 2


async def test_a_connection_that_was_quiet_is_asked_before_it_is_used() -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail())
        await asyncio.sleep(2.1)
        server.replies["RSET"] = ["421 4.4.2 idle too long"]

        await provider.send(mail())

        assert server.verbs()[3:6] == ["DATA", "RSET", "EHLO"]
        assert len(server.messages) == 2


async def test_connections_the_relay_closed_meanwhile_are_not_used() -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail())
        await server.drop_idle()
        await asyncio.sleep(0.05)

        await provider.send(mail())

        assert server.connections == 2
        assert len(server.messages) == 2


async def test_a_second_break_is_not_tried_a_third_time() -> None:
    async with SmtpServer() as server, smtp(server) as provider:
        await provider.send(mail())
        server.replies["MAIL"] = [DROP, DROP]

        with pytest.raises(TransientError, match="again"):
            await provider.send(mail())

        assert server.connections == 2


async def test_a_relay_that_is_not_there_is_transient() -> None:
    async with SmtpServer() as server:
        pass
    async with smtp(server) as provider:
        with pytest.raises(TransientError, match="host and port"):
            await provider.send(mail())


async def test_a_name_that_is_not_known_is_transient() -> None:
    async with (
        SmtpServer() as server,
        smtp(server, host="relay.invalid", allow_clear_text=True) as provider,
    ):
        with pytest.raises(TransientError, match="host"):
            await provider.send(mail())


@pytest.mark.parametrize("step", ["EHLO", "MAIL", "RCPT"])
async def test_an_answer_without_end_is_cut_off(step: str) -> None:
    async with (
        SmtpServer(replies={step: [FLOOD]}) as server,
        smtp(server, timeout_s=3) as provider,
        asyncio.timeout(10),
    ):
        with pytest.raises(TransientError) as raised:
            await provider.send(mail())

        assert len(raised.value.reply) < 1000


async def test_a_cancelled_send_leaves_no_connection_out_of_step() -> None:
    async with SmtpServer(replies={".": [HANG]}) as server, smtp(server) as provider:
        sending = asyncio.create_task(provider.send(mail()))
        await server.arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        await provider.send(mail())

        assert server.connections == 2


# -- doctor ----------------------------------------------------------------------------------------


async def test_check_finds_a_working_relay_and_sends_nothing(
    authority: trustme.CA, ca_file: Path
) -> None:
    tls = server_tls(authority, "127.0.0.1")
    async with (
        SmtpServer(tls=tls, users={"bot": "s3cret"}) as server,
        smtp(server, tls="starttls", ca_file=ca_file, username="bot", password="s3cret") as sender,
    ):
        findings = await sender.check()

        assert all(finding.well and not finding.remedy for finding in findings)
        assert server.verbs() == ["EHLO", "STARTTLS", "EHLO", "AUTH", "NOOP", "QUIT"]


async def test_check_names_the_remedy_for_a_wrong_password() -> None:
    async with (
        SmtpServer(users={"bot": "s3cret"}) as server,
        smtp(server, username="bot", password="wrong") as provider,
    ):
        (finding,) = await provider.check()

        assert not finding.well
        assert "password" in finding.remedy


@pytest.mark.parametrize("step", ["NOOP", "QUIT"])
async def test_check_survives_a_relay_that_drops_it(step: str) -> None:
    async with SmtpServer(replies={step: [DROP]}) as server, smtp(server) as provider:
        findings = await provider.check()

        assert all(finding.well for finding in findings) is (step == "QUIT")


@pytest.mark.parametrize("answer", ["", "250", "999 x", "25", "-1 x", "250-a\n250-b\n550 5.1.1 c"])
@pytest.mark.parametrize("step", STEPS)
async def test_send_raises_nothing_but_the_three_outcomes(step: str, answer: str) -> None:
    outcomes: set[type[BaseException]] = set()
    async with (
        SmtpServer(replies={step: [answer]}) as server,
        smtp(server, timeout_s=0.3, answer_timeout_s=0.3) as provider,
    ):
        try:
            await provider.send(mail())
        except Exception as error:
            outcomes.add(type(error))

    assert outcomes <= {TransientError, PermanentError, UnknownOutcomeError}
