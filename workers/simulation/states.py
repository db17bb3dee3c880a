"""What a record's raw fields mean to the judge: whose turn it is, since when, and until when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from workers.simulation.days import DAY, end, here, later, midnight_after
from workers.simulation.ladders import (
    CAN_BE_SENT_AGAIN,
    DEAD,
    FAILED_FOR_GOOD,
    INVOICES_DUE,
    NOT_YET,
    OPEN,
    PAUSED,
    SENT_BACK,
    WAITING,
    Rung,
)

Key = tuple[str, str]
"""A record's kind and ref."""


class Message(NamedTuple):
    """One thing to be told of one record to one person by one channel."""

    kind: str
    ref: str
    ladder: str
    stage: str
    channel: str
    contact: str


@dataclass(slots=True)
class Thing:
    """A record as it stands: its raw fields, what was told of it, and when to look again.

    `told` says which address each thing went to.
    `mute`: somebody must be told and nobody can be, until the record or its people change.
    `done`: its last word is spoken.
    """

    kind: str
    data: dict[str, Any]
    told: dict[Message, str] = field(default_factory=dict)
    wake: datetime | None = None
    mute: bool = False
    done: bool = False
    opened: datetime | None = None

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.kind, str(self.data["ref"])


@dataclass(slots=True)
class Known:
    """All records, the lines of payments, and who names whom."""

    things: dict[Key, Thing] = field(default_factory=dict)
    lines: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    named_by: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))

    def naming(self, thing: Thing, kind: str) -> Iterator[Thing]:
        """The records of a kind that name this one."""
        for key in self.named_by.get(thing.key, ()):
            if key[0] == kind:
                yield self.things[key]

    def named(self, thing: Thing, kind: str) -> Iterator[Thing]:
        """The records of a kind that this one names, as far as they are known."""
        for key in names(thing.kind, thing.data):
            if key[0] == kind and key in self.things:
                yield self.things[key]


def names(kind: str, data: dict[str, Any]) -> list[Key]:
    """The records that one of a kind has to do with, by its fields."""
    if not data:
        return []
    if kind == "invitation":
        wanted = data.get("registration")
        return [("pre_registration", wanted)] if wanted else []
    if kind == "payment":
        bills = list(data.get("bill_ids") or ())[:200]
        return [(of, bill) for of in ("statement", "incentive") for bill in bills]
    if kind == "opportunity_progress":
        return [("opportunity", data["ref"])]
    if kind == "delivery_feedback":
        return [("project_registration", data["ref"])]
    return []


def state(thing: Thing, known: Known) -> str:
    """open, waiting, paused, held or closed, with what is known of the others."""
    own = own_state(thing, known)
    return own if own == "closed" else _with_others(thing, known, own)


def _with_others(thing: Thing, known: Known, own: str) -> str:
    if thing.kind == "invitation":
        ends = known.named(thing, "pre_registration")
        told_first = own_failure_is_final(thing)
        over = not told_first and any(
            one.data["status"] in {"ASSOCIATED", "CANCELLED"} for one in ends
        )
    elif thing.kind == "pre_registration":
        over = any(i.data["status"] == "ACCEPTED" for i in known.naming(thing, "invitation"))
    elif thing.kind == "statement" or thing.kind == "incentive":
        over = any(_bills(one, known) for one in known.naming(thing, "payment"))
    elif thing.kind == "project_registration":
        over = any(True for _ in known.naming(thing, "delivery_feedback"))
    elif thing.kind == "opportunity_progress":
        gone = {"DECLINED", "AUTO_DECLINED", "CANCELLED"}
        over = any(one.data["status"] in gone for one in known.named(thing, "opportunity"))
    else:
        over = False
        if thing.kind == "payment" and own == "open":
            bills = known.named(thing, "statement")
            return "held" if any(one.data["status"] == "CANCELLED" for one in bills) else own
    return "closed" if over else own


def own_failure_is_final(thing: Thing) -> bool:
    """Whether an invitation failed in a way that can't be tried again: its inviter must hear so."""
    return bool(thing.data["status"] == "FAILED") and failure(thing.data) == "good"


def _bills(payment: Thing, known: Known) -> bool:
    """Whether a payment stands for the bills it names: past its review, and not withdrawn."""
    withdrawn = payment.data["status"] in {"已取消", "已作废", "已撤销", "CANCELLED"}
    return not withdrawn and own_state(payment, known) != "waiting"


def own_state(thing: Thing, known: Known) -> str:
    """The same from the record alone."""
    kind, data = thing.kind, thing.data
    if kind in {"pre_registration_limit", "settlement_account"}:
        return "closed" if data.get("gone") else "open"
    if kind == "payment":
        return _payment_state(data, known.lines.get(data["ref"], {}))
    if (special := _special_state(kind, data)) is not None:
        return special
    status = data["status"]
    for words, found in ((OPEN, "open"), (WAITING, "waiting"), (PAUSED, "paused")):
        if status in words.get(kind, "").split():
            return found
    return "closed"


