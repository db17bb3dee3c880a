"""What happens in a partner's own house: its people, members, projects and certified roles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from workers.simulation import names
from workers.simulation.days import DAY, here
from workers.simulation.events import CONTACT, PARTNER, UNSUBSCRIBED, Event
from workers.simulation.pen import History, Pen

ROLES = [
    "administrator",
    "sales",
    "finance",
    "supervisor",
    "delivery",
    "partner_manager",
    "sales",
    "finance",
]
ZONES = (
    *("Asia/Shanghai",) * 40,
    "Asia/Singapore",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Auckland",
    "Asia/Kolkata",
)
QUIET = (*(None,) * 12, "none", "20:30-09:30", "12:00-14:00", "17:30-09:45", "00:00-06:00")
KINDS = "statement payment incentive invitation sales_task opportunity voucher certification"
FAMILY = 10
"""So many partners belong together: the first is the distributor of the resellers among them."""


def partner(pen: Pen, number: int) -> Iterator[Event]:
    """The partner itself: some resellers, some whose account isn't authenticated for a while."""
    first = number - number % FAMILY
    reseller = number != first and pen.maybe(0.25)
    kinds = ("软件伙伴", "服务伙伴")
    data: dict[str, Any] = {
        "ref": pen.partner,
        "name": names.company(pen.chance, pen.chinese),
        "type": "总经销商"
        if number == first
        else "云经销商"
        if reseller
        else pen.chance.choice(kinds),
        "parent": f"P{first:04}" if reseller else None,
        "account_authenticated": pen.chance.choices((True, False, None), (85, 12, 3))[0],
    }
    came = pen.start
    if reseller and pen.maybe(0.1):
        yield Event(came, PARTNER, {**data, "parent": None})
        came = pen.after(came, 20, 200)
    yield Event(came, PARTNER, data)
    if data["account_authenticated"] is False and pen.maybe(0.7):
        data = {**data, "account_authenticated": True}
        yield Event(pen.after(came, 30, 250), PARTNER, data)


def people(pen: Pen) -> Iterator[Event]:
    """Most partners have all roles; some lack some, some have nobody at first or at all."""
    kind = pen.chance.choices(("whole", "poor", "late", "nobody"), (84, 10, 4, 2))[0]
    if kind == "nobody":
        return
    roles = ROLES[: pen.chance.randint(5, 8)] if kind == "whole" else pen.chance.sample(ROLES, 2)
    came = pen.after(pen.start, 20, 60) if kind == "late" else pen.start
    for index, role in enumerate(roles):
        pen.contacts.setdefault(role, []).append(f"C-{pen.partner}-{index}")
        yield from _contact(pen, index, role, came)


def _contact(pen: Pen, index: int, role: str, came: datetime) -> Iterator[Event]:
    number = int(pen.partner[1:])
    ref = f"C-{pen.partner}-{index}"
    shared = index if not (index and pen.maybe(0.03)) else 0
    data: dict[str, Any] = {
        "partner": pen.partner,
        "ref": ref,
        "role": role,
        "name": names.person(pen.chance, pen.chinese),
        "mail": f"{role}{shared}@{pen.partner.lower()}.example",
        "mobile": f"+86138{number % 10_000:04}{index:04}",
        "language": "zh-CN" if pen.chinese else "en",
        "time_zone": pen.chance.choice(ZONES),
        "channels": pen.chance.choices(("mail sms", "mail", "sms"), (80, 15, 5))[0],
        "quiet_hours": pen.chance.choice(QUIET),
        "digest": "daily" if pen.maybe(0.2) else "each",
    }
    unusable = pen.chance.random()
    if unusable < 0.08:
        clear = dict(data)
        data |= {"mail": "c***@example.com", "mobile": "138****0000"}
        if unusable < 0.05:
            yield Event(pen.after(came, 10, 200), CONTACT, clear)
    elif unusable < 0.12:
        data |= {"mail": None} if pen.maybe(0.5) else {"mobile": None}
    yield Event(came, CONTACT, data)
    yield from _changes(pen, data, came)


def _changes(pen: Pen, data: dict[str, Any], came: datetime) -> Iterator[Event]:
    """In a year somebody leaves, somebody's address changes, and somebody has had enough."""
    if pen.maybe(0.05):
        leaves = pen.after(came, 30, 300)
        yield Event(leaves, CONTACT, {**data, "active": False})
        follower = {
            **data,
            "ref": f"{data['ref']}b",
            "mail": f"new-{data['mail'] or ref_mail(data)}",
        }
        if "*" not in follower["mail"]:
            name = names.person(pen.chance, pen.chinese)
            yield Event(pen.after(leaves, 0, 20), CONTACT, {**follower, "name": name})
    elif pen.maybe(0.04) and data["mail"] and "*" not in data["mail"]:
        moved = {**data, "mail": f"moved-{data['mail']}"}
        yield Event(pen.after(came, 30, 300), CONTACT, moved)
    elif pen.maybe(0.04):
        channel = pen.chance.choice(("mail", "mail", "sms"))
        address = data["mail" if channel == "mail" else "mobile"]
        kind = "*" if pen.maybe(0.1) else pen.chance.choice(KINDS.split())
        if address and "*" not in address:
            said = {"channel": channel, "address": address, "kind": kind, "partner": pen.partner}
            yield Event(pen.after(came, 30, 300), UNSUBSCRIBED, said)


