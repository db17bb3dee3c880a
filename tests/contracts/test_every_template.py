"""Every rule's messages, in every language, on the rules' own samples.

A new rule, message, channel or language is picked up here by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schedules import load_rules
from schedules.calendar import WorkingCalendar
from schedules.rule import Rule
from workers.model import DIGEST, Notice, NoticeItem
from workers.providers import Sms
from workers.render import MAX_SMS_PARTS, Brand, Renderer
from workers.render.samples import sample_digest, sample_notices

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
CALENDAR = WorkingCalendar.load()
RULES = load_rules()
BRAND = Brand(
    product="Partner Reminders",
    sender="Partner Reminders <no-reply@due.example.com>",
    contact="400-000-0000 · care@example.com",
    partner_centre_url="https://partner.example.com",
    domain="due.example.com",
    sms_signature="Partner",
)
RENDERER = Renderer(TEMPLATES, RULES, BRAND)
VOID = {"meta", "br", "img", "hr", "link", "input"}


def notices(channel: str) -> Iterator[Notice]:
    for tag in RENDERER.languages:
        for rule in RULES.values():
            found = sample_notices(rule, tag, NOW, CALENDAR)
            yield from (notice for notice in found if notice.channel == channel)
        digest = sample_digest(RULES, tag, NOW, CALENDAR)
        if digest is not None and channel == "mail":
            yield digest


def name(notice: Notice) -> str:
    refs = "+".join(item.record.ref for item in notice.items)
    return f"{notice.kind}-{notice.message}-{notice.recipient.language}-{refs}"


MAILS = list(notices("mail"))
TEXTS = list(notices("sms"))


class Page(HTMLParser):
    """Collects what a reader and a screen reader find in a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: dict[str, list[dict[str, str | None]]] = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.setdefault(tag, []).append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_every_language_has_every_part_and_renders_every_sample() -> None:
    assert RENDERER.check(NOW, CALENDAR) == []


def test_every_rule_speaks_chinese_and_english() -> None:
    assert set(RENDERER.languages) >= {"en", "zh-CN"}
    for notice_list, channel in ((MAILS, "mail"), (TEXTS, "sms")):
        told = {(notice.kind, notice.recipient.language) for notice in notice_list}
        by = {
            rule.kind
            for rule in RULES.values()
            if any(channel in tell.by for stage in rule.cadence.stages for tell in stage.tell)
        }
        by |= {DIGEST} if channel == "mail" else set()
        assert told == {(kind, tag) for kind in by for tag in RENDERER.languages}


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.kind)
def test_every_message_of_a_cadence_has_a_sample(rule: Rule) -> None:
    told = {(n.message, n.channel) for n in sample_notices(rule, "en", NOW, CALENDAR)}

    wanted = {(t.message, by) for s in rule.cadence.stages for t in s.tell for by in t.by}
    assert told == wanted


def test_a_digest_names_every_kind_once_and_counts_it() -> None:
    for notice in (one for one in MAILS if one.kind == DIGEST):
        text = RENDERER.parts(notice)["txt"]
        for item in notice.items:
            title = RULES[item.record.kind].title[notice.recipient.language]
            assert title in text
        assert str(len(notice.items)) in RENDERER.parts(notice)["subject.txt"]


@pytest.mark.parametrize("tag", RENDERER.languages)
def test_every_language_has_the_same_parts(tag: str) -> None:
    def parts(of: str) -> set[str]:
        folder = TEMPLATES / "messages" / of
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix() for path in files}

    assert parts(tag) == parts("en")


@pytest.mark.parametrize("notice", MAILS, ids=name)
def test_a_mail_is_well_formed_and_accessible(notice: Notice) -> None:
    parts = RENDERER.parts(notice)
    page = Page(parts["html"])
    found = page.attributes

    assert page.wrong == []
    assert page.open == []
    assert found["html"][0]["lang"] == notice.recipient.language
    assert len(found["h1"]) == 1
    assert {a.get("role") for a in found["table"] if "role" in a} <= {"presentation"}
    assert all(a.get("scope") in {"row", "col"} for a in found.get("th", []))
    assert all(a.get("alt") for a in found.get("img", []))
    assert all(str(a["href"]).startswith("https://") for a in found["a"])
    assert "script" not in found
    assert "\n" not in parts["subject.txt"]
    assert len(parts["subject.txt"]) <= 120


