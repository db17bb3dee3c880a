"""The words that made-up data are put together from. No person, place or company here is real."""

from __future__ import annotations

# Place names that are on no map, so that no company's name can be a real one's.
PLACES = (
    ("青屿", "qingyu"),
    ("云汀", "yunting"),
    ("望澜", "wanglan"),
    ("南栖", "nanqi"),
    ("北岑", "beicen"),
    ("鹭汀", "luting"),
    ("松砚", "songyan"),
    ("霁川", "jichuan"),
    ("沐野", "muye"),
    ("临岚", "linlan"),
)
MARKS = (
    ("星岸", "xingan"),
    ("澜图", "lantu"),
    ("木棉", "mumian"),
    ("远岫", "yuanxiu"),
    ("拾光", "shiguang"),
    ("知行", "zhixing"),
    ("和风", "hefeng"),
    ("明川", "mingchuan"),
)
PARTNER_TRADES = ("信息技术", "云服务", "数智科技", "软件", "系统集成")
CUSTOMER_TRADES = (
    "精密制造",
    "生鲜供应链",
    "文化传媒",
    "医疗器械",
    "跨境电商",
    "职业教育",
    "新材料",
)

SURNAMES = (
    ("王", "wang"),
    ("李", "li"),
    ("张", "zhang"),
    ("陈", "chen"),
    ("林", "lin"),
    ("周", "zhou"),
    ("吴", "wu"),
    ("赵", "zhao"),
    ("黄", "huang"),
    ("欧阳", "ouyang"),
    ("何", "he"),
    ("许", "xu"),
)
GIVEN = (
    ("芳", "fang"),
    ("明", "ming"),
    ("晓彤", "xiaotong"),
    ("建国", "jianguo"),
    ("思远", "siyuan"),
    ("雨晴", "yuqing"),
    ("子涵", "zihan"),
    ("丽华", "lihua"),
    ("志强", "zhiqiang"),
    ("婉婷", "wanting"),
    ("嘉懿", "jiayi"),
    ("海峰", "haifeng"),
)

# Name, mail domain, time zone: the partners that are written to in English.
INTERNATIONAL = (
    ("Fernhill Cloud Services Ltd", "fernhill-cloud.example", "Europe/London"),
    ("Bluepeak Data GmbH", "bluepeak-data.example", "Europe/Berlin"),
    ("Merlion Straits Compute Pte. Ltd.", "straits-compute.example", "Asia/Singapore"),
    ("Harbourlight Systems (HK) Limited", "harbourlight.example", "Asia/Hong_Kong"),
    ("Kestrel & Rowe Consulting, Inc.", "kestrel-rowe.example", "America/New_York"),
    ("Wattlebird Digital Pty Ltd", "wattlebird.example", "Australia/Sydney"),
    ("Ipê Amarelo Nuvem S.A.", "ipe-amarelo.example", "America/Sao_Paulo"),
    ("Al Nakhla Cloud FZ-LLC", "alnakhla.example", "Asia/Dubai"),
    ("Sampan Networks Limited", "sampan-networks.example", "Asia/Hong_Kong"),
    ("Orchid Stack Pte. Ltd.", "orchid-stack.example", "Asia/Singapore"),
    ("Lindqvist Møller Integration AB", "lindqvist-moller.example", "Europe/Stockholm"),
    ("Pearl Delta Software (Shenzhen) Ltd", "pearl-delta.example", "Asia/Shanghai"),
)
FIRST_NAMES = (
    "Ann",
    "Tomás",
    "Priya",
    "Jonas",
    "Mei Ling",
    "Olivia",
    "Rashid",
    "Ingrid",
    "Daniel",
    "Beatriz",
    "Wei Jie",
    "Siobhán",
)
LAST_NAMES = (
    "Lee",
    "Okafor",
    "Hartmann",
    "O'Brien",
    "Tan",
    "Silva",
    "Haddad",
    "Lindqvist",
    "Novak",
    "Castellanos",
    "Whitlock",
    "Chow",
)
CUSTOMERS = (
    "Northmoor Foods Ltd",
    "Tidewater Logistics Pte. Ltd.",
    "Cinder & Clay Ceramics",
    "Brightwell Clinics",
    "Redgum Outdoor Pty Ltd",
    "Sable Point Media Inc.",
    "Grünwald Werkzeugbau GmbH",
    "Lotus Lane Retail (HK) Limited",
    "Falcon Dune Trading LLC",
    "Saltmarsh Bicycle Co.",
    "<b>Bold</b> & Söhne GmbH",  # markup in a name is text, and has to look like it
)

# Item, unit, tax rate in percent, unit price from and to.
ITEMS = (
    ("*信息技术服务*云服务推广服务", "项", 6, 1800, 26000),
    ("*信息技术服务*专职人员技术支持", "人天", 6, 900, 1600),
    ("*研发和技术服务*迁移实施", "次", 6, 3000, 18000),
    ("*信息技术服务*云上安全加固", "项", 6, 1200, 9800),
    ("*鉴证咨询服务*架构评估咨询", "份", 6, 5000, 12000),
    ("*会展服务*区域沙龙场地搭建", "场", 6, 8000, 36000),
    ("*计算机配套产品*边缘一体机", "台", 13, 11000, 42000),
    ("*计算机网络设备*万兆交换机", "台", 13, 2400, 7900),
    ("*电信服务*专线接入", "条", 9, 600, 3200),
    ("*软件*数据治理平台许可", "套", 13, 4500, 15800),
    ("*现代服务*文档本地化", "千字", 3, 120, 260),
)
ITEMS_EN = (
    ("Cloud service promotion", "pcs", 6, 800, 9000),
    ("Dedicated engineer, technical support", "person-day", 6, 300, 700),
    ("Migration project delivery", "project", 6, 2500, 14000),
    ("Architecture review", "report", 6, 1200, 4800),
    ("Joint marketing event, venue and stand", "event", 6, 3000, 12000),
    ("Edge appliance, 2U", "unit", 13, 4200, 9800),
    ("Leased line, 500 Mbit/s", "line", 9, 400, 1100),
    ("Training day, certified instructor", "day", 6, 900, 1900),
)
# What spreadsheets would take for a formula; in an invoice list it is an item's name.
FORMULA_ITEMS = (
    '=HYPERLINK("https://prize.example","点击领取")',
    "@SUM(1+9)*cmd|' /C calc'!A0",
    "+信息技术服务*代运维",
)
