"""Figures in words: what a chart's title, labels, values and alternative text are in a language.

Words stand in `templates/documents/figures/<tag>.toml`; a language without a file gets the one of
its primary tag, then English, and a word that a file lacks is English too. Nothing is drawn until
a picture's bytes are asked for.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from schedules.figures import Chart, Figures, Number
from workers.errors import TemplateError
from workers.render.charts import WIDTH, Bar, Drawing, chart_png, height
from workers.render.mail import Inline

FOLDER = Path(__file__).resolve().parents[2] / "templates" / "documents" / "figures"
FALLBACK = "en"
MAX_ROWS = 16
"""Stages drawn in one picture: whole ladders of the kinds with the most reminders."""
MAX_COLUMNS = 14
"""Columns drawn in one picture, the latest."""
_BLANK = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_SIGNS = {"CNY": "¥", "USD": "US$", "HKD": "HK$", "EUR": "€", "GBP": "£"}


class Words:
    """The words of one language. A word that isn't there is the key itself."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self._tables = tables

    def __getitem__(self, key: str) -> str:
        return str(self._tables.get(key, key))

    def of(self, table: str, key: str, **values: object) -> str:
        """A word of a table, with its places filled."""
        word = self._tables.get(table, {}).get(key)
        return key if word is None else str(word).format(**values)

    def month(self, number: int) -> str:
        """The short name of a month from 1."""
        return str(self._tables["months"][number - 1])


@lru_cache(maxsize=32)
def figure_words(tag: str) -> Words:
    """The words for a BCP 47 tag. Raises TemplateError naming a file that can't be read."""
    names = {path.stem.lower(): path for path in sorted(FOLDER.glob("*.toml"))}
    primary = tag.lower().partition("-")[0]
    kin = (path for name, path in names.items() if name.partition("-")[0] == primary)
    nearest = names.get(tag.lower()) or next(kin, names[FALLBACK])
    complete, own = _read(names[FALLBACK]), _read(nearest)
    for key, word in own.items():
        if isinstance(word, dict) and isinstance(complete.get(key), dict):
            complete[key] |= word
        else:
            complete[key] = word
    return Words(complete)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TemplateError(f"documents/figures/{path.name} can't be read: {error}") from None


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart in one language: CSS pixels `width` x `height`, drawn when it is asked for.

    `key` is the chart's name, and its currency's where it has one (`spend-CNY`), for file names.
    `rows` are its numbers for readers without pictures: (label, written).
    """

    key: str
    title: str
    note: str
    alt: str
    rows: tuple[tuple[str, str], ...]
    drawing: Drawing

    @property
    def width(self) -> int:
        """CSS pixels at which it is meant to be shown."""
        return WIDTH * 6 // 5

    @property
    def height(self) -> int:
        """CSS pixels, in proportion."""
        return height(self.drawing) * 6 // 5

    def cid(self, *, dark: bool = False) -> str:
        """Its Content-ID without brackets (RFC 2392): the same for the same content."""
        mark = hashlib.sha256(f"{self.key}{self.drawing}".encode()).hexdigest()[:20]
        return f"{mark}-{'dark' if dark else 'light'}@charts.duewatch"

    def png(self, *, dark: bool = False) -> bytes:
        """The picture's bytes."""
        return chart_png(self.drawing, dark=dark)


def pictures(figures: Figures, tag: str, titles: Mapping[str, str]) -> tuple[Picture, ...]:
    """A picture of each chart. `titles` is what kinds are called in the language."""
    speak = Speaker(figures, tag, titles)
    return tuple(speak.picture(chart) for chart in figures.charts if not chart.empty)


def chart_values(found: Sequence[Picture]) -> list[dict[str, Any]]:
    """Plain values for a template: title, note, alt, rows, size, and the sources light and dark."""
    return [
        {
            "name": one.key,
            "title": one.title,
            "note": one.note,
            "alt": one.alt,
            "rows": [{"label": label, "written": written} for label, written in one.rows],
            "width": one.width,
            "height": one.height,
            "light": f"cid:{one.cid()}",
            "dark": f"cid:{one.cid(dark=True)}",
        }
        for one in found
    ]


def inline_images(found: Sequence[Picture]) -> tuple[Inline, ...]:
    """The pictures as parts of a mail, light and dark."""
    unique = {one.cid(dark=dark): one.png(dark=dark) for one in found for dark in (False, True)}
    return tuple(Inline(cid, "image/png", content) for cid, content in unique.items())


