"""The invoice list as XLSX and PDF, opened again by other libraries."""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from openpyxl import load_workbook
from openpyxl.worksheet.worksheet import Worksheet
from pypdf import PdfReader

from schedules.invoice_list import Party, PostTo, findings
from tests.invoices import NAMES, invoice_list
from workers.render.labels import DOCUMENTS, labels
from workers.render.pdf import FONTS, TAGGED_LINES, TEMPLATE, _em, invoice_list_pdf
from workers.render.xlsx import invoice_list_xlsx

HOSTILE = (
    "#import \"@preview/x:1.0.0\": *",
    "#read(\"/etc/passwd\")",
    "$ sum_(i=0) $",
    "*bold* _it_ `raw` <label> @ref",
    "= Heading // comment /* open",
    "\\u{41} \\ #panic(1)",
    "[#[{(",
)  # fmt: skip
FORMULAS = ("=HYPERLINK(\"http://evil.example\",\"x\")", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1",
            "=cmd|' /C calc'!A0", "http://evil.example", "0012", "＝1+1")  # fmt: skip


def sheet_of(document: bytes, *, values: bool = True) -> Worksheet:
    sheet = load_workbook(BytesIO(document), data_only=values).active
    assert isinstance(sheet, Worksheet)
    return sheet


def header_row(sheet: Worksheet, word: str = "序号") -> int:
    return next(r for r in range(1, sheet.max_row) if sheet.cell(r, 1).value == word)


def text_of(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(document)).pages)


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b]", "", text)


def test_cells_of_the_table_are_typed() -> None:
    sheet = sheet_of(invoice_list_xlsx(invoice_list(3), "zh-CN"))
    first = header_row(sheet) + 1
    line, bill, name, *_, quantity, price, ex, rate, tax, incl, number = (
        cell.value for cell in sheet[first]
    )

    assert (line, bill, name) == (1, "BILL-202610-00001", NAMES[1])
    assert (quantity, price, rate) == (3, 3933.13, 0.13)
    assert (ex, tax, incl) == (11799.4, 1533.92, 13333.32)
    assert number is None
    assert sheet.cell(first, 8).number_format == "#,##0.00"
    assert sheet.cell(first, 9).number_format == "0%"
    assert sheet.cell(first + 2, 9).number_format == "0.0#%"


def test_an_invoice_number_typed_into_its_cell_stays_text() -> None:
    sheet = sheet_of(invoice_list_xlsx(invoice_list(1), "zh-CN"))

    assert sheet.cell(header_row(sheet) + 1, 12).number_format == "@"


def test_long_numbers_of_the_parties_are_text_and_the_approval_is_a_beijing_date() -> None:
    values = [c.value for r in sheet_of(invoice_list_xlsx(invoice_list(1), "en")) for c in r]

    assert "4000027729200512345" in values
    assert (
        datetime(2026, 11, 20, tzinfo=UTC).replace(tzinfo=None) in values
    )  # 16:30 UTC is the next day there


@pytest.mark.parametrize("count", [1, 10, 500])
def test_totals_are_formulas_with_their_right_results(count: int) -> None:
    built = invoice_list(count)
    document = invoice_list_xlsx(built, "zh-CN")
    values, formulas = sheet_of(document), sheet_of(document, values=False)
    first = header_row(values) + 1
    totals = first + count
    expected = [*(part.total for part in built.rate_totals), built.total]

    for offset, total in enumerate(expected):
        place = totals + offset
        stored = [values.cell(place, column).value for column in (8, 10, 11)]
        wanted = [total.amount_ex_tax, total.tax, total.amount_incl_tax]
        assert stored == [float(amount) for amount in wanted]
        rate = values.cell(place, 9).value
        for column in (8, 10, 11):
            formula = str(formulas.cell(place, column).value)
            assert evaluated(values, formula, rate) == pytest.approx(
                stored[(8, 10, 11).index(column)]
            )
    assert findings(built) == []


