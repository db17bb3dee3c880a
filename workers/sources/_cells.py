"""What both kinds of file come down to: cells with the place they stand at, within limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[int, int], None]
"""Called now and then with how much is done and how much there is, in bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a file may hold; what is over a limit is refused before it is unpacked or kept.

    `file_bytes` of the file itself; `unpacked_bytes` of all an XLSX's parts together;
    `ratio` unpacked to packed, of each part; `members` parts of an XLSX; `area` cells of a sheet's
    used rectangle, empty ones included (all of it is held in memory at once, 32 bytes a cell);
    `line_chars` of one row of a CSV; `cell_chars` as in Excel.
    """

    file_bytes: int = 512 * 2**20
    unpacked_bytes: int = 256 * 2**20
    ratio: int = 100
    members: int = 1_000
    area: int = 5_000_000
    rows: int = 2_000_000
    columns: int = 200
    cell_chars: int = 32_767
    line_chars: int = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; `line` counts from 1, as a person sees it.

    `str()` is `contacts.csv, line 7` or `book.xlsx, sheet 付款, line 7`; what isn't a file counts
    in a `unit` of its own, `crm, row 7`.
    """

    file: str
    sheet: str | None
    line: int
    unit: str = "line"

    def __str__(self) -> str:
        sheet = "" if self.sheet is None else f"sheet {self.sheet}, "
        return f"{self.file}, {sheet}{self.unit} {self.line}"


@dataclass(frozen=True, slots=True)
class Cells:
    """One row as it stands in the file. `fault` says why it can't be read, with the remedy."""

    place: Place
    cells: list[Any]
    fault: str = ""


def is_empty(cells: list[Any]) -> bool:
    """Whether a row has nothing but blanks."""
    return all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells)


def megabytes(count: int) -> str:
    """A number of bytes as people compare it with what their file manager shows."""
    return f"{count / 2**20:,.1f} MB"
