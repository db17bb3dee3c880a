"""The local inbox: keeps what would have been sent, to be looked at in the browser.

API:         none; messages are stored through `ProviderContext.keep`
Sends:       nothing leaves this machine
Lost reply:  safe to repeat: the same uid is kept once
Receipts:    none
Limits:      none of its own
Errors:      no store to keep messages in is transient
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from workers.errors import TransientError
from workers.providers import (
    Accepted,
    Channel,
    Finding,
    Mail,
    Provider,
    ProviderSettings,
    Sms,
)


class InboxSettings(ProviderSettings):
    """The local inbox has nothing to set."""


class Inbox(Provider):
    """Keeps mails and SMS for the page /inbox."""

    name: ClassVar[str] = "inbox"
    channels: ClassVar[frozenset[Channel]] = frozenset({"mail", "sms"})
    repeat_is_safe: ClassVar[bool] = True
    stays_here: ClassVar[bool] = True
    Settings: ClassVar[type[ProviderSettings]] = InboxSettings

    async def send(self, message: Mail | Sms) -> Accepted:
        """Store the message; its id in the inbox is the reference."""
        if self.context.keep is None:
            raise TransientError(
                "inbox: there is no store to keep messages in: start Duewatch with its database"
            )
        reference = await self.context.keep.keep(message)
        return Accepted(reference=reference, reply="kept in the local inbox")

    async def check(self) -> Sequence[Finding]:
        """Say that nothing leaves this machine."""
        return (
            Finding(
                "inbox",
                True,
                "this is the local inbox: messages are kept for /inbox and reach nobody",
            ),
        )