def _special_state(kind: str, data: dict[str, Any]) -> str | None:
    """What the status alone doesn't say."""
    status, none_left = data["status"], False
    if kind in {"voucher", "cash_coupon", "coupon_quota"}:
        none_left = Decimal(data["balance"]) <= 0
    elif kind == "incentive":
        none_left = Decimal(data["total_incl_tax"]) <= 0
    if none_left:
        return "closed"
    if kind == "incentive" and status == "PAID":
        return "open" if data.get("list_available_at") else "waiting"
    if kind == "statement" and status == "PENDING" and data.get("feedback_open"):
        return "paused"
    if kind == "invitation" and status == "FAILED":
        return "open" if failure(data) else "held"
    unknown_end = data.get("origin") == "ACTIVITY" and not data.get("activity_ends_at")
    return "held" if unknown_end and status == "PENDING" else None


def failure(data: dict[str, Any]) -> str | None:
    """Whether a failed invitation failed for good, or can be sent `again`."""
    if data.get("status") != "FAILED":
        return None
    reason = data.get("failure_reason")
    if reason in FAILED_FOR_GOOD:
        return "good"
    return "again" if reason in CAN_BE_SENT_AGAIN else None


def _payment_state(data: dict[str, Any], lines: dict[int, dict[str, Any]]) -> str:
    status, amount = data["status"], Decimal(data["amount_incl_tax"])
    due = status == INVOICES_DUE[data["programme"]]
    if not due and status not in {NOT_YET[data["programme"]], SENT_BACK}:
        return "closed"
    if amount <= 0:
        return "closed"
    if status == NOT_YET[data["programme"]]:
        return "waiting"
    if due and data.get("invoice_numbers") and data.get("invoices_received_at"):
        return "closed"
    total = sum((Decimal(line["amount_incl_tax"]) for line in lines.values()), Decimal(0))
    return "open" if lines and total == amount else "held"


def is_dead(thing: Thing) -> bool:
    """Whether it is known to be over, though somebody must still be told that."""
    return thing.data.get("status") in DEAD or failure(thing.data) == "again"


def has_last_word(thing: Thing) -> bool:
    """Whether it is open only to be told once more."""
    if thing.kind == "opportunity":
        return bool(thing.data["status"] == "AUTO_DECLINED")
    return thing.kind == "invitation" and failure(thing.data) == "good"


OPENED = {
    "invitation": "sent_at",
    "statement": "generated_at",
    "incentive": "generated_at",
    "opportunity": "shared_at",
    "pre_registration": "registered_at",
    "member_invitation": "sent_at",
    "project_registration": "appeared_at",
    "delivery_feedback": "registered_at",
    "sales_task": "assigned_at",
    "voucher": "issued_at",
    "cash_coupon": "issued_at",
    "coupon_quota": "issued_at",
    "exclusive_offer": "created_at",
    "certification": "since",
    "pre_registration_limit": "since",
    "settlement_account": "since",
}


def opened_at(thing: Thing) -> datetime:
    """Since when it has been somebody's turn."""
    data, kind = thing.data, thing.kind
    found: datetime | None = None
    if kind == "payment":
        found = max(data["approved_at"], data.get("rejected_at") or data["approved_at"])
    elif kind == "opportunity_progress":
        found = max(data["accepted_at"], data.get("last_update_at") or data["accepted_at"])
    elif kind == "incentive" and data["status"] == "PAID":
        found = data.get("list_available_at")
    elif kind == "delivery_feedback" and data["status"] == "REJECTED":
        found = data.get("rejected_at")
    return found or _instant(data, OPENED[kind])


def _instant(data: dict[str, Any], name: str) -> datetime:
    found: datetime = data[name]
    return found


def last_day(thing: Thing) -> date | None:
    """The last day on which it is in time, for kinds that are counted in days."""
    data, kind = thing.data, thing.kind
    if kind == "statement" or (kind == "incentive" and data["status"] == "PENDING"):
        count = {"FH": 14, "ACTIVITY": 40}.get(data.get("statement_kind") or data["programme"])
        given = data.get("confirm_by" if kind == "statement" else "publication_ends_on")
        if count is not None and (kind == "incentive" or given is None):
            return later(here(data["generated_at"]), count)
        return given
    if kind == "opportunity":
        return later(here(data["shared_at"]), 3)
    if kind == "delivery_feedback" and data["status"] in {"REGISTERED", "EVIDENCE"}:
        return data.get("planned_on")
    if kind == "sales_task":
        day: date | None = data.get("due_on")
        if not by_month(data):
            return day
        first = (day or here(data["assigned_at"])).replace(day=1)
        return (first + 31 * DAY).replace(day=1) - DAY
    if kind == "certification" and data["status"] == "CERTIFIED":
        return data.get("ends_on")
    return None


def by_month(data: dict[str, Any]) -> bool:
    """Whether a sales task is a large renewal."""
    return bool(data.get("large")) and data["task_type"] == "RENEWAL"


