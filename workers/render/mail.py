"""One mail as bytes: MIME by hand from encoded parts, and a guard over what came out.

The standard library's `EmailMessage` lets an encoded newline in a header become a real one on
Pythons before 3.11.10 (CVE-2024-6923), and costs a millisecond a mail. So headers are written here
(RFC 5322, RFC 2047 for names and subjects, RFC 2231 for file names), every body is base64, and
`build` scans the finished bytes: the header names of each part must be the planned ones, in order.

The bytes depend on the draft alone: boundaries come from its uid, so a message that is sent again
differs in its date and attempt only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from urllib.parse import quote

from email_validator import EmailNotValidError, validate_email

MAX_LINE = 998
"""Octets in a line without its CRLF (RFC 5322, 2.1.1)."""
MAX_NAME = 100
"""Characters of a display name that are shown; the rest is cut."""
_FOLD = 76
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BIDI = re.compile(r"[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_ATOM_TEXT = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_URL = re.compile(r"(https?://|mailto:)[\x21-\x7e]+")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_MARK = re.compile(rb"--(=_[a-z]+_[0-9a-f]{24})(?:--)?\r\n")
_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class UnsafeMailError(ValueError):
    """The mail isn't built: the text names the field, what is wrong in it, and the remedy."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes along. `filename` may hold any letters; `content_type` is a media type."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Inline:
    """A picture that the HTML shows as `cid:<cid>` (RFC 2392); it is no file to be saved."""

    cid: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """What a mail says, before it is bytes.

    `date` is the instant of sending (aware); `uid` and `domain` make the Message-ID, which stays
    the same for every attempt. `reply_to` and `unsubscribe_url` may be "". `images` stand with the
    HTML in a multipart/related (RFC 2387), which readers that show the text leave out.
    """

    uid: str
    domain: str
    sender_name: str
    sender_address: str
    recipient_name: str
    recipient_address: str
    subject: str
    date: datetime
    language: str
    text: str
    html: str
    attachments: Sequence[Attachment] = field(default=())
    images: Sequence[Inline] = field(default=())
    reply_to: str = ""
    unsubscribe_url: str = ""
    attempt: int = 1


def build(draft: Draft) -> bytes:
    """The RFC 5322 message with CRLF line ends.

    Raises UnsafeMailError where a field could break out of its header, and where the finished
    bytes don't have exactly the planned headers.
    """
    stem = hashlib.sha256(draft.uid.encode("utf-8", "replace")).hexdigest()[:24]
    inner, outer, around = (f"=_{kind}_{stem}" for kind in ("alternative", "mixed", "related"))
    page = _part([("Content-Type", "text/html; charset=utf-8")], _utf8("the HTML", draft.html))
    if draft.images:
        images = [_part(_image_headers(image), image.content) for image in draft.images]
        page = _block([_multipart("related", around, "text/html")]) + _multi(
            around, [page, *images]
        )
    bodies = [
        _part([("Content-Type", "text/plain; charset=utf-8")], _utf8("the text", draft.text)),
        page,
    ]
    headers = [*_headers(draft), ("MIME-Version", "1.0")]
    if not draft.attachments:
        headers.append(_multipart("alternative", inner))
        source = _block(headers) + _multi(inner, bodies)
    else:
        headers.append(_multipart("mixed", outer))
        alternative = _block([_multipart("alternative", inner)]) + _multi(inner, bodies)
        files = [_part(_file_headers(file), file.content) for file in draft.attachments]
        source = _block(headers) + _multi(outer, [alternative, *files])
    _scan(source, [name for name, _ in headers], (inner, outer, around), draft)
    return source


