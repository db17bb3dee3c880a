"""Amounts in words."""

from __future__ import annotations

from decimal import Decimal

import cn2an
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.render.words import amount_in_words

AMOUNTS = st.decimals(0, Decimal("999999999999.99"), places=2)


def chinese(amount: str) -> str:
    return amount_in_words(Decimal(amount), "CNY", "zh-CN")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        # the examples of the rules themselves
        ("1409.50", "壹仟肆佰零玖元伍角"),
        ("6007.14", "陆仟零柒元壹角肆分"),
        ("1680.32", "壹仟陆佰捌拾元零叁角贰分"),
        ("107000.53", "壹拾万柒仟元零伍角叁分"),
        ("16409.02", "壹万陆仟肆佰零玖元零贰分"),
        ("325.04", "叁佰贰拾伍元零肆分"),
        # borders of digits and sections
        ("0.00", "零元整"),
        ("0.05", "伍分"),
        ("0.50", "伍角"),
        ("1.10", "壹元壹角"),
        ("10.00", "壹拾元整"),
        ("1004.56", "壹仟零肆元伍角陆分"),
        ("1050.00", "壹仟零伍拾元整"),
        ("10001.00", "壹万零壹元整"),
        ("100000000.00", "壹亿元整"),
        ("100005000.00", "壹亿零伍仟元整"),
        ("100010000.00", "壹亿零壹万元整"),
        ("100100000.00", "壹亿零壹拾万元整"),
        ("1000000000000.00", "壹万亿元整"),
    ],
)
def test_chinese_amounts_follow_the_rules_for_vouchers(amount: str, words: str) -> None:
    assert chinese(amount) == "人民币" + words


def test_a_negative_amount_says_so() -> None:
    assert chinese("-12.30") == "人民币负壹拾贰元叁角"
    assert amount_in_words(Decimal("-12.30"), "CNY", "en") == "CNY minus twelve and 30/100"


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "zero and 00/100"),
        ("1234.56", "one thousand two hundred thirty-four and 56/100"),
        ("1000000.05", "one million and 05/100"),
        ("20.10", "twenty and 10/100"),
        ("999999999999", "nine hundred ninety-nine billion nine hundred ninety-nine million "
         "nine hundred ninety-nine thousand nine hundred ninety-nine and 00/100"),
    ],
)  # fmt: skip
def test_english_amounts_are_written_as_on_a_cheque(amount: str, words: str) -> None:
    assert amount_in_words(Decimal(amount), "CNY", "en") == f"CNY {words}"


def test_a_foreign_currency_is_named() -> None:
    assert amount_in_words(Decimal(5), "USD", "zh-CN") == "美元伍元整"
    assert amount_in_words(Decimal(5), "USD", "en") == "USD five and 00/100"


def test_a_language_without_words_gets_english() -> None:
    assert amount_in_words(Decimal(5), "EUR", "de") == "EUR five and 00/100"


@pytest.mark.parametrize("amount", ["0.001", "1E16", "-1E16"])
def test_what_cannot_be_written_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="can't be written in words"):
        amount_in_words(Decimal(amount), "CNY", "zh-CN")


@given(AMOUNTS)
def test_chinese_words_read_back_as_the_amount(amount: Decimal) -> None:
    assert read_chinese(chinese(str(amount))) == amount


@given(AMOUNTS)
def test_chinese_words_are_those_of_a_second_implementation(amount: Decimal) -> None:
    # cn2an leaves out the 零 that may stand before 角, and puts 整 after 角 or 分 never
    ours = chinese(str(amount)).removeprefix("人民币")
    theirs = str(cn2an.an2cn(str(amount), "rmb"))
    assert ours.replace("元零", "元") == theirs.replace("元零", "元")


@given(AMOUNTS)
def test_english_words_read_back_as_the_amount(amount: Decimal) -> None:
    assert read_english(amount_in_words(amount, "CNY", "en")) == amount


def read_chinese(words: str) -> Decimal:
    """An independent reader: sections of 亿 and 万, digits with their units."""
    rest = words.removeprefix("人民币").removesuffix("整")
    yuan, _, cents = rest.rpartition("元")
    total = Decimal(_integer(yuan))
    cents = cents.replace("零", "")
    for unit, worth in (("角", "0.1"), ("分", "0.01")):
        if unit in cents:
            total += "零壹贰叁肆伍陆柒捌玖".index(cents[cents.index(unit) - 1]) * Decimal(worth)
    return total


def _integer(text: str) -> int:
    for unit, worth in (("亿", 10**8), ("万", 10**4), ("仟", 1000), ("佰", 100), ("拾", 10)):
        high, found, low = text.rpartition(unit)
        if found:
            return _integer(high) * worth + _integer(low)
    text = text.strip("零")
    return "零壹贰叁肆伍陆柒捌玖".index(text) if text else 0


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
ENGLISH = {word: number for number, word in enumerate(_ONES.split())} | {
    word: 10 * number
    for number, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}


def read_english(words: str) -> Decimal:
    """An independent reader: adds up small numbers, multiplies at each scale."""
    whole, _, part = words.removeprefix("CNY ").rpartition(" and ")
    total = group = 0
    for word in whole.replace("-", " ").split():
        if word == "hundred":
            group *= 100
        elif word in ENGLISH:
            group += ENGLISH[word]
        else:
            total += group * {"thousand": 10**3, "million": 10**6, "billion": 10**9}[word]
            group = 0
    return total + group + Decimal(part.removesuffix("/100")) / 100
