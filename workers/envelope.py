"""The envelope: a CloudEvent read strictly, or taken out of a producer's seal.

A queue carries no proof of who wrote into it. Where that matters a producer seals its events:

    {"sealed": "v1", "producer": "billing", "key": "2026a", "id": "b7d1c6",
     "time": "2026-11-24T02:00:00Z", "body": "<the CloudEvent, as JSON text>", "signature": "…"}

`signature` is the base64 of HMAC-SHA256, keyed by that key's secret, over `id.time.body` in UTF-8
(as Standard Webhooks sign). The event is text within it, so that what is signed is what is read,
whatever writes or passes on the message. `time` is when it was sealed (RFC 3339): what is older
than repeats are remembered, or ahead of the clock by more than AHEAD, isn't taken.

Sources: CloudEvents 1.0.2 and its JSON format; RFC 7493 (I-JSON); RFC 2104 (HMAC).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from schedules.fields import read_instant
from workers.errors import InputError
from workers.settings import Producer, Settings

MAX_EVENT_BYTES = 64 * 1024
"""Of one event, as compact JSON; longer lists come in files."""
MAX_DEPTH = 16
MAX_FAULTS = 20
"""Named of one event; the rest shows once these are mended."""
MAX_ATTRIBUTE = 200
"""Characters of `source`, `id` and other attributes."""
MAX_INTEGER = 2**53 - 1
"""Beyond it a number isn't the same in every JSON library (RFC 7493, 2.2)."""
AHEAD = timedelta(minutes=5)
"""How far a producer's clock may be ahead of ours."""
SEALED = "v1"

_NAME = re.compile(r"[a-z0-9]{1,40}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HALF = re.compile(r"[\ud800-\udfff]")
_KNOWN = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"}
)
_SEAL = ("sealed", "producer", "key", "id", "time", "body", "signature")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in an event. `field` is a JSON pointer (RFC 6901) within the event."""

    field: str
    detail: str


class RefusedError(Exception):
    """An event can't be taken, and why; nothing of it is stored."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{one.field or 'event'} {one.detail}" for one in faults))
        self.faults = faults[:MAX_FAULTS]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, as the door has made sure of; `kinds` it may send of, and `sources`: None, all."""

    name: str
    kinds: frozenset[str] | None = None
    sources: frozenset[str] | None = None

    def check(self, event: Mapping[str, Any], kind: str) -> None:
        """Raises RefusedError for an event that isn't this sender's to send."""
        if self.kinds is not None and kind not in self.kinds:
            allowed = ", ".join(sorted(self.kinds)) or "none"
            raise RefusedError(
                Fault("/type", f"{self.name} may not send {kind} events: its kinds are {allowed}")
            )
        if self.sources is not None and event["source"] not in self.sources:
            allowed = ", ".join(sorted(self.sources))
            raise RefusedError(
                Fault("/source", f"isn't a source of {self.name}: its sources are {allowed}")
            )


class Seals:
    """What comes sealed is opened with the producers' keys of `[producers.<name>]`."""

    def __init__(self, settings: Settings) -> None:
        self._producers = settings.producers
        self.required = settings.events.require_signature
        self._remembered = timedelta(days=settings.retention.events_days)

    def open(self, raw: Any, now: datetime) -> tuple[Any, Sender | None]:
        """(the event, who sealed it). What isn't sealed comes back as it is, with None.

        Raises RefusedError for a seal that doesn't hold.
        """
        if not isinstance(raw, Mapping) or "sealed" not in raw:
            return raw, None
        said = _sealed(raw)
        producer = self._producers.get(said["producer"])
        key = None if producer is None else producer.keys.get(said["key"])
        if producer is None or key is None:
            raise RefusedError(
                Fault(
                    "/key", "there is no such producer and key: add it to [producers.<name>] keys"
                )
            )
        expected = signature(key.get_secret_value(), said["id"], said["time"], said["body"])
        if not hmac.compare_digest(_bytes(said["signature"]), _bytes(expected)):
            raise RefusedError(
                Fault(
                    "/signature", "is wrong: HMAC-SHA256 over id.time.body with this key's secret"
                )
            )
        self._check_time(said["time"], now)
        event = _body(said["body"])
        if not isinstance(event, Mapping) or event.get("id") != said["id"]:
            raise RefusedError(Fault("/id", "isn't the id of the event within"))
        return event, _sender(said["producer"], producer)

    def _check_time(self, text: str, now: datetime) -> None:
        if fault := time_fault(text):
            raise RefusedError(Fault("/time", fault))
        at = read_instant(text.upper())
        if at > now + AHEAD:
            raise RefusedError(Fault("/time", "is ahead of this clock: set the producer's clock"))
        if at < now - self._remembered:
            raise RefusedError(
                Fault("/time", "is so long ago that a repeat wouldn't be known: seal it anew")
            )


