"""The invoice list as a PDF on A4, set by typst with the fonts that come with the templates.

The data is handed to `templates/documents/invoice_list.typ` as JSON and never becomes markup. The
compiler reads nothing but that folder and those fonts: no system fonts, and no package is imported,
so nothing is downloaded. The same list gives the same bytes: its date is the approval's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import typst

from schedules.invoice_list import InvoiceList, InvoiceRow, Party, Total, percent
from workers.errors import TemplateError
from workers.render.labels import DOCUMENTS, Labels, labels
from workers.render.words import amount_in_words

TEMPLATE = DOCUMENTS / "invoice_list.typ"
FONTS = DOCUMENTS.parent / "fonts"
TAGGED_LINES = 200
"""Up to so many lines the PDF is tagged for screen readers; tags cost more than the rest."""
INVOICE_FIELDS = 6
"""Boxes for invoice numbers, when fewer are known."""

PITCH_PT = 9.4
"""Height of a text line in a long list."""
PAGE_LINES = 78
"""Text lines on a page of a long list: what A4 holds between margins and below the table's head."""

_TABLE_PT = 515.9
"""Width of the table: A4 (210 mm) less two margins of 14 mm."""
_ITEM, _UNIT, _NUMBER = 1, 2, 9
_COLUMNS = (
    ("line", 4, 12),
    ("item_name", 0, 0),
    ("unit", 5, 12),
    ("quantity", 5, 24),
    ("unit_price", 8, 24),
    ("amount_ex_tax", 10, 24),
    ("tax_rate", 5, 8),
    ("tax", 8, 24),
    ("amount_incl_tax", 10, 24),
    ("invoice_number", 20, 20),
)
"""Label, least and most characters of each column; longer text is broken."""
_PIECES = re.compile(r"[!-~\u00c0-\u024f]+[ \u200b]*|.")
_NOTHING = "\u00a0"
_DIGIT_PT = 4.0
"""A digit at 7 pt in Noto Sans SC (555/1000 em), rounded up."""
_PADDING_PT = 7.0
_LONG_WORD = re.compile(r"[!-~]{13,}")
_BREAKS = re.compile(r"([-_/.,:;]+|[^-_/.,:;]{12})(?=.)")


def invoice_list_pdf(invoice_list: InvoiceList, language: str) -> bytes:
    """The document in `language` (BCP 47). Raises TemplateError when the template is wrong."""
    approved = invoice_list.approved_at
    try:
        made = typst.compile(
            TEMPLATE,
            root=DOCUMENTS,
            font_paths=_fonts(),
            ignore_system_fonts=True,
            sys_inputs={"data": json.dumps(_content(invoice_list, labels(language)))},
            timestamp=int(approved.timestamp()) if approved else 0,
            pdf_tags=len(invoice_list.rows) <= TAGGED_LINES,
        )
    except typst.TypstError as error:
        raise TemplateError(
            f"templates/documents/{TEMPLATE.name} can't be set: {error.message}"
        ) from error
    return made


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    # reading 20 MB of fonts once a process rather than once a document
    return typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(FONTS)]
    )


def _content(invoice_list: InvoiceList, words: Labels) -> dict[str, Any]:
    it = invoice_list
    language, _, region = words.language.partition("-")
    rows = [_cells(row, words) for row in it.rows]
    widths = _widths(rows, words)
    numbers = list(dict.fromkeys(row.invoice_number for row in it.rows if row.invoice_number))
    return {
        "lang": language.lower(),
        "region": region.upper() if len(region) == 2 else None,
        "labels": dict(words.words),
        "title": f"{words['title']} {it.payment}",
        "heading": words["title"],
        "payment": it.payment,
        "total": _money(it.approved_amount),
        "currency": it.currency,
        "facts": _facts(it, words),
        "buyer": _party(it.buyer, words),
        "seller": _party(it.seller, words),
        "sender": _breakable(f"{it.seller.title}  {it.seller.address}".strip()),
        "post": _post(it),
        "bills": _breakable(words.bills(it)),
        "long": len(rows) > TAGGED_LINES,
        "parts": _parts(rows, widths),
        "widths": widths,
        "columns": [key for key, _, _ in _COLUMNS],
        "table_width": _TABLE_PT,
        "pitch": PITCH_PT,
        "totals": _totals(it, words),
        "words": amount_in_words(it.total.amount_incl_tax, it.currency, words.language),
        "invoice_fields": (numbers + [""] * INVOICE_FIELDS)[:INVOICE_FIELDS],
    }


def _facts(it: InvoiceList, words: Labels) -> list[tuple[str, str]]:
    facts = [
        (words["partner"], it.partner),
        (words["programme"], words.programme(it)),
        (words["periods"], words.several(it.periods)),
        (words["approved_at"], words.day(it.approved_at)),
        (words["invoice_type"], words.kind(it)),
    ]
    return [(name, _breakable(value)) for name, value in facts if value]


def _party(party: Party, words: Labels) -> list[tuple[str, str]]:
    return [(name, _breakable(value) or "—") for name, value in words.party(party)]


def _post(it: InvoiceList) -> list[str]:
    to = it.post_to
    return [_breakable(part) for part in (to.recipient, to.phone, to.address, to.mailbox) if part]


