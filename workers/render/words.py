"""Amounts in words, as a list or invoice ends with them.

Chinese follows the 正确填写票据和结算凭证的基本规定 (PBOC rules on filling in bills and vouchers,
appendix to the 支付结算办法, 1997): 整 after 元 only (after 角 it may be left out), one 零 for the
zeros inside, and of the two spellings of 107,000.53 the one with 零 before 角. English uses the
style of cheques, which is clear in every currency: "CNY one thousand two hundred thirty-four
and 56/100". Other languages get English until they are written here.
"""

from __future__ import annotations

from decimal import Decimal

LIMIT = Decimal(10) ** 16
"""Amounts in words end below this: more than 10,000 lines of the largest amount."""

_CHINESE_DIGITS = "零壹贰叁肆伍陆柒捌玖"
_CHINESE_UNITS = ((10**8, "亿"), (10**4, "万"), (1000, "仟"), (100, "佰"), (10, "拾"))
_ENGLISH_UNITS = (
    (10**12, "trillion"),
    (10**9, "billion"),
    (10**6, "million"),
    (1000, "thousand"),
    (100, "hundred"),
)
# fmt: off
_ENGLISH_BELOW_TWENTY = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen",
)
_ENGLISH_TENS = (
    "", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)
# fmt: on


def amount_in_words(amount: Decimal, currency: str, language: str) -> str:
    """`amount` in words of `language` (BCP 47), named by its ISO 4217 `currency`.

    Raises ValueError for fractions of a cent and from 10**16 on.
    """
    cents = abs(amount) * 100
    if cents != int(cents) or abs(amount) >= LIMIT:
        raise ValueError(f"{amount} can't be written in words: at most two decimals, below {LIMIT}")
    whole, part = divmod(int(cents), 100)
    if language.partition("-")[0].lower() == "zh":
        return _chinese_currency(currency) + ("负" if amount < 0 else "") + _chinese(whole, part)
    minus = "minus " if amount < 0 else ""
    return f"{currency} {minus}{_english_integer(whole)} and {part:02}/100"


def _chinese_currency(currency: str) -> str:
    if currency == "CNY":
        return "人民币"  # the rules ask for it, with no space after it
    from babel.numbers import get_currency_name  # only a foreign currency needs the table

    return get_currency_name(currency, locale="zh_Hans_CN")


def _chinese(yuan: int, part: int) -> str:
    jiao, fen = divmod(part, 10)
    words = f"{_chinese_integer(yuan)}元" if yuan or not part else ""
    if not part:
        return words + "整"
    if jiao:
        words += ("零" if yuan and yuan % 10 == 0 else "") + _CHINESE_DIGITS[jiao] + "角"
    elif yuan:
        words += "零"
    return words + (f"{_CHINESE_DIGITS[fen]}分" if fen else "")


def _chinese_integer(number: int) -> str:
    for size, unit in _CHINESE_UNITS:
        if number >= size:
            high, low = divmod(number, size)
            zero = "零" if 0 < low < size // 10 else ""
            return _chinese_integer(high) + unit + zero + (_chinese_integer(low) if low else "")
    return _CHINESE_DIGITS[number]


def _english_integer(number: int) -> str:
    for size, unit in _ENGLISH_UNITS:
        if number >= size:
            high, low = divmod(number, size)
            rest = f" {_english_integer(low)}" if low else ""
            return f"{_english_integer(high)} {unit}{rest}"
    if number < 20:
        return _ENGLISH_BELOW_TWENTY[number]
    tens, ones = divmod(number, 10)
    return _ENGLISH_TENS[tens] + (f"-{_ENGLISH_BELOW_TWENTY[ones]}" if ones else "")
