"""Charts as pictures for a mail: PNG at 2.4 pixels a point, light and dark, the same bytes always.

matplotlib (Agg) is used as a canvas: every bar and word is placed here, so that a chart reads well
at a mail's width and at a phone's, where it is shown at two thirds of its size. Values stand at
the bars; there are no axes to read them from, but for amounts over months. Colours are blue and
amber, which people with any form of colour blindness tell apart, and differ in lightness too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = Path(__file__).resolve().parents[2] / "templates" / "fonts"
WIDTH = 480
"""Points across; a mail shows the picture at up to 576 CSS pixels, a phone at about 320."""
PIXELS = 2.4
"""Pixels a point, so that 576 CSS pixels are sharp on a screen of double density."""
_MISSING = "□"
_drawing = Lock()


@dataclass(frozen=True, slots=True)
class Bar:
    """One category: its label (`below` stands under it), and a value for each key as shown.

    `group` is the headline of the rows that have it in common. `faint` is what isn't in the focus.
    """

    label: str
    values: tuple[float, ...]
    written: tuple[str, ...]
    group: str = ""
    below: str = ""
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart in words and numbers, ready to be drawn. `keys` name a bar's parts.

    `form` is as in `schedules.figures.Chart`; `ticks` are the heights at which an amount is
    written beside the columns.
    """

    form: str
    bars: tuple[Bar, ...]
    keys: tuple[str, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Look:
    back: str
    ink: str
    soft: str
    edge: str
    parts: tuple[str, str, str]
    faint: str


_LIGHT = _Look(
    "#ffffff", "#1d2733", "#5a6675", "#dbe2ea", ("#1f5fae", "#e3a02a", "#c3ccd6"), "#a9c4e4"
)
_DARK = _Look(
    "#1a212a", "#e7ecf2", "#a5b1bf", "#36424f", ("#6aa9f0", "#d9982b", "#4d5a68"), "#35587f"
)
_ROW, _HEAD, _KEYS = 27, 30, 30
_COLUMNS_HEIGHT = {"columns": 210, "stacked": 250}
_TEXT, _SMALL = 14.5, 13.5


def height(drawing: Drawing) -> int:
    """Points from top to bottom; nothing is drawn for it."""
    if drawing.form in _COLUMNS_HEIGHT:
        return _COLUMNS_HEIGHT[drawing.form]
    if drawing.form == "bars":
        return 46 * len(drawing.bars) + 6
    heads = len({bar.group for bar in drawing.bars})
    return _KEYS + _ROW * len(drawing.bars) + _HEAD * heads + 6


@lru_cache(maxsize=64)
def chart_png(drawing: Drawing, *, dark: bool = False) -> bytes:
    """The picture. About 0.1 s each; the first of a process takes a second longer."""
    with _drawing:
        canvas = _Canvas(height(drawing), _DARK if dark else _LIGHT)
        {
            "columns": _columns,
            "stacked": _stacked,
            "bars": _bars,
            "outcomes": _outcomes,
        }[drawing.form](canvas, drawing)
        return canvas.png()


class _Canvas:
    """Points from the top left, y downwards."""

    def __init__(self, height: int, look: _Look) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.look = look
        self.figure: Figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72 * PIXELS)
        self._agg: Any = FigureCanvasAgg(self.figure)  # half of it has no types
        self.figure.set_facecolor(look.back)
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, WIDTH)
        self._axes.set_ylim(height, 0)
        self._axes.set_axis_off()

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        color: str = "",
        size: float = _TEXT,
        bold: bool = False,
        align: str = "left",
    ) -> None:
        """One line whose middle is at `y`; what is centred is moved in from the edges."""
        if align == "center":
            half = self.width(words, size, bold) / 2 + 1
            x = min(max(x, half), WIDTH - half)
        self._axes.text(
            x,
            y,
            _drawable(words, bold),
            color=color or self.look.ink,
            fontproperties=_font(bold),
            fontsize=size,
            ha=align,
            va="center_baseline",
            parse_math=False,
        )

    def width(self, words: str, size: float = _TEXT, bold: bool = False) -> float:
        """Points that one line takes."""
        face = _face(bold)
        face.set_size(size, 72)
        face.set_text(_drawable(words, bold), 0.0)
        return float(face.get_width_height()[0]) / 64

    def fitted(self, words: str, room: float, size: float = _TEXT, bold: bool = False) -> str:
        """The words, or as many characters of them as there is room for."""
        if self.width(words, size, bold) <= room:
            return words
        while words and self.width(f"{words}…", size, bold) > room:
            words = words[:-1]
        return f"{words.rstrip()}…"

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """A filled rectangle."""
        from matplotlib.patches import Rectangle

        self._axes.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))

    def line(self, x: float, y: float, width: float, color: str = "") -> None:
        """A thin level line."""
        self.box(x, y - 0.5, width, 1, color or self.look.edge)

    def png(self) -> bytes:
        """The finished picture in at most 32 colours: flat bars and words need no more."""
        from PIL import Image

        self._agg.draw()
        size = self._agg.get_width_height(physical=True)
        drawn = Image.frombuffer("RGBA", size, bytes(self._agg.buffer_rgba())).convert("RGB")
        buffer = BytesIO()
        drawn.quantize(32, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


@lru_cache(maxsize=2)
def _font(bold: bool) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_font_file(bold))


