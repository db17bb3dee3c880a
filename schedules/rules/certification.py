"""Role certifications: one that could be applied for, and one that nears its end.

Opens:      the requirements of a role are met and nobody has applied; or the role is certified
Closes:     it has ended or was cancelled; paused while an application is reviewed
Deadline:   of a certified role the end of its last day (Beijing), where one is given. Then the role
            and what it brings are gone
Tells:      the administrator, a week before the end the vendor's partner manager too
Undated:    requirements that are met are called to mind by a ladder of working days
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    BEIJING,
    Column,
    Instant,
    Line,
    OptionalDay,
    OptionalLine,
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
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    data_of,
    end_of_day,
    stage,
)
from schedules.rules._samples import sample_of


class Status(StrEnum):
    """Where a role stands. MET: its requirements are met, and it can be applied for."""

    NOT_MET = "NOT_MET"
    MET = "MET"
    APPLIED = "APPLIED"
    CERTIFIED = "CERTIFIED"
    ENDED = "ENDED"
    CANCELLED = "CANCELLED"


class CertificationData(RecordData):
    """One role of a development path. `since` is when its present status was reached.

    `ends_on` is the last day (of Beijing) on which a certified role holds.
    """

    ref: Annotated[Ref, Column("认证编号", "认证ID", "编号", "certification_id")]
    role_name: Annotated[Line, Column("认证角色", "角色名称")]
    path: Annotated[OptionalLine, Column("发展路径")] = None
    since: Annotated[Instant, Column("状态时间", "状态变更时间")]
    ends_on: Annotated[OptionalDay, Column("有效期至", "到期日期")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            NOT_MET="未达标",
            MET="已达标|待申请",
            APPLIED="已申请|审核中",
            CERTIFIED="已认证|认证通过",
            ENDED="已失效",
            CANCELLED="已取消",
        ),
        Column("状态", "认证状态"),
    ]


_APPLY = Tell("administrator", message="apply")
_ENDING = Tell("administrator", message="ending")


class Certification(Rule):
    """A role can be applied for, or its certification ends."""

    kind = "certification"
    title: ClassVar[Mapping[str, str]] = {"en": "Role certification", "zh-CN": "角色认证"}
    Data = CertificationData
    cadence = Cadence(
        stages=(
            stage("+1", "opened + 1 working day", _APPLY),
            stage("+5", "opened + 5 working days, then every 10 working days", _APPLY),
            stage("T-60d", "due - 60 days", _ENDING),
            stage("T-30d", "due - 30 days", _ENDING),
            stage(
                "T-7d",
                "due - 7 days",
                Tell("administrator", ("mail", "sms"), "ending"),
                # The vendor's own person is told of it or nobody instead.
                Tell("partner_manager", message="ending", or_else="partner_manager"),
                urgent=True,
            ),
            stage(
                "ended",
                "due + 1 working day",
                Tell("administrator", message="ended"),
                after_deadline=True,
            ),
        )
    )

    def opened_at(self, data: CertificationData) -> datetime:
        """When the present status was reached."""
        return data.since

    def deadline(self, data: CertificationData, calendar: WorkingCalendar) -> Deadline:
        """The end of a certified role's last day; else none."""
        if data.status is not Status.CERTIFIED or data.ends_on is None:
            return Deadline(None)
        return Deadline(end_of_day(data.ends_on, self.zone), Effect.ENDS)

    def assess(self, data: CertificationData, lines: Sequence[Any]) -> Assessment:
        """Open where the administrator can act: apply, or see to it that the role goes on."""
        if data.status is Status.NOT_MET:
            return Assessment(State.WAITING, "its requirements aren't met yet")
        if data.status is Status.MET:
            return Assessment(State.OPEN, "its requirements are met, and nobody has applied")
        if data.status is Status.APPLIED:
            return Assessment(State.PAUSED, "the application is being reviewed")
        if data.status is Status.CERTIFIED:
            return Assessment(State.OPEN, "it is certified")
        return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")

    def ladder(self, data: CertificationData) -> str:
        """Applying is one climb, and each end of a certification one of its own."""
        if data.status is Status.MET:
            return "apply"
        if data.status is Status.CERTIFIED and data.ends_on is not None:
            return f"end:{data.ends_on.isoformat()}"
        return "1"

    def applies(self, stage: Stage, record: Record) -> str | None:
        """What can be applied for has days since, what is certified days before its end."""
        if (
            stage.when.anchor == "opened"
            and data_of(record, CertificationData).status is not Status.MET
        ):
            return "there is nothing to apply for"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the role, its development path, and since when it stands as it does."""
        data = data_of(record, CertificationData)
        return {
            **super().view(record),
            "role_name": data.role_name,
            "path": data.path,
            "since": data.since,
            "status": data.status.value,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Ending in a month, to be applied for, and both in English."""
        today, days = now.astimezone(BEIJING).date(), timedelta(days=1)
        return (
            _sample(
                "RZ-2025-0064",
                "高级软件伙伴",
                now - 335 * days,
                ends_on=today + 30 * days,
                status="已认证",
            ),
            _sample("RZ-2026-0093", "领先级软件伙伴", now - days),
            _sample(
                "CERT-2025-017",
                "Advanced software partner",
                now - 358 * days,
                english=True,
                ends_on=today + 7 * days,
                status="CERTIFIED",
            ),
            _sample("CERT-2026-040", "Migration specialist", now - 7 * days, english=True),
        )


def _sample(
    ref: str,
    role: str,
    since: datetime,
    english: bool = False,
    ends_on: date | None = None,
    status: str = "已达标",
) -> Sample:
    data = {
        "role_name": role,
        "path": "Software partner path" if english else "软件伙伴发展路径",
        "since": since.isoformat(),
        "ends_on": None if ends_on is None else ends_on.isoformat(),
        "status": status,
    }
    return sample_of(ref, english, "certifications", data, "administrator")