def embedded(html: str, found: Sequence[Picture]) -> str:
    """The page with the pictures in it, as data: URIs (RFC 2397)."""
    for one in found:
        for dark in (False, True):
            if (source := f"cid:{one.cid(dark=dark)}") in html:
                data = base64.b64encode(one.png(dark=dark)).decode()
                html = html.replace(source, f"data:image/png;base64,{data}")
    return html


def figures_file_name(figures: Figures, tag: str) -> str:
    """What the workbook is called; characters of paths become "-"."""
    name = figure_words(tag).of("files", figures.name, owner=figures.owner_ref, month=figures.month)
    return f"{_BLANK.sub('-', name)}.xlsx"


class Speaker:
    """Words figures in one language."""

    def __init__(self, figures: Figures, tag: str, titles: Mapping[str, str]) -> None:
        self.words = figure_words(tag)
        self.figures = figures
        self._titles = titles
        self.chinese = tag.lower().startswith("zh")

    def title(self, chart: Chart) -> str:
        """The chart's headline."""
        return self.words.of("titles", chart.name, currency=chart.currency)

    def note(self, chart: Chart) -> str:
        """What the numbers mean."""
        return self.words.of("notes", chart.name, days=self.figures.within_days)

    def series(self, name: str) -> str:
        """What a row of numbers is called."""
        return self.words.of("series", name, days=self.figures.within_days)

    def total(self, name: str) -> str:
        """What a single figure is called."""
        return self.words.of("totals", name, days=self.figures.within_days)

    def kind(self, kind: str) -> str:
        """What a rule is called."""
        return self._titles.get(kind, kind)

    def stage(self, stage: str) -> str:
        """What a stage is called: a name like T-5 is the same in every language."""
        return self.words.of("stages", stage)

    def month(self, month: str) -> str:
        """A month written out: `2026年10月`, `Oct 2026`."""
        return self.words["month"].format(year=month[:4], name=self.words.month(int(month[5:])))

    def category(self, chart: Chart, category: str) -> str:
        """A category in one line, for tables and alternative texts."""
        if chart.axis == "month":
            return self.month(category)
        if chart.axis == "word":
            return self.words.of("words", category)
        if chart.axis == "stage":
            kind, _, stage = category.partition("|")
            return self.words["stage"].format(title=self.kind(kind), stage=self.stage(stage))
        if len(category) > 4:
            return f"{self._year(category)} {self._year_below(category)}"
        return self._year(category)

    def number(self, value: Number | None, currency: str = "") -> str:
        """Thousands in groups; money to the whole unit, with its sign."""
        if value is None:
            return ""
        whole = Decimal(value).quantize(Decimal(1), ROUND_HALF_UP)
        if not currency:
            return f"{whole:,}"
        sign = _SIGNS.get(currency) if self.chinese or currency != "CNY" else None
        sign = sign or f"{currency} "
        return f"-{sign}{-whole:,}" if whole < 0 else f"{sign}{whole:,}"

    def picture(self, chart: Chart) -> Picture:
        """The chart, ready to be drawn."""
        drawn = _latest(chart) if chart.axis in {"year", "month"} else chart
        if chart.form == "stacked":
            drawn = replace(drawn, series=tuple(one for one in drawn.series if any(one.values)))
        note = self.note(chart)
        if chart.form == "outcomes":
            drawn = _most_told(chart)
            left_out = len(chart.categories) - len(drawn.categories)
            if left_out:
                key = "more_stage" if left_out == 1 else "more_stages"
                gap = "" if self.chinese else " "
                note = f"{note}{gap}{self.words[key].format(count=left_out)}"
        bars = tuple(self._bars(drawn))
        keys = tuple(self.series(one.name) for one in drawn.series)
        drawing = Drawing(drawn.form, bars, keys, tuple(self._ticks(drawn)))
        rows = tuple(self._rows(drawn, bars))
        name = f"{chart.name}-{chart.currency}" if chart.currency else chart.name
        return Picture(name, self.title(chart), note, self._alt(drawn, rows), rows, drawing)

    def _rows(self, chart: Chart, bars: Sequence[Bar]) -> Iterator[tuple[str, str]]:
        for category, bar in zip(chart.categories, bars, strict=True):
            written = bar.written[0]
            if chart.form == "stacked":
                pair = self.words["alt_pair"].format
                written = self.words["separator"].join(
                    pair(label=self.series(one.name), written=words)
                    for one, words in zip(chart.series, bar.written, strict=True)
                )
            yield self.category(chart, category), written

    def _alt(self, chart: Chart, rows: Sequence[tuple[str, str]]) -> str:
        pair = self.words["alt_pair"].format
        told = [pair(label=rows[n][0], written=rows[n][1]) for n in _told_of(chart)]
        values = self.words["alt_separator"].join(told)
        return self.words["alt"].format(title=self.title(chart), values=values)

    def _bars(self, chart: Chart) -> Iterator[Bar]:
        last = len(chart.categories) - 1
        whole = sum(Decimal(value or 0) for value in chart.series[0].values)
        for index, category in enumerate(chart.categories):
            values = [one.values[index] or 0 for one in chart.series]
            written = tuple(self.number(value, chart.currency) for value in values)
            group, label, below = "", self.category(chart, category), ""
            if chart.form == "bars":
                percent = self._percent(Decimal(values[0]), whole)
                written = (self.words["share"].format(written=written[0], percent=percent),)
            elif chart.form == "outcomes":
                kind, _, stage = category.partition("|")
                group, label = self.kind(kind), self.stage(stage)
                told = self.number(sum(values))
                written = (self.words["outcome"].format(closed=written[0], told=told),)
            elif chart.axis == "year":
                label = self._year(category)
                below = self._year_below(category) if len(category) > 4 else ""
            elif chart.axis == "month":
                label, below = self._month_labels(chart, index)
            numbers = tuple(float(value) for value in values)
            faint = chart.form == "columns" and index != last
            yield Bar(label, numbers, written, group, below, faint)

    def _percent(self, part: Decimal, whole: Decimal | int) -> str:
        share = part * 100 / whole if whole else Decimal(0)
        return "<1" if 0 < share < Decimal("0.5") else self.number(share)

    def _month_labels(self, chart: Chart, index: int) -> tuple[str, str]:
        """A column's month, and its year where one begins; narrow columns name every other."""
        month, last = chart.categories[index], len(chart.categories) - 1
        name = self.words.month(int(month[5:]))
        if chart.form == "stacked" and len(chart.categories) > 7 and (last - index) % 2:
            name = ""
        begins = month[5:] == "01" or index == 0
        if index == 0 and any(one[5:] == "01" for one in chart.categories[1:3]):
            begins = False  # two years would stand in one another
        return name, self.words["month_below"].format(year=month[:4]) if begins else ""

    def _year(self, period: str) -> str:
        key = "year_unfinished" if len(period) > 4 else "year"
        return self.words[key].format(year=period[:4])

    def _year_below(self, period: str) -> str:
        return self.words["year_unfinished_below"].format(name=self.words.month(int(period[5:])))

    def _ticks(self, chart: Chart) -> Iterator[tuple[float, str]]:
        if chart.form != "stacked":
            return
        values = [one.values for one in chart.series]
        most = max(float(sum(Decimal(v or 0) for v in bar)) for bar in zip(*values, strict=True))
        step = _step(most)
        for count in range(1, int(most // step) + 1):
            yield count * step, self.number(Decimal(count * step))


def _told_of(chart: Chart) -> list[int]:
    """What an alternative text names: all, or of many months the ends, the lowest and highest."""
    count = len(chart.categories)
    if chart.axis != "month" or count <= 6:
        return list(range(count))
    first = [Decimal(value or 0) for value in chart.series[0].values]
    return sorted({0, first.index(min(first)), first.index(max(first)), count - 1})


def _step(most: float) -> float:
    """A round distance of two to four lines."""
    size = 10.0 ** math.floor(math.log10(max(most, 1)))
    for part in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0):
        if most / (size * part) < 4.5:
            return size * part
    return size


def _latest(chart: Chart) -> Chart:
    return _only(chart, range(len(chart.categories))[-MAX_COLUMNS:])


def _most_told(chart: Chart) -> Chart:
    """The ladders of the kinds with the most records, as many as fit, in their order."""
    told: dict[str, Decimal] = {}
    rows: dict[str, list[int]] = {}
    for index, category in enumerate(chart.categories):
        kind = category.partition("|")[0]
        count = sum(Decimal(one.values[index] or 0) for one in chart.series)
        told[kind] = told.get(kind, Decimal(0)) + count
        rows.setdefault(kind, []).append(index)
    chosen: list[int] = []
    for kind in sorted(told, key=lambda kind: -told[kind]):
        if not chosen or len(chosen) + len(rows[kind]) <= MAX_ROWS:
            chosen += rows[kind][: MAX_ROWS - len(chosen)]
    return _only(chart, sorted(chosen))


def _only(chart: Chart, indexes: Sequence[int]) -> Chart:
    def series(rows: Any) -> Any:
        return tuple(type(one)(one.name, tuple(one.values[i] for i in indexes)) for one in rows)

    return Chart(
        chart.name,
        chart.form,
        chart.axis,
        tuple(chart.categories[i] for i in indexes),
        series(chart.series),
        chart.currency,
        series(chart.extra),
    )
