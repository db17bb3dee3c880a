"""Invitations to employees: a personal account has to be bound to the company's before they lapse.

Opens:      the administrator invites an employee; a further invitation starts a new ladder
Closes:     the account is bound (or unbound again), or the invitation revoked
Deadline:   7 x 24 hours after it was sent (or earlier, where it is known to be dead). Then it can't
            be accepted any more: only the administrator can invite again
Tells:      the employee; once it is dead only the administrator
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Column,
    Instant,
    Language,
    Line,
    OptionalLine,
    OptionalMail,
    OptionalMobile,
    Ref,
    Zone,
    choice,
)
from schedules.rule import (
    Assessment,
    Cadence,
    Contact,
    Deadline,
    Effect,
    Plain,
    Record,
    RecordData,
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._samples import sample_of

INVITATION_LIVES = timedelta(days=7)
"""How long an employee may accept: 7 x 24 hours, the earlier reading of "7 days"."""

MEMBERS_A_DAY = 100
"""So many members may be invited a day (the vendor's limit)."""


class Status(StrEnum):
    """Where a member's invitation stands. EXPIRED: the administrator must be told."""

    PENDING = "PENDING"
    BOUND = "BOUND"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    UNBOUND = "UNBOUND"


class MemberInvitationData(RecordData):
    """One invitation to bind a personal account; `url` is where the employee accepts it."""

    noun: ClassVar[str] = "a member's invitation"
    ref: Annotated[Ref, Column("邀请编号", "成员邀请ID", "编号", "member_invitation_id")]
    url: Annotated[OptionalLine, Column("邀请链接", "链接地址", "详情链接")] = None
    member_name: Annotated[Line, Column("成员姓名", "成员")]
    member_mail: Annotated[OptionalMail, Column("成员邮箱")] = None
    member_mobile: Annotated[OptionalMobile, Column("成员手机")] = None
    member_language: Annotated[Language, Column("成员语言")] = "zh-CN"
    member_time_zone: Annotated[Zone, Column("成员时区")] = "Asia/Shanghai"
    sent_at: Annotated[Instant, Column("邀请时间")]
    attempt_no: Annotated[int, Field(ge=1, lt=10_000), Column("邀请次数")] = 1
    status: Annotated[
        Status,
        choice(
            Status,
            PENDING="已邀请|待绑定",
            BOUND="已绑定",
            EXPIRED="已失效",
            REVOKED="已撤销|已取消",
            UNBOUND="已解绑",
        ),
        Column("状态", "邀请状态"),
    ] = Status.PENDING


# `or_else` names the role itself: words for an employee must not reach anybody else.
_BY_MAIL = Tell("member", ("mail",), "member", or_else="member")
_BY_BOTH = Tell("member", ("mail", "sms"), "member", or_else="member")


class MemberInvitation(Rule):
    """An invited employee hasn't bound their account yet."""

    kind = "member_invitation"
    title: ClassVar[Mapping[str, str]] = {"en": "Member invitation", "zh-CN": "成员邀请"}
    Data = MemberInvitationData
    cadence = Cadence(
        stages=(
            stage("T-72h", "due - 72 hours", _BY_MAIL),
            stage("T-24h", "due - 24 hours", _BY_BOTH, urgent=True),
            stage("expired", "due", Tell("administrator", message="expired"), after_deadline=True),
        )
    )

    def opened_at(self, data: MemberInvitationData) -> datetime:
        """When the invitation was sent."""
        return data.sent_at

    def deadline(self, data: MemberInvitationData, calendar: WorkingCalendar) -> Deadline:
        """Seven days after it was sent; known to be dead, no later than that was known."""
        ends = data.sent_at + INVITATION_LIVES
        if data.status is Status.EXPIRED and data.updated_at is not None:
            ends = min(ends, data.updated_at)
        return Deadline(ends, Effect.LINK_DIES)

    def assess(self, data: MemberInvitationData, lines: Sequence[Any]) -> Assessment:
        """Open until the account is bound; a dead invitation waits to be sent again."""
        if data.status is Status.PENDING:
            return Assessment(State.OPEN, "the employee hasn't bound their account yet")
        if data.status is Status.EXPIRED:
            return Assessment(State.OPEN, "it is dead: the employee has to be invited again")
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def ladder(self, data: MemberInvitationData) -> str:
        """Each further invitation is a climb of its own."""
        return str(data.attempt_no)

    def applies(self, stage: Stage, record: Record) -> str | None:
        """A dead invitation is of no use to the employee: only its end is told."""
        if (
            data_of(record, MemberInvitationData).status is Status.EXPIRED
            and not stage.after_deadline
        ):
            return "the invitation is already dead"
        return super().applies(stage, record)

    def recipients(self, role: str, record: Record, contacts: Sequence[Contact]) -> list[Contact]:
        """`member` is the employee, who stands in the record itself."""
        if role == "member":
            return [_member(data_of(record, MemberInvitationData))]
        return super().recipients(role, record, contacts)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the employee, and how many can be invited `a_day`."""
        data = data_of(record, MemberInvitationData)
        return {
            **super().view(record),
            "member_name": data.member_name,
            "member_mail": data.member_mail,
            "member_mobile": data.member_mobile,
            "sent_at": data.sent_at,
            "attempt_no": data.attempt_no,
            "status": data.status.value,
            "a_day": MEMBERS_A_DAY,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Three days left, one day left (English), invited a second time, and already dead."""
        days, hour = timedelta(days=1), timedelta(hours=1)
        return (
            _sample("CY-20261121-06", "陈静", now - 4 * days + hour),
            _sample("MI-2026-0318", "Maria Gomez", now - 6 * days + hour, english=True),
            _sample("CY-20261122-11", "赵磊", now - 2 * days, attempt_no=2),
            _sample(
                "CY-20261119-02",
                "孙悦",
                now - 5 * days,
                status="已失效",
                updated_at=(now - hour).isoformat(),
            ),
        )


def _member(data: MemberInvitationData) -> Contact:
    return Contact(
        ref=f"member:{data.ref}",
        partner=data.partner,
        role="member",
        name=data.member_name,
        mail=data.member_mail,
        mobile=data.member_mobile,
        language=data.member_language,
        time_zone=data.member_time_zone,
    )


def _sample(
    ref: str, member: str, sent_at: datetime, english: bool = False, **extra: Any
) -> Sample:
    data = {
        "member_name": member,
        "member_mail": "member@example.com",
        "member_mobile": "+4915123456789" if english else "13800138005",
        "member_language": "en" if english else "zh-CN",
        "member_time_zone": "Europe/Berlin" if english else "Asia/Shanghai",
        "sent_at": sent_at.isoformat(),
        **extra,
    }
    return sample_of(ref, english, "members", data, "administrator")
