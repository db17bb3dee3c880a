"""Invitations: a customer has to register by a link before it dies.

Opens:      the link is issued; a re-issue starts a new ladder
Closes:     the customer is associated, the link revoked, or its registration (报备) associated or
            cancelled; what failed for good once who invited has been told
Deadline:   the earlier of the link's end and the registration's (报备, 15 days). The link's end
            follows its origin, not what carried it: mailed by the system 7 x 24 hours, of an
            activity the activity's end, offline links and QR codes never. Then: invite again.
            The registration's end comes with the invitation or from the registration itself
Tells:      the customer and who invited; once it is dead, or has failed for good, only who invited
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Column,
    Instant,
    OptionalEnd,
    OptionalInstant,
    OptionalLine,
    OptionalRef,
    Ref,
    choice,
)
from schedules.people import OptionalAssociation
from schedules.rule import (
    Assessment,
    Cadence,
    Contact,
    CustomerRecordData,
    Deadline,
    Effect,
    Link,
    Plain,
    Record,
    Related,
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    customer_of,
    data_of,
    stage,
)
from schedules.rules._samples import sample_of
from schedules.rules.pre_registration import REGISTRATION_LIVES, PreRegistrationData
from schedules.rules.pre_registration import Status as Registration

LINK_LIVES = timedelta(days=7)
"""How long a link lives that the system mailed: 7 x 24 hours, the earlier reading of "7 days"."""


class Origin(StrEnum):
    """Where a link comes from; a link of OFFLINE and QR origin never expires."""

    ONLINE = "ONLINE"
    ACTIVITY = "ACTIVITY"
    OFFLINE_UNIVERSAL = "OFFLINE_UNIVERSAL"
    OFFLINE_CUSTOM = "OFFLINE_CUSTOM"
    QR = "QR"


class Status(StrEnum):
    """Where an invitation stands. EXPIRED: the link is dead, and who invited must be told."""

    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    REVOKED = "REVOKED"


class InvitationData(CustomerRecordData):
    """One invitation; `url` is its link. Ends given as bare dates include that day (Beijing).

    The customer has to register with `customer_mobile`, the number given at the registration,
    whose ref is `registration`. `inviter` is the ref of the contact who invited; without one the
    partner's sales are told.
    """

    ref: Annotated[Ref, Column("邀请编号", "邀请ID", "编号", "invitation_id")]
    url: Annotated[OptionalLine, Column("邀请链接", "链接", "链接地址", "link")] = None
    origin: Annotated[
        Origin,
        choice(
            Origin,
            ONLINE="线上|线上邀请|在线邀请",
            ACTIVITY="活动|活动邀请|活动邀请链接",
            OFFLINE_UNIVERSAL="线下|线下邀请|通用邀请链接|通用链接",
            OFFLINE_CUSTOM="自定义邀请链接|自定义链接",
            QR="二维码|邀请二维码",
        ),
        Column("邀请方式", "邀请来源", "链接类型"),
    ]
    association_type: Annotated[OptionalAssociation, Column("关联类型")] = None
    sent_at: Annotated[Instant, Column("发送时间", "邀请时间", "生成时间")]
    activity_ends_at: Annotated[OptionalEnd, Column("活动结束时间", "活动截止时间")] = None
    registration: Annotated[OptionalRef, Column("报备编号", "报备ID", "registration_id")] = None
    registered_at: Annotated[OptionalInstant, Column("报备时间", "报备成功时间")] = None
    registration_expires_at: Annotated[OptionalEnd, Column("报备到期时间", "报备有效期至")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            PENDING="待接受|邀请中|已邀请|待关联|未关联",
            ACCEPTED="已接受|已关联|关联成功",
            EXPIRED="已过期|已失效|邀请链接已失效",
            FAILED="失败|关联失败",
            REVOKED="已撤销|已取消|撤销",
        ),
        Column("状态", "邀请状态", "关联状态"),
    ] = Status.PENDING
    failure_reason: Annotated[OptionalLine, Column("失败原因", "关联失败原因")] = None
    attempt_no: Annotated[int, Field(ge=1, lt=10_000), Column("邀请次数", "第几次邀请")] = 1
    inviter: Annotated[OptionalRef, Column("邀请人", "邀请人ID", "客户经理ID")] = None
    link_label: Annotated[OptionalLine, Column("自定义标签", "标签")] = None


_SETTLED = frozenset({Registration.ASSOCIATED, Registration.CANCELLED})

# The causes that the partner centre shows for a failed association; the final ones are looked for
# first, since they may speak of an invitation too.
_FINAL = re.compile(
    r"other partner|another partner|is a partner|is partner|be a partner|contract|internal|"
    r"arrears|member account|其他伙伴|其他合作伙伴|已是伙伴|已是合作伙伴|申请成为|特殊合同|"
    r"商务合同|特殊商务|内部账号|欠费|成员账号|企业子账号"
)
_AGAIN = re.compile(
    r"not found|does not exist|doesn't exist|expired|\bused\b|不存在|失效|过期|已被使用|已使用"
)


def failure(data: InvitationData) -> Literal["final", "again"] | None:
    """Whether a failed association is final or can be tried again; None for an unknown reason."""
    reason = (data.failure_reason or "").casefold().replace("_", " ")
    if _FINAL.search(reason):
        return "final"
    return "again" if _AGAIN.search(reason) else None


def link_is_dead(data: InvitationData) -> bool:
    """Whether the customer can't come in by this link any more, whatever the clock says."""
    return data.status is Status.EXPIRED or (
        data.status is Status.FAILED and failure(data) == "again"
    )


