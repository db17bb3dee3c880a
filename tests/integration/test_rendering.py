"""The renderer on real rules, real templates and real documents."""

from __future__ import annotations

import email
import email.policy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl
import pypdf
import pytest

from schedules import load_rules
from schedules.calendar import WorkingCalendar
from schedules.rule import Partner, Record
from workers.errors import TemplateError
from workers.model import Notice, NoticeItem
from workers.providers import Mail, Sms
from workers.render import Brand, Renderer
from workers.render.samples import sample_notices

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
CALENDAR = WorkingCalendar.load()
RULES = load_rules()
BRAND = Brand(
    product="Partner Reminders",
    sender="伙伴提醒 <no-reply@due.example.com>",
    contact="400-000-0000",
    partner_centre_url="https://partner.example.com",
    domain="due.example.com",
    sms_signature="【伙伴中心】",
)
RENDERER = Renderer(TEMPLATES, RULES, BRAND)


def notices(
    kind: str, message: str, language: str = "zh-CN", channel: str = "mail"
) -> list[Notice]:
    found = sample_notices(RULES[kind], language, NOW, CALENDAR)
    return [n for n in found if n.message == message and n.channel == channel]


def one(kind: str, message: str = "reminder", language: str = "zh-CN", **data: Any) -> Notice:
    """The first sample's notice, with some fields of its record changed."""
    notice = notices(kind, message, language)[0]
    record = notice.items[0].record
    changed = replace(record, data=record.data.model_copy(update=data))
    return replace(notice, items=(NoticeItem(changed, notice.items[0].stage),))


def read(mail: Mail | Sms) -> EmailMessage:
    assert isinstance(mail, Mail)
    message = email.message_from_bytes(
        mail.source, policy=email.policy.SMTP.clone(raise_on_defect=True)
    )
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, form: str) -> str:
    part = message.get_body((form,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content


def payments(count: int, like: Notice) -> Notice:
    """A digest of `count` payments that differ in their numbers."""

    def numbered() -> Iterator[NoticeItem]:
        item = like.items[0]
        for number in range(count):
            ref = f"SFD-{number:03}"
            data = item.record.data.model_copy(update={"ref": ref})
            lines = tuple(line.model_copy(update={"payment": ref}) for line in item.record.lines)
            yield NoticeItem(replace(item.record, data=data, lines=lines), item.stage)

    return replace(like, items=tuple(numbered()))


def test_a_payment_mail_carries_its_list_as_spreadsheet_and_pdf() -> None:
    notice = notices("payment", "reminder")[0]
    ref = notice.items[0].record.ref
    message = read(RENDERER.render(notice))
    files = {part.get_filename(): part.get_content() for part in message.iter_attachments()}

    assert set(files) == {f"开票清单_{ref}.xlsx", f"开票清单_{ref}.pdf"}
    sheet = openpyxl.load_workbook(BytesIO(files[f"开票清单_{ref}.xlsx"])).worksheets[0]
    assert any(ref in str(cell) for row in sheet.iter_rows(values_only=True) for cell in row)
    assert len(pypdf.PdfReader(BytesIO(files[f"开票清单_{ref}.pdf"])).pages) >= 1
    assert "人民币叁万伍仟叁佰捌拾玖元叁角捌分" in body(message, "html")
    assert "人民币叁万伍仟叁佰捌拾玖元叁角捌分" in body(message, "plain")
    assert RENDERER.documents(notice)[0][0] == f"开票清单_{ref}.xlsx"
    assert RENDERER.document(notice, "another.pdf") is None


def test_an_unauthenticated_account_is_said_first() -> None:
    told = body(read(RENDERER.render(one("payment", account_authenticated=False))), "html")
    silent = body(read(RENDERER.render(one("payment", account_authenticated=True))), "html")

    assert told.index("请先完成商业信息认证") < told.index("您好：")
    assert "请先完成商业信息认证" not in silent


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("INCENTIVE", "系统将按此金额自动确认"),
        ("FH", "这笔激励将失效"),
        ("EI_PROCUREMENT", "确认之前不会结算"),
    ],
)
def test_a_statement_says_what_happens_at_its_deadline(kind: str, outcome: str) -> None:
    notice = next(
        n
        for n in notices("statement", "reminder")
        if len(n.items) == 1 and getattr(n.items[0].record.data, "statement_kind") == kind  # noqa: B009
    )
    message = read(RENDERER.render(notice))

    assert outcome in body(message, "html")
    assert outcome in body(message, "plain")
    assert "24:00（北京时间）" in body(message, "plain")


