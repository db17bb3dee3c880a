"""The judge's own tables: what each kind tells when, to whom, and which states are whose turn.

Written from the description of the kinds, not from the rules. A line of a ladder reads

    name | when | role[=instead] channels, … | conditions

`due-72h` is an exact instant, `due-5d` and `due-5w` are days and working days before the last
day, `opened+3w/5w` is the third working day and every fifth after it. Where nobody of a role can
be reached the administrator is told instead, unless a role is named after the `=`.

Conditions: after (the deadline), urgent, required; undated (only without a deadline); alive (not
once it is known to be over), if:A,B (only in these states); the others are kinds' own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TEXT = """
invitation
T-72h | due-72h | customer=customer mail+sms, inviter mail | alive
T-24h | due-24h | customer=customer mail+sms, inviter mail+sms | alive urgent
expired | due | inviter mail | after unfailed
failed | opened | inviter mail | after failed

statement
T-5 | due-5w | finance mail |
T-2 | due-2w | finance mail+sms |
T-0 | due-0w | finance mail+sms, administrator mail | urgent required
ended | due+1w | finance mail, administrator mail | after
waiting | due+5w/5w | finance mail, administrator mail | after waits
+1 | opened+1w | finance mail | undated
+3 | opened+3w | finance mail | undated
+7 | opened+7w/5w | finance mail, administrator mail | undated

payment
+1 | opened+1w | finance mail+sms | required
+3 | opened+3w | finance mail+sms |
+7 | opened+7w | finance mail+sms, administrator mail, partner_manager mail |
+12 | opened+12w/5w | finance mail+sms, administrator mail, partner_manager mail |

incentive
T-5 | due-5w | finance mail |
T-2 | due-2w | finance mail+sms |
T-0 | due-0w | finance mail+sms, administrator mail | urgent required
ended | due+1w | finance mail, administrator mail | after
+3 | opened+3w | finance mail | undated if:PENDING
+7 | opened+7w/5w | finance mail, administrator mail | undated if:PENDING
list | opened+1w | finance mail+sms | if:PAID
list+5 | opened+5w/5w | finance mail, administrator mail | if:PAID

opportunity
T-2 | due-2w | owner mail+sms | alive
T-0 | due-0w | owner mail+sms, supervisor=supervisor mail | alive urgent required
declined | due+1w | owner mail, supervisor=supervisor mail | after

opportunity_progress
+7 | opened+7w | owner mail |
+10 | opened+10w | owner mail+sms, supervisor mail |
+15 | opened+15w/5w | owner mail+sms, supervisor mail |

pre_registration
T-5d | due-5d | owner mail | alive
T-48h | due-48h | owner mail+sms | alive urgent
ended | due | owner mail | after

pre_registration_limit
warn | opened | sales mail, administrator mail |

member_invitation
T-72h | due-72h | member=member mail | alive
T-24h | due-24h | member=member mail+sms | alive urgent
expired | due | administrator mail | after

project_registration
+3 | opened+3w | delivery mail |
+5 | opened+5w | delivery mail+sms |
+10 | opened+10w/5w | delivery mail, administrator mail |

delivery_feedback
T-3 | due-3w | lead mail |
T-0 | due-0w | lead mail+sms | urgent
overdue | due+1w/5w | lead mail, administrator mail | after
+10 | opened+10w/10w | lead mail | undated if:REGISTERED,EVIDENCE
rejected | opened+1w | lead mail+sms | if:REJECTED
rejected+3 | opened+3w/5w | lead mail, administrator mail | if:REJECTED

sales_task
M-15 | due-15d | account_manager mail | by_month
T-3 | due-3w | account_manager mail |
T-0 | due-0w | account_manager mail+sms | urgent
overdue | due+1w/5w | account_manager mail, supervisor mail | after
+5 | opened+5w/5w | account_manager mail | undated

voucher
T-30d | due-30d | customer=customer mail | long
T-7d | due-7d | customer=customer mail+sms, sales mail |
T-1d | due-1d | customer=customer mail+sms, sales mail | urgent

cash_coupon
T-30d | due-30d | customer=customer mail | long
T-7d | due-7d | customer=customer mail+sms, sales mail |
T-1d | due-1d | customer=customer mail+sms, sales mail | urgent

coupon_quota
T-30d | due-30d | sales mail | long
T-7d | due-7d | sales mail, administrator mail |
T-1d | due-1d | sales mail+sms, administrator mail | urgent

exclusive_offer
start | due-15h | owner mail | if:PENDING
T-7d | due-7d | owner mail | if:EFFECTIVE
T-1d | due-1d | owner mail+sms | urgent if:EFFECTIVE

certification
+1 | opened+1w | administrator mail | if:MET
+5 | opened+5w/10w | administrator mail | if:MET
T-60d | due-60d | administrator mail | if:CERTIFIED
T-30d | due-30d | administrator mail | if:CERTIFIED
T-7d | due-7d | administrator mail+sms, partner_manager=partner_manager mail | if:CERTIFIED urgent
ended | due+1w | administrator mail | if:CERTIFIED after

