"""SMTP commands said one by one, or at once where the relay takes them so (RFC 2920)."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.smtp_server import SmtpServer
from tests.integration.smtp_mails import mail, smtp
from workers.errors import PermanentError, TransientError
from workers.providers import ProviderContext
from workers.providers.smtp import Smtp, SmtpSettings

PLAIN = ("8BITMIME", "SIZE 50000000")
AT_ONCE = (*PLAIN, "PIPELINING")


@pytest.mark.parametrize(
    ("offers", "expected"), [(PLAIN, ["MAIL"]), (AT_ONCE, ["MAIL", "RCPT", "DATA"])]
)
async def test_several_commands_go_at_once_only_where_the_relay_takes_them_so(
    offers: tuple[str, ...], expected: list[str]
) -> None:
    heard = asyncio.Queue[bytes]()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 quiet.example\r\n")
        await reader.readline()
        lines = ["quiet.example", *offers, "HELP"]
        said = "".join(f"250{' ' if line == 'HELP' else '-'}{line}\r\n" for line in lines)
        writer.write(said.encode())
        await asyncio.sleep(0.2)
        heard.put_nowait(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = SmtpSettings(host="127.0.0.1", port=port, tls="none", timeout_s=5)
    provider = Smtp(settings, ProviderContext())
    with pytest.raises(TransientError):
        await provider.send(mail())
    await provider.close()
    server.close()

    said = (await heard.get()).decode().splitlines()
    assert [line.split()[0] for line in said] == expected


async def test_a_relay_that_wants_the_content_of_what_it_refused_is_left() -> None:
    replies = {"RCPT": ["550 5.1.1 nobody"], "DATA": ["354 go on all the same"]}
    async with SmtpServer(replies=replies, extensions=AT_ONCE) as server, smtp(server) as provider:
        server.lax = True
        with pytest.raises(PermanentError, match="550"):
            await provider.send(mail())
        await provider.send(mail(recipient="next@partner.example"))

        assert server.connections == 2
        assert [m.recipients for m in server.messages] == [["next@partner.example"]]
