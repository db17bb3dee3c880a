"""What may go over an SMTP wire: checked addresses, and content that can't be read two ways.

Sources: RFC 5321 sections 2.3.8, 4.1.2, 4.5.2 and 4.5.3.1.6; RFC 5322 section 3.6 (which header
stands once); RFC 6531 (addresses outside ASCII).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from workers.errors import PermanentError
from workers.providers import Mail


@dataclass(frozen=True, slots=True)
class Envelope:
    """One transaction. The addresses are ASCII unless `utf8`; `content` is dot-stuffed and ends
    with the final dot; `reference` is the Message-ID without its brackets.
    """

    sender: str
    recipient: str
    content: bytes
    reference: str
    utf8: bool
    eight_bit: bool


_LOCAL = re.compile(r"[^\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff<>()\[\]\\,:;@\"]{1,64}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f.:IPv]{3,60}\]")
_ONCE = ("from", "to", "subject", "message-id", "date")
_MAX_LINE = 998  # octets without the line end, RFC 5322 2.1.1
_HEADER = re.compile(rb"([!-9;-~]+):[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")


def make_envelope(message: Mail) -> Envelope:
    """The checked envelope. Raises PermanentError, before anything was said to a server."""
    sender, recipient = _path(message.sender, "sender"), _path(message.recipient, "recipient")
    headers, body, message_id = _checked(message.source)
    source = message.source if message.source.endswith(b"\r\n") else message.source + b"\r\n"
    stuffed = source.replace(b"\r\n.", b"\r\n..")  # RFC 5321 4.5.2; a first line is never a dot
    return Envelope(
        sender=sender,
        recipient=recipient,
        content=stuffed + b".\r\n",
        reference=message_id,
        utf8=not (sender + recipient).isascii() or not headers.isascii(),
        eight_bit=not body.isascii(),
    )


def _path(address: str, whose: str) -> str:
    """`address` as it may stand between < and >, its domain in ASCII."""
    local, at, domain = address.partition("@")
    if at and not domain.isascii() and _LOCAL.fullmatch(local):
        with suppress(EmailNotValidError, UnicodeError):
            domain = validate_email(
                f"x@{domain}", check_deliverability=False, test_environment=True
            ).ascii_domain
    if not at or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise PermanentError(
            f"smtp: the {whose}'s mail address isn't one (no or several @, spaces, brackets or "
            "control characters): correct it"
        )
    return f"{local}@{domain}"


def _checked(source: bytes) -> tuple[bytes, bytes, str]:
    """Header block, body and Message-ID of a message that can't be read two ways.

    Bare CR or LF is how one message is smuggled in another (CVE-2023-51764); a header that stands
    twice is read differently by different programs.
    """
    ends = source.count(b"\r\n")  # counting takes milliseconds where a pattern takes seconds
    if source.count(b"\r") != ends or source.count(b"\n") != ends or b"\0" in source:
        raise PermanentError("smtp: the message holds a bare CR, a bare LF or a NUL: not sent")
    if max(map(len, source.split(b"\r\n"))) > _MAX_LINE:
        raise PermanentError(f"smtp: the message has a line of over {_MAX_LINE} octets: not sent")
    block, gap, body = source.partition(b"\r\n\r\n")
    headers = block + b"\r\n"
    names: dict[str, int] = {}
    position = 0
    while position < len(headers):
        found = _HEADER.match(headers, position)
        if found is None:
            raise PermanentError("smtp: the header block holds a line that is no header: not sent")
        name = found.group(1).decode("ascii").lower()
        names[name] = names.get(name, 0) + 1
        position = found.end()
    wrong = [name for name in _ONCE if names.get(name, 0) != 1]
    if wrong or not gap or "bcc" in names:
        raise PermanentError(
            f"smtp: not exactly one header each of {', '.join(wrong or _ONCE)}, or a Bcc: not sent"
        )
    found_id = re.search(rb"(?im)^message-id:[ \t]*(?:\r\n[ \t]+)?<([^<>\r\n]+)>", headers)
    return headers, body, found_id.group(1).decode("ascii", "replace") if found_id else ""
