"""The words on documents: one file a language in `templates/documents/`, found by its name.

A language without a file gets the one of its primary tag (`zh` and `zh-HK` get `zh-CN`), then
English; a word missing in a file is taken from English.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

from schedules.fields import BEIJING
from schedules.invoice_list import InvoiceList, Party
from workers.errors import TemplateError

DOCUMENTS = Path(__file__).resolve().parents[2] / "templates" / "documents"
FALLBACK = "en"
MAX_BILLS = 8
"""So many bill IDs stand in a header; every line names its own."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The words of one language. `words` has every key of English."""

    language: str
    words: Mapping[str, str]
    invoice_types: Mapping[str, str]
    media: Mapping[str, str]
    programmes: Mapping[str, str]

    def __getitem__(self, key: str) -> str:
        return self.words[key]

    def day(self, at: datetime | None) -> str:
        """The day of an instant at Beijing, where payments are approved; "" for None."""
        if at is None:
            return ""
        day = beijing_day(at)
        return self["date"].format(year=day.year, month=day.month, day=day.day)

    def several(self, parts: Iterable[str]) -> str:
        """Several words in one line; what is empty is left out."""
        return self["separator"].join(part for part in parts if part)

    def bills(self, invoice_list: InvoiceList) -> str:
        """The bill IDs for a header: all, or the first and how many there are."""
        bills = invoice_list.bill_ids
        if len(bills) <= MAX_BILLS:
            return self.several(bills)
        return self["more_bills"].format(bills=self.several(bills[:3]), count=len(bills))

    def kind(self, invoice_list: InvoiceList) -> str:
        """Invoice type and medium, in words."""
        return self.several(
            (
                self.invoice_types.get(invoice_list.invoice_type, invoice_list.invoice_type),
                self.media.get(invoice_list.medium, invoice_list.medium),
            )
        )

    def programme(self, invoice_list: InvoiceList) -> str:
        """What the programme is called."""
        return self.programmes.get(invoice_list.programme, invoice_list.programme)

    def party(self, party: Party) -> list[tuple[str, str]]:
        """A party as (label, value), in the order of an invoice."""
        return [
            (self["party_title"], party.title),
            (self["party_tax_no"], party.tax_no),
            (self["party_address"], party.address),
            (self["party_phone"], party.phone),
            (self["party_bank"], party.bank),
            (self["party_account"], party.account),
        ]

    def file_name(self, invoice_list: InvoiceList, suffix: str) -> str:
        """What the document is called as an attachment: `开票清单_PAY-1.xlsx`.

        Characters of paths and of shells become "-".
        """
        name = self["file_name"].format(payment=invoice_list.payment)
        return "".join("-" if c in '\\/:*?"<>|' or c < " " else c for c in name) + suffix


def beijing_day(at: datetime) -> date:
    """The calendar day of an aware instant at Beijing."""
    return at.astimezone(BEIJING).date()


@lru_cache(maxsize=64)
def labels(language: str) -> Labels:
    """The words of a BCP 47 language. Raises TemplateError when its file is wrong."""
    complete = _read(FALLBACK)
    own = _read(_nearest(language))
    for key in own.keys() - complete.keys():
        raise TemplateError(f"templates/documents/{language}.toml: {key!r} isn't a key of en.toml")
    return Labels(
        language=_nearest(language),
        words={key: str(own.get(key, word)) for key, word in complete.items()},
        invoice_types=_table(complete, own, "invoice_types"),
        media=_table(complete, own, "media"),
        programmes=_table(complete, own, "programmes"),
    )


def _nearest(language: str) -> str:
    names = sorted(path.stem for path in DOCUMENTS.glob("*.toml"))
    wanted = language.lower()
    primary = wanted.partition("-")[0]
    for fits in (wanted, primary):
        for name in names:
            if name.lower() == fits:
                return name
    return next((n for n in names if n.lower().partition("-")[0] == primary), FALLBACK)


def _read(name: str) -> dict[str, object]:
    path = DOCUMENTS / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TemplateError(f"templates/documents/{path.name} can't be read: {error}") from None


def _table(complete: Mapping[str, object], own: Mapping[str, object], key: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for source in (complete, own):
        table = source.get(key, {})
        if not isinstance(table, dict):
            raise TemplateError(f"templates/documents: [{key}] must be a table of words")
        merged |= {str(name): str(word) for name, word in table.items()}
    return merged