settlement_account
first | opened | finance mail+sms, administrator mail | urgent required
+3 | opened+3w/5w | finance mail, administrator mail |
"""


@dataclass(frozen=True, slots=True)
class Tells:
    """Who is told by which channels, and who instead where nobody of the role can be reached."""

    role: str
    instead: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """One line of a ladder; `every` is in working days, 0 for one that is told once."""

    name: str
    place: int
    anchor: str
    count: int
    unit: str
    every: int
    tells: tuple[Tells, ...]
    conditions: frozenset[str]
    only_in: frozenset[str]


_WHEN = re.compile(r"(due|opened)(?:([+-]\d+)([hdw]))?(?:/(\d+)w)?")


def _rung(line: str, place: int) -> Rung:
    name, when, told, conditions = (part.strip() for part in line.split("|"))
    found = _WHEN.fullmatch(when)
    assert found is not None, line
    words = conditions.split()
    states = [word.removeprefix("if:") for word in words if word.startswith("if:")]
    return Rung(
        name=name,
        place=place,
        anchor=found[1],
        count=int(found[2] or 0),
        unit=found[3] or "h",
        every=int(found[4] or 0),
        tells=tuple(_tells(part.strip()) for part in told.split(",")),
        conditions=frozenset(word for word in words if ":" not in word),
        only_in=frozenset(state for part in states for state in part.split(",")),
    )


def _tells(text: str) -> Tells:
    who, by = text.split()
    role, _, instead = who.partition("=")
    return Tells(role, instead or "administrator", tuple(by.split("+")))


def _ladders() -> dict[str, tuple[Rung, ...]]:
    found = {}
    for block in TEXT.strip().split("\n\n"):
        kind, *lines = block.split("\n")
        found[kind] = tuple(_rung(line, place) for place, line in enumerate(lines))
    return found


LADDERS = _ladders()

# Which contact a record names, in which field, and whose turn it is where it names none.
NAMED = {
    "inviter": ("inviter", "sales"),
    "owner": ("owner", "sales"),
    "account_manager": ("account_manager", "sales"),
    "lead": ("lead", "delivery"),
}
# Who stands in the record itself: the beginning of the fields' names.
IN_RECORD = {"customer", "member"}

# The states in which somebody has to act, waits, or mustn't be nagged; in all others it is closed.
OPEN = {
    "invitation": "PENDING EXPIRED",
    "statement": "PENDING",
    "incentive": "PENDING",
    "opportunity": "PENDING AUTO_DECLINED",
    "opportunity_progress": "IN_PROGRESS",
    "pre_registration": "REGISTERED EXPIRED",
    "member_invitation": "PENDING EXPIRED",
    "project_registration": "PENDING",
    "delivery_feedback": "REGISTERED EVIDENCE REJECTED",
    "sales_task": "PENDING IN_PROGRESS",
    "voucher": "USABLE",
    "cash_coupon": "USABLE",
    "coupon_quota": "NORMAL",
    "exclusive_offer": "PENDING EFFECTIVE",
    "certification": "MET CERTIFIED",
}
WAITING = {
    "statement": "ESTIMATED",
    "incentive": "REVIEWING",
    "pre_registration": "REVIEWING",
    "voucher": "INACTIVE",
    "cash_coupon": "INACTIVE",
    "certification": "NOT_MET",
}
PAUSED = {
    "statement": "DISPUTED",
    "delivery_feedback": "REVIEWING",
    "coupon_quota": "ADJUSTING FROZEN",
    "certification": "APPLIED",
}
# Known to be over: nothing is said any more of how long is left.
DEAD = {"EXPIRED", "AUTO_DECLINED"}

# What a failed invitation's reason means, in the words of the partner centre.
CAN_BE_SENT_AGAIN = {"邀请链接不存在", "邀请链接已失效", "邀请链接已被使用"}
FAILED_FOR_GOOD = {
    "客户已关联其他伙伴",
    "客户存在特殊商务合同",
    "客户账号已欠费",
    "客户是企业子账号",
}

# A payment's status, by programme: not yet approved, invoices are due; the rest is common.
NOT_YET = {
    "FH": "付款申请审核中",
    "DELIVERY": "付款申请审核中",
    "MDF": "兑现申报审核中",
    "KOOGALLERY": "待会签",
    "INCENTIVE": "付款申请审核中",
    "EI_PROCUREMENT": "待确认",
    "OPP_INCENTIVE": "激励审核中",
}
INVOICES_DUE = {
    "FH": "付款申请审核通过",
    "DELIVERY": "付款申请审核通过",
    "MDF": "兑现申报审核通过",
    "KOOGALLERY": "待开票",
    "INCENTIVE": "待开票",
    "EI_PROCUREMENT": "待开票",
    "OPP_INCENTIVE": "已支付",
}
SENT_BACK = "发票审核不通过"
