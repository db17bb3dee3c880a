"""Pre-registrations: a registered customer is kept for the partner for fifteen days.

Opens:      the customer is registered (报备)
Closes:     associated, or cancelled; an accepted invitation that names it closes it as well
Deadline:   the end that is given, or 15 x 24 hours after it was registered, the earlier reading of
            "15 days". Then the registration ends and other partners may register the customer;
            one that is reported as ended did so no later than that was known
Tells:      its owner, or else the sales
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Column,
    Instant,
    Line,
    OptionalEnd,
    OptionalMobile,
    OptionalRef,
    Ref,
    choice,
)
from schedules.rule import (
    Assessment,
    Cadence,
    Deadline,
    Effect,
    Plain,
    Record,
    RecordData,
    Related,
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._samples import SALES_TEAM, iso, sample_of

REGISTRATION_LIVES = timedelta(days=15)
"""How long a customer stays registered (报备) for a partner, when no end is given."""


class Status(StrEnum):
    """Where a registration stands. EXPIRED: it ended before the customer was associated."""

    REVIEWING = "REVIEWING"
    REGISTERED = "REGISTERED"
    ASSOCIATED = "ASSOCIATED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class PreRegistrationData(RecordData):
    """One customer registered for a partner. An `expires_at` that is a bare date includes that day.

    `customer_mobile` is the number with which the customer has to sign up. `owner` is the ref of a
    contact.
    """

    noun: ClassVar[str] = "a registration"
    ref: Annotated[Ref, Column("报备编号", "报备ID", "编号", "registration_id")]
    customer_name: Annotated[Line, Column("客户名称", "客户")]
    customer_mobile: Annotated[OptionalMobile, Column("报备手机号", "客户手机")] = None
    registered_at: Annotated[Instant, Column("报备时间", "报备成功时间")]
    expires_at: Annotated[OptionalEnd, Column("报备到期时间", "报备有效期至")] = None
    owner: Annotated[OptionalRef, Column("客户经理ID", "报备人ID")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            REVIEWING="待审核",
            REGISTERED="已报备",
            ASSOCIATED="已关联|关联成功",
            EXPIRED="失效|已失效",
            CANCELLED="已取消|审核不通过|已驳回",
        ),
        Column("状态", "报备状态"),
    ] = Status.REGISTERED


# The word of an invitation by which its customer came; that kind's file builds on this one.
_CAME = "ACCEPTED"


class PreRegistration(Rule):
    """A registered customer isn't associated yet."""

    kind = "pre_registration"
    title: ClassVar[Mapping[str, str]] = {"en": "Customer registration", "zh-CN": "报备"}
    Data = PreRegistrationData
    named_roles: ClassVar[Mapping[str, str]] = {"owner": "sales"}
    cadence = Cadence(
        stages=(
            stage("T-5d", "due - 5 days", Tell("owner")),
            stage("T-48h", "due - 48 hours", Tell("owner", ("mail", "sms")), urgent=True),
            stage("ended", "due", Tell("owner", message="ended"), after_deadline=True),
        )
    )

    def opened_at(self, data: PreRegistrationData) -> datetime:
        """When the customer was registered."""
        return data.registered_at

    def deadline(self, data: PreRegistrationData, calendar: WorkingCalendar) -> Deadline:
        """The end given or counted; of one reported as ended, no later than when that was known."""
        at = data.expires_at or data.registered_at + REGISTRATION_LIVES
        if data.status is Status.EXPIRED and data.updated_at is not None:
            at = min(at, data.updated_at)
        return Deadline(at, Effect.REGISTRATION_ENDS)

    def assess(self, data: PreRegistrationData, lines: Sequence[Any]) -> Assessment:
        """Open until the customer is associated; under review there is nothing to do yet."""
        if data.status is Status.REVIEWING:
            return Assessment(State.WAITING, "the registration is under review")
        if data.status is Status.REGISTERED:
            return Assessment(State.OPEN, "the customer isn't associated yet")
        if data.status is Status.EXPIRED:
            return Assessment(State.OPEN, "the registration has ended: register the customer again")
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def in_light_of(
        self,
        data: PreRegistrationData,
        related: Sequence[Related],
        assessment: Assessment,
        deadline: Deadline,
    ) -> tuple[Assessment, Deadline]:
        """An accepted invitation has done what the registration was for."""
        for one in related:
            if one.kind == "invitation" and getattr(one.data, "status", None) == _CAME:
                why = f"invitation {one.ref} was accepted"
                return Assessment(State.CLOSED, why), deadline
        return assessment, deadline

    def ladder(self, data: PreRegistrationData) -> str:
        """An end that is moved starts a new climb."""
        return "1" if data.expires_at is None else f"{data.expires_at.astimezone(UTC):%Y%m%d}"

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Of what has ended only the end is told."""
        if (
            data_of(record, PreRegistrationData).status is Status.EXPIRED
            and not stage.after_deadline
        ):
            return "the registration has ended already"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the customer and when it was registered."""
        data = data_of(record, PreRegistrationData)
        return {
            **super().view(record),
            "customer_name": data.customer_name,
            "customer_mobile": data.customer_mobile,
            "registered_at": data.registered_at,
            "status": data.status.value,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Near its end, in English, with a given end, and ended already."""
        day, hour = timedelta(days=1), timedelta(hours=1)
        return (
            _sample("BB-20261111-031", "星岸示例制造有限公司", now - 13 * day + hour),
            _sample("REG-2026-0771", "Northwind Traders GmbH", now - 10 * day),
            _sample(
                "BB-20261113-006",
                "北辰示例物流有限公司",
                now - 11 * day,
                expires_at=f"{now + 2 * day:%Y-%m-%d}",
                customer_mobile=None,
            ),
            _sample(
                "BB-20261108-002",
                "云栖示例教育科技有限公司",
                now - 16 * day,
                status="已失效",
                updated_at=iso(now - hour),
            ),
        )


def _sample(ref: str, customer_name: str, registered_at: datetime, **extra: str | None) -> Sample:
    english = customer_name.isascii()
    data = {
        "customer_name": customer_name,
        "customer_mobile": "+4915123456789" if english else "13800138000",
        "registered_at": iso(registered_at),
        "owner": "C-2",
        "status": "REGISTERED" if english else "已报备",
        **extra,
    }
    return sample_of(ref, english, "registrations", data, *SALES_TEAM)
