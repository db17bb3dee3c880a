"""The invoice list as an XLSX workbook that can be computed with, printed on A4 and posted.

Text is written as text whatever it begins with, so a cell such as `=HYPERLINK(…)` stays a string
(CWE-1236). The only formulas are our own totals; their results are stored with them, since mail
previews and phones don't calculate. The same list gives the same bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import xlsxwriter
from xlsxwriter.utility import xl_range
from xlsxwriter.worksheet import Worksheet

from schedules.invoice_list import CENT, InvoiceList, InvoiceRow, Total, percent
from workers.render.labels import Labels, beijing_day, labels
from workers.render.words import amount_in_words

TEXT_LIMIT = 32_767
"""What one cell holds (Excel specifications and limits); XlsxWriter drops longer text."""

_COLUMNS = (
    ("line", 6),
    ("bill_id", 19),
    ("item_name", 34),
    ("spec", 13),
    ("unit", 7),
    ("quantity", 11),
    ("unit_price", 13),
    ("amount_ex_tax", 16),
    ("tax_rate", 8),
    ("tax", 14),
    ("amount_incl_tax", 16),
    ("invoice_number", 25),
)
_EX, _RATE, _TAX, _INCL, _NUMBER = 7, 8, 9, 10, 11
_LAST = len(_COLUMNS) - 1
# label and value of the three blocks above the table, as (first, last) columns
_BLOCKS = (((0, 1), (2, 2)), ((3, 4), (5, 7)), ((8, 9), (10, 11)))
_MONEY = "#,##0.00"
_NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)
"""Stands in the properties of a list that isn't approved yet, so that its bytes stay the same."""
_INK, _PALE, _RULE = "#1F2A37", "#EEF2F6", "#B8C2CC"
_THIN = {"top": 1, "top_color": _RULE}
_BASE = {"font_name": "Microsoft YaHei", "font_size": 9, "valign": "vcenter", "font_color": _INK}


TEXT_STAYS_TEXT = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
"""How every workbook is opened: in memory, and no text becomes a formula, a link or a number."""


def invoice_list_xlsx(invoice_list: InvoiceList, language: str) -> bytes:
    """The workbook in `language` (BCP 47): one sheet, header row frozen and repeated in print."""
    buffer = BytesIO()
    with xlsxwriter.Workbook(buffer, TEXT_STAYS_TEXT) as workbook:
        _Sheet(workbook, invoice_list, labels(language)).write()
    return buffer.getvalue()


