"""Makes up a month of a partner centre: raw events that the oracle and the product both read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.simulation.oracle import BEIJING, DAY, HOUR, MINUTE, SCAN_EVERY, Event

START = datetime(2026, 9, 14, tzinfo=BEIJING).astimezone(UTC)
END = START + 30 * DAY
ZONES = (
    *("Asia/Shanghai",) * 8,
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "Pacific/Auckland",
    "Asia/Kolkata",
    "Pacific/Honolulu",
    "Australia/Lord_Howe",
)
QUIET = (*(None,) * 6, "none", "20:30-09:30", "12:00-14:00", "17:30-09:45", "00:00-06:00")
PARTNERS = 150


def life(seed: int, records: int) -> list[Event]:
    """All events of a span of 30 days, in no particular order."""
    chance = Random(seed)
    events = [event for number in range(PARTNERS) for event in _partner(chance, number)]
    for number in range(records):
        make = chance.choices((_invitation, _statement, _payment), (45, 43, 12))[0]
        events.extend(make(chance, number, f"P{chance.randrange(PARTNERS)}"))
    return [event for event in events if event.at < END]


def _partner(chance: Random, number: int) -> Iterator[Event]:
    """Most have all roles; some lack one, some have nobody at first or at all."""
    kind = chance.choices(("whole", "poor", "late", "nobody"), (70, 20, 6, 4))[0]
    if kind == "nobody":
        return
    roles = ["administrator", "sales", "finance", "partner_manager", "finance", "sales"]
    roles = roles[: chance.randint(3, 6)] if kind == "whole" else chance.sample(roles, 2)
    came = START - DAY if kind != "late" else _some_time(chance, START + 5 * DAY, START + 15 * DAY)
    for index, role in enumerate(roles):
        ref = f"C{number}-{index}"
        shared = chance.random() < 0.04 and index
        data = {
            "partner": f"P{number}",
            "ref": ref,
            "role": role,
            "name": ref,
            "mail": f"{f'c{number}-0' if shared else ref.lower()}@example.com",
            "mobile": f"+86138{number:04d}{index:04d}",
            "language": chance.choice(("zh-CN", "en")),
            "time_zone": chance.choice(ZONES),
            "channels": chance.choice(("mail sms", "mail sms", "mail", "sms")),
            "quiet_hours": chance.choice(QUIET),
        }
        unusable = chance.random()
        if unusable < 0.12:
            clear = dict(data)
            data |= {"mail": "c***@example.com", "mobile": "138****0000"}
            if unusable < 0.06:
                yield Event(_some_time(chance, START, END), "contact", clear)
        elif unusable < 0.2:
            data |= {"mail": None} if chance.random() < 0.5 else {"mobile": None}
        yield Event(came, "contact", data)


def _invitation(chance: Random, number: int, partner: str) -> Iterator[Event]:
    sent = _some_time(chance, START - 6 * DAY, END - 2 * DAY)
    origin = chance.choices(("ONLINE", "ACTIVITY", "QR"), (6, 3, 1))[0]
    data: dict[str, Any] = {
        "ref": f"I{number}",
        "partner": partner,
        "customer_name": f"Customer {number}",
        "customer_mail": chance.choice((f"i{number}@customer.example",) * 5 + ("z***@e.com", None)),
        "customer_mobile": chance.choice((f"+86139{number:08d}",) * 5 + (None,)),
        "customer_time_zone": chance.choice(ZONES),
        "origin": origin,
        "sent_at": sent,
        "status": "PENDING",
        "attempt_no": 1,
        "inviter": f"C{partner[1:]}-{chance.randrange(6)}" if chance.random() < 0.5 else None,
    }
    if origin == "ACTIVITY":
        data["activity_ends_at"] = (
            sent + chance.randint(2, 20) * DAY + chance.randrange(0, 24, 3) * HOUR
        )
    if origin == "QR" or chance.random() < 0.2:
        data["registered_at"] = sent - chance.randint(0, 9) * DAY
    yield Event(max(sent, START), "invitation", data)
    at = _after(chance, sent)
    if chance.random() < 0.5:
        yield Event(at, "invitation", {**data, "status": chance.choice(("ACCEPTED", "REVOKED"))})
    elif chance.random() < 0.3:
        yield Event(at, "invitation", {**data, "status": "EXPIRED", "updated_at": at})
    elif chance.random() < 0.4:
        again = {**data, "attempt_no": 2, "sent_at": at}
        yield Event(at, "invitation", again)
        if chance.random() < 0.5:
            yield Event(_after(chance, at), "invitation", {**again, "status": "ACCEPTED"})


def _statement(chance: Random, number: int, partner: str) -> Iterator[Event]:
    made = _some_time(chance, START - 4 * DAY, END - 4 * DAY)
    dated = chance.random() < 0.75
    kind = chance.choice(("INCENTIVE", "EI_PROCUREMENT")) if dated else "KOOGALLERY"
    data = {
        "ref": f"S{number}",
        "partner": partner,
        "statement_kind": kind,
        "generated_at": made,
        "confirm_by": made.astimezone(BEIJING).date() + chance.randint(1, 14) * DAY
        if dated
        else None,
        "amount_incl_tax": f"{chance.randrange(1, 999999) / 100:.2f}",
        "status": "PENDING",
    }
    yield Event(max(made, START), "statement", data)
    at = _after(chance, made)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        status = chance.choice(("CONFIRMED", "DISPUTED", "PENDING", "CONFIRMED"))
        yield Event(at, "statement", {**data, "status": status})
        at = _after(chance, at)


def _payment(chance: Random, number: int, partner: str) -> Iterator[Event]:
    approved = _some_time(chance, START - 4 * DAY, END - 6 * DAY)
    wrong = chance.random() < 0.1
    data: dict[str, Any] = {
        "ref": f"F{number}",
        "partner": partner,
        "programme": "FH",
        "status": "付款申请审核通过",
        "approved_at": approved,
        "amount_incl_tax": "212.00",
        "buyer_title": "Example Cloud",
        "buyer_tax_no": "91520900MA6J6CBN9Q",
    }
    line = {
        "payment": f"F{number}",
        "line": 1,
        "item_name": "Consulting",
        "tax_rate": "6%",
        "amount_incl_tax": "106.00" if wrong else "212.00",
    }
    came = max(approved, START)
    yield Event(came, "line", line)
    yield Event(came, "payment", data)
    if wrong and chance.random() < 0.5:
        rest = {**line, "line": 2, "amount_incl_tax": "106.00"}
        yield Event(_after(chance, approved), "line", rest)
    at = _after(chance, approved)
    if chance.random() < 0.5:
        reported = {**data, "invoice_numbers": "26522000000012345678"}
        yield Event(at, "payment", reported)
        at = _after(chance, at)
        if chance.random() < 0.4:
            back = {"status": "发票审核不通过", "rejected_count": 1, "rejected_at": at}
            yield Event(at, "payment", {**reported, **back})
        else:
            yield Event(at, "payment", {**reported, "invoices_received_at": at})


def _some_time(chance: Random, first: datetime, last: datetime) -> datetime:
    """On every third hour and a half, so that a month has not too many busy ticks."""
    steps = int((last - first) / (3 * HOUR))
    return first + chance.randrange(steps) * 3 * HOUR + 30 * MINUTE


def _after(chance: Random, at: datetime) -> datetime:
    """A later time: often between a scan and its delivery, often around nine in Beijing."""
    day = max(at, START) + chance.randint(1, 6) * DAY
    nine = datetime.combine(day.astimezone(BEIJING).date(), datetime.min.time(), BEIJING) + 9 * HOUR
    when = nine.astimezone(UTC) + chance.choice((-2, 0, 0, 0, 1, 4)) * HOUR
    return when + chance.choice((timedelta(0), MINUTE, MINUTE, SCAN_EVERY - MINUTE))
