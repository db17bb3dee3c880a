"""Charts as pictures, in words, in a workbook and in a mail: light, dark, in each language."""

from __future__ import annotations

import email
import email.policy
import io
import re
import tomllib
import warnings
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from email.message import EmailMessage
from typing import Any

import pytest
from openpyxl import load_workbook
from PIL import Image

from schedules.calendar import WorkingCalendar
from schedules.figures import Chart, Figures, Number, Series, Total
from schedules.rules import load_rules
from workers.render.charts import PIXELS, WIDTH
from workers.render.figures import (
    FOLDER,
    Picture,
    chart_values,
    embedded,
    figures_file_name,
    inline_images,
    pictures,
)
from workers.render.figures_xlsx import figures_xlsx
from workers.render.mail import Attachment, Draft, Inline, UnsafeMailError, build
from workers.render.samples import sample_record

RULES = load_rules()
RULE = RULES["operations_digest"]
NOW = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
CALENDAR = WorkingCalendar.load()
TAGS = ("en", "zh-CN")
SAMPLES = [
    figures
    for sample in RULE.samples(NOW)
    if (figures := RULE.figures(sample_record(RULE, sample, CALENDAR)))
]
BUSY = SAMPLES[0]
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def titles(tag: str) -> dict[str, str]:
    return {kind: rule.title.get(tag) or rule.title["en"] for kind, rule in RULES.items()}


def drawn(figures: Figures = BUSY, tag: str = "en", **names: str) -> tuple[Picture, ...]:
    return pictures(figures, tag, titles(tag) | names)


def made_of(*charts: Chart, **more: Any) -> Figures:
    made = Figures("operations_digest", "Partner", "P-1", "2026-10", 7, (), charts)
    return replace(made, **more)


def outcomes(*stages: str, told: int = 3) -> Chart:
    def part(name: str, value: int) -> Series:
        return Series(name, tuple(value for _ in stages))

    parts = (part("closed", 1), part("open", told - 1), part("early", 0))
    return Chart("reminders", "outcomes", "stage", stages, parts)


def columns(name: str, axis: Any, values: dict[str, Number]) -> Chart:
    return Chart(
        name, "columns", axis, tuple(values), (Series("customers", tuple(values.values())),)
    )


def opened(picture: Picture, *, dark: bool = False) -> Image.Image:
    with Image.open(io.BytesIO(picture.png(dark=dark))) as image:
        return image.convert("RGB")


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_chart_is_sharp_light_and_on_the_ground_of_its_scheme(tag: str, dark: bool) -> None:
    for figures in SAMPLES:
        for picture in drawn(figures, tag):
            image = opened(picture, dark=dark)
            ground = (26, 33, 42) if dark else (255, 255, 255)

            assert len(picture.png(dark=dark)) <= 40_000
            assert image.width == WIDTH * PIXELS == picture.width * 2
            assert image.height == pytest.approx(picture.height * 2, abs=2)
            assert image.getpixel((0, 0)) == ground
            assert image.getpixel((image.width - 1, image.height - 1)) == ground
            assert len(image.getcolors(2**20) or []) > 3


def test_the_same_figures_give_the_same_bytes_and_names() -> None:
    from workers.render.charts import chart_png

    first = [(one.cid(), one.png()) for one in drawn()]
    chart_png.cache_clear()

    assert [(one.cid(), one.png()) for one in drawn()] == first
    assert len({cid for cid, _ in first}) == len(first)


def test_a_long_rule_name_and_a_long_stage_stay_inside_the_picture() -> None:
    long = "A rule whose name goes on and on, as some people like them to, and then some more"
    chart = outcomes("statement|a-stage-with-a-name-that-nobody-should-have-given-it")
    (picture,) = drawn(made_of(chart), statement=long)
    image = opened(picture)
    edge = {image.getpixel((image.width - 1, y)) for y in range(image.height)}

    assert edge == {(255, 255, 255)}
    assert long in picture.alt


def test_a_character_that_the_font_lacks_is_a_box_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (picture,) = drawn(made_of(outcomes("statement|T-5")), statement="😀 \u202e$x^2$\n𠮷")
        plain = drawn(made_of(outcomes("statement|T-5")), statement="□ $x^2$□")[0]

        assert opened(picture).tobytes() == opened(plain).tobytes()


def test_of_many_months_the_latest_are_drawn_and_all_are_in_the_workbook() -> None:
    months: dict[str, Number] = {f"20{n // 12 + 20}-{n % 12 + 1:02}": n + 1 for n in range(40)}
    found = made_of(columns("customers_with_cash", "month", months))
    (picture,) = drawn(found)
    book = load_workbook(io.BytesIO(figures_xlsx(found, "en", titles("en"))))

    assert len(picture.drawing.bars) == 14
    assert picture.drawing.bars[-1].written == ("40",)
    assert book.worksheets[1].max_row == 4 + 40


