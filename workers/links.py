"""Signed links: short enough for an SMS, good until they expire, useless for anything else.

A token is 15 bytes as 20 base64url characters: the notification's id (40 bits) and the first 80
bits of HMAC-SHA256 over purpose, id and expiry. The expiry is the notification's own, so it isn't
in the token but is under the signature. Twenty characters is the most that a variable of a
mainland SMS template carries.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

Purpose = Literal["list", "unsubscribe"]
_PATHS: dict[Purpose, str] = {"list": "l", "unsubscribe": "u"}


class Links:
    """Makes and checks tokens. `keys`: the first signs, all are accepted (rotation)."""

    def __init__(self, base_url: str, keys: Sequence[str]) -> None:
        self._base = base_url
        self._keys = [key.encode() for key in keys]

    def token(self, purpose: Purpose, notification_id: int, until: datetime) -> str:
        """A token for one notification, good until `until` (aware UTC)."""
        number = notification_id.to_bytes(5, "big")
        signed = number + _mac(self._keys[0], purpose, number, until)
        return base64.urlsafe_b64encode(signed).decode()

    def url(self, purpose: Purpose, notification_id: int, until: datetime) -> str:
        """The whole address."""
        return self.at(purpose, self.token(purpose, notification_id, until))

    def at(self, purpose: Purpose, token: str) -> str:
        """The whole address of a token."""
        return f"{self._base}/{_PATHS[purpose]}/{token}"

    @staticmethod
    def notification_id(token: str) -> int | None:
        """Which notification a token speaks of, unchecked; None when it can't be a token."""
        try:
            raw = base64.urlsafe_b64decode(token)
        except (binascii.Error, ValueError):
            return None
        return int.from_bytes(raw[:5], "big") if len(raw) == 15 else None

    def is_good(self, purpose: Purpose, token: str, until: datetime, now: datetime) -> bool:
        """Whether the signature fits the notification's expiry and that hasn't passed."""
        try:
            raw = base64.urlsafe_b64decode(token)
        except (binascii.Error, ValueError):
            return False
        # Compared in constant time, and as text too: base64 has spare bits that must be zero.
        fits = any(
            hmac.compare_digest(raw[5:], _mac(key, purpose, raw[:5], until)) for key in self._keys
        )
        return fits and base64.urlsafe_b64encode(raw).decode() == token and now < until


def _mac(key: bytes, purpose: Purpose, number: bytes, until: datetime) -> bytes:
    said = f"{purpose}|{number.hex()}|{int(until.timestamp())}".encode()
    return hmac.digest(key, said, "sha256")[:10]