@lru_cache(maxsize=2)
def _face(bold: bool) -> Any:
    from matplotlib.ft2font import FT2Font

    return FT2Font(_font_file(bold))


def _font_file(bold: bool) -> Path:
    return FONTS / f"NotoSansSC-{'Bold' if bold else 'Regular'}.ttf"


def _drawable(words: str, bold: bool) -> str:
    """The words, with an empty box for what the font hasn't."""
    known = _letters(bold)
    plain = "".join(c for c in words if unicodedata.category(c)[0] != "C")
    return "".join(c if ord(c) in known else _MISSING for c in plain)


@lru_cache(maxsize=2)
def _letters(bold: bool) -> frozenset[int]:
    return frozenset(_face(bold).get_charmap())


def _columns(canvas: _Canvas, drawing: Drawing) -> None:
    """Upright bars with their values on them."""
    look, base = canvas.look, height(drawing) - 44
    slot = min(WIDTH / max(1, len(drawing.bars)), 110)
    left = (WIDTH - slot * len(drawing.bars)) / 2
    most = max(bar.values[0] for bar in drawing.bars) or 1
    size_of_values = _fitting(canvas, [bar.written[0] for bar in drawing.bars], slot - 3)
    for number, bar in enumerate(drawing.bars):
        middle = left + slot * (number + 0.5)
        size = (base - 30) * bar.values[0] / most
        canvas.box(middle - slot * 0.34, base - size, slot * 0.68, size, _shade(look, bar.faint))
        if size_of_values or number in {0, len(drawing.bars) - 1}:
            y, bold = base - size - 12, not bar.faint
            canvas.text(
                middle, y, bar.written[0], size=size_of_values or _TEXT, bold=bold, align="center"
            )
        _under(canvas, bar, middle, base, slot)
    canvas.line(0, base, WIDTH)


def _fitting(canvas: _Canvas, values: Sequence[str], room: float) -> float:
    """The size of writing at which every value has room over its column, or 0."""
    for size in (_TEXT, _SMALL, _SMALL - 1.5):
        if max(canvas.width(words, size, bold=True) for words in values) <= room:
            return size
    return 0


def _shade(look: _Look, faint: bool) -> str:
    return look.faint if faint else look.parts[0]


def _under(canvas: _Canvas, bar: Bar, middle: float, base: float, slot: float) -> None:
    """A column's label, and the year beneath where it begins."""
    if bar.label:
        color = canvas.look.soft if bar.faint else canvas.look.ink
        canvas.text(middle, base + 15, bar.label, size=_SMALL, color=color, align="center")
    if bar.below:
        canvas.text(
            middle, base + 33, bar.below, size=_SMALL, color=canvas.look.soft, align="center"
        )


