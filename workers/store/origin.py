"""From where a person acts: an address of the network, which the audit notes with each act."""

from __future__ import annotations

from contextvars import ContextVar

ORIGIN: ContextVar[str] = ContextVar("origin", default="")
"""The address that what is done now was asked from; empty at the command line."""


def present_origin() -> str:
    """What the audit's column takes by itself, at most 64 characters."""
    return ORIGIN.get()[:64]
