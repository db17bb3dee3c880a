"""What every peer's task does: one mail by smtplib, to the address that has the message's key."""

from __future__ import annotations

import os
import resource
import smtplib
from email.message import EmailMessage

from bench.peers.cell import Cell

CELL = Cell.load()
DOMAIN = "t.example"

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def send(key: str) -> None:
    """Sends it. Raises smtplib.SMTPException where the server refuses it, OSError without one."""
    message = EmailMessage()
    message["From"], message["To"] = f"reminders@{DOMAIN}", f"{key}@{DOMAIN}"
    message["Subject"] = f"Invoice {key} is due"
    message["Message-ID"] = f"<{key}@{DOMAIN}>"
    message.set_content(f"Please pay invoice {key}.\n")
    with smtplib.SMTP("127.0.0.1", CELL.smtp_port, "peer.example", timeout=10) as server:
        server.send_message(message)


def abort(key: str) -> None:
    """Ends the process that runs it, as a crash in a library would."""
    with CELL.aborts.open("a") as log:
        log.write(f"{key}\n")
        log.flush()
        os.fsync(log.fileno())
    os.abort()