def _cells(row: InvoiceRow, words: Labels) -> list[Any]:
    below = " · ".join(part for part in (row.spec, row.bill_id) if part)
    return [
        str(row.line),
        (_breakable(row.item_name), _breakable(below)),
        _breakable(row.unit),
        "" if row.quantity is None else _plain(row.quantity, 0),
        "" if row.unit_price is None else _plain(row.unit_price, 2),
        _money(row.amount_ex_tax),
        percent(row.tax_rate),
        _money(row.tax),
        _money(row.amount_incl_tax),
        row.invoice_number if len(row.invoice_number) <= 20 else _breakable(row.invoice_number),
    ]


def _totals(it: InvoiceList, words: Labels) -> list[list[str]]:
    parts = [(percent(part.rate), part.total) for part in it.rate_totals]
    return [_sums(name, total) for name, total in [*parts, (words["totals"], it.total)]]


def _sums(name: str, total: Total) -> list[str]:
    return [
        name,
        f"{total.line_count:,}",
        _money(total.amount_ex_tax),
        _money(total.tax),
        _money(total.amount_incl_tax),
    ]


def _widths(rows: Sequence[Sequence[Any]], words: Labels) -> list[float]:
    """Column widths in points; 0 takes what is left. Known widths spare typst measuring cells."""
    widths: list[float] = []
    for column, (key, least, most) in enumerate(_COLUMNS):
        if column == _ITEM:
            widths.append(0)
            continue
        longest = max([least, *(min(_display_width(row[column]), most) for row in rows)])
        head = _ems(words[key]) * 7
        widths.append(max(longest * _DIGIT_PT, head) + _PADDING_PT)
    return widths


def _display_width(text: str) -> int:
    return len(text) if text.isascii() else 2 * len(text)


def _parts(rows: Sequence[Sequence[Any]], widths: Sequence[float]) -> list[Any]:
    """The rows as the template takes them: each for itself, or some together (a long list)."""
    if len(rows) <= TAGGED_LINES:
        return list(rows)
    room = _TABLE_PT - sum(widths) - _PADDING_PT
    parts = [_Block()]
    for row in rows:
        lines = _lines(row, widths, room)
        if parts[-1].count + len(lines[0]) > PAGE_LINES:
            parts.append(_Block())
        parts[-1].add(lines)
    return [part.content() for part in parts]


def _lines(row: Sequence[Any], widths: Sequence[float], room: float) -> list[list[str]]:
    """A row's columns, and last what stands below its name, as text lines: all equally many."""
    name, below = _wrap(row[_ITEM][0], room / 7), _wrap(row[_ITEM][1], room / 6.5)
    columns = [[cell] if isinstance(cell, str) else name for cell in row]
    for column in (_UNIT, _NUMBER):
        columns[column] = _wrap(row[column], (widths[column] - _PADDING_PT + 1) / 7)
    columns.append([""] * len(name) + below)
    height = max(len(lines) for lines in columns)
    return [lines + [""] * (height - len(lines)) for lines in columns]


class _Block:
    """Some rows of a long list as text lines of one height, column by column, on one page."""

    def __init__(self) -> None:
        self.count = 0
        self.starts: list[int] = []
        self.columns: list[list[str]] = [[] for _ in range(len(_COLUMNS) + 1)]

    def add(self, lines: Sequence[Sequence[str]]) -> None:
        """Append one row."""
        self.starts.append(self.count)
        self.count += len(lines[0])
        for column, more in zip(self.columns, lines, strict=True):
            column.extend(more)

    def content(self) -> dict[str, Any]:
        """What the template takes; `rules` are the lines above which a row begins."""
        *columns, below = (_paragraph(column) for column in self.columns)
        return {
            "count": self.count,
            "rules": self.starts[1:],
            "columns": columns,
            "below": below,
        }


def _paragraph(lines: Sequence[str]) -> str:
    return "\n".join(line or _NOTHING for line in lines)


def _wrap(text: str, room: float) -> list[str]:
    """The text in lines of at most `room` em: broken between words and beside ideographs."""
    lines, line, used = [], "", 0.0
    for piece in _PIECES.findall(text):
        wide = _ems(piece)
        if line and used + wide > room:
            lines.append(line.rstrip())
            line, used = "", 0.0
        line, used = line + piece, used + wide
    return [*lines, line.rstrip()] if line else lines


def _ems(text: str) -> float:
    """A text's width in em of Noto Sans SC, rather more than less."""
    return sum(_em(c) for c in text)


def _em(character: str) -> float:
    if not character.isascii():
        return 0.0 if character == "\u200b" else 1.0
    if character in "mwMW@%":
        return 0.96
    return 0.76 if character.isupper() or character == "&" else 0.63


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _plain(number: Decimal, least: int) -> str:
    exponent = number.normalize().as_tuple().exponent
    places = max(least, -exponent) if isinstance(exponent, int) else least
    return f"{number:,.{places}f}"


def _breakable(text: str) -> str:
    """Lets a long identifier break (zero-width spaces), so that it can't run into its neighbour."""
    return _LONG_WORD.sub(lambda word: _BREAKS.sub("\\1\u200b", word.group()), text)
