"""What a notification says: a Notice goes in, a Mail or an Sms comes out.

    render/__init__.py  Renderer: notice -> values -> parts -> Mail, Sms, page, files
    language.py         one language's folder, filters, errors by file and line
    mail.py             MIME and the header guard
    samples.py          notices made from the rules' samples: preview, check, tests
    sms.py words.py xlsx.py pdf.py

Templates get plain values and nothing else: what `Rule.view` says of each record, and beside it
`count`, `totals` by currency, `partners`, `deadline` (the earliest), `recipient`, `links`, `brand`,
`files`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from schedules.calendar import WorkingCalendar
from schedules.invoice_list import InvoiceList
from schedules.rule import Record, Rule
from workers.errors import TemplateError
from workers.model import Notice, NoticeItem
from workers.providers import Mail, Sms
from workers.render.labels import labels
from workers.render.language import FALLBACK, Language
from workers.render.mail import Attachment, Draft, UnsafeMailError, ascii_address, build, mailbox
from workers.render.samples import sample_notices
from workers.sms import count_parts, fit_variable

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
MAX_VARIABLE: Final = 20
"""Characters of an SMS variable (Huawei Cloud SMS, template variables)."""
XLSX_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
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

    @property
    def languages(self) -> tuple[str, ...]:
        """The tags of all folders found."""
        return tuple(self._languages)

    def render(self, notice: Notice) -> Mail | Sms:
        """The message, ready for a provider. Raises TemplateError and nothing else."""
        try:
            return self._mail(notice) if notice.channel == "mail" else self._sms(notice)
        except TemplateError:
            raise
        except Exception as error:  # one notification that can't be written parks itself only
            text = f"{notice.kind}/{notice.message}: {type(error).__name__}: {error}"
            raise TemplateError(text) from error

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
        names = [name for name, _, _ in self._files(notice)]
        values = self._values(notice, names, 0, lines=PAGE_LINES)
        base = download_base.rstrip("/")
        values["downloads"] = [
            {"name": name, "url": f"{base}/{quote(name)}", "type": name.rpartition(".")[2].upper()}
            for name in names
        ]
        part = f"{notice.kind}/_page.html"
        language = self._speaking(self.language_for(notice.recipient.language), part)
        return language.render(part, {**values, "language": language.tag})

    def documents(self, notice: Notice) -> list[File]:
        """Every file that belongs to the notice, also those that are too many for one mail."""
        return [(name, media, make()) for name, media, make in self._files(notice)]

    def document(self, notice: Notice, name: str) -> File | None:
        """One of `documents` by its name, or None; the others aren't made."""
        for found, media, make in self._files(notice):
            if found == name:
                return found, media, make()
        return None

    def language_for(self, tag: str) -> str:
        """The folder for a reader's BCP 47 tag: the same, else the same language's, else en."""
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
        for rule in self._rules.values():
            for tag in self._languages:
                for notice in sample_notices(rule, tag, now, calendar):
                    found.update(dict.fromkeys(self._check(notice, tag)))
        return list(found)

    def _check(self, notice: Notice, tag: str) -> Iterator[str]:
        for part in MAIL_PARTS if notice.channel == "mail" else SMS_PARTS:
            name = f"{notice.kind}/{notice.message}.{part}"
            if not self._languages[tag].has(name):
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
        part = f"{notice.kind}/{notice.message}.html"
        tag = self.language_for(notice.recipient.language)
        return Draft(
            uid=notice.uid,
            domain=self._brand.domain,
            sender_name=self._sender[0],
            sender_address=self._sender[1],
            recipient_name=notice.recipient.name,
            recipient_address=notice.recipient.address,
            subject=subject,
            date=notice.now,
            language=self._speaking(tag, part).tag,
            text=text,
            html=page,
            attachments=files,
            reply_to=self._brand.reply_to,
            unsubscribe_url=notice.unsubscribe_url,
            attempt=notice.attempt,
        )

    def _sms(self, notice: Notice) -> Sms:
        tag = self.language_for(notice.recipient.language)
        values = self._values(notice, [], 0)
        language = self._speaking(tag, f"{notice.kind}/{notice.message}.sms.txt")
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
            variables=tuple(self._variables(notice, values, language)),
            parts=count_parts(text, mainland=mainland).parts,
        )

    def _variables(
        self, notice: Notice, values: Mapping[str, Any], language: Language
    ) -> Iterator[tuple[str, str]]:
        """What a provider's approved template may name, in a fixed order; empty ones left out."""
        zone = notice.recipient.time_zone
        at = values["deadline"] or min(item["opened_at"] for item in values["items"])
        last = values["deadline"] is not None
        write = language.last_day if last else language.date
        totals = values["totals"]
        several = language.forms.several_currencies if totals else ""
        one = totals[0] if len(totals) == 1 else None
        found = {
            "count": str(values["count"]),
            "total": f"{one['amount']:.2f}" if one else several,
            "currency": one["currency"] if one else "",
            "date": write(at, zone, "yyyy-MM-dd"),
            "time": language.closing_time(at, zone) if last else "",
            "name": _name(notice.recipient.name),
            "ref": values["items"][0]["ref"],
            "link": notice.list_token,
            "partner": _name(values["items"][0]["partner"]),
        }
        if len(found["ref"]) > MAX_VARIABLE:
            del found["ref"]  # half an identifier names another thing
        for name, value in found.items():
            if value:
                yield name, _fitted(name, value)

    def _speaking(self, tag: str, part: str) -> Language:
        """The language whose folder has the part: the wished one, or the fallback."""
        wished = self._languages[tag]
        return wished if wished.has(part) else self._languages[FALLBACK]

    def _part(self, notice: Notice, part: str, values: Mapping[str, Any]) -> str:
        name = f"{notice.kind}/{notice.message}.{part}"
        language = self._speaking(self.language_for(notice.recipient.language), name)
        text = language.render(name, {**values, "language": language.tag})
        if part == "txt":
            return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        return text.strip()

    def _values(
        self, notice: Notice, files: Sequence[str], left_out: int, lines: int | None = None
    ) -> dict[str, Any]:
        """All that templates may say of the notice: plain values only."""
        rule = self._rules[notice.kind]
        many = lines or max(3, INLINE_LINES // max(1, len(notice.items)))
        items = [_item(rule, item, many) for item in notice.items]
        dates = [item["deadline"] for item in items if item["deadline"] is not None]
        brand, tag = self._brand, self.language_for(notice.recipient.language)
        only = items[0]["url"] if len(items) == 1 else ""
        recipient = notice.recipient
        return {
            "kind": notice.kind,
            "message": notice.message,
            "title": dict(rule.title),
            "programmes": dict(labels(tag).programmes),
            "now": notice.now,
            "items": items,
            "count": len(items),
            "totals": _totals(rule, [item.record for item in notice.items]),
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
        names = [name for name, _, _ in self._files(notice)]
        most = 2 * MAX_PAYMENTS_ATTACHED
        return names[:most], max(0, len(names) - most) // 2

    def _choose(self, notice: Notice) -> tuple[list[Attachment], int]:
        """The files of the first payments that fit, and of how many payments they are left out."""
        planned = list(self._files(notice))
        payments = [planned[start : start + 2] for start in range(0, len(planned), 2)]
        chosen: list[Attachment] = []
        size = 0
        for number, pair in enumerate(payments):
            made = [Attachment(name, media, make()) for name, media, make in pair]
            size += sum(len(file.content) for file in made)
            if number == MAX_PAYMENTS_ATTACHED or size > self._max_attached:
                return chosen, len(payments) - number
            chosen += made
        return chosen, 0

    def _files(self, notice: Notice) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
        """(name, media type, maker) of each list as XLSX and as PDF, in the items' order."""
        rule = self._rules[notice.kind]
        tag = self.language_for(notice.recipient.language)
        for item in notice.items:
            for document in rule.documents(item.record):
                name = labels(tag).file_name
                yield name(document, ".xlsx"), XLSX_TYPE, _maker("xlsx", document, tag)
                yield name(document, ".pdf"), "application/pdf", _maker("pdf", document, tag)


def _maker(form: str, document: InvoiceList, tag: str) -> Callable[[], bytes]:
    def make() -> bytes:
        # both libraries take longer to load than most commands to run
        if form == "xlsx":
            from workers.render.xlsx import invoice_list_xlsx

            return invoice_list_xlsx(document, tag)
        from workers.render.pdf import invoice_list_pdf

        return invoice_list_pdf(document, tag)

    return make


def _item(rule: Rule, item: NoticeItem, lines: int) -> dict[str, Any]:
    """What the rule says of the record; of its `lines` only the first, `lines_more` is the rest."""
    record = item.record
    money = rule.amount(record)
    values: dict[str, Any] = {
        "stage": item.stage,
        "opened_at": record.opened_at,
        "partner": record.partner.name or record.partner.ref,
        "amount": money[0] if money else None,
        "currency": money[1] if money else "",
        **rule.view(record),
    }
    if not re.match(r"https?://", values.get("url") or ""):
        values["url"] = None  # a link of any other scheme could run a script
    if isinstance(every := values.get("lines"), list):
        values |= {"lines": every[:lines], "lines_more": max(0, len(every) - lines)}
    return {name: _plain(value, f"{rule.kind}.{name}") for name, value in values.items()}


def _plain(value: Any, where: str) -> Any:
    """A value that a template can do nothing with but show it; enums become their words."""
    if value is None or type(value) in (bool, int, str, Decimal, datetime):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    raise TemplateError(f"{where} is a {type(value).__name__}: templates take plain values only")


def _totals(rule: Rule, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Sums by currency, in the order in which currencies first appear."""
    sums: dict[str, list[Decimal]] = {}
    for record in records:
        if (money := rule.amount(record)) is not None:
            sums.setdefault(money[1], []).append(money[0])
    return [
        {"currency": currency, "amount": sum(amounts, Decimal(0)), "count": len(amounts)}
        for currency, amounts in sums.items()
    ]


def _name(name: str) -> str:
    """A name without the characters that carriers refuse in an SMS variable."""
    return re.sub(r"[.。'<>{}]", " ", name).strip()


def _fitted(name: str, value: str) -> str:
    try:
        return fit_variable(value, MAX_VARIABLE)
    except ValueError as error:
        raise TemplateError(f"the SMS variable {name} {error}") from error


__all__ = ["MAX_SMS_PARTS", "Brand", "Renderer"]
