"""Files of records: headings, encodings and values, and what is said of rows that are wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
import xlsxwriter
from hypothesis import assume, given
from hypothesis import strategies as st

from schedules import load_rules
from schedules.fields import Amount, Column, Day, Line, OptionalLine, Ref
from schedules.rule import ContactData, LineData, RecordData, Rule
from workers.errors import InputError
from workers.sources.files import Place, Row, RowError, Shape, Sheet, read_file, row_model, shapes


class LoanData(RecordData):
    """A book on loan: a small kind of this test's own."""

    ref: Annotated[Ref, Column("借阅编号", "loan")]
    title: Annotated[Line, Column("书名")]
    back_on: Annotated[Day, Column("归还日期")]
    fee: Annotated[Amount, Column("费用")]
    note: Annotated[OptionalLine, Column("备注")] = None


class CopyData(LineData):
    """One copy of a loan's books."""

    of: Annotated[Ref, Column("借阅编号")]
    shelf: Annotated[Line, Column("书架")]


class Loan(Rule):
    """Enough of a rule to be imported."""

    kind = "loan"
    title = {"en": "Loan"}  # noqa: RUF012
    Data = LoanData
    Line = CopyData


RULES = [Loan]
HEADINGS = "ref,partner,title,back_on,fee"
CHINESE = "借阅编号,伙伴ID,书名,归还日期,费用,备注"


