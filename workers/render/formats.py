"""How the console writes numbers, money, times and lengths of time, in a reader's language.

Instants are shown in one zone, with UTC in the tooltip; each is a <time> that programs can read.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from babel.core import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import format_currency, format_decimal, format_percent
from markupsafe import Markup

from workers.render.catalogue import Catalogue

_AFTER_DIGIT = re.compile(r"(?<=\d)(?=[\u4e00-\u9fff])")


def N_(text: str) -> str:
    """Marks a text that is to be in the catalogues."""
    return text


MOMENT = N_("d MMM y, HH:mm")
DAY = N_("EEE d MMM y")
SHORT_DAY = N_("d MMM")
MONTH = N_("MMMM y")


class Formats:
    """The formats of one language in one zone; the patterns are texts of the catalogue."""

    def __init__(self, catalogue: Catalogue, zone: ZoneInfo) -> None:
        self._say = catalogue.gettext
        self._locale = Locale.parse(catalogue.language, sep="-")
        self._zone = zone

    @property
    def own_name(self) -> str:
        """What the language calls itself."""
        name = self._locale.get_language_name() or str(self._locale)
        return name[0].upper() + name[1:]

    def number(self, value: int | float | Decimal) -> str:
        """12,345."""
        return str(format_decimal(value, locale=self._locale))

    def share(self, value: float) -> str:
        """12 % of 0.12."""
        return str(format_percent(value, locale=self._locale))

    def money(self, amount: Decimal | str, currency: str) -> str:
        """¥1,234.50."""
        return str(format_currency(Decimal(amount), currency, locale=self._locale))

    def size(self, octets: int) -> str:
        """Bytes as a person counts them."""
        for unit, most in (("B", 1_000), ("kB", 1_000_000)):
            if octets < most:
                return f"{self.number(octets if unit == 'B' else round(octets / 1_000))} {unit}"
        return f"{self.number(round(octets / 1_000_000, 1))} MB"

    def day(self, value: date | datetime) -> str:
        """A day with its weekday; an instant's in the zone."""
        return self._date(value, DAY)

    def short_day(self, value: date | datetime) -> str:
        """A day without its year."""
        return self._date(value, SHORT_DAY)

    def month(self, value: date | datetime) -> str:
        """A month with its year."""
        return self._date(value, MONTH)

    def weekday(self, value: date | datetime) -> str:
        """A weekday in short."""
        return self._date(value, "EEE")

    def clock(self, at: datetime) -> Markup:
        """The time of the day."""
        return self._time(at, str(self._written(at, "HH:mm")))

    def moment(self, at: datetime | None) -> Markup | str:
        """Day and time; a dash for none."""
        if at is None:
            return "–"
        return self._time(at, self._written(at, self._say(MOMENT)))

    def plain(self, at: datetime) -> str:
        """Day and time as text, for sentences."""
        return self._written(at, self._say(MOMENT))

    def ago(self, at: datetime | None, now: datetime) -> Markup | str:
        """How long ago, or in how long, with the moment in the tooltip; a dash for none."""
        if at is None:
            return "–"
        text = self._span(at - now, direction=True)
        return self._time(at, text, self._written(at, self._say(MOMENT)))

    def span(self, seconds: float | timedelta) -> str:
        """A length of time."""
        length = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        return self._span(length, direction=False)

    def _span(self, length: timedelta, *, direction: bool) -> str:
        text = format_timedelta(length, add_direction=direction, locale=self._locale)
        return _AFTER_DIGIT.sub(" ", str(text))

    def _date(self, value: date | datetime, pattern: str) -> str:
        if isinstance(value, datetime):
            value = value.astimezone(self._zone).date()
        return str(format_date(value, self._say(pattern), locale=self._locale))

    def _written(self, at: datetime, pattern: str) -> str:
        return str(format_datetime(at.astimezone(self._zone), pattern, locale=self._locale))

    @staticmethod
    def _time(at: datetime, text: str, more: str = "") -> Markup:
        utc = at.astimezone(UTC)
        title = f"{more} · {utc:%Y-%m-%d %H:%M:%S} UTC" if more else f"{utc:%Y-%m-%d %H:%M:%S} UTC"
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            f"{utc:%Y-%m-%dT%H:%M:%SZ}", title, text
        )
