"""The message of `bench.message` as a peer's task builds it, and kept connections for those that
send with asyncio (aiosmtplib).
"""

from __future__ import annotations

import os
from email import policy
from email.message import EmailMessage

from aiosmtplib import SMTP

from bench.message import rendered

URL, PORT = os.environ["PEER_URL"], int(os.environ["PEER_SMTP"])
AT_A_TIME = 20
"""Messages of one process, each over a connection of its own."""


def message(number: int) -> EmailMessage:
    """One message, by the standard library."""
    subject, text, html = rendered(f"王小{number % 100}", f"S{number}")
    built = EmailMessage(policy=policy.SMTP)
    built["From"], built["To"] = "desk@example.com", f"c{number}@example.com"
    built["Subject"] = subject
    built["Message-ID"] = f"<s{number}@example.com>"
    built.set_content(text)
    built.add_alternative(html, subtype="html")
    return built


class Kept:
    """Connections that were opened once and are used by one task at a time."""

    def __init__(self) -> None:
        self._free: list[SMTP] = []

    async def send(self, number: int) -> None:
        """Builds a message and sends it."""
        if self._free:
            client = self._free.pop()
        else:
            client = SMTP(hostname="127.0.0.1", port=PORT, use_tls=False, start_tls=False)
            await client.connect()
        await client.send_message(message(number))
        self._free.append(client)
