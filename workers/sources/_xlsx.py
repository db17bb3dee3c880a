"""XLSX: looked through as an archive before anything unpacks it, then read by calamine.

What is looked at is the bytes themselves, because a bomb's directory lies about them.
"""

from __future__ import annotations

import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from xml.parsers import expat

from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from workers.errors import InputError
from workers.sources._cells import Cells, Limits, Place, is_empty, megabytes

ZIP_SIGNATURE = b"PK"
OLE_SIGNATURE = bytes.fromhex("d0cf11e0a1b11ae1")
_AS_XLSX = "save it as an Excel workbook (.xlsx) or as CSV UTF-8"
_DAMAGED = f"open it in Excel and {_AS_XLSX}"
_CHUNK = 2**16
_LOCAL = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7, the local file header
_REFERENCE = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7})")


def read_xlsx(path: Path, limits: Limits) -> Iterator[tuple[str, bool, Iterator[Cells]]]:
    """Each worksheet's name, whether people see it, and its rows that aren't empty.

    Raises InputError for the file as a whole.
    """
    check_archive(path, limits)
    with path.open("rb") as file:
        with _readable(path.name):
            book = CalamineWorkbook.from_filelike(file)
        with book:
            for index, about in enumerate(book.sheets_metadata):
                if about.typ == SheetTypeEnum.WorkSheet:
                    seen = about.visible == SheetVisibleEnum.Visible
                    yield about.name, seen, _rows(book, index, path.name, about.name)


def _rows(book: CalamineWorkbook, index: int, file: str, sheet: str) -> Iterator[Cells]:
    with _readable(file):
        lines = book.get_sheet_by_index(index).iter_rows()
    for line, cells in enumerate(lines, start=1):
        row: list[Any] = list(cells)
        if not is_empty(row):
            yield Cells(Place(file, sheet, line), row)


@contextmanager
def _readable(file: str) -> Iterator[None]:
    try:
        yield
    except (CalamineError, ValueError, OSError) as error:
        raise InputError(f"{file} is damaged ({error}): {_DAMAGED}") from None
    except BaseException as error:
        # A panic of the Rust below comes as a BaseException: it ends this file, not the daemon.
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{file} is damaged ({error}): {_DAMAGED}") from None


