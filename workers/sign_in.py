"""Who signs in to the pages by what, and for how long: settings. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

RoleName = Literal["viewer", "operator", "administrator"]
"""The roles by name; workers.users says what each may do."""


class OidcSettings(BaseModel):
    """Signing in at an OpenID Connect provider (Keycloak, Entra ID and others)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(
        "",
        description="The provider's issuer, exactly as it names itself; https unless it is this "
        "machine; empty: none.",
    )
    client_id: str = Field(
        "", validate_default=True, description="What this server is called at the provider."
    )
    client_secret: SecretStr | None = Field(
        None, description="Its secret there; none for a public client."
    )
    scopes: tuple[str, ...] = Field(
        ("openid", "profile", "email"), description="What is asked for; `openid` is one of them."
    )
    name_claim: str = Field(
        "",
        description="The claim that is a user's name; empty: preferred_username, else email.",
    )
    role_claim: str = Field(
        "groups",
        description="The claim that `roles` looks into; dots lead into it: realm_access.roles.",
    )
    roles: dict[str, RoleName] = Field(
        default_factory=dict,
        description="Role by a value of that claim: viewer, operator or administrator; of several "
        "the one that may do most.",
    )
    default_role: RoleName | None = Field(
        None,
        validate_default=True,
        description="Role of those whom the provider knows without such a value; none: no entry.",
    )
    title: str = Field(
        "", max_length=60, description="What the button calls the provider; empty: its host."
    )

    @field_validator("issuer")
    @classmethod
    def _can_be_trusted(cls, value: str) -> str:
        if not value:
            return value
        if fault := unfit(value, here=True):
            raise ValueError(fault)
        if urlsplit(value).query or urlsplit(value).fragment:
            raise ValueError("has a ? or #: an issuer has neither")
        return value

    @field_validator("client_id")
    @classmethod
    def _there_if_needed(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("issuer") and not value:
            raise ValueError("is needed with an issuer: register this server at the provider")
        return value

    @field_validator("scopes")
    @classmethod
    def _are_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("lacks openid: without it the provider says nothing of who signs in")
        if odd := [
            one for one in value if not one.isascii() or not one.isprintable() or " " in one
        ]:
            raise ValueError(f"{odd[0]!r} isn't a scope: one word each")
        return value

    @field_validator("default_role")
    @classmethod
    def _lets_somebody_in(cls, value: RoleName | None, info: ValidationInfo) -> RoleName | None:
        if info.data.get("issuer") and value is None and info.data.get("roles") == {}:
            raise ValueError("nobody could sign in: map values of role_claim in roles, or set this")
        return value

    @property
    def on(self) -> bool:
        """Whether there is a provider."""
        return bool(self.issuer)

    @property
    def shown(self) -> str:
        """What the button calls the provider."""
        return self.title or urlsplit(self.issuer).netloc


class ConsoleSettings(BaseModel):
    """The pages for people: who signs in by what, and how long somebody stays signed in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    idle_minutes: int = Field(
        60, ge=5, le=1440, description="Minutes without a click that end a session."
    )
    session_hours: int = Field(
        12, ge=1, le=720, description="Hours after which a session ends in any case."
    )
    oidc: OidcSettings = OidcSettings()
    passwords: bool = Field(
        True, description="false: nobody signs in with a password; needs [console.oidc]."
    )

    @field_validator("passwords")
    @classmethod
    def _leaves_a_way_in(cls, value: bool, info: ValidationInfo) -> bool:
        oidc = info.data.get("oidc")
        if not value and oidc is not None and not oidc.on:
            raise ValueError("nobody could sign in: set console.oidc.issuer first")
        return value


def unfit(url: str, *, here: bool) -> str:
    """What is wrong with a provider's address; "" when nothing is.

    `here` allows http to this machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "isn't a web address"
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        return "isn't a web address: write it like https://id.example.com/realms/desk"
    if parts.username or parts.password:
        return "carries a password"
    if parts.scheme == "http" and not (here and is_this_machine(host)):
        return "isn't encrypted: only on this machine http will do"
    return ""


def is_this_machine(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