def evaluated(sheet: Worksheet, formula: str, rate: Any) -> float:
    """What a spreadsheet makes of our SUM and SUMIF."""
    if found := re.fullmatch(r"=SUM\(([\w:]+)\)", formula):
        return sum(float(str(cell.value)) for (cell,) in _cells(sheet, found[1]))
    found = re.fullmatch(r"=SUMIF\(([\w:]+),\w+,([\w:]+)\)", formula)
    assert found, formula
    pairs = zip(_cells(sheet, found[1]), _cells(sheet, found[2]), strict=True)
    return sum(float(str(amount.value)) for (key,), (amount,) in pairs if key.value == rate)


def _cells(sheet: Worksheet, place: str) -> Iterator[tuple[Any, ...]]:
    area = sheet[place]
    return iter(area if isinstance(area, tuple) else ((area,),))


def test_only_our_totals_are_formulas_whatever_text_comes_in() -> None:
    built = invoice_list(
        len(FORMULAS),
        FORMULAS,
        partner=FORMULAS[0],
        programme=FORMULAS[3],
        buyer=Party(*FORMULAS[:6]),
        post_to=PostTo(*FORMULAS[:4]),
    )
    built = replace(
        built,
        rows=tuple(
            replace(one, spec="=1", unit="=1", bill_id="=1", invoice_number="=1")
            for one in built.rows
        ),
    )

    sheet = sheet_of(invoice_list_xlsx(built, "zh-CN"), values=False)
    cells = [cell for line in sheet for cell in line]

    formulas = [str(cell.value) for cell in cells if cell.data_type == "f"]
    assert len(formulas) == 3 * (len(built.rate_totals) + 1)
    assert all(re.match(r"=SUM(IF)?\([A-Z]", formula) for formula in formulas)
    assert not any(cell.hyperlink for cell in cells)
    names = {sheet.cell(header_row(sheet) + n, 3).value for n in range(1, len(FORMULAS) + 1)}
    assert names == set(FORMULAS)


def test_the_sheet_prints_on_a4_with_its_header_on_every_page() -> None:
    sheet = sheet_of(invoice_list_xlsx(invoice_list(60), "zh-CN"))
    header = header_row(sheet)

    assert sheet.page_setup.paperSize == 9
    assert sheet.page_setup.orientation == "landscape"
    assert sheet.sheet_properties.pageSetUpPr is not None
    assert sheet.sheet_properties.pageSetUpPr.fitToPage
    assert (sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight) in {(1, 0), (None, 0)}
    assert sheet.print_title_rows == f"${header}:${header}"
    assert sheet.freeze_panes == f"A{header + 1}"
    footer = sheet.oddFooter
    assert footer is not None
    assert footer.right is not None
    assert footer.right.text == "第 &P 页，共 &N 页"


@pytest.mark.parametrize(
    ("language", "title", "words"),
    [
        ("zh-CN", "开票清单", "人民币"),
        ("zh", "开票清单", "人民币"),
        ("en-GB", "Invoice list", "CNY "),
        ("fr", "Invoice list", "CNY "),
    ],
)
def test_both_documents_speak_the_language_or_the_nearest(
    language: str, title: str, words: str
) -> None:
    built = invoice_list(2)
    cells = [str(c.value) for r in sheet_of(invoice_list_xlsx(built, language)) for c in r]
    text = text_of(invoice_list_pdf(built, language))

    assert any(cell.startswith(title) for cell in cells)
    assert any(cell.startswith(words) for cell in cells)
    assert title in text
    assert words in text