def test_time_left_is_counted_from_the_instant_of_sending() -> None:
    notice = notices("statement", "reminder")[0]
    ends = notice.items[0].record.deadline.at
    assert ends is not None

    def text(left: timedelta, language: str) -> str:
        recipient = replace(notice.recipient, language=language)
        return RENDERER.parts(replace(notice, now=ends - left, recipient=recipient))["txt"]

    assert "5 天后截止" in text(timedelta(days=5, hours=23), "zh-CN")
    assert "47 小时后截止" in text(timedelta(hours=47, minutes=59), "zh-CN")
    assert "in 90 minutes" in text(timedelta(minutes=90), "en")
    assert "in 7 days" in text(timedelta(days=7), "en")


def test_a_deadline_is_told_in_the_readers_zone() -> None:
    notice = notices("statement", "reminder", "en")[0]
    abroad = replace(notice.recipient, time_zone="Europe/London")

    assert "23:59 (Beijing time)" in RENDERER.parts(notice)["txt"]
    told = RENDERER.parts(replace(notice, recipient=abroad))["txt"]
    assert "16:00 (Greenwich Mean Time)" in told


def test_a_customer_reads_the_number_masked_and_the_link_whole() -> None:
    notice = notices("invitation", "customer")[0]
    parts = RENDERER.parts(notice)

    for part in ("html", "txt"):
        assert "138****8000" in parts[part]
        assert "13800138000" not in parts[part]
        assert str(notice.items[0].record.data.url) in parts[part]


@pytest.mark.parametrize("form", ["html", "txt"])
def test_what_is_said_once_isnt_listed_and_several_are(form: str) -> None:
    first, second = notices("request", "announcement", "en")[:2]
    titles = [n.items[0].record.data.model_dump()["values"]["title"] for n in (first, second)]
    alone = RENDERER.parts(first)[form].partition("<body")[2 if form == "html" else 0]
    both = RENDERER.parts(replace(first, items=first.items + second.items))[form]

    assert alone.count(titles[0]) == 1
    assert all(title in both for title in titles)


def test_a_large_digest_leaves_files_out_and_says_so() -> None:
    notice = payments(12, notices("payment", "reminder")[0])
    message = read(RENDERER.render(notice))

    assert len(list(message.iter_attachments())) == 20
    for form in ("html", "plain"):
        assert "另有 2 笔申付单的开票清单" in body(message, form)
        assert notice.list_url in body(message, form)
    assert len(body(message, "html").encode()) < 100_000
    assert len(RENDERER.documents(notice)) == 24


def test_files_that_are_too_large_together_are_left_out_and_the_mail_says_so() -> None:
    notice = payments(3, notices("payment", "reminder", "en")[0])
    sizes = [len(content) for _, _, content in RENDERER.documents(notice)]
    small = Renderer(TEMPLATES, RULES, BRAND, max_attached=sum(sizes[:4]))
    message = read(small.render(notice))

    assert len(list(message.iter_attachments())) == 4
    assert "The invoice lists of 1 more payment would make this mail too large" in body(
        message, "plain"
    )


def test_only_the_first_twenty_lines_stand_in_the_mail() -> None:
    notice = notices("payment", "reminder", "en")[0]
    record = notice.items[0].record
    line = record.lines[0]
    many = tuple(
        line.model_copy(update={"line": n, "item_name": f"Item-{n}!"}) for n in range(1, 24)
    )
    long = replace(notice, items=(NoticeItem(replace(record, lines=many), "+1"),))
    parts = RENDERER.parts(long)

    for part in ("html", "txt"):
        assert "Item-20!" in parts[part]
        assert "Item-21!" not in parts[part]
        assert "and 3 more lines in the attached files" in parts[part]
    assert "Item-23!" in RENDERER.list_page(long, "/l/token")


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</td></table><h1>Pay here</h1>",
    '" onmouseover="alert(1)',
    "<script>alert(1)</script>",
    "{{ brand.__class__ }}",
    "{% raw %}",
    "<!--[if mso]>",
    "&lt;b&gt;",
    "A & B <c@example.com>",
]


