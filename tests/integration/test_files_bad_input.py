"""Files made to do harm, or damaged: each is refused in a sentence, soon, and in little memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import xlsxwriter

from schedules import load_rules
from workers.errors import InputError
from workers.sources.files import Limits, Row, RowError, read_file, row_model

RULES = load_rules()
ROOT = Path(__file__).parents[2]
CONTACTS = "partner_id,role,name,mail,mobile"
GOOD = "P1,finance,Li Na,li@example.com,+8613812345678"

# Reads a file in a process of its own and says what it cost: seconds, MB at most, rows, complaint.
MEASURE = """
import re, resource, sys, time
from pathlib import Path
from schedules import load_rules
from workers.errors import InputError
from workers.sources.files import read_file
rules = load_rules()
rows, said, began = 0, "", time.monotonic()
try:
    for _ in read_file(Path(sys.argv[1]), rules):
        rows += 1
except InputError as error:
    said = str(error)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
status = Path("/proc/self/status")
if status.exists():  # Linux: ru_maxrss would begin with the size of whoever started this process
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
print(time.monotonic() - began, peak / 1024, rows, said, sep="|")
"""


def measured(path: Path) -> tuple[float, float, int, str]:
    command = [sys.executable, "-W", "error", "-c", MEASURE, str(path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=True
    )
    seconds, megabytes, rows, said = done.stdout.rstrip("\n").split("|", 3)
    return float(seconds), float(megabytes), int(rows), said


def read(path: Path, limits: Limits | None = None) -> list[Row]:
    return list(read_file(path, RULES, limits=limits or Limits()))


def refused(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(path, limits)
    said = str(caught.value)
    assert path.name in said
    assert ": " in said, "the remedy is missing"
    return said


def csv(folder: Path, content: bytes | str) -> Path:
    path = folder / "contacts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parts() -> dict[str, bytes]:
    """The parts of a small workbook that is in order."""
    whole = io.BytesIO()
    with xlsxwriter.Workbook(whole, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for line, text in enumerate((CONTACTS, GOOD)):
            sheet.write_row(line, 0, text.split(","))
    with zipfile.ZipFile(whole) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


SHEET = "xl/worksheets/sheet1.xml"
CORNERS = (("A", 1), ("XFD", 1_048_576))


def xlsx(folder: Path, changes: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "contacts.xlsx"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in {**parts(), **changes}.items():
            archive.writestr(name, content)
    return path


def sheet_of(cells: str) -> bytes:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{space}"><sheetData>{cells}</sheetData></worksheet>'.encode()


def test_the_workbook_that_the_bombs_are_made_of_reads_well(tmp_path: Path) -> None:
    (row,) = read(xlsx(tmp_path, {}))

    assert row_model(row).model_dump()["mail"] == "li@example.com"


# --- archives ---------------------------------------------------------------------------------


def test_a_bomb_of_a_gigabyte_is_refused_at_once_and_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "contacts.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts().items():
            archive.writestr(name, content)
        with archive.open("xl/media/image1.png", "w", force_zip64=True) as part:
            for _ in range(1024):
                part.write(bytes(2**20))

    seconds, megabytes, rows, said = measured(path)

    assert "would unpack to 1,024" in said
    assert (rows, seconds < 5, megabytes < 256) == (0, True, True)


def test_a_part_that_packs_too_well_is_refused(tmp_path: Path) -> None:
    assert "more than 100 times" in refused(xlsx(tmp_path, {"xl/media/a.bin": bytes(2**24)}))


def test_a_directory_that_lies_about_a_part_s_size_is_found_out(tmp_path: Path) -> None:
    path = xlsx(tmp_path, {"xl/media/a.bin": bytes(range(256)) * 2**14})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"xl/media/a.bin") - 46  # APPNOTE.TXT 4.3.12: the central header
    assert content[entry : entry + 4] == b"PK\x01\x02"
    struct.pack_into("<I", content, entry + 24, 1000)
    path.write_bytes(content)

    assert "doesn't unpack to the size it states" in refused(path)


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    path = xlsx(tmp_path, {"xl/media/a.bin": b"a" * 50, "xl/media/b.bin": b"b" * 50})
    content = bytearray(path.read_bytes())
    first = content.rindex(b"xl/media/a.bin") - 46
    second = content.rindex(b"xl/media/b.bin") - 46
    content[second + 42 : second + 46] = content[first + 42 : first + 46]  # one header for both
    path.write_bytes(content)

    assert "parts that overlap" in refused(path)


def test_too_many_parts_are_refused(tmp_path: Path) -> None:
    many = {f"xl/media/{number}.bin": b"" for number in range(1100)}

    assert "parts, at most 1,000" in refused(xlsx(tmp_path, many))


def test_two_cells_far_apart_do_not_fill_the_memory(tmp_path: Path) -> None:
    first, last = (f'<row r="{row}"><c r="{at}{row}"><v>1</v></c></row>' for at, row in CORNERS)
    corners = first + last

    seconds, megabytes, _, said = measured(xlsx(tmp_path, {SHEET: sheet_of(corners)}))

    assert "column 16384, at most 200" in said
    assert (seconds < 5, megabytes < 256) == (True, True)


@pytest.mark.parametrize("last", ['<c r="T1048576"><v>1</v></c>', "<c><v>1</v></c>" * 20])
def test_rows_far_apart_do_not_fill_the_memory(tmp_path: Path, last: str) -> None:
    cells = f'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576">{last}</row>'

    assert "reaches over 1,048,576 rows" in refused(xlsx(tmp_path, {SHEET: sheet_of(cells)}))


def test_a_billion_laughs_are_not_laughed(tmp_path: Path) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + sheet_of(
        "<row><c>&b;</c></row>"
    )

    assert "declares a document type" in refused(xlsx(tmp_path, {SHEET: bomb}))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(tmp_path: Path, method: int) -> None:
    assert "packed in a way" in refused(xlsx(tmp_path, {}, method))


def test_macros_are_refused(tmp_path: Path) -> None:
    assert "has macros" in refused(xlsx(tmp_path, {"xl/vbaProject.bin": b"x"}))


def test_an_archive_of_something_else_is_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "contacts.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    assert "no XLSX workbook" in refused(path)


def test_an_old_workbook_is_told_from_an_encrypted_one(tmp_path: Path) -> None:
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(5000)
    old, locked = tmp_path / "old.xls", tmp_path / "locked.xlsx"
    old.write_bytes(ole + "Workbook".encode("utf-16-le"))
    locked.write_bytes(ole + "EncryptedPackage".encode("utf-16-le"))

    assert "old .xls format: save it as an Excel workbook" in refused(old)
    assert "save it without a password" in refused(locked)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_workbook_cut_off_in_the_midst_is_refused(tmp_path: Path, share: float) -> None:
    path = xlsx(tmp_path, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    assert "isn't a whole XLSX file" in refused(path)


def test_a_workbook_with_any_byte_flipped_is_read_or_refused_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = xlsx(tmp_path, {})
    content = path.read_bytes()
    outcomes = set()
    for at in range(0, len(content), 29):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read(path)
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")

    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    "sheet",
    [b"<worksheet><sheetData><row>", b"\x00\x01\x02", b"", sheet_of('<row><c r="1A"/></row>')],
)
def test_a_damaged_sheet_is_refused(tmp_path: Path, sheet: bytes) -> None:
    refused(xlsx(tmp_path, {SHEET: sheet}))


# --- text -------------------------------------------------------------------------------------


def test_a_hundred_megabytes_stream_in_little_memory(tmp_path: Path) -> None:
    block = f"P1,finance,{'长' * 330},li@example.com,\n".encode() * 1000
    path = csv(tmp_path, f"{CONTACTS}\n")
    with path.open("ab") as file:
        for _ in range(104):
            file.write(block)
    assert path.stat().st_size > 100 * 2**20

    _, megabytes, rows, said = measured(path)

    assert (rows, said) == (104_000, "")
    assert megabytes < 300


def test_one_endless_line_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = csv(tmp_path, CONTACTS.encode() + b"\n" + b"x" * 100 * 2**20)

    _, megabytes, rows, said = measured(path)

    assert "line 2 is longer than 1,048,576 characters" in said
    assert (rows, megabytes < 300) == (0, True)


def test_a_row_that_never_ends_is_given_up_without_reading_it_again_and_again(
    tmp_path: Path,
) -> None:
    path = csv(tmp_path, f"{CONTACTS}\n" + '"a\n",' * 2_000_000)

    seconds, megabytes, _, said = measured(path)

    assert said == ""
    assert (seconds < 30, megabytes < 300) == (True, True)


@pytest.mark.parametrize("encoding", ["UTF-8", "GB18030"])
def test_the_line_of_a_wrong_byte_is_named_even_where_a_block_cuts_a_character(
    tmp_path: Path, encoding: str
) -> None:
    lines = [f"P1,finance,{'名' * 33},a@example.com," for _ in range(40_000)]
    content = "\n".join([CONTACTS, *lines, ""]).encode(encoding) + b"P1,finance,\xff\xff,,\n"

    said = refused(csv(tmp_path, content))

    assert f"line 40002 has the byte 0xff, which isn't {encoding}" in said
    assert said.endswith("isn't GB18030: save it again as CSV UTF-8")


def test_utf_16_cut_in_half_a_character_is_refused(tmp_path: Path) -> None:
    said = refused(csv(tmp_path, f"{CONTACTS}\n{GOOD}\n".encode("utf-16") + b"x"))

    assert "line 3 has the byte 0x78, which isn't UTF-16" in said


def test_utf_16_without_a_mark_is_named_as_such(tmp_path: Path) -> None:
    assert "UTF-16 without BOM" in refused(csv(tmp_path, CONTACTS.encode("utf-16-le")))


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf"])
def test_a_file_with_nothing_in_it_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is empty: it needs a row of headings" in refused(csv(tmp_path, content))


def test_a_folder_and_a_file_that_is_not_there_are_named(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "nothing.csv")


HOSTILE = {
    "CR and LF in a name": ('P1,finance,"Li\r\nBcc: x@example.com",,', "control character CR"),
    "a NUL in a name": ("P1,finance,Li\0Na,,", "control character NUL"),
    "an encoded newline": ("P1,finance,=?UTF-8?Q?=0ABcc:x?=,,", "encoded word"),
    "a command in an address": ("P1,finance,Li,a@b.cn> RCPT TO:<x@y.cn,", "isn't a mail address"),
    "a phone that is none": ("P1,finance,Li,,0000", "isn't a number that exists"),
    "half a line": ("P1,finance", "has 2 cells under 5 headings"),
    "a cell of 40,000 characters": (f"P1,finance,{'x' * 40_000},,", "more than 32,767 characters"),
    "300 cells": ("P1," * 300, "has 301 cells, at most 200"),
    "an open quote": ('P1,finance,"Li,,', "a quote in the wrong place or one never closed"),
    "a quote in the midst": ('P1,finance,"Li"Na,,', "a quote in the wrong place"),
}


@pytest.mark.parametrize(("line", "complaint"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_row_is_refused_by_its_line_and_its_neighbours_are_taken(
    tmp_path: Path, line: str, complaint: str
) -> None:
    path = csv(tmp_path, f"{CONTACTS}\n{GOOD}\n{line}\n{GOOD}\n")

    before, wrong, after = read(path)

    with pytest.raises(RowError, match=r"contacts\.csv, line 3") as caught:
        row_model(wrong)
    assert complaint in str(caught.value)
    assert row_model(before) == row_model(after)


def test_masked_addresses_and_html_are_values_like_others(tmp_path: Path) -> None:
    (row,) = read(csv(tmp_path, f"{CONTACTS}\nP1,finance,<b>Li</b>,l***@example.com,138****1234\n"))

    model = row_model(row).model_dump()
    assert (model["name"], model["mail"], model["mobile"]) == (
        "<b>Li</b>",
        "l***@example.com",
        "138****1234",
    )


OVER: dict[str, tuple[Callable[[Path], Path], Limits, str]] = {
    "bytes": (
        lambda folder: csv(folder, f"{CONTACTS}\n{GOOD}\n"),
        Limits(file_bytes=20),
        "at most 0.0 MB are read: split it",
    ),
    "rows": (
        lambda folder: csv(folder, f"{CONTACTS}\n" + f"{GOOD}\n" * 5),
        Limits(rows=4),
        "line 6: over 4 rows; those before it are read",
    ),
    "rows of a sheet": (
        lambda folder: xlsx(folder, {}),
        Limits(rows=0),
        "sheet Sheet1, line 2: over 0 rows",
    ),
    "the area of a sheet": (
        lambda folder: xlsx(folder, {}),
        Limits(area=8),
        "reaches over 2 rows by 5",
    ),
}


@pytest.mark.parametrize(("make", "limits", "complaint"), OVER.values(), ids=OVER.keys())
def test_what_is_over_a_limit_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], limits: Limits, complaint: str
) -> None:
    assert complaint in refused(make(tmp_path), limits)
