"""SMS parts: septets, UTF-16 units, borders; and what a template variable may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sms import Parts, count_parts, fit_variable, is_figure

# 3GPP TS 23.038 6.2.1: the whole basic table without the escape, and the extension table.
BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"


def test_the_basic_alphabet_has_127_letters_of_one_septet() -> None:
    assert len(set(BASIC)) == 127
    assert count_parts(BASIC) == Parts("GSM-7", 127, 1)


@pytest.mark.parametrize("letter", EXTENSION)
def test_a_letter_of_the_extension_table_takes_two_septets(letter: str) -> None:
    assert count_parts(letter) == Parts("GSM-7", 2, 1)


@pytest.mark.parametrize("letter", ["中", "ç", "’", "…", "\t", "α", "\x1b", "`", "😀"])
def test_any_other_letter_makes_the_whole_text_ucs2(letter: str) -> None:
    assert count_parts("a" + letter).encoding == "UCS-2"


@pytest.mark.parametrize(
    ("text", "units", "parts"),
    [
        ("", 0, 1),
        ("a" * 160, 160, 1),
        ("a" * 161, 161, 2),
        ("a" * 306, 306, 2),
        ("a" * 307, 307, 3),
        ("a" * 158 + "€", 160, 1),
        ("a" * 159 + "€", 161, 2),
        ("中" * 70, 70, 1),
        ("中" * 71, 71, 2),
        ("中" * 134, 134, 2),
        ("中" * 135, 135, 3),
        ("😀" * 35, 70, 1),
        ("😀" * 36, 72, 2),
    ],
)
def test_parts_change_at_their_borders(text: str, units: int, parts: int) -> None:
    found = count_parts(text)

    assert (found.units, found.parts) == (units, parts)


def test_an_escape_is_not_split_over_a_border() -> None:
    assert count_parts("a" * 152 + "€" + "a" * 152) == Parts("GSM-7", 306, 3)
    assert count_parts("a" * 151 + "€" + "a" * 153) == Parts("GSM-7", 306, 2)


def test_a_surrogate_pair_is_not_split_over_a_border() -> None:
    assert count_parts("中" * 66 + "😀" + "中" * 66) == Parts("UCS-2", 134, 3)
    assert count_parts("中" * 65 + "😀" + "中" * 67) == Parts("UCS-2", 134, 2)


@pytest.mark.parametrize(
    ("text", "units", "parts"),
    [
        ("a" * 68, 68, 1),
        ("a" * 70, 70, 1),
        ("a" * 71, 71, 2),
        ("a" * 134, 134, 2),
        ("a" * 135, 135, 3),
        ("【云】" + "a" * 67, 70, 1),
        ("€" * 70, 70, 1),
        ("😀" * 35, 70, 1),
        ("😀" * 36, 72, 2),
    ],
)
def test_in_mainland_china_each_character_counts_one(text: str, units: int, parts: int) -> None:
    assert count_parts(text, mainland=True) == Parts("UCS-2", units, parts)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=700))
def test_the_parts_hold_the_text_and_waste_at_most_one_unit_each(text: str) -> None:
    found = count_parts(text)
    alone, each = (160, 153) if found.encoding == "GSM-7" else (70, 67)

    if found.units <= alone:
        assert found.parts == 1
    else:
        assert -(-found.units // each) <= found.parts <= -(-found.units // (each - 1))
    if found.encoding == "UCS-2":
        assert found.units == len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize("mainland", [True, False])
def test_half_a_surrogate_pair_is_refused(mainland: bool) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        count_parts("x\ud83d", mainland=mainland)


# -- variables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fitted"),
    [
        ("上海云启科技有限公司", "上海云启科技有限公司"),
        ("a" * 20, "a" * 20),
        ("上海云启数字科技发展股份有限公司华东分公司", "上海云启数字科技发展股份有限公司华东分…"),
        ("Shanghai Yunqi Network Technology", "Shanghai Yunqi Netw…"),
        ("Shanghai Yunqi Ltd  & Partners", "Shanghai Yunqi Ltd…"),
        ("two\r\nlines\t here", "two lines here"),
    ],
)
def test_a_name_is_cut_to_20_characters(value: str, fitted: str) -> None:
    assert fit_variable(value) == fitted


@pytest.mark.parametrize(
    "value",
    [
        "123456789012345678901",
        "CNY 1,234,567,890,123.45",
        "1,234,567,890,123.45 CNY",
        "¥ 1,234,567,890,123.456",
        "人民币壹佰贰拾叁万肆仟伍佰陆拾柒元捌角玖分",
        "2026-11-24 09:00 – 2026-11-30 18:00",
        "https://due.example/l/Ab3dE6",
        "Ab3dE6Ab3dE6Ab3dE6Ab3",
    ],
)
def test_a_figure_is_never_cut(value: str) -> None:
    assert is_figure(value)
    with pytest.raises(ValueError, match="at most 20"):
        fit_variable(value)


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_an_empty_variable_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        fit_variable(value)


def test_a_cut_leaves_no_half_character() -> None:
    family = "👨\u200d👩\u200d👧"

    assert fit_variable("n" * 15 + family) == "n" * 15 + "…"
    assert fit_variable("n" * 18 + "e\u0301" + "n" * 5) == "n" * 18 + "…"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.integers(2, 30))
def test_a_fitted_variable_never_exceeds_its_limit(value: str, limit: int) -> None:
    try:
        fitted = fit_variable(value, limit)
    except ValueError:
        assert is_figure(" ".join(value.split())) or not value.split()
    else:
        assert 1 <= len(fitted.encode("utf-16-le")) // 2 <= limit
        assert "\n" not in fitted