def seal(event: Mapping[str, Any], producer: str, key: str, secret: str, time: str) -> str:
    """A sealed event as JSON text, ready for a queue. `time` is now, in RFC 3339."""
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
    number = str(event.get("id", ""))
    signed = signature(secret, number, time, body)
    values = (SEALED, producer, key, number, time, body, signed)
    return json.dumps(dict(zip(_SEAL, values, strict=True)), ensure_ascii=False)


def signature(secret: str, number: str, time: str, body: str) -> str:
    """HMAC-SHA256 over `id.time.body`, in base64."""
    content = f"{number}.{time}.{body}".encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(secret.encode(), content, "sha256")).decode()


def _sealed(raw: Mapping[str, Any]) -> dict[str, str]:
    faults = []
    for name in _SEAL:
        value = raw.get(name)
        if not isinstance(value, str) or not value:
            faults.append(Fault(f"/{name}", "must be text that isn't empty"))
        elif name != "body" and len(value) > MAX_ATTRIBUTE:
            faults.append(Fault(f"/{name}", f"is longer than {MAX_ATTRIBUTE} characters"))
    faults += [
        Fault(f"/{pointer_part(str(name))}", "isn't a part of a seal") for name in {*raw} - {*_SEAL}
    ]
    if not faults and raw["sealed"] != SEALED:
        faults.append(Fault("/sealed", f'must be "{SEALED}"'))
    if faults:
        raise RefusedError(*faults)
    return {name: raw[name] for name in _SEAL}


def _bytes(text: str) -> bytes:
    """What a base64 text holds; one that isn't base64 equals no signature."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _body(text: str) -> Any:
    try:
        return read_json(text.encode("utf-8", "surrogatepass"))
    except InputError as error:
        raise RefusedError(Fault("/body", str(error))) from None


def _sender(name: str, producer: Producer) -> Sender:
    kinds = frozenset(producer.kinds) if producer.kinds is not None else None
    sources = frozenset(producer.sources) if producer.sources is not None else None
    return Sender(name, kinds, sources)


# --- reading ------------------------------------------------------------------------------


def check(raw: Any) -> tuple[Mapping[str, Any], str]:
    """(the event, its mark: SHA-256 of its content in one form). Looks at the envelope alone.

    Raises RefusedError naming every attribute that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise RefusedError(Fault("", "an event is a JSON object"))
    if faults := [*shape_faults(raw)]:
        raise RefusedError(*faults)
    content = _canonical(raw)
    if len(content) > MAX_EVENT_BYTES:
        raise RefusedError(
            Fault(
                "",
                f"the event is {len(content)} bytes long, at most {MAX_EVENT_BYTES}: "
                "bring a longer list in as a file with duewatch import",
            )
        )
    if faults := [*_attribute_faults(raw)]:
        raise RefusedError(*faults)
    return raw, hashlib.sha256(content).hexdigest()