class Shape(HTMLParser):
    """Tags and their attributes' names, without any text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def renamed(notice: Notice, name: str) -> Notice:
    """Every name a stranger can choose, in the recipient, the partner and the record."""

    def item(one: NoticeItem) -> NoticeItem:
        record: Record = one.record
        free = {"customer_name", "link_label", "buyer_title", "post_recipient", "post_address"}
        update = dict.fromkeys(free & set(type(record.data).model_fields), name)
        lines = tuple(line.model_copy(update={"item_name": name}) for line in record.lines)
        partner = Partner(record.partner.ref, name)
        data = record.data.model_copy(update=update)
        return NoticeItem(replace(record, data=data, lines=lines, partner=partner), one.stage)

    return replace(
        notice,
        recipient=replace(notice.recipient, name=name),
        items=tuple(map(item, notice.items)),
    )


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markup_in_names_stays_text(hostile: str) -> None:
    for kind, rule in RULES.items():
        for tag in RENDERER.languages:
            for notice in sample_notices(rule, tag, NOW, CALENDAR):
                if notice.channel != "mail" or len(notice.items) > 1:
                    continue
                parts = RENDERER.parts(renamed(notice, hostile))
                plain = RENDERER.parts(renamed(notice, "Plain"))
                assert Shape(parts["html"]).found == Shape(plain["html"]).found, kind
                page = RENDERER.list_page(renamed(notice, hostile), "/l/x")
                harmless = RENDERER.list_page(renamed(notice, "Plain"), "/l/x")
                assert Shape(page).found == Shape(harmless).found
                assert hostile in "".join(Shape(parts["html"]).words)
                assert hostile in parts["txt"]


def test_a_link_that_would_run_a_script_is_left_out() -> None:
    parts = RENDERER.parts(one("invitation", "customer", url="javascript:alert(1)"))

    assert "javascript:" not in parts["html"]
    assert "javascript:" not in parts["txt"]


def test_a_header_in_a_name_parks_the_mail_or_is_left_out() -> None:
    notice = notices("invitation", "customer")[0]
    mail = RENDERER.render(
        replace(notice, recipient=replace(notice.recipient, name="A\r\nBcc: eve@example.com"))
    )
    assert read(mail)["To"] == "sample@example.com"
    assert read(mail)["Bcc"] is None

    with pytest.raises(TemplateError, match="subject contains =\\?"):
        RENDERER.render(renamed(notice, "A =?UTF-8?Q?=0A?=Bcc: eve@example.com"))
    with pytest.raises(TemplateError, match="address"):
        RENDERER.render(
            replace(notice, recipient=replace(notice.recipient, address="a@b.example>\r\nDATA"))
        )


def test_sending_again_changes_the_date_and_the_attempt_only() -> None:
    notice = notices("payment", "reminder")[0]
    first = RENDERER.render(notice)
    again = RENDERER.render(replace(notice, attempt=2))
    assert isinstance(first, Mail)
    assert isinstance(again, Mail)

    changed = [a for a, b in zip(*_lines(first, again), strict=True) if a != b]
    assert changed == [b"X-Duewatch-Attempt: 1"]
    assert read(first)["Message-ID"] == f"<{notice.uid}@due.example.com>"


def _lines(*mails: Mail) -> list[list[bytes]]:
    return [mail.source.split(b"\r\n") for mail in mails]


def test_an_sms_is_signed_by_country_and_never_cuts_an_amount() -> None:
    notice = notices("payment", "reminder", channel="sms")[0]
    abroad = replace(notice, recipient=replace(notice.recipient, address="+14155550123"))
    mainland, foreign = RENDERER.render(notice), RENDERER.render(abroad)
    assert isinstance(mainland, Sms)
    assert isinstance(foreign, Sms)

    assert mainland.text.startswith("【伙伴中心】您有1笔申付单")
    assert foreign.text.startswith("伙伴中心: ")
    assert dict(mainland.variables)["total"] == "35389.38"
    assert dict(mainland.variables)["link"] == notice.list_token
    amount = {"amount_incl_tax": Decimal("999999999999.99")}
    record = notice.items[0].record
    large = replace(record, data=record.data.model_copy(update=amount))
    told = RENDERER.render(replace(notice, items=(NoticeItem(large, "+1"),)))
    assert isinstance(told, Sms)
    assert dict(told.variables)["total"] == "999999999999.99"
    named = replace(notice, recipient=replace(notice.recipient, name="很长的名字" * 10))
    shown = RENDERER.render(named)
    assert isinstance(shown, Sms)
    assert len(dict(shown.variables)["name"]) <= 20


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the templates that a test may break."""
    return Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))