@pytest.mark.parametrize("notice", MAILS, ids=name)
def test_a_mail_says_what_when_where_and_how_to_stop(notice: Notice) -> None:
    parts = RENDERER.parts(notice)
    for part in ("html", "txt"):
        for item in notice.items:
            view = RULES[item.record.kind].view(item.record)
            assert str(view.get("customer_name") or item.record.ref) in parts[part] or (
                notice.message == "customer"
            )
        assert BRAND.contact in parts[part]
        assert notice.unsubscribe_url in parts[part]
        assert "None" not in parts[part]
        assert "{{" not in parts[part]
    assert "&amp;" not in parts["txt"]
    assert len(parts["html"].encode()) < 100_000  # Gmail cuts longer ones


@pytest.mark.parametrize("notice", MAILS, ids=name)
def test_the_page_behind_the_link_offers_every_file_and_changes_nothing(notice: Notice) -> None:
    source = RENDERER.list_page(notice, "/l/token/files")
    page = Page(source)
    names = {name for name, _, _ in RENDERER.documents(notice)}

    assert page.wrong == []
    assert source.count("/l/token/files/") == len(names)
    assert "form" not in page.attributes
    assert "script" not in page.attributes


@pytest.mark.parametrize("notice", TEXTS, ids=name)
def test_an_sms_fits_and_its_variables_too(notice: Notice) -> None:
    message = RENDERER.render(notice)

    assert isinstance(message, Sms)
    assert 1 <= message.parts <= MAX_SMS_PARTS
    assert message.text.startswith("【Partner】")
    assert "\n" not in message.text
    assert notice.list_url in message.text
    assert message.template == f"{notice.kind}.{notice.message}.{notice.recipient.language}"
    assert len(message.variables) == len(dict(message.variables))
    assert all(1 <= len(value) <= 20 for _, value in message.variables)
    assert dict(message.variables)["count"] == str(len(notice.items))


@pytest.mark.parametrize("notice", [n for n in MAILS if n.recipient.language != "en"], ids=name)
def test_no_text_is_an_untranslated_copy(notice: Notice) -> None:
    english = next(
        other
        for other in MAILS
        if other.recipient.language == "en"
        and (other.kind, other.message, other.items) == (notice.kind, notice.message, notice.items)
    )
    own, copy = RENDERER.parts(notice), RENDERER.parts(english)
    words = re.compile(r"[^\W\d_]{4,}(?: [^\W\d_]{2,}){2,}")

    assert own["subject.txt"] != copy["subject.txt"]
    data = {BRAND.product, *(str(v) for i in notice.items for v in _texts(notice, i))}
    shared = set(words.findall(own["txt"])) & set(words.findall(copy["txt"]))
    assert {phrase for phrase in shared if not any(phrase in text for text in data)} == set()


def _texts(notice: Notice, item: NoticeItem) -> Iterator[str]:
    def walk(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for part in value.values():
                yield from walk(part)
        elif isinstance(value, list):
            for part in value:
                yield from walk(part)

    yield from walk(RULES[item.record.kind].view(item.record))


def test_no_mail_or_page_is_wider_than_a_phone(browser_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    digests = {(n.kind, n.message, n.recipient.language): n for n in MAILS}.values()
    wide: dict[str, int] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(browser_path), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 360, "height": 800})
        for notice in digests:
            for source in (RENDERER.parts(notice)["html"], RENDERER.list_page(notice, "/l/x")):
                page.set_content(source)
                width = page.evaluate("document.documentElement.scrollWidth")
                if width > 360:
                    wide[name(notice)] = width
        browser.close()

    assert wide == {}
