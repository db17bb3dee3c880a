"""One language: its folder of templates, and how it writes days, amounts and times.

A folder `templates/messages/<BCP 47 tag>/` is a language; nothing else is edited to add one. What
it lacks comes from `en`, part by part. `language.toml` in it holds what can't stand in a template.

Every template is autoescaped, text parts too: macros of words can then serve HTML and text alike.
A text part is unescaped as a whole once it is rendered.
"""

from __future__ import annotations

import html
import re
import tomllib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel.core import Locale
from babel.dates import format_datetime, format_timedelta, get_timezone_name
from babel.numbers import format_currency
from jinja2 import (
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    pass_context,
)
from jinja2.debug import rewrite_traceback_stack
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schedules.invoice_list import percent
from workers.errors import TemplateError
from workers.render.words import amount_in_words

FALLBACK: Final = "en"
_SETTINGS: Final = "language.toml"
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Forms:
    """What `language.toml` may say; CLDR patterns (unicode.org/reports/tr35/tr35-dates.html).

    `day_end` and `short_day_end` are for a deadline at midnight: the day before, at its end.
    `zones` names time zones as people there call them; the rest have CLDR's names. `words` are
    those of the shell that every message stands in.
    """

    day: str = "EEEE, d MMMM y"
    short_day: str = "d MMM"
    short_moment: str = "d MMM, HH:mm"
    short_day_end: str = "d MMM, '23:59'"
    moment: str = "EEEE, d MMMM y, HH:mm"
    day_end: str = "EEEE, d MMMM y, '23:59'"
    zone: str = "{moment} ({zone})"
    several_currencies: str = "several currencies"
    currencies: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


SPOKEN: Final = (
    "subject",
    "title",
    "label",
    "lead",
    "callout",
    "consequence",
    "heading",
    "button",
    "note",
    "sms",
)
"""The macros that a file of words may have beside those that speak of one item."""
OF_AN_ITEM: Final = ("line", "about", "figure", "when")


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """A plain mapping's own key first: nothing there needs the sandbox's questions, which take
        a fifth of a mail's time.
        """
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