def deadline(thing: Thing, known: Known) -> datetime | None:
    """The first instant that is too late."""
    data, kind = thing.data, thing.kind
    if kind == "invitation":
        return _invitation_ends(thing, known)
    if kind in {"voucher", "cash_coupon", "coupon_quota"}:
        return end(data["expires_at"])
    if kind == "exclusive_offer":
        pending = data["status"] == "PENDING"
        return _instant(data, "starts_at") if pending else end(data.get("ends_at"))
    if kind == "pre_registration":
        found = end(data.get("expires_at")) or data["registered_at"] + 15 * DAY
    elif kind == "member_invitation":
        found = data["sent_at"] + 7 * DAY
    else:
        day = last_day(thing)
        found = None if day is None else midnight_after(day)
    return _no_later(found, data)


def _no_later(found: datetime | None, data: dict[str, Any]) -> datetime | None:
    """Of what is known to be over, no later than that was known."""
    if found is not None and data.get("status") in DEAD and data.get("updated_at"):
        return min(found, _instant(data, "updated_at"))
    return found


def _invitation_ends(thing: Thing, known: Known) -> datetime | None:
    data = thing.data
    ends = {"ONLINE": data["sent_at"] + 7 * DAY, "ACTIVITY": end(data.get("activity_ends_at"))}
    link = ends.get(data["origin"])
    if is_dead(thing):
        times = [at for at in (link, data.get("updated_at")) if at is not None]
        link = min(times, default=data["sent_at"])
    clocks = [link, end(data.get("registration_expires_at"))]
    if clocks[1] is None and data.get("registered_at"):
        clocks[1] = data["registered_at"] + 15 * DAY
    clocks += [deadline(one, known) for one in known.named(thing, "pre_registration")]
    return min((at for at in clocks if at is not None), default=None)


def ladder(thing: Thing) -> str:
    """Which climb it is: another one may tell each stage once more."""
    data, kind = thing.data, thing.kind
    if kind in {"invitation", "member_invitation"}:
        return str(data.get("attempt_no", 1))
    if kind == "payment":
        return str(data.get("rejected_count", 0) + 1)
    if kind == "incentive" and data["status"] == "PAID":
        return "list"
    if kind in {"voucher", "cash_coupon", "coupon_quota"}:
        return _utc(data["expires_at"], "%Y-%m-%d")
    if kind == "pre_registration":
        return _utc(data["expires_at"], "%Y%m%d") if data.get("expires_at") else "1"
    if kind == "exclusive_offer":
        if data["status"] == "PENDING":
            return "start"
        return _utc(data["ends_at"], "%Y-%m-%d") if data.get("ends_at") else "end"
    if kind in {"opportunity_progress", "settlement_account"}:
        return _utc(opened_at(thing), "%Y%m%dT%H%M%SZ")
    if kind == "pre_registration_limit":
        reached = "limit" if data["pending"] >= 100 else "near"
        return f"{reached}:{_utc(opened_at(thing), '%Y%m%dT%H%M%SZ')}"
    return _by_day(thing)


def _by_day(thing: Thing) -> str:
    data, kind = thing.data, thing.kind
    if kind == "certification":
        if data["status"] == "MET":
            return "apply"
        ends = data.get("ends_on") if data["status"] == "CERTIFIED" else None
        return f"end:{ends.isoformat()}" if ends else "1"
    if kind == "delivery_feedback" and data["status"] == "REJECTED":
        at = data.get("rejected_at")
        when = f":{_utc(at, '%Y%m%dT%H%M%SZ')}" if at else ""
        return f"rejected-{data.get('rejected_count', 0)}{when}"
    fields = {
        "statement": "confirm_by",
        "incentive": "publication_ends_on",
        "delivery_feedback": "planned_on",
    }
    day = last_day(thing) if kind == "sales_task" else data.get(fields.get(kind, ""))
    return day.isoformat() if day else "1"


def _utc(value: date | datetime, form: str) -> str:
    at = end(value)
    assert at is not None
    return at.astimezone(UTC).strftime(form)


WAITS = {"EI_PROCUREMENT", "KOOGALLERY"}
"""Statements whose settlement waits after the deadline."""


def is_off(rung: Rung, thing: Thing, due: datetime | None) -> bool:
    """Whether a line of the ladder isn't for this record as it stands."""
    data, conditions = thing.data, rung.conditions
    if (rung.anchor == "due" and due is None) or ("undated" in conditions and due is not None):
        return True
    if rung.only_in and data["status"] not in rung.only_in:
        return True
    if not conditions:
        return False
    failed = failure(data) == "good"
    return (
        ("alive" in conditions and (failed or is_dead(thing)))
        or ("failed" in conditions and not failed)
        or ("unfailed" in conditions and failed)
        or ("by_month" in conditions and not by_month(data))
        or ("waits" in conditions and data["statement_kind"] not in WAITS)
        or ("long" in conditions and due is not None and data["issued_at"] > due - 30 * DAY)
    )
