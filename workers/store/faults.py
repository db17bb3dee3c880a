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