class _Sheet:
    """Writes one list from the top to the bottom; `row` is the next free row, from 0."""

    def __init__(self, workbook: Any, invoice_list: InvoiceList, words: Labels) -> None:
        self.workbook = workbook
        self.list = invoice_list
        self.words = words
        self.sheet: Worksheet = workbook.add_worksheet(words["title"])
        self.row = 0
        self.styles: dict[frozenset[tuple[str, Any]], Any] = {}
        created = invoice_list.approved_at
        title = f"{words['title']} {invoice_list.payment}"
        workbook.set_properties(
            {
                "title": title,
                "author": invoice_list.seller.title,
                "created": (created or _NO_DATE).astimezone(UTC).replace(tzinfo=None),
            }
        )

    def write(self) -> None:
        self._columns()
        self._head()
        header = self.row
        self._table()
        self._totals(header + 1)
        self._foot()
        self._print_set_up(header)

    def style(self, **wanted: Any) -> Any:
        """A cell format, made once."""
        key = frozenset(wanted.items())
        if key not in self.styles:
            self.styles[key] = self.workbook.add_format(_BASE | wanted)
        return self.styles[key]

    def text(self, columns: tuple[int, int], value: str, **style: Any) -> None:
        """Text in one cell of the present row, or in several that are merged."""
        look = self.style(**style)
        self._span(columns, look)
        self.sheet.write_string(self.row, columns[0], value[:TEXT_LIMIT], look)

    def _span(self, columns: tuple[int, int], look: Any) -> None:
        if columns[0] != columns[1]:
            self.sheet.merge_range(self.row, columns[0], self.row, columns[1], "", look)

    def _columns(self) -> None:
        for index, (_, width) in enumerate(_COLUMNS):
            self.sheet.set_column(index, index, width)

    def _head(self) -> None:
        words, it = self.words, self.list
        self.sheet.set_row(0, 30)
        self.text((0, _LAST), f"{words['title']}  {it.payment}", bold=True, font_size=16)
        self.row = 1
        payment = [
            (words["partner"], it.partner),
            (words["programme"], words.programme(it)),
            (words["periods"], words.several(it.periods)),
            (words["invoice_type"], words.kind(it)),
            (words["approved_amount"], it.approved_amount),
            (words["approved_at"], it.approved_at),
        ]
        heads = (f"{words['payment']}  {it.payment}", words["buyer"], words["seller"])
        for (label, value), head in zip(_BLOCKS, heads, strict=True):
            self.text((label[0], value[1]), head, bold=True, bg_color=_PALE)
        for entries in zip(payment, words.party(it.buyer), words.party(it.seller), strict=True):
            self.row += 1
            self._facts(entries)
        post = it.post_to
        to = words.several((post.recipient, post.phone, post.address, post.mailbox))
        for label_text, line in ((words["post_to"], to), (words["bills"], words.bills(it))):
            self.row += 1
            self.text((0, 1), label_text, font_color="#5B6773")
            self.text((2, _LAST), line, text_wrap=True)
            self._height([(line, (2, _LAST))])
        self.row += 1

    def _facts(self, entries: Sequence[tuple[str, Any]]) -> None:
        long: list[tuple[str, tuple[int, int]]] = []
        for (label, place), (name, value) in zip(_BLOCKS, entries, strict=True):
            self.text(label, name, font_color="#5B6773")
            if isinstance(value, Decimal):
                look = self.style(
                    num_format=f'{_MONEY} "{self.list.currency}"', align="left", bold=True
                )
                self.sheet.write_number(self.row, place[0], float(value), look)
            elif isinstance(value, datetime):
                look = self.style(num_format=self.words["date_cell"], align="left")
                self.sheet.write_datetime(self.row, place[0], beijing_day(value), look)
            else:
                self.text(place, value or "", text_wrap=True)
                long.append((value or "", place))
        self._height(long)

    def _height(self, texts: Sequence[tuple[str, tuple[int, int]]], least: int = 1) -> None:
        """Make the present row as high as its longest text needs: spreadsheets don't, if merged."""
        lines = least
        for text, (first, last) in texts:
            room = sum(width for _, width in _COLUMNS[first : last + 1]) - 1
            lines = max(lines, -(-_display_width(text) // room))
        self.sheet.set_row(self.row, min(13.5 * lines + 2.5, 409))

    def _table(self) -> None:
        look = self.style(
            bold=True, bg_color=_INK, font_color="#FFFFFF", align="center", text_wrap=True, border=1
        )
        for column, (key, _) in enumerate(_COLUMNS):
            self.sheet.write_string(self.row, column, self.words[key], look)
        self.sheet.set_row(self.row, 28)
        for line in self.list.rows:
            self.row += 1
            self._line(line)
        self.row += 1

    def _line(self, line: InvoiceRow) -> None:
        sheet, row = self.sheet, self.row
        frame = {"border": 1, "border_color": _RULE}
        text, wrapped = self.style(**frame), self.style(**frame, text_wrap=True)
        money = self.style(**frame, num_format=_MONEY)
        rate = self.style(**frame, num_format=_rate_format(line.tax_rate))
        sheet.write_number(row, 0, line.line, self.style(**frame, align="center"))
        for column, value in ((1, line.bill_id), (2, line.item_name), (3, line.spec)):
            sheet.write_string(row, column, value, wrapped)
        sheet.write_string(row, 4, line.unit, text)
        for column, number, least in ((5, line.quantity, 0), (6, line.unit_price, 2)):
            if number is None:
                sheet.write_blank(row, column, None, text)
            else:
                look = self.style(**frame, num_format=_number_format(number, least))
                sheet.write_number(row, column, float(number), look)
        sheet.write_number(row, _EX, float(line.amount_ex_tax), money)
        sheet.write_number(row, _RATE, float(line.tax_rate), rate)
        sheet.write_number(row, _TAX, float(line.tax), money)
        sheet.write_number(row, _INCL, float(line.amount_incl_tax), money)
        # 20 digits typed here must stay text: as a number the last five would become zeros
        self._text_or_blank(row, _NUMBER, line.invoice_number, self.style(**frame, num_format="@"))
        texts = [(line.bill_id, (1, 1)), (line.item_name, (2, 2)), (line.spec, (3, 3))]
        self._height(texts)

    def _text_or_blank(self, row: int, column: int, value: str, look: Any) -> None:
        if value:
            self.sheet.write_string(row, column, value, look)
        else:
            self.sheet.write_blank(row, column, None, look)

    def _totals(self, first: int) -> None:
        last = max(self.row - 1, first)
        rates = xl_range(first, _RATE, last, _RATE)
        for part in self.list.rate_totals:
            self._sum_row(f"{self.words['totals']} {percent(part.rate)}", part.total, False)
            look = self.style(num_format=_rate_format(part.rate), **_THIN)
            self.sheet.write_number(self.row, _RATE, float(part.rate), look)
            for column, value in _sums(part.total):
                amounts = xl_range(first, column, last, column)
                formula = f"=SUMIF({rates},{xl_range(self.row, _RATE, self.row, _RATE)},{amounts})"
                self._sum(column, formula, value, bold=False)
            self.row += 1
        self._sum_row(self.words["totals"], self.list.total, True)
        for column, value in _sums(self.list.total):
            formula = f"=SUM({xl_range(first, column, last, column)})"
            self._sum(column, formula, value, bold=True)
        self.row += 1

    def _sum_row(self, label: str, total: Total, bold: bool) -> None:
        edge = {"top": 1} if bold else _THIN
        for column in range(_LAST + 1):
            self.sheet.write_blank(self.row, column, None, self.style(**edge))
        count = f"{label}  ({self.words['lines']}: {total.line_count})"
        self.sheet.write_string(self.row, 2, count, self.style(**edge, bold=bold))
        self.sheet.set_row(self.row, 20 if bold else 16)

    def _sum(self, column: int, formula: str, value: Decimal, *, bold: bool) -> None:
        edge = {"top": 1} if bold else _THIN
        look = self.style(num_format=_MONEY, bold=bold, **edge)
        self.sheet.write_formula(self.row, column, formula, look, float(value))

    def _foot(self) -> None:
        words, total = self.words, self.list.total.amount_incl_tax
        spelt = amount_in_words(total, self.list.currency, words.language)
        self.text((0, 1), words["in_words"], bold=True, bg_color=_PALE, text_wrap=True)
        self.text((2, _LAST), spelt, bold=True, bg_color=_PALE, font_size=11, text_wrap=True)
        self._height([(words["in_words"], (0, 1)), (spelt + " " * 20, (2, _LAST))], 2)
        self.row += 2
        self.sheet.set_row(self.row, 26)
        places = (((0, 1), (2, 2)), ((3, 4), (5, 7)), ((8, 9), (10, 11)))
        for (label, field), key in zip(
            places, ("issued_by", "issued_on", "signature"), strict=True
        ):
            self.text(label, words[key], valign="bottom")
            look = self.style(bottom=1)
            self._span(field, look)
            self.sheet.write_blank(self.row, field[0], None, look)

    def _print_set_up(self, header: int) -> None:
        sheet = self.sheet
        sheet.freeze_panes(header + 1, 0)
        sheet.hide_gridlines(2)
        sheet.set_landscape()
        sheet.set_paper(9)  # A4
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(left=0.5, right=0.5, top=0.5, bottom=0.7)
        sheet.center_horizontally()
        sheet.repeat_rows(header)
        sheet.print_area(0, 0, self.row, _LAST)
        payment = self.list.payment.replace("&", "&&")
        sheet.set_footer(f"&L&8{self.words['title']}  {payment}&R&8{self.words['page_cell']}")
        # tax numbers and accounts are text on purpose: no green corners
        sheet.ignore_errors({"number_stored_as_text": xl_range(0, 0, self.row, _LAST)})
        if self.list.rows:
            sheet.autofilter(header, 0, header + len(self.list.rows), _LAST)


def _sums(total: Total) -> tuple[tuple[int, Decimal], ...]:
    return ((_EX, total.amount_ex_tax), (_TAX, total.tax), (_INCL, total.amount_incl_tax))


def _number_format(number: Decimal, least: int) -> str:
    exponent = number.normalize().as_tuple().exponent
    places = max(least, -exponent) if isinstance(exponent, int) else least
    return "#,##0" + ("." + "0" * places if places else "")


def _rate_format(rate: Decimal) -> str:
    return "0.0#%" if rate % CENT else "0%"


def _display_width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
