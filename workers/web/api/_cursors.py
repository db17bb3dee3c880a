"""Cursors: where a list goes on, as text that means nothing to anybody else.

A cursor is bound to its list and filters, so that one of another list is refused rather than
answered with something that looks right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from workers.web.api._operation import Call
from workers.web.problems import ProblemError


def write_cursor(call: Call, last: Any) -> str:
    """A cursor for what follows `last`, a JSON value."""
    content = json.dumps([_mark(call), last], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def read_cursor(call: Call, like: type) -> Any:
    """What a call's list goes on after, or None at its beginning.

    `like` is int, str or list: what `last` was. Raises ProblemError 400 for a cursor of something
    else.
    """
    text = call.query.cursor
    if text is None:
        return None
    try:
        content = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        mark, last = json.loads(content)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise ProblemError("cursor") from None
    fits = type(last) is like and mark == _mark(call)
    if not fits or (isinstance(last, int) and not 0 <= last < 2**63):
        raise ProblemError("cursor")
    if isinstance(last, str) and ("\0" in last or not last.isprintable()):
        raise ProblemError("cursor")
    return last


def _mark(call: Call) -> str:
    filters = call.query.model_dump(mode="json", exclude={"cursor", "limit"})
    place = call.place.model_dump(mode="json") if call.place is not None else {}
    resource = call.request.match_info.route.resource
    about = [resource.canonical if resource else "", place, filters]
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def page(call: Call, rows: list[Any], last: str) -> dict[str, Any]:
    """A page from one row more than was asked for; `last` is the column that the list goes by."""
    shown = rows[: call.query.limit]
    more = len(rows) > call.query.limit
    return {
        "items": shown,
        "next": write_cursor(call, getattr(shown[-1], last)) if more else None,
    }
