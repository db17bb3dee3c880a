"""A kept mail, taken apart for looking at: headers, texts, files. Nothing in it is trusted."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Literal

Look = Literal["light", "dark", "own"]
LINKS_LEAD_OUT = "allow-popups allow-popups-to-escape-sandbox"
"""What a frame with a mail may do: nothing but open what is clicked, outside."""
FRAME_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    f"base-uri 'none'; frame-ancestors 'self'; sandbox {LINKS_LEAD_OUT}"
)
_DARK = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*dark\s*\)", re.IGNORECASE)
_CID = re.compile(r"cid:([\w.@+-]+)")
_SHOWN = ("image/png", "image/jpeg", "image/gif")
"""Pictures that stand in a mail's HTML; all else that comes along is a file."""
_LIGHT = re.compile(r"@media\s*\(\s*prefers-color-scheme\s*:\s*light\s*\)", re.IGNORECASE)
_CODED = re.compile(rb"(?m)(?:^[A-Za-z0-9+/]{60,}\r?\n){12,}")
_KEPT_LINES = 4


@dataclass(frozen=True, slots=True)
class File:
    """An attachment. `media` is its type as the mail states it."""

    name: str
    media: str
    content: bytes


@dataclass(frozen=True, slots=True)
class OpenedMail:
    """A mail's parts. `headers` are decoded, in their order; pictures stand in the HTML itself."""

    headers: tuple[tuple[str, str], ...]
    html: str
    text: str
    files: tuple[File, ...]
    source: bytes

    def header(self, name: str) -> str:
        """The first header of that name, or ""."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


def open_mail(source: bytes) -> OpenedMail:
    """Takes a mail apart; what can't be read is shown as far as it can. Never raises."""
    message = message_from_bytes(source, policy=policy.default)
    html = text = ""
    files: list[File] = []
    images: dict[str, str] = {}
    for part in _leaves(message):
        name = _safely(part.get_filename)
        media = part.get_content_type()
        shown = _safely(lambda p=part: p["Content-ID"]).strip("<> ")
        if shown and media in _SHOWN:
            images[shown] = f"data:{media};base64,{base64.b64encode(_bytes(part)).decode()}"
        elif name or part.get_content_disposition() == "attachment":
            files.append(File(_printable(name) or f"file-{len(files) + 1}", media, _bytes(part)))
        elif media == "text/html" and not html:
            html = _text(part)
        elif media == "text/plain" and not text:
            text = _text(part)
        else:
            files.append(File(f"part-{len(files) + 1}", media, _bytes(part)))
    headers = tuple((name, _safely(lambda n=name: message[n])) for name in _names(message))
    html = _CID.sub(lambda found: images.get(found[1], found[0]), html)
    return OpenedMail(headers, html, text, tuple(files), source)


def abridged(source: bytes, most: int, left_out: str) -> str:
    """A mail's source for reading: of a file's base64 its first lines, and at most `most` bytes.

    `left_out` is a line that stands for what is missing, with the bytes it has as `%(n)s`.
    """

    def shorter(found: re.Match[bytes]) -> bytes:
        lines = found[0].splitlines(keepends=True)
        rest = sum(map(len, lines[_KEPT_LINES:]))
        return b"".join(lines[:_KEPT_LINES]) + (left_out % {"n": f"{rest:,}"}).encode() + b"\r\n"

    short = _CODED.sub(shorter, source)
    text = short[:most].decode("utf-8", "replace")
    return text if len(short) <= most else f"{text}\n{left_out % {'n': f'{len(short) - most:,}'}}"


def framed(html: str, look: Look) -> str:
    """The mail's page for the frame: links open outside of it, and dark mode as it is wished."""
    if look != "own":
        html = _DARK.sub("@media all" if look == "dark" else "@media not all", html)
        html = _LIGHT.sub("@media not all" if look == "dark" else "@media all", html)
    scheme = {"light": "light only", "dark": "dark only", "own": "light dark"}[look]
    # Within <head> the mail's own <base> would come later and lose: the first counts.
    first = '<base target="_blank">'
    last = f"<style>:root{{color-scheme:{scheme}!important}}</style>"
    head = re.search(r"<head[^>]*>", html, re.IGNORECASE)
    end = re.search(r"</head\s*>", html, re.IGNORECASE)
    if head is None or end is None or end.start() < head.end():
        return f"<!DOCTYPE html><meta charset=utf-8>{first}{last}{html}"
    return html[: head.end()] + first + html[head.end() : end.start()] + last + html[end.start() :]


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    for part in message.walk():
        if not part.is_multipart():
            yield part


def _names(message: EmailMessage) -> Iterator[str]:
    seen: set[str] = set()
    for name in message.keys():  # noqa: SIM118  iterating a message gives nothing else
        if name.lower() not in seen:
            seen.add(name.lower())
            yield name


def _safely(read: object) -> str:
    try:
        value = read() if callable(read) else read
    except Exception:  # the standard library's parsers raise many things on malformed headers
        return "(unreadable)"
    return str(value or "")


def _bytes(part: EmailMessage) -> bytes:
    try:
        content = part.get_payload(decode=True)
    except Exception:
        return b""
    return content if isinstance(content, bytes) else b""


def _text(part: EmailMessage) -> str:
    charset = part.get_content_charset() or "utf-8"
    try:
        return _bytes(part).decode(charset, "replace")
    except LookupError:
        return _bytes(part).decode("utf-8", "replace")


def _printable(name: str) -> str:
    """A file name for saving: no path, no control characters."""
    plain = "".join(c for c in name if c.isprintable() and c not in '\\/:*?"<>|')
    return plain.strip(". ")[:150]
