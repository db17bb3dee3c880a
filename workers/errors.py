"""Every error Duewatch raises on purpose, on one screen.

    DuewatchError
    ├── CallerError            the caller's fault: correct it, never retried. Exit code 2, HTTP 4xx
    │   ├── SettingsError      a key of the settings file or environment
    │   ├── InputError         a file, row, field, event or argument
    │   ├── UnknownThingError  no such record, rule, notification …   HTTP 404
    │   └── StateError         the move isn't legal from the present state   HTTP 409
    ├── UnavailableError       something we need can't be reached now. Exit code 3, HTTP 503
    ├── HeldError              a record that must not be told of until somebody mends it
    ├── TemplateError          a template that can't be rendered: parks one notification
    └── ProviderError          what came of handing a message to a provider
        ├── TransientError     try again later (RFC 3463 class 4)
        ├── PermanentError     never try again with this address or message (class 5)
        └── UnknownOutcomeError the reply was lost: it may or may not have been accepted (RFC 1047)

The class decides what happens next; the text says the thing, the place and the remedy.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal


class DuewatchError(Exception):
    """Something went wrong in Duewatch itself."""


class CallerError(DuewatchError):
    """The request can't be done as it stands: correct it and ask again."""


class SettingsError(CallerError):
    """A setting is missing or wrong; the text names its key and what it may be."""


class InputError(CallerError):
    """A file, row, field, event or argument is wrong; the text names the place and the remedy."""


class UnknownThingError(CallerError):
    """There is no such record, rule, contact, run or notification."""


class StateError(CallerError):
    """What was asked isn't possible in the thing's present state."""


class UnavailableError(DuewatchError):
    """Something that Duewatch needs can't be reached or used now; try again later."""


class HeldError(DuewatchError):
    """A record that must not be told of until somebody mends it (a list that doesn't add up)."""


class TemplateError(DuewatchError):
    """A template can't be rendered; the text names the file, the line and the variable."""


class ProviderError(DuewatchError):
    """A provider didn't take the message. `reply` is its own word, without personal data."""

    def __init__(self, text: str, *, reply: str = "") -> None:
        super().__init__(text)
        self.reply = reply or text


class TransientError(ProviderError):
    """The provider can't take it now. `retry_after` is its wish, or None when it stated none.

    `trouble` says whose it is: the `provider`'s, so that others would be refused alike; `access`,
    where it refused the login; or the `recipient`'s alone.
    """

    def __init__(
        self,
        text: str,
        *,
        reply: str = "",
        retry_after: timedelta | None = None,
        trouble: Literal["provider", "access", "recipient"] = "provider",
    ) -> None:
        super().__init__(text, reply=reply)
        self.retry_after = retry_after
        self.trouble = trouble


class PermanentError(ProviderError):
    """The provider will never take it.

    `address_is_bad` is true only where the reply speaks of the address itself (RFC 3463 5.1.x or
    an SMS status for a number that doesn't exist): the address is then suppressed.
    """

    def __init__(self, text: str, *, reply: str = "", address_is_bad: bool = False) -> None:
        super().__init__(text, reply=reply)
        self.address_is_bad = address_is_bad


class UnknownOutcomeError(ProviderError):
    """The message was handed over and no answer came: accepted or not, nobody knows."""
