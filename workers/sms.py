"""How long an SMS is, in the units it is billed and split by, and how a template variable fits.

Sources: 3GPP TS 23.038 section 6.2.1 (GSM 7 bit default alphabet and its extension table), 3GPP TS
23.040 section 9.2.3.24.1 (a part of a long message loses six octets to its header), and for
mainland China the counting rules of Huawei Cloud's Message & SMS product description.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["GSM-7", "UCS-2"]

# In the order of the codes 0x00 to 0x7f; 0x1b is the escape to the extension table, not a letter.
_GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_ONE = frozenset(_GSM_BASIC) - {"\x1b"}
_GSM_TWO = frozenset("\f^{}\\[~]|€")

_LIMITS: dict[Encoding, tuple[int, int]] = {"GSM-7": (160, 153), "UCS-2": (70, 67)}


@dataclass(frozen=True, slots=True)
class Parts:
    """The length of a text. `units` are septets (GSM-7) or UTF-16 code units (UCS-2)."""

    encoding: Encoding
    units: int
    parts: int


def count_parts(text: str, *, mainland: bool = False) -> Parts:
    """How many parts `text` takes, signature included.

    One part holds 160 septets or 70 UTF-16 units, each part of several 153 or 67. A character of
    two units (an escape, an emoji) is never split over a border, so it may leave one unit unused.
    In mainland China (`mainland`) every character is sent as UCS-2 and the whole is divided by 67.
    The empty text is one part. Raises ValueError for half a surrogate pair.
    """
    if mainland:
        units = sum(_ucs2_units(text))
        return Parts("UCS-2", units, 1 if units <= 70 else -(-units // 67))
    encoding: Encoding = "GSM-7" if all(c in _GSM_ONE or c in _GSM_TWO for c in text) else "UCS-2"
    widths = [2 if c in _GSM_TWO else 1 for c in text] if encoding == "GSM-7" else None
    sizes = widths if widths is not None else list(_ucs2_units(text))
    alone, each = _LIMITS[encoding]
    units = sum(sizes)
    return Parts(encoding, units, 1 if units <= alone else _fill(sizes, each))


def _ucs2_units(text: str) -> Iterator[int]:
    for character in text:
        if "\ud800" <= character <= "\udfff":
            raise ValueError("contains half a surrogate pair: it can't be sent as an SMS")
        yield 2 if character > "\uffff" else 1


def _fill(sizes: list[int], each: int) -> int:
    parts, used = 1, 0
    for size in sizes:
        if used + size > each:
            parts, used = parts + 1, 0
        used += size
    return parts


_MONEY_WORDS = frozenset(
    "人民币美港欧元圆角分整正零〇壹贰叁肆伍陆柒捌玖拾佰仟万亿一二三四五六七八九十百千"
)
_CURRENCY_CODE = re.compile(r"^[A-Z]{3}\b|\b[A-Z]{3}$")
_TOKEN = re.compile(r"(?=.*\d)[\x21-\x7e]+")


def is_figure(value: str) -> bool:
    """True for what must arrive whole: amounts (digits or words), numbers, dates, link tokens."""
    rest = _CURRENCY_CODE.sub("", value.strip())
    return bool(_TOKEN.fullmatch(rest)) or not any(
        unicodedata.category(c)[0] in "LM" and c not in _MONEY_WORDS for c in rest
    )


def fit_variable(value: str, limit: int = 20) -> str:
    """`value` as a template variable of 1 to `limit` UTF-16 units, on one line.

    Names are cut and end in "…". Figures (see `is_figure`) are never cut: an amount that lost its
    end would be a wrong amount. Raises ValueError for an over-long figure and for an empty value.
    """
    text = " ".join(value.split())
    if not text:
        raise ValueError("is empty: a variable has at least one character")
    if sum(_ucs2_units(text)) <= limit:
        return text
    if is_figure(text):
        raise ValueError(
            f"is {sum(_ucs2_units(text))} characters long: at most {limit}, and a figure isn't cut"
        )
    kept, used = 0, 1  # the ellipsis takes one
    for width in _ucs2_units(text):
        if used + width > limit:
            break
        kept, used = kept + 1, used + width
    while kept and _continues(text, kept):
        kept -= 1
    return text[:kept].rstrip() + "…"


def _continues(text: str, at: int) -> bool:
    """Whether the character at `at` belongs to the one before it (accents, emoji sequences)."""
    joiner = "\u200d"
    return unicodedata.category(text[at])[0] == "M" or text[at] == joiner or text[at - 1] == joiner
