"""Figures as an XLSX workbook: an overview, and for each chart a sheet with table and native chart.

The charts are the spreadsheet's own, over the cells beside them, so that people can filter, restyle
and copy them. Text is written as text whatever it begins with (CWE-1236). The same figures give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import xlsxwriter
from xlsxwriter.utility import xl_rowcol_to_cell

from schedules.figures import Chart, Figures, Number, Series
from workers.render.figures import Speaker
from workers.render.xlsx import TEXT_STAYS_TEXT

_INK, _SOFT, _PALE, _RULE = "#1F2A37", "#5B6773", "#EEF2F6", "#D5DCE4"
_PARTS = ("#1F5FAE", "#E3A02A", "#C3CCD6")
_COUNT, _MONEY, _DAYS, _SHARE = "#,##0", "#,##0.00", "0.0", "0%"
_HEADER = 3
"""The row of a table's headings, from 0: title, note and a blank row stand above."""
_CHART_WIDTH = 600
_ROW_PIXELS = 24
_MAX_SHEET_NAME = 31


def figures_xlsx(figures: Figures, tag: str, titles: Mapping[str, str]) -> bytes:
    """The workbook in the language `tag`; `titles` is what kinds are called in it."""
    buffer = BytesIO()
    with xlsxwriter.Workbook(buffer, TEXT_STAYS_TEXT) as workbook:
        book = _Book(workbook, Speaker(figures, tag, titles))
        book.overview()
        for chart in figures.charts:
            if not chart.empty:
                _Table(book, chart).write()
    return buffer.getvalue()


class _Book:
    """Writes the sheets; formats are made once."""

    def __init__(self, workbook: Any, speak: Speaker) -> None:
        self.workbook = workbook
        self.speak = speak
        self.words = speak.words
        self._formats: dict[str, Any] = {}
        month = speak.figures.month
        self.title = speak.kind(speak.figures.name)
        made = datetime(int(month[:4]), int(month[5:]), 1)  # noqa: DTZ001  a property without zone
        workbook.set_properties(
            {"title": f"{self.title} {month}", "author": speak.figures.owner, "created": made}
        )

    def style(self, **wanted: Any) -> Any:
        """A cell format."""
        key = repr(sorted(wanted.items()))
        if key not in self._formats:
            base = {"font_name": self.words["font"], "font_size": 10, "font_color": _INK}
            self._formats[key] = self.workbook.add_format(base | {"valign": "vcenter"} | wanted)
        return self._formats[key]

    def sheet(self, name: str, title: str, note: str, widths: Sequence[int]) -> Any:
        """A sheet with title and note, ready for a table below."""
        sheet = self.workbook.add_worksheet(name[:_MAX_SHEET_NAME])
        for column, width in enumerate(widths):
            sheet.set_column(column, column, width)
        sheet.hide_gridlines(2)
        sheet.set_landscape()
        sheet.set_paper(9)  # A4
        sheet.fit_to_pages(1, 0)
        sheet.set_row(0, 26)
        sheet.write_string(0, 0, title, self.style(bold=True, font_size=15))
        sheet.write_string(1, 0, note, self.style(font_color=_SOFT))
        return sheet

    def overview(self) -> None:
        """Whose figures of which month, and each single figure."""
        figures, speak = self.speak.figures, self.speak
        month = speak.month(figures.month)
        heading = f"{self.title}  {month}"
        sheet = self.sheet(self.words.of("sheets", "overview"), heading, figures.owner, (44, 22))
        heads = [(self.words.of("axes", name), name == "value") for name in ("figure", "value")]
        self.heading_row(sheet, heads)
        for row, total in enumerate(figures.totals, _HEADER + 1):
            name = speak.total(total.name)
            if total.currency:
                name = f"{name} ({total.currency})"
            sheet.write_string(row, 0, name, self.cell())
            form = _MONEY if total.currency else _COUNT
            sheet.write_number(row, 1, float(total.value), self.cell(num_format=form))
            sheet.set_row_pixels(row, _ROW_PIXELS)

    def heading_row(self, sheet: Any, names: Sequence[tuple[str, bool]]) -> None:
        """The headings of a table; numbers' are set to the right."""
        for column, (name, right) in enumerate(names):
            look = self.style(
                bold=True,
                bg_color=_PALE,
                bottom=1,
                bottom_color=_SOFT,
                align="right" if right else "left",
                text_wrap=True,
            )
            sheet.write_string(_HEADER, column, name, look)
        sheet.set_row_pixels(_HEADER, 38)
        sheet.freeze_panes(_HEADER + 1, 0)

    def cell(self, **more: Any) -> Any:
        """A table cell's look."""
        return self.style(bottom=1, bottom_color=_RULE, **more)


