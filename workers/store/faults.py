"""Telling a database that is away from a statement that is wrong."""

from __future__ import annotations

import asyncio

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


def is_away(error: BaseException) -> bool:
    """Whether the database couldn't be reached or used just now, so that waiting may help."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    away = (OperationalError, InterfaceError, PoolTimeoutError, OSError, asyncio.TimeoutError)
    return isinstance(error, away)


def is_deadlock(error: BaseException) -> bool:
    """Whether PostgreSQL ended a transaction so that another could go on (SQLSTATE 40P01)."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlstate", None) == "40P01"


def is_lock_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for a lock (SQLSTATE 55P03)."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlstate", None) == "55P03"


def is_cancelled(error: BaseException) -> bool:
    """Whether a statement was ended because it took longer than it was given."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlstate", None) == "57014" or "interrupted" in str(cause)
