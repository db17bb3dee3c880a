"""Made-up names for a made-up year. No person, place or company here is real."""

from __future__ import annotations

from random import Random

# Places and marks that are on no map and no register.
_PLACES = [
    "溪北",
    "岚谷",
    "汀洲",
    "砚山",
    "霞浦里",
    "沐川里",
    "栖原",
    "望岫",
    "临澜",
    "青芜",
    "松汀",
    "云岑",
]
_MARKS = [
    "蓝杉",
    "拾野",
    "知微",
    "澄远",
    "望舒",
    "嘉禾星",
    "明筑",
    "远帆",
    "朴石",
    "青岚",
    "和木",
    "星渡",
]
_TRADES = ["信息技术", "云服务", "数智科技", "软件", "系统集成"]
_CUSTOMER_TRADES = [
    "精密制造",
    "冷链物流",
    "医疗器械",
    "跨境电商",
    "职业教育",
    "新材料",
    "文化传媒",
    "农业科技",
]
_SURNAMES = [
    "王",
    "李",
    "张",
    "陈",
    "林",
    "周",
    "吴",
    "赵",
    "黄",
    "何",
    "许",
    "沈",
    "欧阳",
    "韩",
    "唐",
]
_GIVEN = [
    "晓彤",
    "建国",
    "思远",
    "雨晴",
    "子涵",
    "丽华",
    "志强",
    "婉婷",
    "嘉懿",
    "海峰",
    "明",
    "静",
    "若溪",
    "文博",
    "佳宁",
]
_FIRST = [
    "Ann",
    "Tomás",
    "Priya",
    "Jonas",
    "Olivia",
    "Rashid",
    "Ingrid",
    "Daniel",
    "Beatriz",
    "Siobhán",
    "Marek",
    "Yuki",
]
_LAST = [
    "Lee",
    "Okafor",
    "Hartmann",
    "O'Brien",
    "Tan",
    "Silva",
    "Haddad",
    "Novak",
    "Whitlock",
    "Chow",
    "Lindqvist",
    "Moreau",
]
_ENGLISH = [
    "Fernhill",
    "Bluepeak",
    "Kestrel",
    "Harbourlight",
    "Wattlebird",
    "Larkspur",
    "Tidewater",
    "Redgum",
]
_ENGLISH_TRADES = [
    "Cloud Services Ltd",
    "Data GmbH",
    "Systems Pte. Ltd.",
    "Integration AB",
    "Digital Inc.",
]
_ENGLISH_CUSTOMERS = [
    "Foods Ltd",
    "Logistics Pte. Ltd.",
    "Clinics",
    "Media Inc.",
    "Ceramics & Sons",
]


def company(chance: Random, chinese: bool) -> str:
    """A partner's name."""
    if chinese:
        return f"{chance.choice(_PLACES)}{chance.choice(_MARKS)}{chance.choice(_TRADES)}有限公司"
    return f"{chance.choice(_ENGLISH)} {chance.choice(_ENGLISH_TRADES)}"


def customer(chance: Random, chinese: bool) -> str:
    """A customer's name."""
    if chinese:
        trade = chance.choice(_CUSTOMER_TRADES)
        return f"{chance.choice(_PLACES)}{chance.choice(_MARKS)}{trade}有限公司"
    return f"{chance.choice(_ENGLISH)} {chance.choice(_ENGLISH_CUSTOMERS)}"


def person(chance: Random, chinese: bool) -> str:
    """Somebody's name."""
    if chinese:
        return chance.choice(_SURNAMES) + chance.choice(_GIVEN)
    return f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
