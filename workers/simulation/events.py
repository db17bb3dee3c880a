"""What comes in from outside, as raw fields: the product and its judge both read this."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

PARTNER, CONTACT, LINE = "partner", "contact", "line"
UNSUBSCRIBED = "unsubscribed"
"""A person wants no more of a kind by a channel: channel, address, kind (`*`: all), partner."""


class Event(NamedTuple):
    """One thing that came in at an instant (aware UTC).

    `kind` is `partner`, `contact`, `line` (of a payment), `unsubscribed`, or a record's kind;
    `data` has the fields by their English names, with instants aware and days as dates.
    """

    at: datetime
    kind: str
    data: dict[str, Any]


ORDER = {PARTNER: 0, CONTACT: 1, LINE: 2, UNSUBSCRIBED: 3}


def in_order(event: Event) -> tuple[datetime, int]:
    """By time; of one instant people come first, and lines before the records that have them."""
    return event.at, ORDER.get(event.kind, 4)
