"""What is said of a change: a CloudEvent in JSON, without addresses or names.

The same change is the same id, however often it is told and to whom.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from workers.endpoints import WORDS
from workers.store.webhooks import Telling

MAX_RECORDS = 100
"""Named in one message; `record_count` says how many there are."""
PREFIX = "duewatch.notification"
TEST = "duewatch.webhook.test.v1"
_SMTP = re.compile(r"(\d{3})(?:[ -](\d\.\d{1,3}\.\d{1,3}))?(?=[\s-]|$)")
_VENDOR = re.compile(r"\b(?:HTTP (\d{3}))\b(?: ([A-Z]{0,3}\d{4,10})\b)?")


def uid_of(telling: Telling) -> str:
    """The change's id: the notification, the fence it had and what it came to."""
    return f"{telling.row.uid}-{telling.row.fence}-{telling.row.word}"


def reply_code(reply: str | None) -> str:
    """The numbers that a provider's reply begins with; "" where there are none.

    Never its words: they may name the recipient.
    """
    found = _SMTP.match(reply or "") or _VENDOR.search(reply or "")
    return " ".join(part for part in found.groups() if part) if found else ""


def letter(telling: Telling, source: str, kinds: Collection[str]) -> bytes:
    """The body. `source` is who says it; records of other than these `kinds` aren't named."""
    row = telling.row
    lines = [line for line in telling.lines if not kinds or line.kind in kinds]
    data: dict[str, Any] = {
        "notification": row.uid,
        "kind": row.kind,
        "message": row.message,
        "channel": row.channel,
        "role": row.role,
        "state": WORDS[row.word].value,
        "attempt": row.attempt,
        "records": [
            {"kind": line.kind, "ref": line.ref, "stage": line.stage}
            | ({"dropped": True} if line.dropped is not None else {})
            for line in lines[:MAX_RECORDS]
        ],
        "record_count": len(lines),
    }
    if row.outcome is not None and row.word != "sending":
        data["outcome"] = row.outcome
        if code := reply_code(row.reply):
            data["reply_code"] = code
    if telling.receipt:
        data["receipt"] = telling.receipt
    return envelope(uid_of(telling), f"{PREFIX}.{row.word}.v1", source, row.at, data, row.uid)


def envelope(
    uid: str, kind: str, source: str, at: datetime, data: dict[str, Any], subject: str = ""
) -> bytes:
    """A CloudEvent 1.0 in JSON. `at` is an aware instant."""
    event = {
        "specversion": "1.0",
        "id": uid,
        "source": source,
        "type": kind,
        "time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        **({"subject": subject} if subject else {}),
        "data": data,
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
