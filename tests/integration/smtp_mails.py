"""A mail, and an SMTP provider that is opened and closed, as the SMTP tests use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.smtp_server import SmtpServer
from workers.providers import Mail, ProviderContext
from workers.providers.smtp import Smtp, SmtpSettings

HEADERS = (
    b"From: Duewatch <due@sender.example>\r\n"
    b"To: Li Na <li.na@partner.example>\r\n"
    b"Subject: 3 statements to confirm\r\n"
    b"Message-ID: <n-1@sender.example>\r\n"
    b"Date: Tue, 24 Nov 2026 09:00:00 +0800\r\n"
)


def mail(body: bytes = b"Hello.\r\n", **changes: Any) -> Mail:
    fields: dict[str, Any] = {
        "uid": "n-1",
        "sender": "due@sender.example",
        "recipient": "li.na@partner.example",
        "subject": "3 statements to confirm",
        "source": HEADERS + b"\r\n" + body,
    }
    return Mail(**{**fields, **changes})


@asynccontextmanager
async def smtp(server: SmtpServer, **settings: Any) -> AsyncIterator[Smtp]:
    values = {"host": "127.0.0.1", "tls": "none", "timeout_s": 5, "answer_timeout_s": 5}
    chosen = SmtpSettings.model_validate({**values, "port": server.port, **settings})
    provider = Smtp(chosen, ProviderContext())
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()
