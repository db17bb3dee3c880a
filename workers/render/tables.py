"""Tables as files: CSV and XLSX. What a cell says is text or a number, never a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import xlsxwriter

from schedules.fields import BEIJING

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
MOST_CHARACTERS: Final = 32_767
"""In a cell of XLSX."""
_DAYS = "yyyy-mm-dd hh:mm:ss"


def csv_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """CSV in UTF-8 with a byte order mark, so that spreadsheet programs read Chinese.

    A cell that a program would take for a formula begins with an apostrophe (CSV injection).
    Instants are in Beijing time.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int | float | Decimal):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def xlsx_table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """XLSX with a frozen head, filters and sensible widths; instants are in Beijing time."""
    out = io.BytesIO()
    book = xlsxwriter.Workbook(
        out, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    )
    bold = book.add_format({"bold": True, "bg_color": "#E8F1FB", "bottom": 1})
    moment = book.add_format({"num_format": _DAYS})
    sheet = book.add_worksheet(title[:31])
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, len(head) - 1, 22)
    for column, name in enumerate(head):
        sheet.write_string(0, column, name, bold)
    number = 0
    for number, row in enumerate(rows, 1):
        for column, value in enumerate(row):
            if value is None:
                continue
            if isinstance(value, datetime):
                local = value.astimezone(BEIJING).replace(tzinfo=None)
                sheet.write_datetime(number, column, local, moment)
            elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
                sheet.write_number(number, column, value)
            else:
                text = str(_plain(value)) if isinstance(value, bool) else str(value)
                sheet.write_string(number, column, text[:MOST_CHARACTERS])
    sheet.autofilter(0, 0, max(number, 1), len(head) - 1)
    book.close()
    return out.getvalue()
