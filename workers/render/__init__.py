"""What a notification says: a Notice goes in, a Mail or an Sms comes out.

    render/__init__.py  Renderer: notice -> values -> parts -> Mail, Sms, page, files
    language.py         one language's folder, filters, errors by file and line
    files.py            the lists that go along;  figures.py charts.py  pictures in a mail
    values.py           the plain values that templates are given
    mail.py             MIME and the header guard
    samples.py          notices made from the rules' samples: preview, check, tests
    words.py xlsx.py pdf.py

A message is one file of words, `<kind>/<message>.words.txt`, put into the shell that all share
(`_message.*`); a kind may have a part of its own instead (`payment/reminder.html`). A digest of
several kinds takes each item's line from its own kind's words.

Templates get plain values and nothing else: what `Rule.view` says of each record, and beside it
`count`, `totals` by currency, `partners`, `deadline` (the earliest), `recipient`, `links`, `brand`,
`files`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from schedules.calendar import WorkingCalendar
from schedules.rule import Rule
from workers.errors import TemplateError
from workers.model import DIGEST, Notice, NoticeItem
from workers.providers import Mail, Sms
from workers.render.figures import Picture, chart_values, embedded, inline_images, pictures
from workers.render.files import XLSX_TYPE, Maker, files_of
from workers.render.labels import labels
from workers.render.language import FALLBACK, Language, Said
from workers.render.mail import Attachment, Draft, UnsafeMailError, ascii_address, build, mailbox
from workers.render.samples import sample_digest, sample_notices
from workers.render.values import item_values, sms_variables, totals
from workers.sms import count_parts

MAIL_PARTS: Final = ("subject.txt", "txt", "html")
SMS_PARTS: Final = ("sms.txt",)
MAX_PAYMENTS_ATTACHED: Final = 10
"""So many payments' lists go along as files; the rest stand behind the link."""
MAX_ATTACHED: Final = 8 * 1024 * 1024
"""Octets of all files of one mail, before base64 makes them a third larger."""
MAX_SMS_PARTS: Final = 3
INLINE_LINES: Final = 20
"""Lines of invoice lists shown in a mail, shared between its payments (at least 3 for each)."""
PAGE_LINES: Final = 500
"""Lines of each invoice list on the page behind a link; the files hold all."""
MAX_ITEMS_WITH_CHARTS: Final = 3
"""So many records' charts are drawn in one mail; the files hold all."""
MAX_TAGS: Final = 1000
"""Of so many readers' tags it is remembered which folder they are written from."""
File = tuple[str, str, bytes]
"""(file name, media type, content)"""


@dataclass(frozen=True, slots=True)
class Brand:
    """Who speaks.

    `sender` is `Name <address>`; `reply_to` the same or "". `contact` is the line that tells where
    to ask. `domain` ends every Message-ID. `sms_signature` stands without 【】. `products` and
    `sms_signatures` are by language, where they differ.
    """

    product: str
    sender: str
    contact: str
    partner_centre_url: str
    domain: str
    sms_signature: str
    reply_to: str = ""
    products: Mapping[str, str] = field(default_factory=dict)
    sms_signatures: Mapping[str, str] = field(default_factory=dict)