def refuse_old_format(path: Path) -> NoReturn:
    """Say what an OLE file is; its macros and streams can't be checked, so none is read.

    Raises InputError, always.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # the directory's entries are UTF-16; one that hides the workbook is an encrypted package
        encrypted = content.find("EncryptedPackage".encode("utf-16-le")) >= 0
    if encrypted:
        raise InputError(f"{path.name} is encrypted: save it without a password")
    raise InputError(f"{path.name} is in the old .xls format: {_AS_XLSX}")


def check_archive(path: Path, limits: Limits) -> None:
    """Raises InputError unless the file is an XLSX that unpacks to what it says, within limits."""
    name = path.name
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = archive.infolist()
            _check_directory(name, members, limits)
            end = 0
            for member in sorted(members, key=lambda member: member.header_offset):
                if member.header_offset < end:
                    raise InputError(f"{name} has parts that overlap, as bombs do: {_DAMAGED}")
                end = _check_member(name, file, member, limits)
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError) as error:
        raise InputError(f"{name} isn't a whole XLSX file ({error}): {_DAMAGED}") from None


def _check_directory(name: str, members: list[zipfile.ZipInfo], limits: Limits) -> None:
    names = {member.filename.lower() for member in members}
    if len(members) > limits.members:
        raise InputError(
            f"{name} has {len(members):,} parts, at most {limits.members:,} are read: {_AS_XLSX}"
        )
    if len(names) < len(members):
        raise InputError(f"{name} has two parts of one name: {_DAMAGED}")
    if any(part.endswith("vbaproject.bin") for part in names):
        raise InputError(f"{name} has macros: {_AS_XLSX}, which has none")
    if not {"[content_types].xml", "xl/workbook.xml"} <= names:
        raise InputError(f"{name} is a zip archive but no XLSX workbook: {_AS_XLSX}")
    total = sum(member.file_size for member in members)
    if total > limits.unpacked_bytes:
        raise InputError(
            f"{name} would unpack to {megabytes(total)}, more than "
            f"{megabytes(limits.unpacked_bytes)}: split it, or save it as CSV UTF-8"
        )


def _check_member(name: str, file: BinaryIO, member: zipfile.ZipInfo, limits: Limits) -> int:
    """Unpack a part without keeping it; the offset of its end."""
    part = f"{name}, part {member.filename}"
    if member.flag_bits & 0x1:
        raise InputError(f"{name} is encrypted: save it without a password")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InputError(f"{part} is packed in a way that XLSX doesn't use: {_DAMAGED}")
    # Small parts are let off: a thousand like cells pack well and harm nobody.
    if member.file_size > max(2**20, member.compress_size * limits.ratio):
        raise InputError(
            f"{part} unpacks to more than {limits.ratio} times its size, as bombs do: "
            "save it as CSV UTF-8"
        )
    file.seek(member.header_offset)
    header = _LOCAL.unpack(file.read(_LOCAL.size))
    if header[0] != b"PK\x03\x04":
        raise InputError(f"{part} isn't where the directory says: {_DAMAGED}")
    begin: int = member.header_offset + _LOCAL.size + header[9] + header[10]
    file.seek(begin)
    extent = _Extent(part, limits)
    size = 0
    for chunk in _unpacked(file, member):
        size += len(chunk)
        if size > member.file_size:
            break
        extent.feed(chunk)
    if size != member.file_size:
        raise InputError(f"{part} doesn't unpack to the size it states, as bombs do: {_DAMAGED}")
    extent.close()
    return begin + member.compress_size


def _unpacked(file: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    left = member.compress_size
    inflate = zlib.decompressobj(-15) if member.compress_type == zipfile.ZIP_DEFLATED else None
    while left > 0 and (packed := file.read(min(_CHUNK, left))):
        left -= len(packed)
        if inflate is None:
            yield packed
            continue
        while packed:
            yield inflate.decompress(packed, _CHUNK * 16)
            packed = inflate.unconsumed_tail
    if inflate is not None:
        yield inflate.flush()


class _Extent:
    """How far a part's cells reach: two of them, A1 and XFD1048576, would fill 500 GB of memory.

    Whatever begins like XML is looked at, since a workbook may keep a sheet under any name.
    """

    def __init__(self, part: str, limits: Limits) -> None:
        self._part = part
        self._limits = limits
        self._parser: expat.XMLParserType | None = None
        self._began = False
        self._row = self._column = 0  # where it is
        self._rows = self._columns = 1  # how far it came

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes. Raises InputError."""
        if not self._began and chunk:
            self._began = True
            if chunk.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<"):
                self._parser = expat.ParserCreate()
                self._parser.StartElementHandler = self._element
                self._parser.StartDoctypeDeclHandler = self._doctype
        self._parse(chunk, False)

    def close(self) -> None:
        """The part has ended. Raises InputError when its XML hasn't."""
        self._parse(b"", True)

    def _parse(self, chunk: bytes, final: bool) -> None:
        if self._parser is not None:
            try:
                self._parser.Parse(chunk, final)
            except expat.ExpatError as error:
                raise InputError(f"{self._part} is damaged ({error}): {_DAMAGED}") from None

    def _doctype(self, *_: object) -> None:
        raise InputError(f"{self._part} declares a document type, as XML bombs do: {_DAMAGED}")

    def _element(self, element: str, attributes: dict[str, str]) -> None:
        match element.rpartition(":")[2]:
            case "row":
                number = attributes.get("r", "")
                self._row = int(number[:8]) if number.isdecimal() else self._row + 1
                self._column = 0
            case "c":
                self._row, self._column = self._cell(attributes.get("r"))
                self._reach(self._row, self._column)

    def _cell(self, reference: str | None) -> tuple[int, int]:
        if reference is None:
            return self._row, self._column + 1
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise InputError(f"{self._part} has a cell at {reference[:20]!r}: {_DAMAGED}")
        column = 0
        for letter in found[1].upper():
            column = column * 26 + ord(letter) - 64
        return int(found[2]), column

    def _reach(self, row: int, column: int) -> None:
        if row <= self._rows and column <= self._columns:
            return
        self._rows, self._columns = max(self._rows, row), max(self._columns, column)
        if self._columns > self._limits.columns:
            raise InputError(
                f"{self._part} has cells in column {self._columns}, at most "
                f"{self._limits.columns} are read: delete the columns that aren't needed"
            )
        if self._rows * self._columns > self._limits.area:
            raise InputError(
                f"{self._part} reaches over {self._rows:,} rows by {self._columns} columns: "
                "delete the empty rows below the table, or save it as CSV UTF-8"
            )
