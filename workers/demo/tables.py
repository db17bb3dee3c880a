"""Tables of made-up rows, and the files they are written to: CSV as exported, XLSX as kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import xlsxwriter
from pydantic import BaseModel

from schedules.fields import BEIJING, Column

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. Instants in them are aware and are written as Beijing time."""

    name: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(
        cls, name: str, model: type[BaseModel], rows: Iterable[Mapping[str, Any]], chinese: bool
    ) -> Table:
        """A column for each field that a row has, in the model's order, in one language."""
        listed = list(rows)
        used = {field for row in listed for field, value in row.items() if value is not None}
        fields = [field for field in model.model_fields if field in used]
        headings = [_heading(model, field) if chinese else field for field in fields]
        cells = tuple(tuple(row.get(field) for field in fields) for row in listed)
        return cls(name, tuple(headings), cells)


@dataclass(frozen=True, slots=True)
class File:
    """A CSV (one table) or an XLSX (a table a sheet), told apart by its name."""

    name: str
    tables: tuple[Table, ...]
    encoding: str = "utf-8-sig"

    def write(self, folder: Path) -> Path:
        """Writes the file; the same tables make the same bytes."""
        path = folder / self.name
        if path.suffix == ".csv":
            _write_csv(path, self.tables[0], self.encoding)
        else:
            _write_xlsx(path, self.tables)
        return path


def _heading(model: type[BaseModel], field: str) -> str:
    for entry in model.model_fields[field].metadata:
        if isinstance(entry, Column):
            return entry.names[0]
    return field


def _write_csv(path: Path, table: Table, encoding: str) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.headings)
        writer.writerows([_text(cell) for cell in row] for row in table.rows)


def _text(cell: Any) -> str:
    if isinstance(cell, datetime):
        return f"{cell.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"
    return "" if cell is None else str(cell)


# A fixed moment of making, so that the bytes depend on the rows alone.
_MADE = datetime(2026, 1, 1)  # noqa: DTZ001 - a spreadsheet's times have no zone


def _write_xlsx(path: Path, tables: Sequence[Table]) -> None:
    with xlsxwriter.Workbook(
        path, {"strings_to_formulas": False, "strings_to_urls": False}
    ) as book:
        book.set_properties({"created": _MADE})
        formats = {
            datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm"}),
            date: book.add_format({"num_format": "yyyy-mm-dd"}),
            Decimal: book.add_format({"num_format": "#,##0.00"}),
        }
        bold = book.add_format({"bold": True, "bg_color": "#E8EEF7", "bottom": 1})
        for table in tables:
            sheet = book.add_worksheet(table.name)
            sheet.freeze_panes(1, 0)
            sheet.write_row(0, 0, table.headings, bold)
            sheet.set_column(0, len(table.headings) - 1, 18)
            for at, row in enumerate(table.rows, start=1):
                for column, cell in enumerate(row):
                    _write_cell(sheet, at, column, cell, formats.get(type(cell)))


def _write_cell(sheet: Any, row: int, column: int, cell: Any, look: Any) -> None:
    if cell is None:
        return
    if isinstance(cell, datetime):
        cell = cell.astimezone(BEIJING).replace(tzinfo=None)
    if isinstance(cell, date):
        sheet.write_datetime(row, column, cell, look)
    elif isinstance(cell, Decimal | int):
        sheet.write_number(row, column, float(cell), look)
    else:
        text = json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict) else str(cell)
        sheet.write_string(row, column, text)