def _stacked(canvas: _Canvas, drawing: Drawing) -> None:
    """Columns of several parts; the last one's parts are named and written beside it."""
    look, base = canvas.look, height(drawing) - 44
    last = drawing.bars[-1]
    names = [*drawing.keys, *last.written]
    right = max(canvas.width(words, bold=True) for words in names) + 17
    axis = max((canvas.width(words, _SMALL) for _, words in drawing.ticks), default=0) + 8
    room = WIDTH - right - axis
    most = max([sum(bar.values) for bar in drawing.bars] + [at for at, _ in drawing.ticks]) or 1
    scale = (base - 16) / most
    for at, words in drawing.ticks:
        canvas.line(axis, base - at * scale, room)
        canvas.text(axis - 8, base - at * scale, words, size=_SMALL, color=look.soft, align="right")
    slot = min(room / len(drawing.bars), 60)
    left = axis + room - slot * len(drawing.bars)
    for number, bar in enumerate(drawing.bars):
        middle, top = left + slot * (number + 0.5), float(base)
        for value, color in zip(bar.values, look.parts, strict=False):
            top -= value * scale
            canvas.box(middle - slot * 0.36, top, slot * 0.72, value * scale, color)
        _under(canvas, bar, middle, base, slot)
    canvas.line(axis, base, room, look.soft)
    _beside(canvas, drawing, base, scale, axis + room + 6)


def _beside(canvas: _Canvas, drawing: Drawing, base: float, scale: float, x: float) -> None:
    """The last column's parts at their heights, moved apart where they would touch."""
    last, look, under = drawing.bars[-1], canvas.look, 0.0
    places: list[float] = []
    for value in last.values:
        places.append(base - (under + value / 2) * scale)
        under += value
    lowest = float(base - 18)
    for number, at in enumerate(places):
        places[number] = lowest = min(at, lowest if number == 0 else lowest - 42)
    drop = max(0.0, 18 - places[-1])
    for at, name, words, color in zip(places, drawing.keys, last.written, look.parts, strict=False):
        canvas.box(x, at + drop - 18, 3, 36, color)
        canvas.text(x + 8, at + drop - 9, name, size=_SMALL, color=look.soft)
        canvas.text(x + 8, at + drop + 9, words, bold=True)


def _bars(canvas: _Canvas, drawing: Drawing) -> None:
    """Lying bars as parts of the whole, each under its label and its value."""
    whole = sum(bar.values[0] for bar in drawing.bars) or 1
    for number, bar in enumerate(drawing.bars):
        y = 46 * number + 13
        value = canvas.width(bar.written[0], bold=True)
        canvas.text(0, y, canvas.fitted(bar.label, WIDTH - value - 12))
        canvas.text(WIDTH, y, bar.written[0], bold=True, align="right")
        canvas.box(0, y + 13, WIDTH, 10, canvas.look.edge)
        canvas.box(0, y + 13, WIDTH * bar.values[0] / whole, 10, canvas.look.parts[0])


def _outcomes(canvas: _Canvas, drawing: Drawing) -> None:
    """Rows of parts, under the headline of their group."""
    look, x = canvas.look, 0.0
    for name, color in zip(drawing.keys, look.parts, strict=False):
        canvas.box(x, 6, 11, 11, color)
        canvas.text(x + 16, 12, name, size=_SMALL, color=look.soft)
        x += canvas.width(name, _SMALL) + 34
    y, group = float(_KEYS), ""
    names = max(canvas.width(bar.label) for bar in drawing.bars)
    left = min(names + 12, 130)
    right = max(canvas.width(bar.written[0]) for bar in drawing.bars) + 10
    most = max(sum(bar.values) for bar in drawing.bars) or 1
    for bar in drawing.bars:
        if bar.group != group:
            group = bar.group
            canvas.text(0, y + 17, canvas.fitted(group, WIDTH, bold=True), bold=True)
            y += _HEAD
        canvas.text(0, y + 12, canvas.fitted(bar.label, left - 8), color=look.soft)
        at = left
        for value, color in zip(bar.values, look.parts, strict=False):
            width = (WIDTH - left - right) * value / most
            canvas.box(at, y + 4, width, 15, color)
            at += width
        canvas.text(at + 7, y + 12, bar.written[0])
        y += _ROW
