"""What came of an attempt: what becomes of the message, and what it says of the provider. Pure."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta

from workers.errors import PermanentError, ProviderError, TransientError
from workers.model import NotificationState, Outcome
from workers.settings import Delivery as DeliverySettings
from workers.store.attempts import Claimed, Finished
from workers.store.breakers import Turn

S = NotificationState
_LESS = re.compile(r"4(21|5\d)\b.*(\brate\b|too many|throttl|slow down)", re.IGNORECASE | re.DOTALL)


def failed(
    claimed: Claimed,
    error: ProviderError,
    repeat_is_safe: bool,
    settings: DeliverySettings,
    now: datetime,
) -> Finished:
    """What becomes of a message that wasn't accepted, as far as anybody knows.

    `repeat_is_safe` is the provider's; `now` is business time.
    """
    number = claimed.row.attempt_count + 1
    if isinstance(error, PermanentError):
        return Finished(
            claimed,
            Outcome.REJECTED,
            S.FAILED,
            error.reply,
            reason=str(error),
            address_is_bad=error.address_is_bad,
        )
    outcome = Outcome.DEFERRED if isinstance(error, TransientError) else Outcome.UNKNOWN
    if outcome is Outcome.UNKNOWN and not repeat_is_safe:
        reason = f"unknown outcome: {error}"
        return Finished(claimed, outcome, S.PARKED, error.reply, reason=reason)
    if number >= settings.attempts:
        reason = f"gave up after {number} attempts: {error}"
        return Finished(claimed, outcome, S.FAILED, error.reply, reason=reason)
    wished = error.retry_after if isinstance(error, TransientError) else None
    again = now + max(wished or timedelta(0), back_off(claimed.row.uid, number, settings))
    return Finished(claimed, outcome, S.PENDING, error.reply, reason=str(error), again_at=again)


def back_off(uid: str, number: int, settings: DeliverySettings) -> timedelta:
    """The time to the next try: doubled each time, up to a limit, ±15 % steady by message."""
    spread = hashlib.sha256(f"{uid}{number}".encode()).digest()[0] / 255 * 0.3 - 0.15
    wait = min(settings.first_retry_s * 2 ** (number - 1), settings.longest_retry_s)
    return timedelta(seconds=wait * (1 + spread))


def is_providers(error: ProviderError | None) -> bool:
    """Whether the provider itself is in trouble: it couldn't take it, and would take no other."""
    return isinstance(error, TransientError) and error.trouble != "recipient"


def asks_for_less(error: ProviderError | None) -> bool:
    """Whether a mail server's reply asks for fewer messages to this recipient's domain."""
    return (
        isinstance(error, TransientError)
        and not is_providers(error)
        and _LESS.match(error.reply) is not None
    )


def turn_of(name: str, one_id: int, error: ProviderError | None, probe: bool) -> Turn:
    """What an outcome says of the provider: a message that it refuses is work done."""
    if isinstance(error, TransientError) and is_providers(error):
        access = error.trouble == "access"
        return Turn(name, one_id, str(error), access, probe, error.retry_after)
    if error is None or isinstance(error, PermanentError | TransientError):
        return Turn(name, one_id, probe=probe)
    return Turn(name, one_id, str(error), probe=probe)
