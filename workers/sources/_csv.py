"""CSV, line by line: never more of the file in memory than one row."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workers.errors import InputError
from workers.sources._cells import Cells, Limits, Place, Progress, is_empty

DELIMITERS = ",;\t"
_CHUNK = 2**20
_REPORT_EVERY = 1_000
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE_AGAIN = "save it again as CSV UTF-8"
_QUOTE = 'close the quote, and write a quote within a quoted cell twice ("")'


def read_csv(path: Path, limits: Limits, progress: Progress | None) -> Iterator[Cells]:
    """Every row that isn't empty, the headings first. Raises InputError for the file as a whole."""
    encoding = _encoding(path)
    total = path.stat().st_size
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        lines = _Lines(text, path.name, limits)
        delimiter = _delimiter(lines)
        for count, row in enumerate(_rows(lines, delimiter, path.name)):
            if progress is not None and count % _REPORT_EVERY == 0:
                progress(min(raw.tell(), total), total)
            if row.fault or not is_empty(row.cells):
                yield row
    if progress is not None:
        progress(total, total)


def _encoding(path: Path) -> str:
    """What the whole file is, found strictly: a guess from the beginning garbles the 9,999th name.

    UTF-8 is tried before GB18030 because nearly every text of the one is refused by the other.
    """
    with path.open("rb") as file:
        head = file.read(4)
        for mark, name in _BOMS:
            if head.startswith(mark):
                if fault := _undecodable(file, name.removesuffix("-sig")):
                    raise InputError(f"{path.name}, {fault}: {_SAVE_AGAIN}")
                return name
        if b"\0" in head:
            raise InputError(
                f"{path.name} isn't a text file, or is UTF-16 without BOM: {_SAVE_AGAIN}"
            )
        if not (first := _undecodable(file, "utf-8")):
            return "utf-8"
        if second := _undecodable(file, "gb18030"):
            raise InputError(
                f"{path.name} is in no known encoding: {first}; {second}: {_SAVE_AGAIN}"
            )
        return "gb18030"


def _undecodable(file: BinaryIO, encoding: str) -> str:
    """Where the first byte stands that isn't of the encoding, or "" when all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    line, chunk = 1, b"-"
    while chunk:
        chunk = file.read(_CHUNK)
        before = decoder.getstate()
        try:
            line += decoder.decode(chunk, final=not chunk).count("\n")
        except UnicodeDecodeError as error:
            # one that failed still holds the beginning of a character that a chunk cut in two
            line += decoder.decode(error.object[len(before[0]) : error.start]).count("\n")
            wrong = error.object[error.start]
            return f"line {line} has the byte 0x{wrong:02x}, which isn't {encoding.upper()}"
    return ""


class _Lines:
    """Feeds the CSV reader physical lines, and can take back those of a row that went wrong."""

    def __init__(self, text: io.TextIOWrapper, file: str, limits: Limits) -> None:
        self._text = text
        self._file = file
        self._limit = limits.line_chars
        self._waiting: deque[str] = deque()
        self._row: list[str] = []
        self._chars = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self._row.append(line)
        self._chars += len(line)
        if self._chars > self._limit:
            self._row.clear()  # nothing is taken back: reading it again and again would take hours
            raise csv.Error
        return line

    def _read(self) -> str:
        line = self._text.readline(self._limit)
        if len(line) == self._limit and not line.endswith(("\n", "\r")):
            raise InputError(
                f"{self._file}, line {self.number + 1} is longer than {self._limit:,} characters: "
                "this isn't a table with a record a line"
            )
        return line

    def begin(self) -> None:
        """What is fed from now on belongs to the next row."""
        self._row.clear()
        self._chars = 0

    def keep_first(self) -> None:
        """Take back all lines of the present row but its first, to be read as rows of their own."""
        back = self._row[1:]
        self._waiting.extendleft(reversed(back))
        self.number -= len(back)

    def peek(self) -> str:
        """The next line that isn't blank, without taking it; "" at the end."""
        for at, line in enumerate(self._waiting):
            if line.strip():
                return self._waiting[at]
        while line := self._read():
            self._waiting.append(line)
            if line.strip():
                return line
        return ""


def _delimiter(lines: _Lines) -> str:
    """What parts the headings into the most cells; `sep=;`, which Excel writes, decides at once."""
    heading = lines.peek()
    if heading.lower().startswith("sep=") and len(heading.strip()) == 5:
        while next(lines) != heading:
            pass
        return heading[4]
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([heading], delimiter=mark), [])))


def _rows(lines: _Lines, delimiter: str, file: str) -> Iterator[Cells]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin()
        place = Place(file, None, lines.number + 1)
        try:
            yield Cells(place, next(reader))
        except StopIteration:
            return
        except csv.Error:
            # An open quote swallows its neighbours: only the row it stands in is given up.
            lines.keep_first()
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            yield Cells(place, [], f"has a quote in the wrong place or one never closed: {_QUOTE}")