def written(folder: Path, text: str, encoding: str = "utf-8", name: str = "loans.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def rows(path: Path, **how: Any) -> list[Row]:
    return list(read_file(path, RULES, **how))


def refusal(row: Row) -> str:
    with pytest.raises(RowError) as caught:
        row_model(row)
    return str(caught.value)


def workbook(path: Path, sheets: Mapping[str, list[list[Any]]], hidden: str = "") -> Path:
    with xlsxwriter.Workbook(path) as book:
        days = book.add_format({"num_format": "yyyy-mm-dd"})
        for name, lines in sheets.items():
            sheet = book.add_worksheet(name)
            if name == hidden:
                sheet.hide()
            for row, line in enumerate(lines):
                for column, value in enumerate(line):
                    if isinstance(value, date):
                        sheet.write_datetime(row, column, value, days)
                    elif value is not None:
                        sheet.write(row, column, value)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_chinese_files_read_alike_in_every_encoding_and_delimiter(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    text = f"{CHINESE}\r\nL-1,P1,红楼梦,2026年11月20日,12.50,䶮㙍\r\n".replace(",", delimiter)

    (row,) = rows(written(tmp_path, text, encoding))

    assert row.place == Place("loans.csv", None, 2)
    assert row_model(row) == LoanData(
        ref="L-1", partner="P1", title="红楼梦", back_on="2026-11-20", fee="12.50", note="䶮㙍"
    )
    assert row.headings["title"] == "书名"


def test_english_headings_are_known_in_any_case_with_spaces_or_a_star(tmp_path: Path) -> None:
    text = "*REF,Partner ID,Title,Back On,fee\nL-1,P1,Emma,2026-11-20,3\n"

    (row,) = rows(written(tmp_path, text))

    assert row.headings == {
        "ref": "*REF",
        "partner": "Partner ID",
        "title": "Title",
        "back_on": "Back On",
        "fee": "fee",
    }


def test_unknown_columns_are_ignored_and_reported(tmp_path: Path) -> None:
    told: list[Sheet] = []

    rows(
        written(tmp_path, f"{HEADINGS},colour,\nL-1,P1,Emma,2026-11-20,3,red,\n"),
        on_sheet=told.append,
    )

    assert [(sheet.shape and sheet.shape.name, sheet.ignored) for sheet in told] == [
        ("loan", ("colour",))
    ]


def test_a_blank_in_an_optional_column_means_its_default(tmp_path: Path) -> None:
    text = "partner,role,name,mail,mobile,language\nP1,finance,Li,li@example.com,,\n"

    (row,) = rows(written(tmp_path, text))

    model = row_model(row)
    assert isinstance(model, ContactData)
    assert (model.language, model.mobile) == ("zh-CN", None)


def test_empty_rows_are_skipped_and_lines_counted_all_the_same(tmp_path: Path) -> None:
    text = f"\n{HEADINGS}\n\n,,,,\nL-1,P1,Emma,2026-11-20,3\n\nL-2,P1,Emma,2026-11-20,3\n"

    assert [row.place.line for row in rows(written(tmp_path, text))] == [5, 7]


def test_a_quoted_line_break_counts_as_a_line_of_the_file(tmp_path: Path) -> None:
    text = f'{HEADINGS}\nL-1,P1,"Em\nma",2026-11-20,3\nL-2,P1,Emma,2026-11-20,3\n'

    found = rows(written(tmp_path, text))

    assert [row.place.line for row in found] == [2, 4]
    assert "control character" in refusal(found[0])


def test_everything_wrong_with_a_row_is_named_by_column_value_and_remedy(tmp_path: Path) -> None:
    text = f'{CHINESE}\nL-1,,{"长" * 300},2026-02-30,"1,234.5O",\n'

    (row,) = rows(written(tmp_path, text))

    said = refusal(row).splitlines()
    assert said[0] == "loans.csv, line 2, column 伙伴ID: is empty: fill it in"
    assert said[1].startswith(f"loans.csv, line 2, column 书名: '{'长' * 39}…' is 300 characters")
    assert "归还日期: '2026-02-30' that date doesn't exist" in said[2]
    assert "费用: '1,234.5O' isn't a number" in said[3]
    assert len(said) == 4


def test_a_row_with_a_cell_too_many_or_too_few_is_refused_and_the_next_taken(
    tmp_path: Path,
) -> None:
    text = f"{HEADINGS}\nL-1,P1,Emma,2026-11-20,1,234\nL-2,P1,Em\nL-3,P1,Emma,2026-11-20,3\n"

    first, second, third = rows(written(tmp_path, text))

    assert "line 2: the row has 6 cells under 5 headings" in refusal(first)
    assert "line 3: the row has 3 cells under 5 headings" in refusal(second)
    assert row_model(third).model_dump()["ref"] == "L-3"


def test_an_open_quote_costs_its_own_row_only(tmp_path: Path) -> None:
    good = "L-{},P1,Emma,2026-11-20,3\n"
    text = (
        f'{HEADINGS}\n{good.format(1)}L-2,P1,"Emma,2026-11-20,3\n{good.format(3)}{good.format(4)}'
    )

    found = rows(written(tmp_path, text))

    assert [(row.place.line, bool(row.fault)) for row in found] == [
        (2, False),
        (3, True),
        (4, False),
        (5, False),
    ]
    assert "line 3: the row has a quote in the wrong place or one never closed" in refusal(found[1])


def test_a_file_that_begins_with_the_delimiter_it_uses_is_believed(tmp_path: Path) -> None:
    text = f"sep=;\n{HEADINGS.replace(',', ';')}\nL-1;P1;Emma, or not;2026-11-20;3\n"

    (row,) = rows(written(tmp_path, text))

    assert (row.place.line, row.values["title"]) == (3, "Emma, or not")


def test_two_columns_for_one_field_are_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the columns title and 书名 both mean title"):
        rows(written(tmp_path, f"{HEADINGS},书名\nL-1,P1,Emma,2026-11-20,3,x\n"))


def test_a_missing_column_is_named_with_the_nearest_shape(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nearest to loan, which also needs fee \(费用\)"):
        rows(written(tmp_path, "ref,partner,title,back_on\nL-1,P1,Emma,2026-11-20\n"))


def test_headings_that_fit_two_shapes_are_ambiguous_until_one_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "partner_id,partner_name\nP1,Acme\n")

    with pytest.raises(InputError, match="may be partner or contact: say"):
        rows(path)
    (row,) = rows(path, only="partner")
    assert row.values == {"ref": "P1", "name": "Acme"}


def test_an_unknown_shape_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"name one of partner, contact, customer, spend, loan, loan\.line"
    ):
        rows(written(tmp_path, HEADINGS), only="lona")


def test_a_workbook_gives_each_sheet_its_shape_and_typed_cells(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "book.xlsx",
        {
            "借阅": [
                CHINESE.split(","),
                ["L-1", "P1", "红楼梦", date(2026, 11, 20), 12.5, None],
                [None] * 6,
                ["L-2", 10023, "Emma", datetime(2026, 11, 20, 9), 3, "x"],  # noqa: DTZ001
            ],
            "册": [["借阅编号", "书架"], ["L-1", "A7"]],
            "说明": [["怎样填写"]],
            "隐藏": [["借阅编号", "书架"], ["L-9", "A9"]],
        },
        hidden="隐藏",
    )
    told: list[Sheet] = []

    first, second, line = rows(path, on_sheet=told.append)

    assert str(second.place) == "book.xlsx, sheet 借阅, line 4"
    assert row_model(first).model_dump()["back_on"] == date(2026, 11, 20)
    assert row_model(second).model_dump()["partner"] == "10023"
    assert (line.shape.name, line.values) == ("loan.line", {"of": "L-1", "shelf": "A7"})
    assert [(s.name, s.shape and s.shape.name, bool(s.note)) for s in told] == [
        ("借阅", "loan", False),
        ("册", "loan.line", False),
        ("说明", None, True),
        ("隐藏", None, True),
    ]


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADINGS}\n" + "L-1,P1,Emma,2026-11-20,3\n" * 2_500)
    steps: list[tuple[int, int]] = []

    rows(path, progress=lambda done, total: steps.append((done, total)))

    size = path.stat().st_size
    assert steps[-1] == (size, size)
    assert steps == sorted(steps)
    assert len(steps) >= 3