def read_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no repeated keys, no NaN or Infinity. Numbers with a point are Decimal.

    Raises InputError saying what is wrong and where.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_float=Decimal,
        )
    except UnicodeDecodeError as error:
        raise InputError(f"isn't UTF-8 at byte {error.start}: encode it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"isn't JSON at {where}: {error.msg}") from None
    except RecursionError:
        raise InputError(f"is nested too deep: at most {MAX_DEPTH} levels") from None
    except (ValueError, ArithmeticError):
        raise InputError("a number is too long: shorten it") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"the key {key[:60]!r} is there twice: say which one counts")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise InputError(f"{name} isn't a number in JSON: leave the field out")


_CANONICAL = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str
)


def _canonical(value: Any) -> bytes:
    """One form for equal content: sorted keys, no spaces."""
    return _CANONICAL.encode(value).encode()


def shape_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """What no database or JSON library could keep as it is: depth, numbers, half characters."""
    left: list[tuple[_Place | None, Any, int]] = [(None, raw, 1)]
    while left:
        place, value, depth = left.pop()
        if depth > MAX_DEPTH:
            yield Fault(_pointer(place), f"is nested too deep: at most {MAX_DEPTH} levels")
            return
        if isinstance(value, str):
            if fault := _text_fault(value):
                yield Fault(_pointer(place), fault)
        elif isinstance(value, Mapping | list | tuple):
            for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
                if fault := _text_fault(str(key)):
                    yield Fault(_pointer(place), f"has a key that {fault}")
                    return
                left.append(((place, key), part, depth + 1))
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            yield Fault(_pointer(place), "is a number of more than 53 bits: write it as text")


_Place = tuple[Any, str | int]
"""(the place of what it is in, its key or index); only of a fault is the pointer written."""


def _pointer(place: _Place | None) -> str:
    parts = []
    while place is not None:
        place, key = place
        parts.append(f"/{pointer_part(str(key))}")
    return "".join(reversed(parts))


def _text_fault(text: str) -> str:
    if "\0" in text:
        return "contains the control character NUL: remove it"
    if not text.isascii() and _HALF.search(text):
        return "contains half a surrogate pair: encode the event as UTF-8 again"
    return ""


def _attribute_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    if raw.get("specversion") != "1.0":
        yield Fault("/specversion", 'must be "1.0"')
    for name in ("id", "source", "type"):
        value = raw.get(name)
        if not isinstance(value, str) or not value:
            yield Fault(f"/{name}", "must be text that isn't empty")
        elif len(value) > MAX_ATTRIBUTE or _UNPRINTABLE.search(value):
            yield Fault(f"/{name}", f"must be 1 to {MAX_ATTRIBUTE} characters without spaces")
    media = raw.get("datacontenttype", "application/json")
    if not isinstance(media, str) or media.partition(";")[0].strip().lower() != "application/json":
        yield Fault("/datacontenttype", "must be application/json, or be left out")
    if "data_base64" in raw:
        yield Fault("/data_base64", "isn't taken: put the JSON object into data")
    if raw.get("time") is not None and (said := time_fault(raw["time"])):
        yield Fault("/time", said)
    yield from _extension_faults(raw)


def _extension_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    for name, value in raw.items():
        if name in _KNOWN or name in {"data", "data_base64"}:
            continue
        if not _NAME.fullmatch(name):
            yield Fault(f"/{pointer_part(name)}", "an attribute's name is a-z and 0-9 only")
        elif not isinstance(value, str | int | bool | None):
            yield Fault(f"/{name}", "an attribute is text, a whole number, true or false")


def time_fault(value: Any) -> str:
    """What is wrong with an RFC 3339 time, or nothing."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return "must be a time with its zone (RFC 3339), like 2026-11-20T10:00:00+08:00"
    try:
        read_instant(value.upper())
    except (ValueError, OverflowError) as error:
        return str(error)
    return ""


def shown(value: Any) -> str:
    """What can be repeated in an answer: at most MAX_ATTRIBUTE printable characters."""
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text[:MAX_ATTRIBUTE] if c.isprintable())


def pointer_part(name: str) -> str:
    """A name within a JSON pointer, shortened to what a person recognises."""
    return shown(name[:60]).replace("~", "~0").replace("/", "~1")
