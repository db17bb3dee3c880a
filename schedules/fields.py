"""The field types a rule's data model is written in: each says what it takes and how to mend it.

Values come from people (CSV, XLSX with English or Chinese columns) and from producers (JSON), so
each type reads both forms and refuses what is unclear with a sentence that names the remedy.
Instants without a zone are Beijing time, as everywhere in the partner centre; they leave here as
aware UTC. Amounts are `Decimal`, never float.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

import phonenumbers
from pydantic import BeforeValidator

BEIJING = ZoneInfo("Asia/Shanghai")
MAX_AMOUNT = Decimal("999999999999.99")


@dataclass(frozen=True, slots=True)
class Column:
    """The other names under which files carry a field: Chinese headings, older spellings."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


# C0, C1, DEL, line and paragraph separators: none has a place in one line of text, and CR, LF and
# NUL in a header are an injection (CVE-2024-6923). Encoded words are refused for the same reason.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bqBQ]\?")
# Direction overrides and zero-width characters make a name read as another.
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_HALF = re.compile(r"[\ud800-\udfff]")


def is_masked(value: str | None) -> bool:
    """True for what the partner centre's exports hide: `138****1234`, `z***@a.example`, `张**`."""
    return value is not None and ("*" in value or "＊" in value)


def is_blank(value: object) -> bool:
    """True for what a file means by "nothing here": empty, a dash, N/A."""
    return value is None or (
        isinstance(value, str) and value.strip() in {"", "-", "--", "N/A", "/"}
    )


def clean_text(value: str, limit: int = 200) -> str:
    """One line of text in NFC, without invisible characters.

    Raises ValueError on control characters, encoded words, lone surrogates and over-long text.
    """
    text = value.strip()
    if not (text.isascii() and text.isprintable() and "=?" not in text):
        text = _cleaned(text)
    if len(text) > limit:
        raise ValueError(f"is {len(text)} characters long: at most {limit}")
    return text


def _cleaned(value: str) -> str:
    text = unicodedata.normalize("NFC", value).strip()
    if found := _CONTROL.search(text):
        name = {"\r": "CR", "\n": "LF", "\0": "NUL", "\t": "TAB"}.get(
            found.group(), f"U+{ord(found.group()):04X}"
        )
        raise ValueError(f"contains the control character {name}: remove it")
    if _ENCODED_WORD.search(text):
        raise ValueError("contains an encoded word (=?…?=): write the characters themselves")
    if _HALF.search(text):
        raise ValueError("contains half a surrogate pair: save the file as UTF-8 again")
    return _INVISIBLE.sub("", text)


def _text(limit: int) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if is_blank(value):
            return "" if value is not None else None
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise ValueError("must be text")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # spreadsheets hold 10023 as 10023.0
        return clean_text(str(value), limit)

    return read


def _required(value: Any) -> Any:
    if is_blank(value):
        raise ValueError("is empty: fill it in")
    return value


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def optional(value: Any) -> Any:
        return None if is_blank(value) else read(value)

    return optional


def _ref(value: Any) -> Any:
    text = _text(64)(_required(value))
    if is_masked(text):
        raise ValueError("is masked: export it with full identifiers")
    return text


def _mail(value: Any) -> str:
    # Its tables take 15 ms to load: only where mail is read.
    from email_validator import EmailNotValidError, validate_email

    text = clean_text(str(value), 254)
    if is_masked(text):
        return text
    try:
        return validate_email(text, check_deliverability=False, allow_smtputf8=True).normalized
    except EmailNotValidError as error:
        raise ValueError(f"isn't a mail address ({str(error).rstrip('.')}): correct it") from None


def _mobile(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = clean_text(str(value), 32)
    if is_masked(text):
        return text
    try:
        number = phonenumbers.parse(text, "CN")
    except phonenumbers.NumberParseException:
        raise ValueError("isn't a phone number: write it like +8613812345678") from None
    if not phonenumbers.is_valid_number(number):
        raise ValueError("isn't a number that exists: write it like +8613812345678")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_WRITTEN = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?: (\d{1,2}):(\d{1,2})(?::(\d{1,2}))?)?")