def ref_mail(data: dict[str, Any]) -> str:
    """A mail address for somebody whose forerunner had none."""
    return f"{data['role']}@{data['partner'].lower()}.example"


def members(pen: Pen) -> Iterator[Event]:
    """Employees are invited, now and then several at once; an unanswered invitation is repeated."""
    for _ in range(pen.times(0.8)):
        sent = pen.some_time()
        for _ in range(pen.chance.choice((1, 1, 2, 4))):
            number = pen.chance.randrange(100_000)
            mail = f"member{number}@{pen.partner.lower()}.example"
            data = {
                "ref": pen.ref("M"),
                "member_name": names.person(pen.chance, pen.chinese),
                "member_mail": mail if pen.maybe(0.9) else None,
                "member_mobile": f"+8613933{number:06}" if pen.maybe(0.8) else None,
                "member_language": "zh-CN" if pen.chinese else "en",
                "member_time_zone": "Asia/Shanghai" if pen.maybe(0.9) else "Europe/Berlin",
                "sent_at": sent,
                "attempt_no": 1,
                "status": "PENDING",
            }
            history = History(pen, "member_invitation", data)
            at = history.at(sent)
            end = pen.chance.choices(("BOUND", "EXPIRED", "REVOKED", "again", ""), (8, 3, 1, 2, 3))[
                0
            ]
            at = pen.after(at, 1, 9)
            if end == "again":
                history.at(at, attempt_no=2, sent_at=at, status="PENDING")
            elif end:
                known = {"updated_at": at} if end == "EXPIRED" else {}
                history.at(at, status=end, **known)
            if end == "BOUND" and pen.maybe(0.1):
                history.at(pen.after(at, 20, 60), status="UNBOUND")
            yield from history.events


def projects(pen: Pen) -> Iterator[Event]:
    """Projects appear, are registered and delivered; one file may be behind the other."""
    for _ in range(pen.times(0.8)):
        appeared = pen.some_time()
        common = {
            "ref": pen.ref("D"),
            "project_name": names.customer(pen.chance, pen.chinese) + " DevOps",
            "customer_name": names.customer(pen.chance, pen.chinese) if pen.maybe(0.8) else None,
        }
        data = {**common, "solution": "上云迁移", "appeared_at": appeared, "status": "PENDING"}
        history = History(pen, "project_registration", data)
        history.at(appeared)
        at = pen.after(appeared, 1, 25)
        if pen.maybe(0.7):
            if pen.maybe(0.6):
                history.at(at, status="REGISTERED")
            yield from _delivery(pen, common, at)
        elif pen.maybe(0.9):
            history.at(at, status="CANCELLED")
        yield from history.events


def _delivery(pen: Pen, common: dict[str, Any], registered: datetime) -> Iterator[Event]:
    planned = here(registered) + pen.chance.randint(10, 60) * DAY if pen.maybe(0.75) else None
    data = {
        **common,
        "registered_at": registered,
        "planned_on": planned,
        "lead": pen.someone("delivery"),
        "status": "REGISTERED",
    }
    history = History(pen, "delivery_feedback", data)
    at = history.at(registered)
    if planned and pen.maybe(0.15):
        at = pen.after(at, 2, 12)
        history.at(at, planned_on=planned + pen.chance.randint(5, 20) * DAY)
    if pen.maybe(0.5):
        at = pen.after(at, 5, 60)
        history.at(at, status="EVIDENCE")
    for count in range(1, pen.chance.choice((1, 1, 2, 3))):
        at = pen.after(at, 2, 20)
        history.at(at, status="REVIEWING")
        at = pen.after(at, 1, 6)
        why = {"rejected_at": at, "rejected_count": count, "reject_reason": "附件不清晰"}
        history.at(at, status="REJECTED", **why)
    if pen.maybe(0.95):
        history.at(pen.after(at, 1, 30), status=pen.chance.choice(("ACCEPTED", "ENDED")))
    yield from history.events


def certifications(pen: Pen) -> Iterator[Event]:
    """Roles whose requirements are met, that are applied for, certified, and end after a while."""
    for _ in range(pen.times(0.8)):
        since = pen.some_time()
        status = pen.chance.choices(("NOT_MET", "MET", "APPLIED", "CERTIFIED"), (2, 4, 1, 4))[0]
        ends = here(since) + pen.chance.choice((30, 75, 120, 365)) * DAY
        data = {
            "ref": pen.ref("Z"),
            "role_name": pen.chance.choice(("解决方案伙伴", "服务伙伴", "Software partner")),
            "path": "Service",
            "since": since,
            "ends_on": ends if status == "CERTIFIED" and pen.maybe(0.9) else None,
            "status": status,
        }
        history = History(pen, "certification", data)
        at = history.at(since)
        follow = {
            "NOT_MET": ("MET",),
            "MET": ("APPLIED", "CERTIFIED"),
            "APPLIED": ("CERTIFIED",),
            "CERTIFIED": ("ENDED",),
        }
        for word in follow[status]:
            if not pen.maybe(0.7):
                break
            at = pen.after(at, 3, 40) if word != "ENDED" else pen.moment(ends + 2 * DAY)
            ends_on = here(at) + 90 * DAY if word == "CERTIFIED" else history.data["ends_on"]
            history.at(at, status=word, since=at, ends_on=ends_on)
        yield from history.events