def display_name(name: str) -> str:
    """The name as it may stand beside an address, or "" where it could deceive.

    A name with `@` reads as another address; controls and direction marks reorder what is seen.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if "@" in name or "=?" in name or _CONTROL.search(name) or _BIDI.search(name):
        return ""
    return name.encode("utf-8", "ignore").decode()[:MAX_NAME]


@lru_cache(maxsize=10_000)
def ascii_address(address: str) -> str:
    """The address as SMTP takes it: an international domain in its ASCII form (RFC 5891).

    A non-ASCII local part stays as it is and needs SMTPUTF8. Raises UnsafeMailError for what isn't
    one plain address; the text doesn't repeat it.
    """
    try:
        found = validate_email(address, check_deliverability=False, allow_smtputf8=True)
    except EmailNotValidError as error:
        raise UnsafeMailError(f"the address isn't one ({str(error).rstrip('.')})") from None
    plain = found.ascii_email or f"{found.local_part}@{found.ascii_domain}"
    if re.search(r"[\s<>\"(),:;\\\[\]]", plain) or _CONTROL.search(plain):
        raise UnsafeMailError("the address has characters that mean something to a mail server")
    return plain


def mailbox(text: str) -> tuple[str, str]:
    """("Name", "address") of `Name <address>` or of a bare address. Raises UnsafeMailError."""
    found = re.fullmatch(r"\s*(?:\"?([^\"<>]*?)\"?\s*<([^<>]+)>|([^<>\s]+))\s*", text)
    if not found:
        raise UnsafeMailError(f"{text!r} isn't a sender: write it like Name <address@example.com>")
    return (found[1] or "").strip(), found[2] or found[3]


def _guard(what: str, value: str) -> str:
    """The value, or UnsafeMailError where it could end a header or become one when decoded."""
    if found := _CONTROL.search(value):
        raise UnsafeMailError(
            f"{what} contains the control character U+{ord(found.group()):04X}: remove it"
        )
    if "=?" in value:
        raise UnsafeMailError(f"{what} contains =?: write the characters themselves")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise UnsafeMailError(f"{what} contains half a surrogate pair: save it as UTF-8 again")
    return value


def _utf8(what: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise UnsafeMailError(f"{what} contains half a surrogate pair: correct its data") from None


def _headers(draft: Draft) -> list[tuple[str, str]]:
    if not _TAG.fullmatch(draft.language):
        raise UnsafeMailError(f"{draft.language!r} isn't a language tag")
    sender = _address(draft.sender_name, draft.sender_address)
    headers = [
        ("From", sender),
        ("To", _address(draft.recipient_name, draft.recipient_address)),
        (
            "Subject",
            _words(_BIDI.sub("", _guard("the subject", draft.subject)), len("Subject: ")),
        ),
        ("Date", format_datetime(draft.date.astimezone(UTC))),
        (
            "Message-ID",
            f"<{_token('uid', draft.uid)}@{_token('domain', draft.domain)}>",
        ),
    ]
    if draft.reply_to:
        headers.append(("Reply-To", _address(*mailbox(draft.reply_to))))
    headers += [
        ("Auto-Submitted", "auto-generated"),
        ("X-Duewatch-Attempt", str(int(draft.attempt))),
        ("Content-Language", draft.language),
    ]
    if url := draft.unsubscribe_url:
        if not _URL.fullmatch(url) or re.search(r"[<>,]", url):
            raise UnsafeMailError("the unsubscribe link isn't a URL in ASCII: encode it (RFC 3986)")
        headers.append(("List-Unsubscribe", f"<{url}>"))
        if url.startswith("https://"):
            # one click by POST is promised only where it can't be read on the way (RFC 8058)
            headers.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    return headers


def _token(what: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", value) or ".." in value:
        raise UnsafeMailError(f"the {what} {value!r} can't stand in a Message-ID: A-Z 0-9 . _ -")
    return value


def _address(name: str, address: str) -> str:
    plain = ascii_address(_guard("the address", address))
    shown = display_name(name)
    if not shown:
        return plain
    if _ATOM_TEXT.fullmatch(shown):
        return (
            f"{shown}\r\n <{plain}>"
            if len(shown) + len(plain) > _FOLD - 12
            else (f"{shown} <{plain}>")
        )
    if _PRINTABLE.fullmatch(shown):
        quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"\r\n <{plain}>'
    return f"{_encoded(shown, len('Reply-To: '))}\r\n <{plain}>"


def _words(text: str, used: int) -> str:
    """Unstructured text for a header: as it is when short ASCII, else encoded words."""
    if _PRINTABLE.fullmatch(text) and used + len(text) <= _FOLD:
        return text
    return _encoded(text, used)


def _encoded(text: str, used: int) -> str:
    """RFC 2047 encoded words, each at most 75 characters and never a split character."""
    lines: list[str] = []
    chunk = b""
    room = (_FOLD - used - len("=?utf-8?b??=")) // 4 * 3
    for character in text:
        octets = character.encode()
        if len(chunk) + len(octets) > room:
            lines.append(f"=?utf-8?b?{base64.b64encode(chunk).decode()}?=")
            chunk, room = b"", (_FOLD - 1 - len("=?utf-8?b??=")) // 4 * 3
        chunk += octets
    lines.append(f"=?utf-8?b?{base64.b64encode(chunk).decode()}?=")
    return "\r\n ".join(lines)


def _multipart(kind: str, boundary: str, root: str = "") -> tuple[str, str]:
    media = f'multipart/{kind};\r\n type="{root}"' if root else f"multipart/{kind}"
    return "Content-Type", f'{media};\r\n boundary="{boundary}"'


def _image_headers(image: Inline) -> list[tuple[str, str]]:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,80}@[A-Za-z0-9.-]{1,80}", image.cid):
        raise UnsafeMailError(f"the Content-ID {image.cid!r} isn't one: letters, digits, one @")
    if not _MEDIA_TYPE.fullmatch(image.content_type):
        raise UnsafeMailError(f"{image.content_type!r} isn't a media type")
    return [
        ("Content-Type", image.content_type),
        ("Content-ID", f"<{image.cid}>"),
        ("Content-Disposition", "inline"),
    ]


def _file_headers(file: Attachment) -> list[tuple[str, str]]:
    name = _guard("a file name", file.filename)
    if not name or re.search(r"[/\\\x00\"]", name) or _BIDI.search(name):
        raise UnsafeMailError("a file name holds a path, a quote or a direction mark: remove it")
    if not _MEDIA_TYPE.fullmatch(file.content_type):
        raise UnsafeMailError(f"{file.content_type!r} isn't a media type")
    return [
        ("Content-Type", f"{file.content_type};\r\n {_parameter('name', name)}"),
        ("Content-Disposition", f"attachment;\r\n {_parameter('filename', name)}"),
    ]


def _parameter(key: str, value: str) -> str:
    """A parameter as RFC 2231 writes it; plain ASCII stays readable."""
    if re.fullmatch(r"[A-Za-z0-9 ._-]{1,60}", value):
        return f'{key}="{value}"'
    sections = [""]
    for character in value:  # never split between sections: some readers decode each by itself
        octets = quote(character, safe="")
        if len(sections[-1]) + len(octets) > _FOLD - 24:
            sections.append("")
        sections[-1] += octets
    sections[0] = f"utf-8''{sections[0]}"
    if len(sections) == 1:
        return f"{key}*={sections[0]}"
    return ";\r\n ".join(f"{key}*{n}*={section}" for n, section in enumerate(sections))


def _block(headers: Sequence[tuple[str, str]]) -> bytes:
    return ("".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode()


def _part(headers: Sequence[tuple[str, str]], content: bytes) -> bytes:
    head = _block([*headers, ("Content-Transfer-Encoding", "base64")])
    return head + _lines(binascii.b2a_base64(content, newline=False))


def _lines(text: bytes) -> bytes:
    """The text in lines of 76 octets, each ended (RFC 2045, section 6.8)."""
    return b"".join([text[at : at + _FOLD] + b"\r\n" for at in range(0, len(text), _FOLD)])


def _multi(boundary: str, parts: Sequence[bytes]) -> bytes:
    line = f"--{boundary}".encode()
    return b"".join(line + b"\r\n" + part for part in parts) + line + b"--\r\n"


def _scan(source: bytes, planned: Sequence[str], boundaries: Sequence[str], draft: Draft) -> None:
    """The last look: what a reader will find must be what was planned, whatever went before."""
    ends = source.count(b"\r\n")
    if source.count(b"\n") != ends or source.count(b"\r") != ends or b"\0" in source:
        raise UnsafeMailError("the finished mail has a bare CR, LF or NUL: it isn't sent")
    head, *parts = _pieces(source, boundaries)
    plans = [list(planned), *_planned_parts(draft)]
    if [_names(piece) for piece in (head, *parts)] != plans:
        raise UnsafeMailError("the finished mail hasn't the planned headers: it isn't sent")


def _planned_parts(draft: Draft) -> list[list[str]]:
    body = ["Content-Type", "Content-Transfer-Encoding"]
    file = ["Content-Type", "Content-Disposition", "Content-Transfer-Encoding"]
    image = ["Content-Type", "Content-ID", "Content-Disposition", "Content-Transfer-Encoding"]
    around = [["Content-Type"]]
    alternative = around if draft.attachments else []
    related = around if draft.images else []
    images, files = [image for _ in draft.images], [file for _ in draft.attachments]
    return [*alternative, body, *related, body, *images, *files]


def _pieces(source: bytes, boundaries: Sequence[str]) -> list[bytes]:
    """The header block of the message and of each part, as a reader splits them."""
    wanted = {boundary.encode() for boundary in boundaries}
    pieces, begin, at = list[bytes](), 0, -2
    # A search of fixed octets takes a tenth of what an expression for whole lines takes.
    while (at := source.find(b"\r\n--=_", at + 2)) >= 0:
        mark = _MARK.match(source, at + 2)
        if mark is not None and mark[1] in wanted:
            pieces.append(source[begin : at + 2])
            begin = mark.end()
    pieces.append(source[begin:])
    return [piece.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n") for piece in pieces if piece]


def _names(block: bytes) -> list[str]:
    names = []
    for line in block.split(b"\r\n"):
        if len(line) > MAX_LINE:
            raise UnsafeMailError(f"a header line is {len(line)} octets long: at most {MAX_LINE}")
        if not line.startswith((b" ", b"\t")):
            names.append(line.partition(b":")[0].decode("ascii", "replace"))
    return names
