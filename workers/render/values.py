"""The plain values that templates are given: what a rule says of a record, and sums over several.

A template can do nothing with them but show them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from schedules.rule import Record, Rule
from workers.errors import TemplateError
from workers.model import Notice, NoticeItem
from workers.render.language import Language
from workers.sms import fit_variable

MAX_VARIABLE: Final = 20
"""Characters of an SMS variable (Huawei Cloud SMS, template variables)."""


def item_values(rule: Rule, item: NoticeItem, lines: int) -> dict[str, Any]:
    """What the rule says of the record; of its `lines` only the first, `lines_more` is the rest.

    Raises TemplateError where the rule says what isn't a plain value.
    """
    record = item.record
    money = rule.amount(record)
    values: dict[str, Any] = {
        "stage": item.stage,
        "opened_at": record.opened_at,
        "partner": record.partner.name or record.partner.ref,
        "amount": money[0] if money else None,
        "currency": money[1] if money else "",
        **rule.view(record),
    }
    if not re.match(r"https?://", values.get("url") or ""):
        values["url"] = None  # a link of any other scheme could run a script
    if isinstance(every := values.get("lines"), list):
        values |= {"lines": every[:lines], "lines_more": max(0, len(every) - lines)}
    return {name: _plain(value, f"{rule.kind}.{name}") for name, value in values.items()}


def _plain(value: Any, where: str) -> Any:
    """The value, with enums as their words."""
    if value is None or type(value) in (bool, int, str, Decimal, datetime):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    raise TemplateError(f"{where} is a {type(value).__name__}: templates take plain values only")


def totals(rules: Mapping[str, Rule], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Sums by currency, in the order in which currencies first appear."""
    sums: dict[str, list[Decimal]] = {}
    for record in records:
        if (money := rules[record.kind].amount(record)) is not None:
            sums.setdefault(money[1], []).append(money[0])
    return [
        {"currency": currency, "amount": sum(amounts, Decimal(0)), "count": len(amounts)}
        for currency, amounts in sums.items()
    ]


def sms_variables(
    notice: Notice, values: Mapping[str, Any], language: Language
) -> Iterator[tuple[str, str]]:
    """What a provider's approved template may name, in a fixed order; empty ones left out."""
    zone = notice.recipient.time_zone
    at = values["deadline"] or min(item["opened_at"] for item in values["items"])
    last = values["deadline"] is not None
    write = language.last_day if last else language.date
    sums = values["totals"]
    several = language.forms.several_currencies if sums else ""
    one = sums[0] if len(sums) == 1 else None
    found = {
        "count": str(values["count"]),
        "total": f"{one['amount']:.2f}" if one else several,
        "currency": one["currency"] if one else "",
        "date": write(at, zone, "yyyy-MM-dd"),
        "time": language.closing_time(at, zone) if last else "",
        "name": _name(notice.recipient.name),
        "ref": values["items"][0]["ref"],
        "link": notice.list_token,
        "partner": _name(values["items"][0]["partner"]),
    }
    if len(found["ref"]) > MAX_VARIABLE:
        del found["ref"]  # half an identifier names another thing
    for name, value in found.items():
        if value:
            yield name, _fitted(name, value)


def _name(name: str) -> str:
    """A name without the characters that carriers refuse in an SMS variable."""
    return re.sub(r"[.。'<>{}]", " ", name).strip()


def _fitted(name: str, value: str) -> str:
    try:
        return fit_variable(value, MAX_VARIABLE)
    except ValueError as error:
        raise TemplateError(f"the SMS variable {name} {error}") from error
