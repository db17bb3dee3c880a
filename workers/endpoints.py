"""An endpoint that is told what became of notifications: its settings and its signatures. Pure.

A message is signed as Standard Webhooks 1.0 says: `webhook-signature` is `v1,` and the base64 of
HMAC-SHA256 over `id.timestamp.body`, one for each secret in force, parted by spaces. A secret is
`whsec_` and the base64 of 24 to 64 random bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from workers.model import NotificationState

S = NotificationState
Word = Literal[
    "sending",
    "accepted",
    "delivered",
    "deferred",
    "rejected",
    "bounced",
    "unknown",
    "parked",
    "suppressed",
    "cancelled",
    "requeued",
]
WORDS: Mapping[Word, NotificationState] = {
    "sending": S.SENDING,  # handed to a provider just now
    "accepted": S.ACCEPTED,  # the provider took it
    "delivered": S.DELIVERED,  # and says that it arrived
    "deferred": S.PENDING,  # not taken this time: tried again later
    "rejected": S.FAILED,  # not taken, and given up
    "bounced": S.FAILED,  # taken, and said later not to have arrived, or to be complained of
    "unknown": S.PARKED,  # handed over, and nobody knows whether it was taken
    "parked": S.PARKED,  # not handed over: a person has to look
    "suppressed": S.SUPPRESSED,  # its recipient isn't to be written to
    "cancelled": S.CANCELLED,  # what it said is moot, or a person stopped it
    "requeued": S.PENDING,  # a person had it sent after all
}
"""What an endpoint may be told, and the state in which the notification is with that."""
TELLING_BY_DEFAULT: tuple[Word, ...] = (
    "accepted",
    "delivered",
    "rejected",
    "bounced",
    "unknown",
    "parked",
    "suppressed",
    "cancelled",
)
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64


def _secret(value: SecretStr) -> SecretStr:
    key_of(value.get_secret_value())
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]


class Endpoint(BaseModel):
    """Who is told what became of notifications, by HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="Where it is posted to; https, unless to `private_host`.")
    secret: Secret = Field(description="Signs; `duewatch webhooks secret` makes one.")
    old_secrets: tuple[Secret, ...] = Field(
        (), max_length=4, description="Sign too, until every receiver knows the new one."
    )
    kinds: tuple[str, ...] = Field(
        (),
        description="Kinds that it is told of; a digest counts as those of its lines. None: all.",
    )
    states: tuple[Word, ...] = Field(
        TELLING_BY_DEFAULT, min_length=1, description="What it is told: " + ", ".join(WORDS) + "."
    )
    private_host: str = Field(
        "",
        description="The host of `url`, where that is within your own network: only then may it "
        "lead to a private address, or be http.",
    )
    timeout_s: float = Field(
        15.0, ge=1, le=60, description="Seconds until it has to have answered."
    )
    at_a_time: int = Field(8, ge=1, le=64, description="Messages posted to it at a time.")
    disable_after_days: float = Field(
        3.0, gt=0, le=30, description="Days of nothing but failures after which it is left alone."
    )

    @model_validator(mode="after")
    def _may_be_posted_to(self) -> Endpoint:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError("url: isn't a web address") from None
        private = bool(self.private_host)
        if parts.scheme not in {"https", "http"} or not host or parts.fragment:
            raise ValueError("url: isn't a web address: write it like https://erp.example.com/told")
        if parts.username or parts.password:
            raise ValueError("url: carries a password: the signature says who sends")
        if private and self.private_host.lower() != host:
            raise ValueError("private_host: isn't the host of url: both name the same")
        if parts.scheme == "http" and not private:
            raise ValueError("url: isn't encrypted: use https, or name its host in private_host")
        if not private and _is_address(host):
            raise ValueError("url: is a bare address: name a host, or name it in private_host")
        if port is not None and port < 1024 and port not in {80, 443}:
            raise ValueError("url: names a port of another kind of server: 80, 443, or from 1024")
        return self

    @property
    def host(self) -> str:
        """The host of the address, in lower case."""
        return urlsplit(self.url).hostname or ""

    @property
    def keys(self) -> list[bytes]:
        """The keys in force, the new one first."""
        return [key_of(one.get_secret_value()) for one in (self.secret, *self.old_secrets)]

    @property
    def mark(self) -> str:
        """Tells addresses apart: one that was left alone is tried anew at another."""
        return hashlib.sha256(self.url.encode()).hexdigest()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        # 127.1, 0x7f.1 and 2130706433 are addresses to a resolver; no domain ends like that.
        return host.rstrip(".").rpartition(".")[2][:1].isdigit()
    return True


def key_of(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError when it isn't one."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(
            f"isn't {PREFIX} and the base64 of {LEAST_BYTES} to {MOST_BYTES} bytes: "
            "duewatch webhooks secret makes one"
        )
    return key


def new_secret() -> str:
    """A secret of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(uid: str, at: datetime, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The three headers of a message. `at` is when it is sent; `uid` has no dot in it."""
    timestamp = str(int(at.timestamp()))
    content = b".".join((uid.encode(), timestamp.encode(), body))
    macs = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": uid,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join("v1," + base64.b64encode(mac).decode() for mac in macs),
    }