def test_an_undefined_variable_is_named_with_file_and_line(copied: Path) -> None:
    (copied / "messages/zh-CN/statement/reminder.txt").write_text("您好\n{{ item.amuont }}\n")
    (copied / "messages/en/statement/reminder.txt").write_text(
        "{% for i in items %}\n{{ i.dued }}\n"
    )
    broken = Renderer(copied, RULES, BRAND)

    with pytest.raises(TemplateError) as caught:
        broken.render(notices("statement", "reminder")[0])
    assert str(caught.value) == (
        "zh-CN/statement/reminder.txt, line 2: the variable 'item' is undefined: correct its name"
    )
    with pytest.raises(TemplateError, match=r"en/statement/reminder.txt, line 2: TemplateSyntax"):
        broken.render(notices("statement", "reminder", "en")[0])
    assert isinstance(broken.render(notices("payment", "reminder")[0]), Mail)


def test_a_fault_in_a_file_of_words_is_named_with_its_own_line(copied: Path) -> None:
    words = copied / "messages/en/statement/reminder.words.txt"
    text = words.read_text("utf-8")
    line = text[: text.index("{% macro lead()")].count("\n") + 1
    words.write_text(text.replace("{% macro lead() %}", "{% macro lead() %}{{ 1 // 0 }}"))

    where = rf"en/statement/reminder.words.txt, line {line}: ZeroDivisionError"
    with pytest.raises(TemplateError, match=where):
        Renderer(copied, RULES, BRAND).render(notices("statement", "reminder", "en")[0])


def test_a_template_reaches_no_object_and_no_file(copied: Path) -> None:
    part = copied / "messages/en/statement/reminder.txt"
    attempts = [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ items.append(1) }}",
        "{{ items[0]['deadline'].__init__.__globals__ }}",
        "{% include '../../../../pyproject.toml' %}",
        "{{ ('%s' | attr('format'))(1) }}{{ nothing }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ self._TemplateReference__context }}",
    ]
    for attempt in attempts:
        part.write_text(attempt)
        with pytest.raises(TemplateError, match=r"en/statement/reminder\.txt"):
            Renderer(copied, RULES, BRAND).render(notices("statement", "reminder", "en")[0])


def test_a_new_language_is_a_folder_and_falls_back_part_by_part(copied: Path) -> None:
    folder = copied / "messages/de"
    (folder / "statement").mkdir(parents=True)
    (folder / "statement/reminder.subject.txt").write_text("{{ count }} Abrechnung(en)")
    (folder / "language.toml").write_text("[currencies]\nCNY = 'CNY '\n")
    german = Renderer(copied, RULES, BRAND)
    parts = german.parts(notices("statement", "reminder", "de")[0])

    assert german.languages == ("de", "en", "zh-CN")
    assert parts["subject.txt"] == "1 Abrechnung(en)"
    assert 'lang="en"' in parts["html"]
    assert "Dear" in parts["txt"]
    assert any(
        "de/statement/reminder.html isn't there" in text for text in german.check(NOW, CALENDAR)
    )
    assert german.language_for("de-AT") == "de"
    assert german.language_for("zh-HK") == "zh-CN"
    assert german.language_for("fr") == "en"


def test_the_shells_words_that_a_new_language_lacks_are_those_of_the_fallback(copied: Path) -> None:
    (copied / "messages/de/statement").mkdir(parents=True)
    words = (copied / "messages/en/statement/reminder.words.txt").read_text()
    (copied / "messages/de/statement/reminder.words.txt").write_text(words)
    (copied / "messages/de/language.toml").write_text("[words]\ngreeting = 'Guten Tag {name},'\n")
    parts = Renderer(copied, RULES, BRAND).parts(notices("statement", "reminder", "de")[0])

    assert 'lang="de"' in parts["html"]
    assert "Guten Tag Alex Chen," in parts["html"]
    assert "What to do" in parts["html"]
    assert "What to do:" in parts["txt"]


def test_a_mistake_in_a_language_s_settings_names_the_file(copied: Path) -> None:
    (copied / "messages/en/language.toml").write_text("dya = 'EEEE'")

    with pytest.raises(TemplateError, match=r"en/language.toml: .*'dya'"):
        Renderer(copied, RULES, BRAND)
