"""What the console says in each language: gettext catalogues, read as they are written.

English is what stands in the templates and the code. Another language is a folder under
templates/console/locale, as gettext names it (`zh_CN/LC_MESSAGES/console.po`); `make catalogues`
brings it what is new. Nothing is compiled.

Reasons come from rules and workers as whole English sentences and are kept so; they are found again
by their form, with the contexts `reason`, `status` and `cadence`.
"""

from __future__ import annotations

import gettext
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from babel.messages.pofile import PoFileError, read_po

from workers.errors import TemplateError

SOURCE: Final = "en"
"""The language that texts are written in."""
_CONTEXT = "{}\x04{}"  # as gettext joins a context and a text
_PART = re.compile(r"%\((\w+)\)s")
_LONGEST, _DEEPEST = 1_000, 3
"""Of a reason, in characters; and of reasons within reasons."""


class Catalogue(gettext.NullTranslations):
    """The texts of one language. What has no translation is said in English."""

    def __init__(self, language: str, texts: Mapping[str, tuple[str, ...]], plural: str) -> None:
        """`texts` are the forms by text, `plural` is the expression that chooses among them."""
        super().__init__()
        self.language = language
        self.texts = texts
        self._which = gettext.c2py(plural)
        self._forms = {context: _forms(texts, context) for context in ("reason", "cadence")}

    def gettext(self, message: str) -> str:
        """The text in this language."""
        return self.texts.get(message, (message,))[0]

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """The form for a number."""
        forms = self.texts.get(msgid1)
        if forms is None:
            return msgid1 if n == 1 else msgid2
        return forms[min(self._which(n), len(forms) - 1)]

    def reason(self, text: str) -> str:
        """A reason that a rule or a worker gave, as far as the catalogue knows it."""
        return self._told("reason", text, 0)

    def cadence(self, text: str) -> str:
        """When a stage is told, as settings write it: `due - 3 working days`."""
        return self._told("cadence", text, 0)

    def _told(self, context: str, text: str, depth: int) -> str:
        known = self.texts.get(_CONTEXT.format(context, text))
        if known is None and depth:
            known = self.texts.get(_CONTEXT.format("status", text))
        if known is not None:
            return known[0]
        if depth >= _DEEPEST or len(text) > _LONGEST:
            return text
        for form, said in self._forms[context]:
            if found := form.fullmatch(text):
                parts = found.groupdict().items()
                return said % {name: self._told(context, part, depth + 1) for name, part in parts}
        several = text.split("; ")
        if len(several) > 1:
            return "; ".join(self._told(context, one, depth + 1) for one in several)
        return text

    def pgettext(self, context: str, message: str) -> str:
        """The text where the same English means several things."""
        return self.texts.get(_CONTEXT.format(context, message), (message,))[0]

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:
        """The form for a number, of a text with a context."""
        key = _CONTEXT.format(context, msgid1)
        return self.ngettext(key, msgid2, n) if key in self.texts else (msgid1, msgid2)[n != 1]


def _forms(texts: Mapping[str, tuple[str, ...]], context: str) -> list[tuple[re.Pattern[str], str]]:
    """The texts of a context that have parts, those that say most first."""
    found: list[tuple[int, re.Pattern[str], str]] = []
    for key, forms in texts.items():
        of, _, text = key.rpartition("\x04")
        if of != context or not _PART.search(text):
            continue
        pieces = _PART.split(text)
        form = "".join(
            (rf"(?P<{one}>\d[\d,]*)" if one == "n" else rf"(?P<{one}>.+?)")
            if number % 2
            else re.escape(one)
            for number, one in enumerate(pieces)
        )
        said = sum(map(len, pieces[::2]))
        found.append((-said, re.compile(form, re.DOTALL), forms[0]))
    return [(form, text) for _, form, text in sorted(found, key=lambda one: one[0])]


def read_catalogues(folder: Path) -> dict[str, Catalogue]:
    """The catalogues by BCP 47 tag, English among them.

    Raises TemplateError naming the file when one can't be read, or says a text otherwise than
    another file does.
    """
    found = {SOURCE: Catalogue(SOURCE, {}, "n != 1")}
    places = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for place in places:
        language = place.name.replace("_", "-")
        texts: dict[str, tuple[str, ...]] = {}
        plural = "0"
        for path in sorted(place.glob("LC_MESSAGES/*.po")):
            plural = _read(path, place.name, texts)
        found[language] = Catalogue(language, texts, plural)
    return found


def _read(path: Path, locale: str, texts: dict[str, tuple[str, ...]]) -> str:
    where = f"console/locale/{locale}/LC_MESSAGES/{path.name}"
    try:
        with path.open("rb") as file:
            catalogue = read_po(file, locale=locale, abort_invalid=True)
    except (OSError, ValueError, PoFileError) as error:
        raise TemplateError(f"{where} can't be read: {error}") from None
    for message in catalogue:
        text = message.id[0] if isinstance(message.id, tuple | list) else message.id
        said = message.string if isinstance(message.string, tuple | list) else (message.string,)
        forms = tuple(str(form) for form in said if form)
        if not text or not forms:
            continue
        key = _CONTEXT.format(message.context, text) if message.context else str(text)
        if texts.setdefault(key, forms) != forms:
            raise TemplateError(f"{where}: {text!r} is said otherwise in another file")
    return catalogue.plural_expr
