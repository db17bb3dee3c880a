"""What the rules share that sales people act on: whose a record is, and who stands in samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from schedules.rule import Contact, Sample


def owner_or_sales(owner: str | None, contacts: Sequence[Contact]) -> list[Contact]:
    """The contact whose ref a record names, or else all contacts with the role sales."""
    named = [contact for contact in contacts if contact.ref == owner]
    return named or [contact for contact in contacts if contact.role == "sales"]


def sales_sample(ref: str, english: bool, path: str, data: Mapping[str, Any]) -> Sample:
    """A sample of a partner with an owner (C-2), a supervisor and an administrator.

    `path` is where the partner centre has it; `data` is what the kind itself has, and goes before
    what is filled in here.
    """
    people = (
        ("C-2", "sales", "Li Ming" if english else "李明"),
        ("C-6", "supervisor", "Grace Zhou" if english else "周岚"),
        ("C-9", "administrator", "Ann Lee" if english else "陈立"),
    )
    partner = data.get("partner", "P-1001")
    contacts = tuple(
        {
            "partner": partner,
            "ref": contact,
            "role": role,
            "name": name,
            "mail": f"{role}@example.com",
            "mobile": f"+861380013800{number}",
            "language": "en" if english else "zh-CN",
        }
        for number, (contact, role, name) in enumerate(people, start=1)
    )
    name = "Harbour Cloud Ltd." if english else "青禾云示例科技有限公司"
    url = f"https://partner.example.com/{path}/{ref}"
    filled = {"ref": ref, "partner": partner, "url": url, **data}
    return Sample(filled, (), contacts, {"ref": partner, "name": name})


def customer(english: bool) -> str:
    """The customer that samples name."""
    return "Northwind Traders GmbH" if english else "星岸示例制造有限公司"


def iso(at: datetime) -> str:
    """An instant as files give it."""
    return at.isoformat(timespec="seconds")
