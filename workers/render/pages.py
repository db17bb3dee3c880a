"""The server's short pages: the inbox, signing in, and what signed links open.

templates/console/ holds them: `*.html`, one `<language>.toml` of words each, and what is served as
it is (STATIC). A language is a file of words with the keys of en.toml. The console's own pages are
in `pages/` there (workers.render.console).
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from babel.core import Locale
from babel.dates import format_datetime, format_timedelta
from jinja2 import FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schedules.fields import BEIJING
from workers.errors import TemplateError

FALLBACK: Final = "en"
STATIC: Final[Mapping[str, tuple[str, str]]] = {
    "console.css": ("console.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    "pages.css": ("pages.css", "text/css"),
    "pages.js": ("pages.js", "text/javascript"),
    "htmx.js": ("vendor/htmx.js", "text/javascript"),
}
"""What is served as it is: its file in the folder, and its type."""
_PREFERENCE = re.compile(
    r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.\d{1,3})?))?\s*"
)


class Pages:
    """Renders pages. Instants are shown in Beijing time."""

    def __init__(self, folder: Path) -> None:
        """`folder` is templates/console. Raises TemplateError when a file of words is wrong."""
        self._words = {path.stem: _read(path) for path in sorted(folder.glob("*.toml"))}
        if FALLBACK not in self._words:
            raise TemplateError(f"{folder / FALLBACK}.toml isn't there: pages have no words")
        for language, words in self._words.items():
            if odd := words.keys() ^ self._words[FALLBACK].keys():
                raise TemplateError(
                    f"console/{language}.toml: {', '.join(sorted(odd))}: en.toml and this file "
                    "must have the same keys"
                )
        self.static = {name: (folder / path).read_bytes() for name, (path, _) in STATIC.items()}
        self.packed = {name: gzip.compress(c, 9, mtime=0) for name, c in self.static.items()}
        marks = {n: hashlib.sha256(c).hexdigest()[:12] for n, c in self.static.items()}
        self.addresses = {name: f"/static/{name}?v={mark}" for name, mark in marks.items()}
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folder, encoding="utf-8"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals["static"] = self.addresses
        self._environment.filters.update(
            fill=_fill, counted=_counted, size=_size, moment=_moment, short=_short, ago=_ago
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages there are words for."""
        return tuple(self._words)

    def language(self, accepted: str) -> str:
        """The best of the languages for an Accept-Language header (RFC 9110, 12.5.4)."""
        wishes: list[tuple[float, str]] = []
        for part in accepted[:500].split(","):
            if found := _PREFERENCE.fullmatch(part):
                wishes.append((float(found[2] or 1), found[1].lower()))
        for weight, tag in sorted(wishes, key=lambda wish: -wish[0]):
            if weight and (name := self._nearest(tag)):
                return name
        return FALLBACK

    def nearest(self, tag: str) -> str:
        """The language of a recipient's BCP 47 tag, or English."""
        return self._nearest(tag.lower()) or FALLBACK

    def _nearest(self, tag: str) -> str | None:
        names = {name.lower(): name for name in self._words}
        primary = tag.partition("-")[0]
        kin = (name for low, name in names.items() if low.partition("-")[0] == primary)
        return names.get(tag) or next(kin, None)

    def render(self, template: str, language: str, **values: Any) -> str:
        """One page. Raises jinja2's errors: these templates are the product's own."""
        found = self._environment.get_template(template)
        return found.render(t=self._words[language], language=language, **values)


def _read(path: Path) -> dict[str, Any]:
    try:
        words = tomllib.loads(path.read_text("utf-8"))
        if taken := [key for key in words if hasattr(dict, key)]:
            # `t.clear` would be the dictionary's own method, which the sandbox refuses.
            raise TemplateError(f"console/{path.name}: {', '.join(taken)}: use another key")
        return words
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TemplateError(f"console/{path.name} can't be read: {error}") from None


def _fill(text: str, **values: Any) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _counted(number: int, forms: Sequence[str]) -> str:
    """The form for one, or for any other number."""
    return _fill(forms[0] if number == 1 else forms[-1], count=f"{number:,}")


def _size(octets: int) -> str:
    if octets < 1000:
        return f"{octets} B"
    return f"{octets / 1000:.0f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f} MB"


@pass_context
def _moment(context: Context, at: datetime) -> str:
    return str(
        format_datetime(at.astimezone(BEIJING), context["t"]["moment"], locale=_locale(context))
    )


@pass_context
def _short(context: Context, at: datetime) -> str:
    """The time for today, else the day: as a list of mails has it."""
    local, now = at.astimezone(BEIJING), context["now"].astimezone(BEIJING)
    form = "HH:mm" if local.date() == now.date() else context["t"]["short_day"]
    return str(format_datetime(local, form, locale=_locale(context)))


@pass_context
def _ago(context: Context, at: datetime) -> str:
    past = min(at - context["now"], timedelta(seconds=-1))
    text = format_timedelta(past, add_direction=True, locale=_locale(context))
    return re.sub(r"(?<=\d)(?=[\u4e00-\u9fff])", " ", text)


def _locale(context: Context) -> Locale:
    return Locale.parse(context["language"], sep="-")