def test_a_model_whose_fields_claim_one_heading_is_found_out() -> None:
    class Torn(RecordData):
        a: Annotated[OptionalLine, Column("甲")] = None
        b: Annotated[OptionalLine, Column("甲")] = None

    with pytest.raises(RuntimeError, match="claimed by a and b"):
        _ = Shape("torn", Torn).fields


@pytest.mark.parametrize("shape", shapes(load_rules()), ids=lambda shape: shape.name)
def test_every_shape_is_found_by_its_chinese_headings(tmp_path: Path, shape: Shape) -> None:
    columns = {
        name: next((c.names[0] for c in info.metadata if isinstance(c, Column) and c.names), name)
        for name, info in shape.model.model_fields.items()
    }
    path = written(tmp_path, ",".join(columns.values()) + "\n" + "x," * (len(columns) - 1) + "x\n")

    (row,) = read_file(path, load_rules())

    assert row.shape.name == shape.name
    assert row.headings == columns


@pytest.mark.parametrize("shape", shapes(load_rules()), ids=lambda shape: shape.name)
def test_every_shape_is_found_by_its_field_names(tmp_path: Path, shape: Shape) -> None:
    names = list(shape.model.model_fields)
    path = written(tmp_path, ",".join(names) + "\n" + "x," * (len(names) - 1) + "x\n")
    alike = [one for one in shapes(load_rules()) if set(one.model.model_fields) == set(names)]

    if len(alike) > 1:  # two kinds of one form: the caller must say which
        with pytest.raises(InputError, match="say which"):
            list(read_file(path, load_rules()))
    (row,) = read_file(path, load_rules(), only=shape.name if len(alike) > 1 else None)

    assert (row.shape.name, list(row.values)) == (shape.name, names)


@pytest.mark.parametrize(
    "rule",
    [rule for rule in load_rules().values() if not rule.made_here],
    ids=lambda rule: rule.kind,
)
def test_a_rule_s_samples_come_back_from_a_file_as_they_went_in(tmp_path: Path, rule: Rule) -> None:
    now = datetime.fromisoformat("2026-11-24T01:00:00+00:00")
    for at, sample in enumerate(rule.samples(now)):
        cells = [_cell(value) for value in sample.data.values()]
        lines: list[list[Any]] = [list(sample.data), cells]
        path = workbook(tmp_path / f"{at}.xlsx", {"1": lines})

        (row,) = read_file(path, [rule], only=rule.kind)

        assert row_model(row) == rule.Data.model_validate(sample.data)


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return json.dumps(value)
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["utf-8", "utf-16", "gb18030"]),
)
def test_what_a_csv_writer_quotes_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], encoding: str
) -> None:
    quoted = [title.replace('"', '""') for title in titles]
    text = f"{HEADINGS}\n" + "".join(f'L,P,"{title}",D,1\n' for title in quoted)
    path = written(tmp_path_factory.mktemp("csv"), text, encoding)

    # GB18030 bytes that happen to be UTF-8 read as UTF-8; only ASCII is both and means one thing
    assume(encoding != "gb18030" or text.isascii() or not _is_utf8(path.read_bytes()))

    assert [row.values["title"] for row in rows(path)] == titles


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