@pytest.mark.parametrize("count", [1, 10, 100, TAGGED_LINES + 1, 500])
def test_the_pdf_shows_every_line_and_the_totals(count: int) -> None:
    built = invoice_list(count)
    pages = PdfReader(BytesIO(invoice_list_pdf(built, "zh-CN"))).pages
    texts = [page.extract_text() for page in pages]
    text = squeezed("\n".join(texts))

    for one in built.rows:
        assert squeezed(one.bill_id) in text
        assert f"{one.amount_incl_tax:,.2f}" in text
    for part in [*(part.total for part in built.rate_totals), built.total]:
        assert f"{part.amount_incl_tax:,.2f}" in text
        assert f"{part.tax:,.2f}" in text
    for number, page in enumerate(texts, start=1):
        assert f"{number}/{len(texts)}" in page
        assert "价税合计" in page or number == len(texts)
    for word in (
        "华为云计算技术有限公司",
        "李明",
        "深圳市龙岗区坂田",
        "发票号码",
        "2026年11月20日",
    ):
        assert word in text
    assert all(round(page.mediabox.width) == 595 for page in pages)


def test_amounts_of_a_long_list_stand_beside_their_own_line() -> None:
    built = invoice_list(TAGGED_LINES + 50)
    pages = PdfReader(BytesIO(invoice_list_pdf(built, "zh-CN"))).pages[1:]
    placed: dict[int, list[tuple[int, str]]] = {}

    for index, page in enumerate(pages):
        spots: list[tuple[float, str]] = []

        def visit(text: str, cm: Any, tm: Any, font: Any, size: Any, spots: Any = spots) -> None:
            height = cm[1] * tm[4] + cm[3] * tm[5] + cm[5]
            spots.append((height, text.strip()))

        page.extract_text(visitor_text=visit)
        for height, text in spots:
            placed.setdefault(index * 10_000 + round(height), []).append((index, text))
    lines = ["".join(text for _, text in found) for found in placed.values()]

    for one in built.rows:
        amount = f"{one.amount_incl_tax:,.2f}"
        beside = [line for line in lines if amount in line]
        assert any(f"{one.amount_ex_tax:,.2f}" in line for line in beside), one.line
        assert any(line.startswith(str(one.line)) for line in beside), one.line


def test_only_our_fonts_are_in_the_pdf_and_they_are_embedded() -> None:
    reader = PdfReader(BytesIO(invoice_list_pdf(invoice_list(10), "zh-CN")))
    fonts: dict[str, bool] = {}
    for page in reader.pages:
        for font in page["/Resources"]["/Font"].values():  # type: ignore[index]
            inner = font.get_object()["/DescendantFonts"][0].get_object()
            fonts[inner["/BaseFont"].partition("+")[2]] = "/FontFile2" in inner["/FontDescriptor"]

    assert fonts == {"NotoSansSC-Bold": True, "NotoSansSC-Regular": True}


@pytest.mark.parametrize("count", [len(HOSTILE), TAGGED_LINES + 1])
def test_markup_in_names_stays_text(count: int) -> None:
    built = invoice_list(
        count,
        HOSTILE,
        partner=HOSTILE[0],
        programme=HOSTILE[1],
        buyer=Party(*HOSTILE[:6]),
        post_to=PostTo(*HOSTILE[:4]),
    )

    text = squeezed(text_of(invoice_list_pdf(built, "en")))

    for name in HOSTILE:
        assert squeezed(name) in text
    assert "root:" not in text


@pytest.mark.parametrize("count", [4, TAGGED_LINES + 3])
def test_rare_characters_and_other_scripts_do_no_harm(count: int) -> None:
    names = (
        "𠮷野家 㐂 🙂👨\u200d👩\u200d👧",
        "شركة الاختبار",
        "株式会社テスト ﷽ ⸻",
        "Ünïcödé Straße №1",
    )
    built = invoice_list(count, names, payment="𠮷-🙂")

    assert "㐂" in text_of(invoice_list_pdf(built, "zh-CN"))
    sheet = sheet_of(invoice_list_xlsx(built, "zh-CN"))
    assert sheet.cell(header_row(sheet) + 1, 3).value == names[1]


