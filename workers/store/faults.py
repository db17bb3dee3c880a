"""Telling a database that is away from a statement that is wrong."""

from __future__ import annotations

import asyncio

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_AWAY = ("08", "53", "58")
"""SQLSTATE's classes: the connection broke; no room, memory or connection is left; the disk."""
_GOING_OR_COMING = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})
"""SQLSTATE: it shuts down, crashed, starts up, threw an idle one out, or is still a standby."""


def is_away(error: BaseException) -> bool:
    """Whether the database couldn't be reached or used just now, so that waiting may help."""
    if isinstance(error, DBAPIError):
        state = _state(error)
        if error.connection_invalidated or state.startswith(_AWAY) or state in _GOING_OR_COMING:
            return True
    away = (OperationalError, InterfaceError, PoolTimeoutError, OSError, asyncio.TimeoutError)
    return isinstance(error, away)


def is_deadlock(error: BaseException) -> bool:
    """Whether PostgreSQL ended a transaction so that another could go on (SQLSTATE 40P01)."""
    return _state(error) == "40P01"


def is_lock_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for a lock (SQLSTATE 55P03)."""
    return _state(error) == "55P03"


def is_not_granted(error: BaseException) -> bool:
    """Whether PostgreSQL refused something to this role, or hasn't it (SQLSTATE 42501, 42883)."""
    return _state(error) in {"42501", "42883"}


def is_cancelled(error: BaseException) -> bool:
    """Whether a statement was ended because it took longer than it was given."""
    return _state(error) == "57014" or "interrupted" in str(getattr(error, "orig", None))


def _state(error: BaseException) -> str:
    """PostgreSQL's word for what went wrong; "" where it has none."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
