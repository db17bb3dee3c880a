"""Addresses as people write them, in the form that records and contacts keep."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from schedules.fields import OptionalMail, OptionalMobile, is_masked
from workers.errors import InputError


def address_of(text: str) -> tuple[Literal["mail", "sms"], str]:
    """(channel, address) of what a person wrote, in the form that records and contacts keep.

    Raises InputError for what is neither a mail address nor a phone number, and for a masked one.
    """
    channel: Literal["mail", "sms"] = "mail" if "@" in text else "sms"
    form: Any = OptionalMail if channel == "mail" else OptionalMobile
    try:
        found = TypeAdapter(form).validate_python(text)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"address {text!r} {said}") from None
    if not found or is_masked(found):
        raise InputError(f"address {text!r} is empty or masked: write the full one")
    return channel, str(found)