def test_whole_ladders_are_drawn_and_what_is_left_out_is_said() -> None:
    many = [f"kind{kind}|T-{stage}" for kind in range(6) for stage in (5, 2, 0)]
    (picture,) = drawn(made_of(outcomes(*many)))
    groups = [bar.group for bar in picture.drawing.bars]

    assert len(groups) == 15
    assert {group: groups.count(group) for group in groups} == {f"kind{n}": 3 for n in range(5)}
    assert picture.note.endswith("3 more stages stand in the workbook.")


def test_an_alternative_text_says_the_numbers() -> None:
    by_name = {one.key: one for one in drawn(tag="zh-CN")}
    english = {one.key: one for one in drawn()}

    assert english["customers_by_year"].alt == (
        "Customers by year: 2023 37; 2024 84; 2025 121; 2026 to Oct 163."
    )
    assert by_name["customers_by_type"].alt == (
        "按关联类型的客户数：顾问销售 104（64%）；代售 55（34%）；未注明 4（2%）。"
    )
    # of many months the first, the lowest, the highest and the last
    assert english["spend-CNY"].alt.count(";") == 2
    assert "Oct 2026 Cash CNY 1,246,905, Other CNY 118,260" in english["spend-CNY"].alt


def test_money_has_groups_of_thousands_and_no_other_units() -> None:
    cash = Series("cash", (Decimal("12345678.50"), Decimal("-3.49")))
    chart = Chart("spend", "stacked", "month", ("2026-09", "2026-10"), (cash,), "CNY")

    assert [w for _, w in drawn(made_of(chart), "zh-CN")[0].rows] == [
        "现金 ¥12,345,679",
        "现金 -¥3",
    ]
    assert drawn(made_of(chart))[0].rows[0][1] == "Cash CNY 12,345,679"


def test_a_kind_of_spend_that_never_happened_is_not_drawn() -> None:
    zero = Series("other", (Decimal(0),))
    chart = Chart("spend", "stacked", "month", ("2026-10",), (Series("cash", (5,)), zero), "USD")

    assert drawn(made_of(chart))[0].drawing.keys == ("Cash",)


def test_a_template_gets_plain_values_and_a_page_gets_the_pictures_themselves() -> None:
    found = drawn()
    values = chart_values(found)
    html = "".join(f'<img src="{one["light"]}"><img src="{one["dark"]}">' for one in values)
    page = embedded(html, found)

    assert all(one["light"].startswith("cid:") for one in values)
    assert page.count("data:image/png;base64,iVBOR") == 2 * len(found)
    assert "cid:" not in page


@pytest.mark.parametrize("tag", [path.stem for path in FOLDER.glob("*.toml")])
def test_every_language_has_every_word_of_the_charts(tag: str) -> None:
    def keys(table: dict[str, Any]) -> set[str]:
        return {
            f"{name}.{key}"
            for name, word in table.items()
            for key in (word if isinstance(word, dict) else [""])
        }

    own, english = (
        tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")) for name in (tag, "en")
    )
    used = {f"series.{s.name}" for c in BUSY.charts for s in (*c.series, *c.extra)}
    used |= {f"{table}.{c.name}" for c in BUSY.charts for table in ("titles", "sheets", "notes")}
    used |= {f"totals.{one.name}" for one in BUSY.totals}

    assert keys(own) == keys(english)
    assert used <= keys(own)
    assert len(own["months"]) == 12


@pytest.mark.parametrize("tag", TAGS)
def test_every_stage_of_every_rule_has_a_code_or_a_word_for_its_name(tag: str) -> None:
    words = tomllib.loads((FOLDER / f"{tag}.toml").read_text("utf-8"))["stages"]
    names = {stage.name for rule in RULES.values() for stage in rule.cadence.stages}

    assert {n for n in names if not re.fullmatch(r"([TM]-|\+)\d+[dh]?", n)} <= set(words)


def test_another_chinese_gets_the_chinese_words_and_the_rest_english() -> None:
    assert drawn(tag="zh-HK")[0].title == drawn(tag="zh-CN")[0].title
    assert drawn(tag="fr")[0].title == drawn(tag="en")[0].title


