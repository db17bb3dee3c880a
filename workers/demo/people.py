"""Made-up partners and the people in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from workers.demo.tables import Row
from workers.demo.words import (
    CUSTOMER_TRADES,
    CUSTOMERS,
    FIRST_NAMES,
    GIVEN,
    INTERNATIONAL,
    LAST_NAMES,
    MARKS,
    PARTNER_TRADES,
    PLACES,
    SURNAMES,
)

PARTNERS = 40
# These have nobody to tell, on purpose.
ONLY_WITHOUT_ADDRESS = "P-1039"
WITHOUT_CONTACTS = "P-1040"
UNWANTED_MAIL = "finance@wanglan-mumian.example"
"""Asked not to be written to any more, so the demo puts it on the suppression list."""

ROLES = ("administrator", "finance", "sales", "supervisor", "delivery")
_ROLE_LETTER = {
    "administrator": "A",
    "finance": "F",
    "sales": "S",
    "supervisor": "V",
    "delivery": "D",
}
DAILY = ("C-1014-A", "C-1030-A", "C-1015-S", "C-1031-S")
"""These wish one mail a day."""
# Ranges for films: 0171 39200xx in Germany, 555-01xx in North America, 0491 570 156 to 159 in
# Australia. Mainland China sets none aside: 1380000xxxx reads as made up.
_SET_ASIDE = {
    "Asia/Shanghai": ("1380000{:04}", 1001, 4000),
    "Europe/Berlin": ("+4917139200{:02}", 0, 100),
    "America/New_York": ("+121255501{:02}", 0, 100),
    "Australia/Sydney": ("+6149157015{}", 6, 4),
}
_ON_MAINLAND_NUMBERS = frozenset({"Asia/Singapore", "Asia/Hong_Kong"})


@dataclass(frozen=True, slots=True)
class MadePartner:
    """A partner: its name, where its mail goes and what it is written to in."""

    ref: str
    name: str
    domain: str
    language: str
    time_zone: str
    row: Row

    @property
    def chinese(self) -> bool:
        """Whether it is in the Chinese files."""
        return self.language == "zh-CN"

    @property
    def sales(self) -> str:
        """The ref of its sales person."""
        return f"C-{self.ref[2:]}-S"


def make_partners(rng: Random) -> list[MadePartner]:
    """Forty: 28 Chinese ones, then those that are written to in English."""
    local = PARTNERS - len(INTERNATIONAL)
    made: list[MadePartner] = []
    for number in range(PARTNERS):
        # The two with nobody to tell are Chinese; the international ones stand before them.
        at = number - (local - 2)
        if 0 <= at < len(INTERNATIONAL):
            name, domain, zone = INTERNATIONAL[at]
            language = "en"
        else:
            index = number if at < 0 else number - len(INTERNATIONAL)
            (place, p), (mark, m) = PLACES[index % len(PLACES)], MARKS[index % len(MARKS)]
            trade = PARTNER_TRADES[index % len(PARTNER_TRADES)]
            name, domain = f"{place}{mark}{trade}有限公司", f"{p}-{m}.example"
            language, zone = "zh-CN", "Asia/Shanghai"
        ref = f"P-{1001 + number}"
        kinds = ("总经销商", "云经销商", "软件伙伴", "服务伙伴")
        row = {
            "ref": ref,
            "name": name,
            "type": "总经销商" if number < 4 else rng.choice(kinds[1:]),
            "parent": f"P-{1001 + number % 4}" if 4 <= number < 12 else None,
            "account_authenticated": "否" if number % 7 == 3 or number == 29 else "是",
        }
        made.append(MadePartner(ref, name, domain, language, zone, row))
    return made


class Numbers:
    """Mobile numbers, each once, as far as those that are set aside go."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()

    def mobile(self, zone: str = "Asia/Shanghai") -> str | None:
        """The next number of a zone; None where none could be made up without a doubt."""
        if zone not in _SET_ASIDE:
            # People of Asian partners are reached on mainland numbers here.
            zone = "Asia/Shanghai" if zone in _ON_MAINLAND_NUMBERS else ""
        if not zone:
            return None
        number = self._given[zone]
        self._given[zone] += 1
        form, first, count = _SET_ASIDE[zone]
        return form.format(first + number % count)