class _Table:
    """One chart's sheet."""

    def __init__(self, book: _Book, chart: Chart) -> None:
        self.book, self.chart, self.speak = book, chart, book.speak
        self.stages = chart.axis == "stage"
        self.heads = 2 if self.stages else 1
        widths = [24, 12] if self.stages else [20]
        self.columns = [*chart.series, *chart.extra]
        if self.stages:
            self.columns = [Series("told", _sums(chart)), *self.columns]
        widths += [11 if self.stages else 15] * (len(self.columns) + self.stages)
        name = book.words.of("sheets", chart.name, currency=chart.currency)
        self.sheet = book.sheet(name, self.speak.title(chart), self.speak.note(chart), widths)
        self.name = name[:_MAX_SHEET_NAME]
        self._labels = self.heads + len(self.columns) + 2 if self.stages else 0
        self.first = _HEADER + 1
        self.last = _HEADER + len(chart.categories)

    def write(self) -> None:
        """Headings, rows and the chart beside or below them."""
        axes = ("kind", "stage") if self.stages else (self.chart.axis,)
        heads = [(self.book.words.of("axes", axis), False) for axis in axes]
        heads += [(self.speak.series(one.name), True) for one in self.columns]
        if self.stages:
            heads.append((self.speak.series("rate"), True))
        self.book.heading_row(self.sheet, heads)
        for index, category in enumerate(self.chart.categories):
            self._row(self.first + index, index, category)
        self.sheet.autofilter(_HEADER, 0, self.last, len(heads) - 1)
        self._chart(len(heads))

    def _row(self, row: int, index: int, category: str) -> None:
        sheet, look = self.sheet, self.book.cell()
        sheet.set_row_pixels(row, _ROW_PIXELS)
        if self.stages:
            kind, _, stage = category.partition("|")
            sheet.write_string(row, 0, self.speak.kind(kind), look)
            sheet.write_string(row, 1, self.speak.stage(stage), look)
        else:
            sheet.write_string(row, 0, self.speak.category(self.chart, category), look)
        for column, series in enumerate(self.columns, self.heads):
            self._number(row, column, series.values[index], self._form(series))
        if self.stages:
            told, closed = (xl_rowcol_to_cell(row, self.heads + n) for n in (0, 1))
            share = self.book.cell(num_format=_SHARE)
            values = [Decimal(self.columns[n].values[index] or 0) for n in (0, 1)]
            rate = float(values[1] / values[0]) if values[0] else 0.0
            formula = f"=IF({told}=0,0,{closed}/{told})"
            sheet.write_formula(row, self.heads + len(self.columns), formula, share, rate)
            # The chart's labels in one cell each, under the chart: filters hide a row's bar too.
            label = self.speak.category(self.chart, category)
            sheet.write_string(row, self._labels, label, self.book.style(font_color=_SOFT))

    def _form(self, series: Series) -> str:
        if series.name == "median_days":
            return _DAYS
        return _MONEY if self.chart.currency else _COUNT

    def _number(self, row: int, column: int, value: Number | None, form: str) -> None:
        look = self.book.cell(num_format=form)
        if value is None:
            self.sheet.write_blank(row, column, None, look)
        else:
            self.sheet.write_number(row, column, float(value), look)

    def _chart(self, width: int) -> None:
        form = self.chart.form
        kind: dict[str, str] = {"type": "column" if form in {"columns", "stacked"} else "bar"}
        if form in {"stacked", "outcomes"}:
            kind["subtype"] = "stacked"
        drawn = self.book.workbook.add_chart(kind)
        skip = self.heads + self.stages  # "reminded" is the sum of the parts that are drawn
        for number, _ in enumerate(self.chart.series):
            drawn.add_series(self._series(skip + number, number))
        self._axes(drawn)
        several = len(self.chart.series) > 1
        drawn.set_legend({"position": "top", "font": self._font()} if several else {"none": True})
        drawn.set_title({"none": True})
        drawn.set_chartarea({"border": {"none": True}})
        rows = len(self.chart.categories)
        tall = max(200, 30 * rows + 80) if kind["type"] == "bar" else 320
        drawn.set_size({"width": _CHART_WIDTH, "height": tall})
        self.sheet.insert_chart(
            _HEADER, width + 1, drawn, {"description": self.speak.title(self.chart)}
        )

    def _series(self, column: int, number: int) -> dict[str, Any]:
        names = [self.name, self.first, self._labels, self.last, self._labels]
        values = [self.name, self.first, column, self.last, column]
        found: dict[str, Any] = {
            "name": [self.name, _HEADER, column],
            "categories": names,
            "values": values,
            "fill": {"color": _PARTS[number % len(_PARTS)]},
            "gap": 45,
            "overlap": 100 if self.chart.form in {"stacked", "outcomes"} else 0,
        }
        if self.chart.form in {"columns", "bars"}:
            found["data_labels"] = {"value": True, "num_format": _COUNT, "font": self._font()}
        return found

    def _axes(self, drawn: Any) -> None:
        upright = self.chart.form in {"columns", "stacked"}
        quiet: dict[str, Any] = {
            "num_font": self._font(),
            "line": {"color": _SOFT},
            "major_tick_mark": "none",
        }
        plain = self.chart.form in {"columns", "bars"}
        numbers: dict[str, Any] = {
            "num_font": self._font(),
            "num_format": _COUNT,
            "line": {"none": True},
            "major_tick_mark": "none",
            "major_gridlines": {"visible": not plain, "line": {"color": _RULE, "width": 0.75}},
            "visible": not plain,
            "min": 0,
        }
        if self.stages and max(_sums(self.chart)) < 10:
            numbers["major_unit"] = 1
        if not upright:
            quiet["reverse"] = True  # the first row of the table on top
            numbers["label_position"] = "high"
        # XlsxWriter names a bar chart's axes by where they are, not by what they mean
        drawn.set_x_axis(quiet if upright else numbers)
        drawn.set_y_axis(numbers if upright else quiet)

    def _font(self) -> dict[str, Any]:
        return {"name": self.book.words["font"], "size": 9, "color": _INK}


def _sums(chart: Chart) -> tuple[Decimal, ...]:
    parts = zip(*(one.values for one in chart.series), strict=True)
    return tuple(sum((Decimal(value or 0) for value in part), Decimal(0)) for part in parts)
