"""What the sample records share: a partner, its people and its customer, as files give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from schedules.rule import Sample

_PEOPLE = {
    "finance": ("C-1", "王芳", "Ann Lee"),
    "sales": ("C-2", "李明", "Li Ming"),
    "delivery": ("C-5", "吴迪", "Emma Brandt"),
    "project": ("C-6", "吴迪", "Emma Brandt"),
    "supervisor": ("C-7", "周岚", "Grace Zhou"),
    "administrator": ("C-9", "周敏", "Tom Becker"),
}
"""By role the ref, and the name in Chinese and in English."""
SALES_TEAM = ("sales", "supervisor", "administrator")
"""Who stands in the samples of what sales people act on."""


def sample_of(
    ref: str,
    english: bool,
    path: str | None,
    data: Mapping[str, Any],
    *roles: str,
    lines: Sequence[Mapping[str, Any]] = (),
    partner: Mapping[str, Any] | None = None,
) -> Sample:
    """A sample record of a partner that has one person of each of `roles`.

    `path` is where the partner centre has the record, None where it has no page. `data` is what the
    kind itself has; that and `partner`, fields of the partner, go before what is filled in here.
    """
    url = None if path is None else f"https://partner.example.com/{path}/{ref}"
    filled = {"ref": ref, "partner": "P-1001", "url": url, **data}
    of = filled["partner"]
    name = "Harbour Cloud Ltd." if english else "青禾云示例科技有限公司"
    people = tuple(_person(role, of, english) for role in roles)
    return Sample(filled, tuple(lines), people, {"ref": of, "name": name, **(partner or {})})


def _person(role: str, partner: str, english: bool) -> Mapping[str, Any]:
    ref, chinese_name, english_name = _PEOPLE[role]
    return {
        "partner": partner,
        "ref": ref,
        "role": role,
        "name": english_name if english else chinese_name,
        "mail": f"{role}@example.com",
        "mobile": f"+86138001380{ref[-1]:>02}",
        "language": "en" if english else "zh-CN",
        "time_zone": "Europe/Berlin" if english else "Asia/Shanghai",
    }


def customer(english: bool) -> str:
    """The customer that samples name."""
    return "Northwind Traders GmbH" if english else "星岸示例制造有限公司"


def iso(at: datetime) -> str:
    """An instant as files give it."""
    return at.isoformat(timespec="seconds")