@pytest.mark.parametrize("tag", TAGS)
def test_the_workbook_has_every_number_and_a_chart_of_its_own_for_each(tag: str) -> None:
    content = figures_xlsx(BUSY, tag, titles(tag))
    book = load_workbook(io.BytesIO(content))
    sheets, names = book.worksheets, zipfile.ZipFile(io.BytesIO(content)).namelist()

    assert content == figures_xlsx(BUSY, tag, titles(tag))
    assert len(sheets) == 1 + len(BUSY.charts)
    assert sum(name.startswith("xl/charts/chart") for name in names) == len(BUSY.charts)
    for sheet, chart in zip(sheets[1:], BUSY.charts, strict=True):
        rows = list(sheet.iter_rows(min_row=5, values_only=True))
        assert len(rows) == len(chart.categories)
        numbers = {value for row in rows for value in row if isinstance(value, int | float)}
        wanted = {
            float(v) for s in (*chart.series, *chart.extra) for v in s.values if v is not None
        }
        assert wanted <= {float(number) for number in numbers}
    assert sheets[4]["B5"].number_format == "#,##0.00"
    assert sheets[5]["H5"].value is not None


def test_the_workbook_without_figures_is_one_sheet_that_says_so() -> None:
    book = load_workbook(io.BytesIO(figures_xlsx(SAMPLES[1], "zh-CN", titles("zh-CN"))))

    assert book.sheetnames == ["概览"]
    assert book["概览"]["A1"].value == "运营月报  2026年10月"
    assert book["概览"]["B5"].value == 0


def test_a_name_in_the_workbook_is_never_a_formula() -> None:
    found = made_of(outcomes("statement|=1+1"), owner="=HYPERLINK(1)")
    book = load_workbook(io.BytesIO(figures_xlsx(found, "en", {"statement": "=cmd"})))

    assert book.worksheets[0]["A2"].data_type == "s"
    assert [book.worksheets[1][cell].data_type for cell in ("A5", "B5")] == ["s", "s"]


def test_the_workbook_is_named_by_partner_and_month() -> None:
    odd = replace(BUSY, owner_ref="P/../1")

    assert figures_file_name(BUSY, "zh-CN") == "运营月报_P-1001_2026-10.xlsx"
    assert figures_file_name(odd, "en") == "operations-digest_P-..-1_2026-10.xlsx"


DRAFT = Draft(
    uid="0196f3-7a",
    domain="due.example.com",
    sender_name="Desk",
    sender_address="no-reply@due.example.com",
    recipient_name="王晓明",
    recipient_address="wang@example.com",
    subject="运营月报",
    date=NOW,
    language="zh-CN",
    text="您好\n",
    html='<p>您好</p><img src="cid:a@charts.duewatch" alt="客户">',
)


def parsed(source: bytes) -> EmailMessage:
    strict = email.policy.SMTP.clone(raise_on_defect=True)
    message = email.message_from_bytes(source, policy=strict)
    assert isinstance(message, EmailMessage)
    return message


def test_a_mail_shows_its_pictures_and_hands_out_its_files() -> None:
    images = inline_images(drawn())
    book = Attachment("运营月报.xlsx", XLSX, b"PK")
    message = parsed(build(replace(DRAFT, images=images, attachments=(book,))))
    page = message.get_body(("related", "html"))
    assert page is not None
    shown = [part for part in page.walk() if part["Content-ID"]]

    assert [part.get_content_type() for part in message.walk()][:6] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
    ]
    assert page["Content-Type"].params["type"] == "text/html"
    assert [part["Content-ID"].strip("<>") for part in shown] == [one.cid for one in images]
    assert [part.get_payload(decode=True) for part in shown] == [one.content for one in images]
    assert {part.get_content_disposition() for part in shown} == {"inline"}
    assert [part.get_filename() for part in message.iter_attachments()] == ["运营月报.xlsx"]


def test_a_mail_without_files_has_its_pictures_within_the_alternative() -> None:
    message = parsed(build(replace(DRAFT, images=inline_images(drawn()[:1]))))
    text = message.get_body(("plain",))

    assert message.get_content_type() == "multipart/alternative"
    assert text is not None
    assert text.get_payload(decode=True) == "您好\n".encode()
    assert sum(part.get_content_type() == "image/png" for part in message.walk()) == 2


def test_the_same_draft_with_pictures_gives_the_same_mail() -> None:
    draft = replace(DRAFT, images=inline_images(drawn()))

    assert build(draft) == build(draft)


@pytest.mark.parametrize(
    "image",
    [
        Inline("a@b>\r\nBcc: eve@example.com", "image/png", b""),
        Inline("no-at-sign", "image/png", b""),
        Inline("a@b", "image/png\r\nX: y", b""),
        Inline("", "image/png", b""),
    ],
)
def test_a_picture_that_could_break_out_of_its_header_is_refused(image: Inline) -> None:
    with pytest.raises(UnsafeMailError):
        build(replace(DRAFT, images=(image,)))


def test_a_total_in_money_names_its_currency_in_the_workbook() -> None:
    found = made_of(totals=(Total("cash", Decimal("5.10"), "USD"),))
    book = load_workbook(io.BytesIO(figures_xlsx(found, "en", titles("en"))))

    assert book.worksheets[0]["A5"].value == "Cash spend (USD)"
    assert book.worksheets[0]["B5"].value == 5.1