class Language:
    """A folder of templates, its filters, and the errors that name file, line and variable."""

    def __init__(self, folder: Path, fallback: Path) -> None:
        """`folder` is messages/<tag>, `fallback` messages/en.

        Raises TemplateError for a language.toml that can't be read.
        """
        self.tag = folder.name
        self.folder = folder
        self.locale = Locale.parse(self.tag, sep="-")
        self.forms = _read_forms(folder / _SETTINGS)
        # the shell that all languages share stands beside messages/
        places = [folder, *([fallback] if fallback != folder else []), folder.parent.parent]
        self._has: dict[str, bool] = {}
        self._environment = _Environment(
            loader=FileSystemLoader(places, encoding="utf-8"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(self._filters())

    def has(self, part: str) -> bool:
        """Whether this folder itself has the part (`payment/reminder.html`)."""
        # Templates are read once a process, and so is what there is of them.
        if (found := self._has.get(part)) is None:
            found = self._has[part] = (self.folder / part).is_file()
        return found

    def parts(self) -> set[str]:
        """The parts this folder has: every file but those that begin with _ and language.toml."""
        found = (path for path in self.folder.rglob("*.*") if path.is_file())
        names = {p.relative_to(self.folder).as_posix() for p in found if not p.name.startswith("_")}
        return names - {_SETTINGS}

    def render(self, part: str, values: Mapping[str, Any]) -> str:
        """The part with `values`. Raises TemplateError naming file, line and variable."""
        try:
            text = self._environment.get_template(part).render(values)
        except Exception as error:  # whatever a template does wrong parks its own message only
            raise self._explain(part, error) from error
        if part.endswith(".html"):
            return re.sub(r"\n\s+", "\n", text).strip() + "\n"  # Gmail cuts mails at 102 kB
        return html.unescape(text)

    def speak(self, part: str, values: Mapping[str, Any], *, rows_only: bool = False) -> Said:
        """What a file of words says of `values`: each macro spoken once, and a row for each item.

        Raises TemplateError like `render`.
        """
        try:
            module = self._environment.get_template(part).make_module(dict(values))
            say: dict[str, Any] = {}
            if not rows_only:
                say = {name: _spoken(module, name) for name in SPOKEN}
                say["tone"] = getattr(module, "tone", "warn")
                say["columns"] = getattr(module, "columns", ["", ""])
                say["figures"] = [one for one in getattr(module, "figures", []) if one[1]]
                say["in_words"] = getattr(module, "in_words", False)
                say["listed"] = getattr(module, "listed", True)
                say["open"] = getattr(module, "open", values["links"]["open"])
                say["steps"] = [one for one in getattr(module, "steps", []) if one]
            rows = [self._row(module, item) for item in values["items"]]
        except Exception as error:
            raise self._explain(part, error) from error
        return Said(say, rows)

    def _row(self, module: Any, item: Mapping[str, Any]) -> dict[str, Any]:
        row = {name: _spoken(module, name, item) for name in OF_AN_ITEM}
        if not row["figure"] and item["amount"] is not None:
            row["figure"] = self.money(item["amount"], item["currency"])
        if not row["figure"]:  # the date is what counts then
            row["figure"], row["when"] = row["when"], ""
        return row | {"url": item["url"], "deadline": item["deadline"]}

    def _explain(self, part: str, error: Exception) -> TemplateError:
        if isinstance(error, TemplateNotFound):
            return TemplateError(
                f"{self.tag}/{part}: the template {error.name} isn't there: add it"
            )
        if isinstance(error, TemplateSyntaxError):
            file, line = error.filename or part, error.lineno
        else:
            file, line = self._place(part)
        where = f"{self._short(file)}, line {line}"
        if isinstance(error, UndefinedError):
            variable = _variable(str(error))
            return TemplateError(f"{where}: the variable {variable} is undefined: correct its name")
        return TemplateError(f"{where}: {type(error).__name__}: {error}")

    def _place(self, part: str) -> tuple[str, int]:
        root = str(self.folder.parent.parent)
        # Macros are called past Jinja, which otherwise puts the template's lines for its code's.
        frames = traceback.extract_tb(rewrite_traceback_stack().__traceback__)
        inside = [f for f in frames if f.filename.startswith(root)]
        return (inside[-1].filename, inside[-1].lineno or 0) if inside else (part, 0)

    def _short(self, file: str) -> str:
        try:
            return Path(file).relative_to(self.folder.parent).as_posix()
        except ValueError:
            return Path(file).name

    def _filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "money": self.money,
            "percent": percent,
            "quantity": lambda value: f"{value.normalize():f}",
            "words": lambda amount, currency: amount_in_words(amount, currency, self.tag),
            "masked": masked,
            "cut": cut,
            "day": _zoned(lambda at, zone, _: self.date(at, zone, self.forms.day)),
            "short_day": _zoned(lambda at, zone, _: self.date(at, zone, self.forms.short_day)),
            "instant": _zoned(lambda at, zone, _: self.instant(at, zone)),
            "by": _zoned(lambda at, zone, _: self.deadline(at, zone)),
            "by_short": _zoned(lambda at, zone, _: self.short_deadline(at, zone)),
            "by_day": _zoned(lambda at, zone, _: self.last_day(at, zone, self.forms.day)),
            "by_short_day": _zoned(
                lambda at, zone, _: self.last_day(at, zone, self.forms.short_day)
            ),
            "time_left": _zoned(lambda at, _, now: self.time_left(at, now)),
        }

    def money(self, amount: Decimal, currency: str) -> str:
        """The amount as people write it: ¥128,000.00 in Chinese, CNY 128,000.00 in English."""
        sign = self.forms.currencies.get(currency)
        if sign is None:
            return str(format_currency(amount, currency, locale=self.locale))
        # The minus stands at the digits: before a sign or a code a line may break after it.
        return f"{sign}{amount:,.2f}"

    def date(self, at: datetime, zone: str, pattern: str) -> str:
        """The day of an instant in a named zone."""
        return str(format_datetime(at.astimezone(_zone(zone)), pattern, locale=self.locale))

    def last_day(self, at: datetime, zone: str, pattern: str) -> str:
        """The last day on which something that ends at `at` may still be done."""
        return self.date(at - timedelta(microseconds=1), zone, pattern)

    def instant(self, at: datetime, zone: str) -> str:
        """Day, weekday, time and zone."""
        return self._named(self.date(at, zone, self.forms.moment), at, zone)

    def deadline(self, at: datetime, zone: str) -> str:
        """A deadline, given as the first instant that is too late.

        At midnight the day before is named, at its end: a reader takes "Saturday 00:00" for the
        end of Saturday.
        """
        local = at.astimezone(_zone(zone))
        if (local.hour, local.minute, local.second) != (0, 0, 0):
            return self.instant(at, zone)
        return self._named(self.last_day(at, zone, self.forms.day_end), at, zone)

    def short_deadline(self, at: datetime, zone: str) -> str:
        """A deadline without year and zone, for an SMS."""
        local = at.astimezone(_zone(zone))
        if (local.hour, local.minute, local.second) != (0, 0, 0):
            return self.date(at, zone, self.forms.short_moment)
        return self.last_day(at, zone, self.forms.short_day_end)

    def closing_time(self, at: datetime, zone: str) -> str:
        """HH:mm of a deadline; midnight is the day before's 23:59, as an SMS variable may hold."""
        local = at.astimezone(_zone(zone))
        return "23:59" if (local.hour, local.minute) == (0, 0) else f"{local:%H:%M}"

    def _named(self, moment: str, at: datetime, zone: str) -> str:
        local = at.astimezone(_zone(zone))
        name = self.forms.zones.get(zone) or get_timezone_name(local, locale=self.locale)
        return self.forms.zone.format(moment=moment, zone=name)

    def time_left(self, at: datetime, now: datetime) -> str:
        """In 2 days, 2 天后: whole units, rounded so that it never promises more than there is.

        Days from 48 hours on (24 for what is past), hours from 2 hours on (1), else minutes.
        """
        left = at - now
        size = abs(left)
        unit, name = (_MINUTE, "minute")
        if size >= (2 if left > timedelta(0) else 1) * _DAY:
            unit, name = _DAY, "day"
        elif size >= (2 if left > timedelta(0) else 1) * _HOUR:
            unit, name = _HOUR, "hour"
        whole = (size // unit) * unit * (1 if left >= timedelta(0) else -1)
        text = format_timedelta(
            whole or timedelta(seconds=1),
            granularity=name,  # type: ignore[arg-type]
            threshold=10**9,  # never a coarser unit: "1 week" for 6 days would be late
            add_direction=True,
            locale=self.locale,
        )
        return re.sub(r"(?<=\d)(?=[\u4e00-\u9fff])", " ", text)


@dataclass(frozen=True, slots=True)
class Said:
    """A file of words, spoken: `say` by macro, and `rows`, one an item."""

    say: Mapping[str, Any]
    rows: list[dict[str, Any]]


def _spoken(module: Any, name: str, *arguments: Any) -> Any:
    """What a macro says, in one line; "" where the file has none of that name."""
    macro = getattr(module, name, None)
    if macro is None:
        return ""
    said = macro(*arguments)
    return type(said)(" ".join(said.split()))


def _zoned(write: Callable[[datetime, str, datetime], str]) -> Callable[..., str]:
    @pass_context
    def write_in_context(context: Context, at: datetime) -> str:
        return write(at, context["recipient"]["time_zone"], context["now"])

    return write_in_context


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def masked(number: str) -> str:
    """A phone number of which only its owner knows the rest: 138****1234."""
    digits = number.removeprefix("+86")
    if "*" in digits or len(digits) < 8:
        return digits
    return f"{digits[:-8]}****{digits[-4:]}"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, the last an ellipsis where some are left out."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _variable(text: str) -> str:
    """The name in a message of Jinja: "'x' is undefined", "'dict object' has no attribute 'x'"."""
    names = re.findall(r"'([^']*)'", text)
    return repr(names[-1]) if names else f"({text})"


def _read_forms(file: Path) -> Forms:
    if not file.is_file():
        return Forms()
    try:
        return Forms(**tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, TypeError, UnicodeDecodeError) as error:
        raise TemplateError(f"{file.parent.name}/{file.name}: {error}") from None