def failed_for_good(data: InvitationData) -> bool:
    """Whether the association failed for a reason that inviting again doesn't mend."""
    return data.status is Status.FAILED and failure(data) == "final"


def link_ends_at(data: InvitationData) -> datetime | None:
    """The first instant at which the link is dead by its origin, or None for those that live on."""
    if data.origin is Origin.ONLINE:
        return data.sent_at + LINK_LIVES
    return data.activity_ends_at if data.origin is Origin.ACTIVITY else None


def registration_ends_at(data: InvitationData) -> datetime | None:
    """The first instant at which the registration is over, or None where none is known."""
    if data.registration_expires_at or data.registered_at is None:
        return data.registration_expires_at
    return data.registered_at + REGISTRATION_LIVES


# `or_else` names the role itself: words for a customer must not reach anybody else.
_CUSTOMER = Tell("customer", ("mail", "sms"), "customer", or_else="customer")


class Invitation(Rule):
    """An invited customer hasn't registered yet."""

    kind = "invitation"
    title: ClassVar[Mapping[str, str]] = {"en": "Invitation", "zh-CN": "邀请链接"}
    Data = InvitationData
    named_roles: ClassVar[Mapping[str, str]] = {"inviter": "sales"}
    cadence = Cadence(
        stages=(
            stage("T-72h", "due - 72 hours", _CUSTOMER, Tell("inviter", ("mail",), "partner")),
            stage(
                "T-24h",
                "due - 24 hours",
                _CUSTOMER,
                Tell("inviter", ("mail", "sms"), "partner"),
                urgent=True,
            ),
            stage("expired", "due", Tell("inviter", ("mail",), "expired"), after_deadline=True),
            stage("failed", "opened", Tell("inviter", ("mail",), "failed"), after_deadline=True),
        )
    )

    def opened_at(self, data: InvitationData) -> datetime:
        """When the link was sent."""
        return data.sent_at

    def deadline(self, data: InvitationData, calendar: WorkingCalendar) -> Deadline:
        """The earlier of both clocks; for a link known to be dead no later than that was known."""
        link, registration = link_ends_at(data), registration_ends_at(data)
        if link_is_dead(data):
            known = [at for at in (link, data.updated_at) if at is not None]
            link = min(known, default=data.sent_at)
        if registration is not None and (link is None or registration < link):
            return Deadline(registration, Effect.REGISTRATION_ENDS)
        return Deadline(link, Effect.NONE if link is None else Effect.LINK_DIES)

    def assess(self, data: InvitationData, lines: Sequence[Any]) -> Assessment:
        """Open until the customer is associated; held where it can't be told when it ends."""
        if data.status in {Status.ACCEPTED, Status.REVOKED}:
            return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")
        if link_is_dead(data):
            return Assessment(State.OPEN, "the link is dead: the customer has to be invited again")
        if failed_for_good(data):
            why = f"it failed for good: {data.failure_reason}"
            return Assessment(State.OPEN, why, last_word=True)
        if data.status is Status.FAILED:
            return Assessment(
                State.HELD,
                f"failure_reason: {data.failure_reason or 'nothing'} doesn't say whether to invite "
                "again: give the reason that the partner centre shows",
            )
        if data.origin is Origin.ACTIVITY and data.activity_ends_at is None:
            return Assessment(
                State.HELD,
                "activity_ends_at: is empty, but the link ends with its activity: fill it in",
            )
        return Assessment(State.OPEN, "the customer hasn't registered yet")

    def links(self, data: InvitationData) -> Sequence[Link]:
        """The registration (报备) that it names."""
        return () if data.registration is None else (Link("pre_registration", data.registration),)

    def in_light_of(
        self,
        data: InvitationData,
        related: Sequence[Related],
        assessment: Assessment,
        deadline: Deadline,
    ) -> tuple[Assessment, Deadline]:
        """The registration closes it, or ends it earlier than its own clocks."""
        for one in related:
            if not isinstance(one.data, PreRegistrationData):
                continue
            # Whoever invited still hears that it failed for good, whatever the registration says.
            settles = assessment.state is not State.CLOSED and not assessment.last_word
            if one.data.status in _SETTLED and settles:
                word = one.data.status.value.lower()
                assessment = Assessment(State.CLOSED, f"registration {one.ref} is {word}")
            if one.due_at is not None and (deadline.at is None or one.due_at < deadline.at):
                deadline = Deadline(one.due_at, Effect.REGISTRATION_ENDS)
        return assessment, deadline

    def ladder(self, data: InvitationData) -> str:
        """Each re-issue is a climb of its own."""
        return str(data.attempt_no)

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Of a dead link only its end is told, of what failed for good only that."""
        data = data_of(record, InvitationData)
        if failed_for_good(data):
            return None if stage.name == "failed" else "it failed for good"
        if stage.name == "failed":
            return "it hasn't failed for good"
        if link_is_dead(data) and not stage.after_deadline:
            return "the link is already dead"
        return super().applies(stage, record)

    def recipients(self, role: str, record: Record, contacts: Sequence[Contact]) -> list[Contact]:
        """`customer` is in the record itself."""
        if role == "customer":
            return [customer_of(data_of(record, InvitationData))]
        return super().recipients(role, record, contacts)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the customer and which clock `ends`; a link known to be dead isn't shown."""
        data = data_of(record, InvitationData)
        ends: dict[str, str] = {Effect.LINK_DIES: "link", Effect.REGISTRATION_ENDS: "registration"}
        association = data.association_type
        return {
            **super().view(record),
            "url": None if link_is_dead(data) or failed_for_good(data) else data.url,
            "ends": ends.get(record.deadline.effect),
            "customer_name": data.customer_name,
            "customer_mobile": data.customer_mobile,
            "origin": data.origin.value,
            "association_type": None if association is None else association.value,
            "sent_at": data.sent_at,
            "link_ends_at": link_ends_at(data),
            "registration_ends_at": _registration_ends_at(record),
            "status": data.status.value,
            "failure_reason": data.failure_reason,
            "attempt_no": data.attempt_no,
            "link_label": data.link_label,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Two that end, one that ends with its registration, one dead, two failed for good."""
        days, hour = timedelta(days=1), timedelta(hours=1)
        soon = (now + 3 * days + hour).isoformat()
        return (
            _sample("YQ-20261118-01", "线上邀请", now - 4 * days + hour),
            _sample(
                "INV-2026-0457",
                "ACTIVITY",
                now - 9 * days,
                activity_ends_at=soon,
                customer_name="Northwind Traders GmbH",
                customer_language="en",
                customer_time_zone="Europe/Berlin",
                association_type="RESALE",
            ),
            _sample(
                "YQ-20261101-07",
                "二维码",
                now - 20 * days,
                status="关联失败",
                failure_reason="客户已与其他伙伴关联",
            ),
            _sample(
                "YQ-20261120-03",
                "通用邀请链接",
                now - 11 * days,
                registered_at=(now - 12 * days + hour).isoformat(),
                registration="BB-20261112-004",
                link_label="展会",
            ),
            _sample(
                "YQ-20261119-02",
                "线上邀请",
                now - 2 * days,
                status="关联失败",
                failure_reason="邀请链接已失效",
                updated_at=now.isoformat(),
                attempt_no=2,
            ),
            _sample(
                "INV-2026-0431",
                "ONLINE",
                now - 5 * days,
                customer_name="Fabrikam Logistics Pte. Ltd.",
                customer_language="en",
                status="FAILED",
                failure_reason="associated with another partner",
                updated_at=now.isoformat(),
            ),
        )


def _registration_ends_at(record: Record) -> datetime | None:
    if record.deadline.effect == Effect.REGISTRATION_ENDS:
        return record.deadline.at
    return registration_ends_at(data_of(record, InvitationData))


def _sample(ref: str, origin: str, sent_at: datetime, **extra: Any) -> Sample:
    english = extra.get("customer_language") == "en"
    data = {
        "customer_name": "星岸示例制造有限公司",
        "customer_mail": "it@example.com",
        "customer_mobile": "+4915123456789" if english else "13800138000",
        "origin": origin,
        "association_type": "顾问销售",
        "sent_at": sent_at.isoformat(),
        "inviter": "C-2",
        **extra,
    }
    return sample_of(ref, english, "i", data, "sales")
