"""Providers: who carries a message. One file each, found by itself, refused if named twice.

A provider file defines one subclass of `Provider` whose module docstring states the API page it
was written from, what a lost reply means, its receipts and its limits. Nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from workers.errors import InputError

Channel = Literal["mail", "sms"]


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail, ready to hand over. `source` is the whole RFC 5322 message, CRLF line ends."""

    uid: str
    sender: str
    recipient: str
    subject: str
    source: bytes


@dataclass(frozen=True, slots=True)
class Sms:
    """One SMS. `text` is the full text with signature, for providers that take free text.

    `template` names the text (`payment.reminder.zh-CN`) and `variables` are its ordered values for
    providers that take only approved templates: 1 to 20 characters each.
    `number` is E.164 with the plus sign.
    """

    uid: str
    number: str
    text: str
    template: str
    variables: tuple[tuple[str, str], ...]
    parts: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has taken the message. `reference` is its id for it, `reply` its own word."""

    reference: str
    reply: str


@dataclass(frozen=True, slots=True)
class Report:
    """A provider's later word on one message (a receipt, before it is matched to a notification).

    `reference` is the provider's id; `uid` ours, where the report carries it.
    `part` and `parts` are 1-based: a long SMS is reported part by part.
    """

    reference: str
    status: Literal["delivered", "delayed", "bounced", "complained", "unknown"]
    detail: str
    at: datetime | None = None
    uid: str | None = None
    part: int = 1
    parts: int = 1
    address_is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a provider's self-check. `remedy` is empty when all is well."""

    what: str
    well: bool
    detail: str
    remedy: str = ""


class ProviderSettings(BaseModel):
    """What every provider's settings share; a provider's own model extends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: int = Field(
        0, ge=0, description="Most messages a second by all workers together; 0: any number."
    )
    per_minute: int = Field(
        0, ge=0, description="Most messages a minute by all workers together; 0: any number."
    )


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """A status report as it came in by HTTP. `path` is the full URL it was posted to."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What the composition root lends a provider.

    `callback_url` is where status reports for this provider are to be posted (an unguessable
    path), or "" when the public address isn't set. `keep` stores a message in the local inbox.
    """

    callback_url: str = ""
    keep: Keep | None = None


class Keep(ABC):
    """Keeps what would have been sent, for the local inbox."""

    @abstractmethod
    async def keep(self, message: Mail | Sms) -> str:
        """Store the message durably and return its id; the same uid twice is kept once."""


class Provider(ABC):
    """Hands messages of one or more channels to whoever carries them.

    `repeat_is_safe`: a lost reply may be answered by sending again with the same uid (mail keeps
    its Message-ID, so receivers can drop the copy); where false, the message is parked instead.
    `stays_here`: nothing leaves this machine, so no limit applies.
    """

    name: ClassVar[str]
    channels: ClassVar[frozenset[Channel]]
    repeat_is_safe: ClassVar[bool]
    stays_here: ClassVar[bool] = False
    Settings: ClassVar[type[ProviderSettings]]

    def __init__(self, settings: ProviderSettings, context: ProviderContext) -> None:
        self.settings = settings
        self.context = context

    async def open(self) -> None:
        """Prepare to send (no network yet where that can wait)."""

    async def close(self) -> None:
        """Give back connections. Called once, after the last send has ended."""

    @abstractmethod
    async def send(self, message: Mail | Sms) -> Accepted:
        """Hand the message over.

        Raises TransientError, PermanentError or UnknownOutcomeError (`workers.errors`), and
        nothing else.
        """

    async def check(self) -> Sequence[Finding]:
        """Look whether sending would work, without sending anything. Used by `doctor`."""
        return ()

    def reports(self, request: CallbackRequest) -> Sequence[Report]:
        """Translate a status report that was posted to us.

        Raises InputError when it isn't one of this provider's reports or its signature is wrong.
        """
        raise InputError(f"provider {self.name} has no status reports by callback")

    def reports_answer(self) -> tuple[str, str]:
        """What the provider wants to hear when its report was taken: (content type, body)."""
        return "text/plain", ""


def find_providers() -> dict[str, type[Provider]]:
    """All provider classes by name; files that start with an underscore are shared parts.

    Raises RuntimeError when two files claim one name, or a file defines no provider.
    """
    found: dict[str, type[Provider]] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        classes = [
            value
            for value in vars(loaded).values()
            if isinstance(value, type)
            and issubclass(value, Provider)
            and value.__module__ == loaded.__name__
        ]
        if not classes:
            raise RuntimeError(f"{loaded.__file__} defines no provider: subclass Provider there")
        for provider in classes:
            if provider.name in found:
                raise RuntimeError(
                    f"provider {provider.name!r} is defined twice: "
                    f"{found[provider.name].__module__} and {provider.__module__}"
                )
            found[provider.name] = provider
    return found