@pytest.mark.parametrize("count", [2, TAGGED_LINES + 2])
def test_long_identifiers_break_within_their_column(count: int) -> None:
    built = invoice_list(count)
    long = tuple(
        replace(one, bill_id="B" * 64, item_name="W" * 200, unit="U" * 40, invoice_number="9" * 64)
        for one in built.rows[:2]
    )
    rows = long + built.rows[2:]

    text = squeezed(text_of(invoice_list_pdf(replace(built, rows=rows), "en")))

    assert text.count("W") == 400


def test_the_same_list_gives_the_same_bytes() -> None:
    built = invoice_list(20)

    assert invoice_list_pdf(built, "zh-CN") == invoice_list_pdf(built, "zh-CN")
    assert invoice_list_xlsx(built, "zh-CN") == invoice_list_xlsx(built, "zh-CN")


def test_a_list_without_address_approval_or_lines_still_prints() -> None:
    built = invoice_list(0, post_to=PostTo(), approved_at=None, approved_amount=Decimal("0.00"))

    assert "SFD202611240001" in text_of(invoice_list_pdf(built, "en"))
    assert header_row(sheet_of(invoice_list_xlsx(built, "en")), "No.")


def test_the_template_reads_no_file_and_no_package() -> None:
    source = TEMPLATE.read_text("utf-8")

    assert not re.findall(
        r"#?\b(import|include|read|image|plugin|csv|toml|yaml|xml|eval)\b *[(\"@]", source
    )


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_language_has_every_word(path: Any) -> None:
    own = tomllib.loads(path.read_text("utf-8"))
    english = tomllib.loads((DOCUMENTS / "en.toml").read_text("utf-8"))

    assert own.keys() == english.keys()
    for key, word in english.items():
        if isinstance(word, dict):
            assert own[key].keys() == word.keys()
        else:
            assert set(re.findall(r"\{\w+", own[key])) == set(re.findall(r"\{\w+", word))


def test_a_file_name_has_no_path_in_it() -> None:
    built = invoice_list(1, payment="../A/B\\C:1")

    assert labels("en").file_name(built, ".pdf") == "invoice-list_..-A-B-C-1.pdf"


def test_widths_counted_on_for_wrapping_are_never_less_than_the_fonts() -> None:
    """Else a line of a long list could be wider than its column."""
    widths = advance_widths((FONTS / "NotoSansSC-Regular.ttf").read_bytes())

    for character in map(chr, range(0x20, 0x7F)):
        assert widths[character] <= _em(character), character


def advance_widths(font: bytes) -> dict[str, float]:
    """Advance widths in em of the characters in a TrueType font's format 12 cmap."""
    tables = {
        font[at : at + 4].decode(): struct.unpack(">II", font[at + 8 : at + 16])[0]
        for at in range(12, 12 + 16 * struct.unpack(">H", font[4:6])[0], 16)
    }
    em = struct.unpack(">H", font[tables["head"] + 18 : tables["head"] + 20])[0]
    metrics = struct.unpack(">H", font[tables["hhea"] + 34 : tables["hhea"] + 36])[0]
    widths: dict[str, float] = {}
    for code, glyph in _glyphs(font, tables["cmap"]):
        at = tables["hmtx"] + 4 * min(glyph, metrics - 1)
        widths[chr(code)] = struct.unpack(">H", font[at : at + 2])[0] / em
    return widths


def _glyphs(font: bytes, cmap: int) -> Iterator[tuple[int, int]]:
    count = struct.unpack(">H", font[cmap + 2 : cmap + 4])[0]
    for entry in range(count):
        at = cmap + struct.unpack(">I", font[cmap + 8 + 8 * entry : cmap + 12 + 8 * entry])[0]
        if struct.unpack(">H", font[at : at + 2])[0] != 12:
            continue
        for group in range(struct.unpack(">I", font[at + 12 : at + 16])[0]):
            start, end, glyph = struct.unpack(">III", font[at + 16 + 12 * group :][:12])
            yield from ((code, glyph + code - start) for code in range(start, end + 1))
        return