class Renderer:
    """Writes notifications in all languages found under `folder`."""

    def __init__(
        self,
        folder: Path,
        rules: Mapping[str, Rule],
        brand: Brand,
        *,
        max_attached: int = MAX_ATTACHED,
    ) -> None:
        """`folder` holds messages/<tag>/ and the shell; `max_attached` is in octets.

        Raises TemplateError without an en folder and UnsafeMailError for a sender that isn't one.
        """
        self._rules = rules
        self._brand = brand
        self._max_attached = max_attached
        self._sender = mailbox(brand.sender)
        messages = folder / "messages"
        fallback = messages / FALLBACK
        if not fallback.is_dir():
            raise TemplateError(f"{fallback} isn't there: every part falls back to it")
        found = sorted(path for path in messages.iterdir() if path.is_dir())
        self._languages = {path.name: Language(path, fallback) for path in found}
        ours = self._languages[FALLBACK].forms.words
        self._shell_words = {
            tag: {**ours, **language.forms.words} for tag, language in self._languages.items()
        }
        self._titles = {
            tag: {kind: self._title(kind, tag) for kind in rules} for tag in self._languages
        }
        self._tags: dict[str, str] = {}

    @property
    def languages(self) -> tuple[str, ...]:
        """The tags of all folders found."""
        return tuple(self._languages)

    def has(self, kind: str, message: str, *, channel: str) -> bool:
        """Whether there are words for this message, at least those that others fall back to."""
        parts = MAIL_PARTS if channel == "mail" else SMS_PARTS
        names = [_words(kind, message), *(f"{kind}/{message}.{part}" for part in parts)]
        return any(self._languages[FALLBACK].has(name) for name in names)

    def render(self, notice: Notice) -> Mail | Sms:
        """The message, ready for a provider. Raises TemplateError and nothing else."""
        try:
            return self._mail(notice) if notice.channel == "mail" else self._sms(notice)
        except TemplateError:
            raise
        except Exception as error:  # one notification that can't be written parks itself only
            text = f"{notice.kind}/{notice.message}: {type(error).__name__}: {error}"
            raise TemplateError(text) from error

    def is_quick(self, notice: Notice) -> bool:
        """Whether it is text alone (a millisecond or so): no files to make, no charts to draw."""
        return not self._files(notice) and not self._shown(notice)

    def parts(self, notice: Notice) -> dict[str, str]:
        """The rendered parts by name (`html`, `txt`, `subject.txt` or `sms.txt`), for previews."""
        if notice.channel == "sms":
            return {"sms.txt": self._sms(notice).text}
        values = self._values(notice, *self._attached(notice))
        return {part: self._part(notice, part, values) for part in MAIL_PARTS}

    def list_page(self, notice: Notice, download_base: str) -> str:
        """The HTML page behind the signed link: the items and, where there are files, downloads.

        A file is fetched from `download_base`/<file name>. Raises TemplateError.
        """
        names = [name for group in self._files(notice) for name, _, _ in group]
        values = self._values(notice, names, 0, lines=PAGE_LINES)
        base = download_base.rstrip("/")
        values["downloads"] = [
            {"name": name, "url": f"{base}/{quote(name)}", "type": name.rpartition(".")[2].upper()}
            for name in names
        ]
        return embedded(self._part(notice, "_page.html", values), self._shown(notice))

    def whole_page(self, notice: Notice) -> str:
        """A mail's HTML with its pictures in it, to be shown by itself. Raises TemplateError."""
        return embedded(self.parts(notice)["html"], self._shown(notice))

    def documents(self, notice: Notice) -> list[File]:
        """Every file that belongs to the notice, also those that are too many for one mail."""
        every = (file for group in self._files(notice) for file in group)
        return [(name, media, make()) for name, media, make in every]

    def document(self, notice: Notice, name: str) -> File | None:
        """One of `documents` by its name, or None; the others aren't made."""
        for group in self._files(notice):
            for found, media, make in group:
                if found == name:
                    return found, media, make()
        return None

    def language_for(self, tag: str) -> str:
        """The folder for a reader's BCP 47 tag: the same, else the same language's, else en."""
        if (known := self._tags.get(tag)) is None:
            known = self._nearest(tag)
            if len(self._tags) < MAX_TAGS:
                self._tags[tag] = known
        return known

    def _nearest(self, tag: str) -> str:
        by_tag = {name.lower(): name for name in self._languages}
        wanted = tag.lower().replace("_", "-")
        primary = wanted.partition("-")[0]
        if found := by_tag.get(wanted) or by_tag.get(primary):
            return found
        kin = [name for name in self._languages if name.lower().partition("-")[0] == primary]
        return kin[0] if kin else FALLBACK

    def check(self, now: datetime, calendar: WorkingCalendar) -> list[str]:
        """What is wrong with the templates, one sentence each; empty when all is well.

        Every rule x message x channel x language is there in that language, renders the rule's
        samples one by one and together, and an SMS has at most MAX_SMS_PARTS parts.
        """
        found: dict[str, None] = {}
        for tag in self._languages:
            for rule in self._rules.values():
                for notice in sample_notices(rule, tag, now, calendar):
                    found.update(dict.fromkeys(self._check(notice, tag)))
            if digest := sample_digest(self._rules, tag, now, calendar):
                found.update(dict.fromkeys(self._check(digest, tag)))
        return list(found)

    def _check(self, notice: Notice, tag: str) -> Iterator[str]:
        words = _words(notice.kind, notice.message)
        has_words = notice.kind == DIGEST or self._languages[tag].has(words)
        if not has_words:
            yield f"{tag}/{words} isn't there: {FALLBACK} is used instead"
        for part in MAIL_PARTS if notice.channel == "mail" else SMS_PARTS:
            name = _own(notice, part)
            if not (self._languages[tag].has(name) or has_words):
                yield f"{tag}/{name} isn't there: {FALLBACK} is used instead"
        try:
            if notice.channel == "mail":
                self.parts(notice)
                return
            message = self._sms(notice)
        except TemplateError as error:
            yield str(error)
        else:
            if message.parts > MAX_SMS_PARTS:
                name = f"{tag}/{notice.kind}/{notice.message}.sms.txt"
                yield f"{name}: {message.parts} parts, at most {MAX_SMS_PARTS}: shorten it"

    def _mail(self, notice: Notice) -> Mail:
        files, left_out = self._choose(notice)
        values = self._values(notice, [file.filename for file in files], left_out)
        subject, text, page = (self._part(notice, part, values) for part in MAIL_PARTS)
        try:
            draft = self._draft(notice, subject, text, page, files)
            return Mail(
                uid=notice.uid,
                sender=ascii_address(draft.sender_address),
                recipient=ascii_address(draft.recipient_address),
                subject=subject,
                source=build(draft),
            )
        except UnsafeMailError as error:
            raise TemplateError(f"{notice.kind}/{notice.message}: {error}") from error

    def _draft(
        self, notice: Notice, subject: str, text: str, page: str, files: Sequence[Attachment]
    ) -> Draft:
        return Draft(
            uid=notice.uid,
            domain=self._brand.domain,
            sender_name=self._sender[0],
            sender_address=self._sender[1],
            recipient_name=notice.recipient.name,
            recipient_address=notice.recipient.address,
            subject=subject,
            date=notice.now,
            language=self._speaking(notice, "html").tag,
            text=text,
            html=page,
            attachments=files,
            images=inline_images(self._shown(notice)),
            reply_to=self._brand.reply_to,
            # A mail program's button must do what it says, and what is required comes all the same.
            unsubscribe_url="" if notice.required else notice.unsubscribe_url,
            attempt=notice.attempt,
        )

    def _sms(self, notice: Notice) -> Sms:
        values = self._values(notice, [], 0)
        language = self._speaking(notice, "sms.txt")
        tag = self.language_for(notice.recipient.language)
        line = " ".join(self._part(notice, "sms.txt", values).split())
        number = notice.recipient.address
        signature = self._brand.sms_signatures.get(tag, self._brand.sms_signature)
        signature = signature.strip("【】[] ")
        mainland = number.startswith("+86")
        # 【】 would make an SMS abroad cost two parts for one: it is no GSM-7 character
        text = f"【{signature}】{line}" if mainland else f"{signature}: {line}"
        return Sms(
            uid=notice.uid,
            number=number,
            text=text,
            template=f"{notice.kind}.{notice.message}.{language.tag}",
            variables=tuple(sms_variables(notice, values, language)),
            parts=count_parts(text, mainland=mainland).parts,
        )

    def _speaking(self, notice: Notice, part: str) -> Language:
        """The language that has the part or the words for it: the wished one, or the fallback."""
        wished = self._languages[self.language_for(notice.recipient.language)]
        words = _words(notice.kind, notice.message)
        found = wished.has(_own(notice, part)) or wished.has(words)
        return wished if found else self._languages[FALLBACK]

    def _part(self, notice: Notice, part: str, values: dict[str, Any]) -> str:
        """A part: the kind's own file, or else the shell's with the kind's words in it."""
        language = self._speaking(notice, part)
        name = _own(notice, part)
        told = {**values, "language": language.tag, "words": self._shell_words[language.tag]}
        if notice.kind == DIGEST:
            told |= self._digest(notice, values, language)
        elif not language.has(name):
            name = f"_message_{part[1:]}" if part.startswith("_") else f"_message.{part}"
            said = self._said(notice, values, language)
            told |= {"say": said.say, "rows": said.rows}
        text = language.render(name, told)
        if part == "txt":
            return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        return text.strip() if part != "_page.html" else text

    def _said(self, notice: Notice, values: dict[str, Any], language: Language) -> Said:
        """A notice's words, spoken once for all of its parts."""
        said = values.get("_said")
        if not isinstance(said, Said):
            said = language.speak(
                _words(notice.kind, notice.message), {**values, "language": language.tag}
            )
            values["_said"] = said
        return said

    def _digest(
        self, notice: Notice, values: Mapping[str, Any], language: Language
    ) -> dict[str, Any]:
        """The rows of a digest of several kinds, by deadline, and how many there are of each."""
        groups: dict[tuple[str, str], list[NoticeItem]] = {}
        for item in notice.items:
            groups.setdefault((item.record.kind, item.message), []).append(item)
        rows: list[dict[str, Any]] = []
        counts: dict[str, int] = {}
        for (kind, message), items in groups.items():
            alone = replace(notice, kind=kind, message=message, items=tuple(items))
            own = self._languages[FALLBACK]
            if language.has(_words(kind, message)):
                own = language
            told = self._values(alone, [], 0)
            told["language"] = own.tag
            title = self._title(kind, language.tag)
            counts[title] = counts.get(title, 0) + len(items)
            for row in own.speak(_words(kind, message), told, rows_only=True).rows:
                rows.append(row | {"title": title})
        rows.sort(key=lambda row: (row["deadline"] is None, row["deadline"] or notice.now))
        return {
            "rows": rows,
            "counts": [{"title": title, "count": count} for title, count in counts.items()],
        }

    def _title(self, kind: str, tag: str) -> str:
        title = self._rules[kind].title
        return title.get(tag) or title.get(FALLBACK) or kind

    def _values(
        self, notice: Notice, files: Sequence[str], left_out: int, lines: int | None = None
    ) -> dict[str, Any]:
        """All that templates may say of the notice: plain values only."""
        many = lines or max(3, INLINE_LINES // max(1, len(notice.items)))
        items = [item_values(self._rules[item.record.kind], item, many) for item in notice.items]
        if notice.kind != DIGEST:
            for item, its in zip(notice.items[:MAX_ITEMS_WITH_CHARTS], items, strict=False):
                if shown := self._pictures(item, self.language_for(notice.recipient.language)):
                    its["charts"] = chart_values(shown)
        dates = [item["deadline"] for item in items if item["deadline"] is not None]
        brand, tag = self._brand, self.language_for(notice.recipient.language)
        only = items[0]["url"] if len(items) == 1 else ""
        recipient = notice.recipient
        return {
            "kind": notice.kind,
            "message": notice.message,
            "programmes": dict(labels(tag).programmes),
            "now": notice.now,
            "items": items,
            "count": len(items),
            "totals": totals(self._rules, [item.record for item in notice.items]),
            "partners": list(dict.fromkeys(item["partner"] for item in items)),
            "deadline": min(dates) if dates else None,
            "recipient": {
                "name": recipient.name,
                "role": recipient.role,
                "address": recipient.address,
                "time_zone": recipient.time_zone,
            },
            "brand": {
                "product": brand.products.get(tag, brand.product),
                "contact": brand.contact,
                "partner_centre_url": brand.partner_centre_url,
            },
            "links": {
                "open": only or brand.partner_centre_url,
                "list": notice.list_url,
                "unsubscribe": notice.unsubscribe_url,
            },
            "files": list(files),
            "files_left_out": left_out,
        }

    def _attached(self, notice: Notice) -> tuple[list[str], int]:
        """(file names, payments left out) as `_choose` does, without making files."""
        groups = self._files(notice)
        names = [name for group in groups[:MAX_PAYMENTS_ATTACHED] for name, _, _ in group]
        return names, max(0, len(groups) - MAX_PAYMENTS_ATTACHED)

    def _choose(self, notice: Notice) -> tuple[list[Attachment], int]:
        """The files of the first records that fit, and of how many records they are left out."""
        groups = self._files(notice)
        chosen: list[Attachment] = []
        size = 0
        for number, group in enumerate(groups):
            made = [Attachment(name, media, make()) for name, media, make in group]
            size += sum(len(file.content) for file in made)
            if number == MAX_PAYMENTS_ATTACHED or size > self._max_attached:
                return chosen, len(groups) - number
            chosen += made
        return chosen, 0

    def _files(self, notice: Notice) -> list[list[Maker]]:
        tag = self.language_for(notice.recipient.language)
        return files_of(self._rules, notice.items, tag, self._titles[tag])

    def _pictures(self, item: NoticeItem, tag: str) -> tuple[Picture, ...]:
        figures = self._rules[item.record.kind].figures(item.record)
        return pictures(figures, tag, self._titles[tag]) if figures is not None else ()

    def _shown(self, notice: Notice) -> list[Picture]:
        """The pictures that stand in a mail or page; a digest of several kinds has only lines."""
        if notice.kind == DIGEST:
            return []
        tag = self.language_for(notice.recipient.language)
        items = notice.items[:MAX_ITEMS_WITH_CHARTS]
        return [picture for item in items for picture in self._pictures(item, tag)]


def _words(kind: str, message: str) -> str:
    return f"{kind}/{message}.words.txt"


def _own(notice: Notice, part: str) -> str:
    """The name of a part that a kind has for itself; a page is the same for all its messages."""
    if part.startswith("_"):
        return f"{notice.kind}/{part}"
    return f"{notice.kind}/{notice.message}.{part}"


__all__ = ["MAX_SMS_PARTS", "XLSX_TYPE", "Brand", "Renderer"]
