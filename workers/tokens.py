"""Tokens: what a program or a person may do by HTTP. Made here, checked at the door.

A token is `dw_<prefix>_<secret>`: the prefix finds it and may be shown, of the secret (192 bits)
only the SHA-256 is kept. `kinds` limit what a producer may send, so they go with the scopes of
events alone.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from workers.core import Core
from workers.errors import InputError
from workers.event_types import EventTypes
from workers.render.formats import N_
from workers.store import Row

SECRET_BYTES: Final = 24
FORM: Final = re.compile(r"dw_([0-9a-f]{12})_([0-9a-f]{48})")


class Scope(StrEnum):
    """What a token may do. `admin` may do everything; none other includes another."""

    EVENTS_WRITE = "events:write"
    EVENTS_READ = "events:read"
    RECORDS_READ = "records:read"
    RECORDS_WRITE = "records:write"
    PEOPLE_READ = "people:read"
    PEOPLE_WRITE = "people:write"
    NOTIFICATIONS_READ = "notifications:read"
    NOTIFICATIONS_WRITE = "notifications:write"
    RULES_READ = "rules:read"
    RULES_RUN = "rules:run"
    QUARANTINE_READ = "quarantine:read"
    QUARANTINE_WRITE = "quarantine:write"
    ADMIN = "admin"


MEANING: Final[dict[Scope, str]] = {
    Scope.EVENTS_WRITE: N_("send events"),
    Scope.EVENTS_READ: N_("ask what became of an event"),
    Scope.RECORDS_READ: N_("records, why their people were told, what is due and what will be"),
    Scope.RECORDS_WRITE: N_("snooze, close and reopen records"),
    Scope.PEOPLE_READ: N_("partners, contacts, their wishes, and who isn't written to"),
    Scope.PEOPLE_WRITE: N_("bring in partners and contacts, choose for them, stop writing to them"),
    Scope.NOTIFICATIONS_READ: N_("notifications, as they were sent, and how providers stand"),
    Scope.NOTIFICATIONS_WRITE: N_("retry, release and cancel notifications, ring the workers"),
    Scope.RULES_READ: N_("rules, their runs, and what reminders led to"),
    Scope.RULES_RUN: N_("run, pause and resume rules"),
    Scope.QUARANTINE_READ: N_("what couldn't be taken, whole"),
    Scope.QUARANTINE_WRITE: N_("take it after all, or throw it away"),
    Scope.ADMIN: N_("everything, tokens, providers and the audit too"),
}
OF_EVENTS: Final = frozenset({Scope.EVENTS_WRITE, Scope.EVENTS_READ})


@dataclass(frozen=True, slots=True)
class Made:
    """A token that was just made: `text` is told once, here, and kept nowhere."""

    text: str
    row: Row[Any]


async def make(
    core: Core,
    name: str,
    scopes: Collection[str],
    kinds: Collection[str] | None,
    expires_at: datetime | None,
    by: str,
) -> Made:
    """Makes a token. `kinds` None lets it send every kind; `expires_at` None never ends.

    Raises InputError, and StateError when one that isn't revoked has the name.
    """
    now = core.clock()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,79}", name) or _is_prefix(name):
        raise InputError(
            f"name {name!r}: must be 1 to 80 letters, digits, spaces or ._@- and no prefix"
        )
    if expires_at is not None and expires_at <= now:
        raise InputError(f"expires_at {expires_at.isoformat()} is past: give a time to come")
    prefix, secret = secrets.token_hex(6), secrets.token_hex(SECRET_BYTES)
    row = await core.store.tokens.add(
        prefix=prefix,
        name=name,
        digest=digest(secret),
        scopes=_scopes(scopes),
        kinds=_kinds(core, scopes, kinds),
        expires_at=expires_at,
        by=by,
        now=now,
    )
    return Made(f"dw_{prefix}_{secret}", row)


def digest(secret: str) -> str:
    """What is kept of a secret: a random one of 192 bits needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def standing(row: Row[Any], now: datetime) -> str:
    """live, expired or revoked."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "live"


def _is_prefix(name: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{12}", name) is not None


def _scopes(scopes: Collection[str]) -> list[str]:
    known = {one.value for one in Scope}
    if odd := sorted(set(scopes) - known) or not scopes:
        said = f"there is no scope {', '.join(odd)}: " if isinstance(odd, list) else "is empty: "
        raise InputError(f"scopes: {said}they are {', '.join(sorted(known))}")
    return [one.value for one in Scope if one.value in set(scopes)]


def _kinds(
    core: Core, scopes: Collection[str], kinds: Collection[str] | None
) -> Sequence[str] | None:
    if kinds is None:
        return None
    known = {one.kind for one in EventTypes(core.rules)}
    if odd := sorted(set(kinds) - known):
        raise InputError(
            f"kinds: no event brings {', '.join(odd)}: they are {', '.join(sorted(known))}"
        )
    if not kinds or set(scopes) - {one.value for one in OF_EVENTS}:
        raise InputError(
            "kinds: limit events:write and events:read only: leave kinds or the other scopes out"
        )
    return sorted(set(kinds))
