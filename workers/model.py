"""Notifications: their states, the legal moves between them, and what is rendered. Pure.

    planned ──> pending ──> sending ──> accepted ──> delivered
                 │  ▲  │        ├──────> failed <───────┘ (bounced)
                 │  │  ├──> cancelled   ├──> pending (deferred: tried again later)
                 │  │  ├──> suppressed  └──> parked (unknown outcome, bad template)
                 │  └──────── retry / release, by a person
                 └──> parked

Every notification is in exactly one state, so the ledger adds up:
planned = pending + sending + accepted + delivered + failed + suppressed + cancelled + parked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schedules.rule import Channel, Record


class NotificationState(StrEnum):
    """Where a notification stands. Who leaves a state:

    pending     the worker that claims it, or an operator's cancel
    sending     the worker that holds its lease; after the lease, the sweep
    accepted    the provider's receipt
    delivered   nobody, but a late bounce or complaint
    failed      an operator's retry
    suppressed  an operator's retry, once the suppression is lifted
    cancelled   nobody: what it said is moot, or an operator stopped it
    parked      an operator's release or cancel, or a receipt where the outcome was unknown
    """

    PENDING = "pending"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    PARKED = "parked"


class Outcome(StrEnum):
    """What came of one attempt. `unknown`: handed over, and the reply was lost."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


_S = NotificationState
MOVES: Mapping[NotificationState, frozenset[NotificationState]] = {
    _S.PENDING: frozenset({_S.SENDING, _S.CANCELLED, _S.SUPPRESSED, _S.PARKED, _S.FAILED}),
    _S.SENDING: frozenset({_S.ACCEPTED, _S.DELIVERED, _S.PENDING, _S.FAILED, _S.PARKED}),
    _S.ACCEPTED: frozenset({_S.DELIVERED, _S.FAILED}),
    _S.DELIVERED: frozenset({_S.FAILED}),
    _S.FAILED: frozenset({_S.PENDING}),
    _S.SUPPRESSED: frozenset({_S.PENDING}),
    _S.CANCELLED: frozenset(),
    # A report settles what was parked for its unknown outcome.
    _S.PARKED: frozenset({_S.PENDING, _S.CANCELLED, _S.DELIVERED, _S.FAILED}),
}
"""The legal moves; the store refuses every other."""


DIGEST = "digest"
"""The kind of a notification that carries lines of several rules: one person's day."""
DAILY = "daily"
"""The message of a day's digest."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is written to, as it stood when the notification was planned."""

    ref: str
    name: str
    role: str
    address: str
    language: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class NoticeItem:
    """One record in a notification, the stage it is told at, and the message it would be alone."""

    record: Record
    stage: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """All that the renderer needs to write one notification: no SQL, no clock.

    `now` is the instant of sending, so that "2 days left" is true when it is read.
    `list_url` opens the list without signing in, until it expires; `list_token` is its last path
    part, at most 20 characters, for SMS templates with a fixed address.
    `attempt` counts from 1. `required` says that this can't be switched off.
    """

    uid: str
    kind: str
    message: str
    channel: Channel
    recipient: Recipient
    items: tuple[NoticeItem, ...]
    now: datetime
    attempt: int = 1
    list_url: str = ""
    list_token: str = ""
    unsubscribe_url: str = ""
    required: bool = False