def read_instant(value: Any) -> datetime:
    """An aware UTC instant: ISO 8601, `2026-11-20 10:00`, `2026/11/20`, `2026年11月20日 10:00`.

    Without an offset it is Beijing time; a bare date is its first moment there.
    Raises ValueError for dates that don't exist and years outside 2000 to 2199.
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime.combine(value, time())
    elif isinstance(value, str):
        moment = _instant_from_text(value)
    else:
        raise ValueError("isn't a time: write it like 2026-11-20 10:00")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=BEIJING)
    if not 2000 <= moment.year <= 2199:
        raise ValueError(f"lies in the year {moment.year}: from 2000 to 2199")
    return moment.astimezone(UTC)


@lru_cache(4096)  # a file of a million rows names a few hundred days
def _instant_from_text(value: str) -> datetime:
    text = clean_text(value, 40)
    if text[10:11] == "T":  # as programs write it
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    plain = re.sub(r"\s+", " ", re.sub(r"[年月/.]", "-", text.replace("日", " "))).strip()
    if written := _WRITTEN.fullmatch(plain):
        with suppress(ValueError):
            year, month, day, hour, minute, second = map(int, written.groups(default="0"))
            return datetime.combine(date(year, month, day), time(hour, minute, second))
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        missing = written or "range" in str(error)
        hint = "that date doesn't exist" if missing else "not a time"
        raise ValueError(f"{hint}: write it like 2026-11-20 10:00") from None


def read_day(value: Any) -> date:
    """A date (of the rule's zone) from a date, a datetime or text. Raises ValueError."""
    if isinstance(value, datetime):
        return value.date() if value.tzinfo is None else value.astimezone(BEIJING).date()
    if isinstance(value, date):
        return value
    return read_instant(value).astimezone(BEIJING).date()


_BARE_DATE = re.compile(r"\d{4}([-/.]\d{1,2}[-/.]|年\d{1,2}月)\d{1,2}日?")


def read_end(value: Any) -> datetime:
    """An instant at which something ends: a bare date includes that day (Beijing).

    Raises ValueError as `read_instant` does.
    """
    bare = isinstance(value, str) and _BARE_DATE.fullmatch(value.strip())
    if bare or (isinstance(value, date) and not isinstance(value, datetime)):
        following = read_day(value) + timedelta(days=1)
        return datetime.combine(following, time(), tzinfo=BEIJING).astimezone(UTC)
    return read_instant(value)


_AMOUNT = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")


def _decimal(value: Any, places: int) -> Decimal:
    if isinstance(value, bool):
        raise ValueError("isn't a number")
    if isinstance(value, float):
        # a spreadsheet's binary 1234.1 means 1234.1; more digits than a double keeps are refused
        value = repr(round(value, places + 2))
    text = unicodedata.normalize("NFKC", str(value)).strip().lstrip("¥$€").strip()
    if not _AMOUNT.fullmatch(text):
        raise ValueError("isn't a number: digits, one point, commas only between thousands")
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        raise ValueError("isn't a number") from None
    exponent = number.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > places:
        raise ValueError(f"has more than {places} digits after the point: round it")
    if abs(number) > MAX_AMOUNT:
        raise ValueError(f"is larger than {MAX_AMOUNT}")
    return number


def _amount(value: Any) -> Decimal:
    return _decimal(value, 2).quantize(Decimal("0.01"))


def _rate(value: Any) -> Decimal:
    if isinstance(value, str) and value.strip() in {"免税", "exempt"}:
        return Decimal(0)
    if isinstance(value, str) and value.strip().endswith("%"):
        rate = _decimal(value.strip()[:-1], 2) / 100
    else:
        rate = _decimal(value, 4)
        rate = rate / 100 if rate >= 1 else rate
    if not 0 <= rate < 1:
        raise ValueError("isn't a tax rate: write it like 6% or 0.06")
    return rate


_YES = {"true", "yes", "y", "1", "是", "已认证", "有"}
_NO = {"false", "no", "n", "0", "否", "未认证", "无"}


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower().removesuffix(".0")
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError("isn't yes or no: write yes, no, 是 or 否")


def _zone(value: Any) -> str:
    name = clean_text(str(value), 64)
    if name not in _zones():
        raise ValueError("isn't a time zone: write it like Asia/Shanghai")
    return name


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _tokens(value: Any) -> tuple[str, ...]:
    if is_blank(value):
        return ()
    parts = value if isinstance(value, list | tuple) else re.split(r"[,;，；、\s]+", str(value))
    return tuple(_ref(part) for part in parts if not is_blank(part))


def _currency(value: Any) -> str:
    return _currency_code(clean_text(str(value), 16).upper())


@lru_cache(256)
def _currency_code(word: str) -> str:
    from babel.numbers import list_currencies  # 20 ms: only where money is read

    word = {"人民币": "CNY", "RMB": "CNY", "元": "CNY", "美元": "USD"}.get(word, word)
    if word not in list_currencies():
        raise ValueError("isn't a currency: write its ISO 4217 code, like CNY")
    return word


_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def _language(value: Any) -> str:
    word = clean_text(str(value), 20).replace("_", "-")
    word = {"中文": "zh-CN", "zh": "zh-CN", "zh-cn": "zh-CN", "英文": "en", "english": "en"}.get(
        word.lower(), word
    )
    if not _LANGUAGE.fullmatch(word):
        raise ValueError("isn't a language tag: write it like zh-CN or en (BCP 47)")
    return word


Ref = Annotated[str, BeforeValidator(_ref)]
"""An identifier of the host business: one line, at most 64 characters, never masked."""
Line = Annotated[str, BeforeValidator(lambda v: _text(200)(_required(v)))]
"""One line of text that must be there, at most 200 characters."""
OptionalLine = Annotated[str | None, BeforeValidator(_optional(_text(200)))]
OptionalRef = Annotated[str | None, BeforeValidator(_optional(_ref))]
OptionalMail = Annotated[str | None, BeforeValidator(_optional(_mail))]
"""A mail address, normalised; a masked one is kept as it is and never written to."""
OptionalMobile = Annotated[str | None, BeforeValidator(_optional(_mobile))]
"""A phone number in E.164 (numbers without + are mainland ones); a masked one is kept as it is."""
Instant = Annotated[datetime, BeforeValidator(lambda v: read_instant(_required(v)))]
OptionalInstant = Annotated[datetime | None, BeforeValidator(_optional(read_instant))]
End = Annotated[datetime, BeforeValidator(lambda v: read_end(_required(v)))]
"""The first instant after something; a bare date is included whole."""
OptionalEnd = Annotated[datetime | None, BeforeValidator(_optional(read_end))]
Day = Annotated[date, BeforeValidator(lambda v: read_day(_required(v)))]
OptionalDay = Annotated[date | None, BeforeValidator(_optional(read_day))]
Amount = Annotated[Decimal, BeforeValidator(lambda v: _amount(_required(v)))]
"""Money to the cent, in the record's currency."""
Quantity = Annotated[Decimal, BeforeValidator(lambda v: _decimal(_required(v), 6))]
OptionalQuantity = Annotated[Decimal | None, BeforeValidator(_optional(lambda v: _decimal(v, 6)))]
OptionalAmount = Annotated[Decimal | None, BeforeValidator(_optional(_amount))]
Rate = Annotated[Decimal, BeforeValidator(lambda v: _rate(_required(v)))]
"""A tax rate as a fraction: 6% and 6 and 0.06 are all Decimal("0.06")."""
Flag = Annotated[bool, BeforeValidator(lambda v: _flag(_required(v)))]
OptionalFlag = Annotated[bool | None, BeforeValidator(_optional(_flag))]
Zone = Annotated[str, BeforeValidator(_zone)]
Refs = Annotated[tuple[str, ...], BeforeValidator(_tokens)]
"""Several identifiers: a list, or text separated by commas, semicolons, 、 or spaces."""
Currency = Annotated[str, BeforeValidator(_currency)]
Language = Annotated[str, BeforeValidator(_language)]

E_ = TypeVar("E_", bound=StrEnum)


def choice(options: type[E_], **chinese: str) -> BeforeValidator:
    """Reads a member of `options` by its value in any case, or by a Chinese name.

    `choice(Origin, ONLINE="线上邀请|在线邀请")`; the error lists what may be written.
    """
    names = {member.value.lower(): member for member in options}
    for member, words in chinese.items():
        names.update({word.lower(): options[member] for word in words.split("|")})

    # Each with one Chinese name: all that are understood would fill a page.
    shown = [
        member.value
        + next((f" ({w})" for w in chinese.get(member.name, "").split("|") if not w.isascii()), "")
        for member in options
    ]

    def read(value: Any) -> Any:
        word = _required(value)
        if isinstance(word, options):
            return word
        found = names.get(str(word).strip().lower())
        if found is None:
            raise ValueError(f"must be one of {', '.join(shown)}")
        return found

    return BeforeValidator(read)
