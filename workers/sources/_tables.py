"""CSV and XLSX files of contacts, partners, records and their lines: from a path to rows.

What a sheet holds is found by its headings. Rows stream; one that is wrong is told with its place
and harms no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schedules.fields import is_blank
from workers.errors import InputError
from workers.sources._cells import Cells, Limits, Place, Progress, megabytes
from workers.sources._csv import read_csv
from workers.sources._rows import Row, Rules, Shape, fold, shapes
from workers.sources._xlsx import OLE_SIGNATURE, ZIP_SIGNATURE, read_xlsx, refuse_old_format


@dataclass(frozen=True, slots=True)
class Sheet:
    """What became of one sheet (or of the whole CSV, with `name` None).

    `shape` is None for a sheet that was left out, and `note` says why. `ignored` are the headings
    that mean nothing to the shape.
    """

    file: str
    name: str | None
    shape: Shape | None
    headings: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    note: str = ""


Told = Callable[[Sheet], None]


def read_file(
    path: Path,
    rules: Rules,
    *,
    only: str | None = None,
    more: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    on_sheet: Told | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Iterator[Row]:
    """The rows of a CSV (UTF-8, GB18030, or UTF-16 with BOM) or of an XLSX, in the file's order.

    `only` names the shape instead of finding it by the headings; `more` and `given` as in Shape.
    `on_sheet` is told of each sheet before its rows. `progress` counts bytes. Raises InputError for
    the file as a whole, at the first row asked for or, where a limit is met, in the midst; what was
    yielded before it stands.
    """
    known = shapes(rules, more, given)
    if only is not None:
        known = [shape for shape in known if shape.name == only] or _unknown(only, known)
    signature = _signature(path, limits)
    if signature.startswith(OLE_SIGNATURE):
        refuse_old_format(path)
    if signature.startswith(ZIP_SIGNATURE):
        yield from _book(path, known, progress, on_sheet, limits)
    else:
        rows = _limited(read_csv(path, limits, progress), limits)
        yield from _table(path.name, None, rows, known, on_sheet)


def _unknown(only: str, known: Sequence[Shape]) -> list[Shape]:
    names = ", ".join(shape.name for shape in known)
    raise InputError(f"{only!r} is nothing that can be imported: name one of {names}")


def _signature(path: Path, limits: Limits) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a CSV or XLSX file")
        with path.open("rb") as file:
            signature = file.read(8)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from None
    if not size:
        raise InputError(f"{path.name} is empty: it needs a row of headings")
    if size > limits.file_bytes:
        raise InputError(
            f"{path.name} has {megabytes(size)}, at most {megabytes(limits.file_bytes)} are read: "
            "split it"
        )
    return signature


def _book(
    path: Path,
    known: Sequence[Shape],
    progress: Progress | None,
    on_sheet: Told | None,
    limits: Limits,
) -> Iterator[Row]:
    taken = False
    refused: list[str] = []
    for name, seen, rows in read_xlsx(path, limits):
        note = "" if seen else "it is hidden"
        if seen:
            try:
                for row in _table(path.name, name, _limited(rows, limits), known, on_sheet):
                    taken = True
                    yield row
                taken = True
            except _NoShapeError as error:
                refused.append(str(error))
                note = str(error)
        if note and on_sheet is not None:
            on_sheet(Sheet(path.name, name, None, note=note))
    if not taken:
        raise InputError("\n".join(refused) or f"{path.name} has no sheet that can be seen")
    if progress is not None:
        size = path.stat().st_size
        progress(size, size)


class _NoShapeError(InputError):
    """A sheet is nothing that is known; in a workbook its neighbours may be."""


def _limited(rows: Iterable[Cells], limits: Limits) -> Iterator[Cells]:
    for count, row in enumerate(rows):
        if count > limits.rows:
            raise InputError(
                f"{row.place}: over {limits.rows:,} rows; those before it are read: split the file"
            )
        if len(row.cells) > limits.columns:
            fault = f"has {len(row.cells):,} cells, at most {limits.columns} are read"
            row = Cells(row.place, [], f"{fault}: a delimiter or a quote is wrong")
        elif any(isinstance(cell, str) and len(cell) > limits.cell_chars for cell in row.cells):
            fault = f"has a cell of more than {limits.cell_chars:,} characters"
            row = Cells(row.place, [], f"{fault}: shorten it, or close the quote it begins with")
        yield row


def _table(
    file: str,
    sheet: str | None,
    rows: Iterator[Cells],
    known: Sequence[Shape],
    on_sheet: Told | None,
) -> Iterator[Row]:
    top = next(rows, None)
    where = file if sheet is None else f"{file}, sheet {sheet}"
    if top is None:
        raise _NoShapeError(f"{where} is empty: it needs a row of headings")
    if top.fault:
        raise InputError(f"{top.place}: the row of headings {top.fault}")
    names = ["" if cell is None else str(cell).strip() for cell in top.cells]
    while names and not names[-1]:
        names.pop()
    shape = _shape(where, names, known)
    columns = _columns(top.place, names, shape)
    headings = {name: names[at] for name, at in columns.items()}
    used = set(columns.values())
    ignored = tuple(name for at, name in enumerate(names) if name and at not in used)
    if on_sheet is not None:
        on_sheet(Sheet(file, sheet, shape, headings, ignored))
    for row in rows:
        fault = row.fault or _ragged(row, len(names), exact=sheet is None)
        values = {} if fault else _values(row.cells, columns, shape)
        yield Row(row.place, shape, values, headings, fault)


def _values(cells: list[Any], columns: Mapping[str, int], shape: Shape) -> dict[str, Any]:
    found = {name: cells[at] if at < len(cells) else None for name, at in columns.items()}
    return {
        name: value
        for name, value in found.items()
        if name in shape.required or not is_blank(value)
    }


def _ragged(row: Cells, width: int, *, exact: bool) -> str:
    """Why a row doesn't fit under the headings: in a CSV a cell too few is a line broken in two."""
    surplus = any(cell not in (None, "") for cell in row.cells[width:])
    if not surplus and not (exact and len(row.cells) < width):
        return ""
    return (
        f"has {len(row.cells)} cells under {width} headings: "
        "quote cells that hold a delimiter or a line break"
    )