def make_contacts(rng: Random, partners: list[MadePartner], numbers: Numbers) -> list[Row]:
    """Five people each, one a role; partner managers for the first eight."""
    rows: list[Row] = []
    for partner in partners:
        if partner.ref == WITHOUT_CONTACTS:
            continue
        if partner.ref == ONLY_WITHOUT_ADDRESS:
            rows.append(_contact(rng, partner, "administrator", None, None))
            continue
        for role in ROLES:
            rows.append(
                _contact(
                    rng,
                    partner,
                    role,
                    f"{role}@{partner.domain}" if role == "finance" else "",
                    numbers.mobile(partner.time_zone),
                )
            )
    for number, partner in enumerate(partners[:8], start=1):
        row = _contact(rng, partner, "partner_manager", f"manager{number}@vendor.example", None)
        rows.append(row | {"ref": f"PM-{partner.ref[2:]}"})
    _break_some(rows)
    return rows


def _contact(
    rng: Random, partner: MadePartner, role: str, mail: str | None, mobile: str | None
) -> Row:
    name, local = _person(rng, partner.chinese)
    return {
        "partner": partner.ref,
        "partner_name": partner.name,
        "ref": f"C-{partner.ref[2:]}-{_ROLE_LETTER.get(role, 'M')}",
        "role": role,
        "name": name,
        "mail": f"{local}@{partner.domain}" if mail == "" else mail,
        "mobile": mobile,
        "language": partner.language,
        "time_zone": partner.time_zone,
        "channels": "mail,sms",
        "quiet_hours": None,
    }


def _person(rng: Random, chinese: bool) -> tuple[str, str]:
    if chinese:
        (surname, s), (given, g) = rng.choice(SURNAMES), rng.choice(GIVEN)
        return f"{surname}{given}", f"{g}.{s}"
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    plain = "".join(c for c in f"{first[0]}{last}".lower() if c.isascii() and c.isalpha())
    return f"{first} {last}", plain


def _break_some(rows: list[Row]) -> None:
    """What exports hide, and what people wish: masked values, one channel only, own quiet hours."""
    by_ref = {row["ref"]: row for row in rows}
    by_ref["C-1005-F"]["mobile"] = "138****4417"
    by_ref["C-1006-F"] |= {"mobile": "139****0082", "mail": "f***@beicen-yuanxiu.example"}
    by_ref["C-1007-S"]["channels"] = "mail"
    by_ref["C-1008-F"]["quiet_hours"] = "18:00-09:30"
    for ref in DAILY:
        by_ref[ref]["digest"] = "daily"
    by_ref["C-1009-F"] |= {"mail": None, "mobile": None}  # the administrator is told instead


def refused_contacts() -> Iterator[Row]:
    """Rows that must be refused, each for another reason."""
    good = {
        "partner": "P-1010",
        "role": "delivery",
        "name": "周思远",
        "mail": "siyuan.zhou@linlan-lantu.example",
        "mobile": "13800007777",
        "language": "zh-CN",
        "time_zone": "Asia/Shanghai",
        "channels": "mail,sms",
    }
    yield good | {"ref": "C-1010-X1", "name": "王\n芳"}
    yield good | {"ref": "C-1010-X2", "mail": "siyuan.zhou@@linlan"}
    yield good | {"ref": "C-1010-X3", "mobile": "1380000"}
    yield good | {"ref": "C-1010-X4", "time_zone": "北京"}


def customer(rng: Random, chinese: bool, number: int) -> tuple[str, str]:
    """(name, mail) of an invited company."""
    if not chinese:
        name = CUSTOMERS[number % len(CUSTOMERS)]
        plain = "".join(c for c in name.split("(")[0].lower() if c.isascii() and c.isalnum())
        return name, f"it@{plain[:14]}.example"
    (place, p), (mark, m) = rng.choice(PLACES), rng.choice(MARKS)
    return f"{place}{mark}{rng.choice(CUSTOMER_TRADES)}有限公司", f"it@{m}{number}.{p}.example"
