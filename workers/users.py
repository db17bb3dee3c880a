"""Users of the console: their roles, what a role may do, and their passwords.

Passwords are kept as argon2id (RFC 9106, the second recommended setting: 64 MiB, 3 passes).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from workers.core import Core
from workers.errors import InputError, StateError
from workers.store import Row
from workers.tokens import Scope

SHORTEST: Final = 12
"""Characters of a password at least (NIST SP 800-63B asks for length, not for kinds of signs)."""
LONGEST: Final = 200
LONGEST_SUBJECT: Final = 255
"""Characters of a provider's subject (OpenID Connect Core 1.0, 2)."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{1,79}")
_AT_A_TIME = ThreadPoolExecutor(2, thread_name_prefix="passwords")
"""Each takes 64 MiB while it runs: so many at a time, whoever asks."""
_HASHER = PasswordHasher()


class Role(StrEnum):
    """What a user may do, from least to most."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"


_READS = frozenset({Scope.RECORDS_READ, Scope.NOTIFICATIONS_READ, Scope.RULES_READ})
SCOPES: Final[Mapping[Role, frozenset[str]]] = {
    # Names and addresses are people's own: a viewer sees them masked, and not what messages say.
    Role.VIEWER: _READS,
    Role.OPERATOR: _READS
    | {
        Scope.PEOPLE_READ,
        Scope.PEOPLE_WRITE,
        Scope.RECORDS_WRITE,
        Scope.NOTIFICATIONS_WRITE,
        Scope.RULES_RUN,
        Scope.QUARANTINE_READ,
        Scope.QUARANTINE_WRITE,
        Scope.EVENTS_READ,
        Scope.EVENTS_WRITE,
    },
    Role.ADMINISTRATOR: frozenset({Scope.ADMIN}),
}
"""The one place that says what a role may do."""


def checked_name(name: str) -> str:
    """A name to sign in with, in small letters. Raises InputError."""
    found = name.strip().lower()
    if not _NAME.fullmatch(found):
        raise InputError(
            f"name {name!r}: 2 to 80 letters, digits and . _ @ + -, the first a letter or digit"
        )
    return found


def checked_role(role: str) -> Role:
    """Raises InputError naming the roles."""
    try:
        return Role(role)
    except ValueError:
        raise InputError(f"role {role!r}: one of {', '.join(Role)}") from None


def check_password(password: str, name: str) -> None:
    """Raises InputError when a password is too short, too long, or as good as the name."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(f"password: {SHORTEST} to {LONGEST} characters; a sentence is best")
    if name.lower() in password.lower() or len(set(password)) < 5:
        raise InputError("password: it is guessed at once: use another, a sentence is best")


async def hashed(password: str) -> str:
    """What is kept of a password. Takes about a tenth of a second, in a thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_AT_A_TIME, _HASHER.hash, password)


async def fits(password: str, kept: str | None) -> bool:
    """Whether it is the password. As long where there is none, so that nobody learns of names."""
    against = kept or await _nobodys()
    loop = asyncio.get_running_loop()
    right = await loop.run_in_executor(_AT_A_TIME, _verified, against, password[:LONGEST])
    return right and bool(kept)


def _verified(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


_NOBODYS: list[str] = []


async def _nobodys() -> str:
    if not _NOBODYS:
        _NOBODYS.append(await hashed("nobody has this password"))
    return _NOBODYS[0]


async def add(core: Core, name: str, role: str, password: str, by: str) -> Row[Any]:
    """Lets somebody sign in.

    Raises InputError for what isn't allowed, StateError when the name is taken.
    """
    name, role = checked_name(name), checked_role(role)
    check_password(password, name)
    kept = await hashed(password)
    return await core.store.users.add(name, role, kept, by, core.clock())


async def set_password(core: Core, name: str, password: str, by: str) -> Row[Any]:
    """Gives a user another password and ends the sessions. Raises InputError, UnknownThingError."""
    check_password(password, name)
    kept = await hashed(password)
    return await core.store.users.change(
        name, by, "user password", "", core.clock(), password_hash=kept
    )


async def set_role(core: Core, name: str, role: str, by: str) -> Row[Any]:
    """Gives a user another role and ends the sessions.

    Raises InputError, UnknownThingError, StateError where no administrator would be left.
    """
    found = checked_role(role)
    return await core.store.users.change(name, by, "user role", found, core.clock(), role=found)


def subject_at(issuer: str, subject: str) -> str:
    """Whom a provider means, as it is kept. Raises InputError for what can't be a subject."""
    if not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise InputError(f"subject {subject[:20]!r}: 1 to {LONGEST_SUBJECT} printable characters")
    return f"{issuer}|{subject}"


async def link(core: Core, name: str, subject: str, by: str) -> Row[Any]:
    """Has a user sign in as that subject of the provider; the password and the sessions end.

    Raises InputError without a provider, UnknownThingError, StateError when the subject is
    another user's.
    """
    oidc = core.settings.console.oidc
    if not oidc.on:
        raise InputError("there is no provider to link with: set console.oidc.issuer")
    kept = subject_at(oidc.issuer, subject)
    other = await core.store.users.known(kept)
    if other is not None and other.name != name.lower():
        raise StateError(f"the provider's {subject!r} is user {other.name!r} already")
    return await core.store.users.change(
        name, by, "user link", subject, core.clock(), subject=kept, password_hash=""
    )


async def disable(core: Core, name: str, by: str, reason: str) -> Row[Any]:
    """Lets a user in no more and ends the sessions.

    Raises UnknownThingError, StateError where no administrator would be left.
    """
    now = core.clock()
    return await core.store.users.change(name, by, "user disable", reason, now, disabled_at=now)


async def enable(core: Core, name: str, by: str, reason: str) -> Row[Any]:
    """Lets a user in again. Raises UnknownThingError."""
    now = core.clock()
    return await core.store.users.change(name, by, "user enable", reason, now, disabled_at=None)
