"""What happens to a partner's customers: they are invited, registered, won, and looked after."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from workers.simulation import names
from workers.simulation.days import DAY, here
from workers.simulation.events import Event
from workers.simulation.pen import History, Pen

AGAIN = ("邀请链接不存在", "邀请链接已失效", "邀请链接已被使用")
FOR_GOOD = ("客户已关联其他伙伴", "客户存在特殊商务合同", "客户账号已欠费", "客户是企业子账号")


def invitations(pen: Pen) -> Iterator[Event]:
    """Some with a registration of their own, some re-issued, some failed, many accepted."""
    for _ in range(pen.times(1.2)):
        registration = None
        sent = pen.some_time()
        if pen.maybe(0.3):
            registered = pen.after(sent, -9, 0)
            registration = registered_customer(pen, registered)
            yield from registration.events
        yield from _invitation(pen, sent, registration)


def _invitation(pen: Pen, sent: datetime, registration: History | None) -> Iterator[Event]:
    origin = pen.chance.choices(("ONLINE", "ACTIVITY", "QR", "OFFLINE_UNIVERSAL"), (6, 2, 1, 1))[0]
    data = {
        "ref": pen.ref("I"),
        **pen.customer(),
        "origin": origin,
        "association_type": pen.chance.choice(("REFERRAL", "RESALE", None)),
        "sent_at": sent,
        "status": "PENDING",
        "attempt_no": 1,
        "inviter": pen.someone("sales"),
        "registration": registration.data["ref"] if registration else None,
    }
    if origin == "ACTIVITY" and pen.maybe(0.95):
        day = here(sent) + pen.chance.randint(2, 20) * DAY
        data["activity_ends_at"] = day if pen.maybe(0.5) else pen.moment(day)
    if registration is None and pen.maybe(0.2):
        data["registered_at"] = pen.after(sent, -9, 0)
    history = History(pen, "invitation", data)
    at = history.at(sent)
    for _ in range(3):
        at = pen.after(at, 0, 9)
        end = pen.chance.choices(("ACCEPTED", "REVOKED", "EXPIRED", "FAILED", ""), (9, 1, 4, 2, 4))[
            0
        ]
        if end == "FAILED":
            reason = pen.chance.choice((*AGAIN, *FOR_GOOD, *FOR_GOOD, "系统繁忙"))
            history.at(at, status=end, failure_reason=reason, updated_at=at)
        elif end == "EXPIRED":
            history.at(at, status=end, updated_at=at)
        elif end:
            history.at(at, status=end)
        if end in {"ACCEPTED", "REVOKED"} or pen.maybe(0.5):
            break
        at = pen.after(at, 0, 6)
        number = history.data["attempt_no"] + 1
        history.at(at, status="PENDING", attempt_no=number, sent_at=at, failure_reason=None)
    yield from history.events


def registered_customer(pen: Pen, registered: datetime) -> History:
    """One registration (报备): reviewed, registered, and associated, expired or cancelled."""
    data = {
        "ref": pen.ref("R"),
        "customer_name": names.customer(pen.chance, pen.chinese),
        "customer_mobile": f"+8613922{pen.chance.randrange(1_000_000):06}",
        "registered_at": registered,
        "owner": pen.someone("sales"),
        "status": "REVIEWING" if pen.maybe(0.3) else "REGISTERED",
    }
    if pen.maybe(0.4):
        day = here(registered) + 15 * DAY
        data["expires_at"] = day if pen.maybe(0.5) else registered + 15 * DAY
    history = History(pen, "pre_registration", data)
    at = history.at(registered)
    if data["status"] == "REVIEWING":
        at = pen.after(at, 0, 2)
        history.at(at, status="REGISTERED" if pen.maybe(0.85) else "CANCELLED")
    end = pen.chance.choices(("ASSOCIATED", "CANCELLED", "EXPIRED", ""), (10, 1, 3, 6))[0]
    at = pen.after(at, 1, 16)
    if end and history.data["status"] == "REGISTERED":
        known = {"updated_at": at} if end == "EXPIRED" else {}
        history.at(at, status=end, **known)
    return history


def registrations(pen: Pen, campaign: bool) -> Iterator[Event]:
    """A few over the year; a partner with a campaign registers a hundred in a few weeks."""
    for _ in range(pen.times(1.2)):
        yield from registered_customer(pen, pen.some_time()).events
    if campaign:
        first = pen.some_time()
        for number in range(pen.chance.randint(96, 115)):
            yield from registered_customer(pen, pen.after(first, number // 12, number // 9)).events


def opportunities(pen: Pen) -> Iterator[Event]:
    """Shared by the vendor; who accepts has to report progress."""
    for _ in range(pen.times(1.5)):
        shared = pen.some_time()
        ref = pen.ref("O")
        common = {
            "ref": ref,
            "name": f"{names.customer(pen.chance, pen.chinese)}"
            + (" 上云项目" if pen.chinese else ": move to the cloud"),
            "customer_name": names.customer(pen.chance, pen.chinese) if pen.maybe(0.8) else None,
            "owner": pen.someone("sales"),
        }
        history = History(
            pen,
            "opportunity",
            {
                **common,
                "shared_at": shared,
                "expected_amount": pen.amount(5_000, 900_000),
                "status": "PENDING",
            },
        )
        history.at(shared)
        at = pen.after(shared, 0, 4)
        end = pen.chance.choices(
            ("ACCEPTED", "DECLINED", "AUTO_DECLINED", "CANCELLED", ""), (9, 2, 4, 1, 1)
        )[0]
        if end == "AUTO_DECLINED":
            at = pen.after(shared, 4, 8)
            history.at(at, status=end, updated_at=at)
        elif end:
            history.at(at, status=end, decline_reason="no capacity" if end == "DECLINED" else None)
        if end == "ACCEPTED":
            yield from _progress(pen, common, at)
            if pen.maybe(0.1):
                history.at(pen.after(at, 5, 40), status="CANCELLED")
        yield from history.events


def _progress(pen: Pen, common: dict[str, str | None], accepted: datetime) -> Iterator[Event]:
    data = {**common, "accepted_at": accepted, "status": "IN_PROGRESS"}
    history = History(pen, "opportunity_progress", data)
    at = history.at(accepted)
    for number in range(pen.chance.randint(0, 3)):
        at = pen.after(at, 4, 25)
        history.at(at, last_update_at=at, progress=f"step {number + 1}")
    if pen.maybe(0.95):
        history.at(pen.after(at, 3, 30), status=pen.chance.choice(("DELIVERED", "ENDED")))
    yield from history.events


def sales_tasks(pen: Pen) -> Iterator[Event]:
    """With and without a last day; large renewals have until the end of the month."""
    for _ in range(pen.times(1.2)):
        assigned = pen.some_time()
        kind = pen.chance.choice(("LEAD", "CROSS_SELL", "RENEWAL", "RENEWAL", "SCENARIO"))
        due = here(assigned) + pen.chance.randint(3, 40) * DAY if pen.maybe(0.8) else None
        data = {
            "ref": pen.ref("T"),
            "name": "到期续费跟进" if pen.chinese else "Renewal follow-up",
            "task_type": kind,
            "customer_name": names.customer(pen.chance, pen.chinese),
            "assigned_at": assigned,
            "due_on": due,
            "amount": pen.amount(500, 300_000) if pen.maybe(0.7) else None,
            "large": kind == "RENEWAL" and pen.maybe(0.5),
            "account_manager": pen.someone("sales", 0.3),
            "status": "PENDING",
        }
        history = History(pen, "sales_task", data)
        at = history.at(assigned)
        if pen.maybe(0.5):
            at = pen.after(at, 0, 10)
            history.at(at, status="IN_PROGRESS")
        if due and pen.maybe(0.15):
            at = pen.after(at, 0, 6)
            history.at(at, due_on=due + pen.chance.randint(3, 20) * DAY)
        if pen.maybe(0.95):
            history.at(pen.after(at, 1, 40), status=pen.chance.choice(("DONE", "DONE", "CLOSED")))
        yield from history.events


def offers(pen: Pen) -> Iterator[Event]:
    """Offers that begin, and end at a day or not at all."""
    for _ in range(pen.times(1)):
        made = pen.some_time()
        starts = pen.moment(here(made) + pen.chance.randint(0, 20) * DAY)
        if pen.maybe(0.5):
            starts = starts.replace(hour=16, minute=0)
        day = here(starts) + pen.chance.choice((20, 30, 60, 90)) * DAY
        data = {
            "ref": pen.ref("E"),
            "product": pen.chance.choice(("ECS", "对象存储 OBS", "GaussDB", "WAF")),
            "customer_name": names.customer(pen.chance, pen.chinese) if pen.maybe(0.8) else None,
            "discount": "7.5 折",
            "created_at": made,
            "starts_at": starts,
            "ends_at": None if pen.maybe(0.15) else day if pen.maybe(0.6) else pen.moment(day),
            "owner": pen.someone("sales"),
            "status": "PENDING" if starts > made else "EFFECTIVE",
        }
        history = History(pen, "exclusive_offer", data)
        at = history.at(made)
        if data["status"] == "PENDING" and pen.maybe(0.95):
            at = max(at, starts) + DAY / 24
            history.at(at, status="EFFECTIVE")
        if pen.maybe(0.2):
            at = pen.after(at, 1, 40)
            history.at(at, ends_at=day + pen.chance.choice((7, 30)) * DAY)
        end = pen.chance.choices(("ENDED", "DELETED", ""), (5, 2, 3))[0]
        if end == "DELETED":
            history.at(pen.after(at, 1, 30), status=end)
        elif end and history.data["ends_at"]:
            history.at(pen.after(pen.moment(day), 1, 3), status=end)
        yield from history.events