def _shape(where: str, names: Sequence[str], known: Sequence[Shape]) -> Shape:
    """The shape that knows the most of the headings, if it has all it requires.

    One that knows more but lacks a column wins the argument, not the sheet: a list of statements
    without its amounts isn't a list of partners.
    """
    folded = {fold(name) for name in names} - {""}
    found = {shape.name: {shape.fields[h] for h in folded & shape.fields.keys()} for shape in known}
    ranked = sorted(
        known,
        key=lambda shape: (len(found[shape.name]), shape.required <= found[shape.name]),
        reverse=True,
    )
    best = ranked[0]
    missing = best.required - found[best.name]
    if missing:
        lacks = ", ".join(best.heading(name) for name in best.model.model_fields if name in missing)
        seen = ", ".join(name for name in names if name)
        raise _NoShapeError(
            f"{where}: the headings ({_short(seen)}) are nearest to {best.name}, which also "
            f"needs {lacks}: add the column, or rename the one that holds it"
        )
    rivals = [
        shape.name
        for shape in ranked[1:]
        if len(found[shape.name]) == len(found[best.name]) and shape.required <= found[shape.name]
    ]
    if not rivals:
        return best
    named = [shape for shape in ranked if shape.name in {best.name, *rivals} & _named(where)]
    if len(named) == 1:
        return named[0]
    raise _NoShapeError(
        f"{where} may be {' or '.join([best.name, *rivals])}: say which, name the file or sheet "
        "after it, or add the columns that tell them apart"
    )


def _named(where: str) -> set[str]:
    """The shapes that a file's or sheet's own name may mean: `coupons.xlsx, sheet Cash coupons`."""
    parts = re.split(r", sheet |[/\\.]", where)
    words = {re.sub(r"[\W_]+", "_", part.strip().casefold()).strip("_") for part in parts}
    return words | {word.removesuffix("s") for word in words}


def _columns(place: Place, names: Sequence[str], shape: Shape) -> dict[str, int]:
    """Each field and the column it stands in. Raises InputError when two columns claim one."""
    columns: dict[str, int] = {}
    for at, name in enumerate(names):
        claimed = shape.fields.get(fold(name)) if name else None
        if claimed is None:
            continue
        if claimed in columns:
            other = names[columns[claimed]]
            mine, theirs = (fold(one) in shape.mapped for one in (name, other))
            if mine == theirs:
                raise InputError(
                    f"{place}: the columns {other} and {name} both mean {claimed}: remove one"
                )
            if theirs:
                continue
        columns[claimed] = at
    return columns


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
