"""Exclusive offers: a customer's own price for a product of the marketplace begins, and ends.

Opens:      the offer is made
Closes:     it is ended or deleted
Deadline:   while it is pending its start, in force its end if it has one
Tells:      whose customer it is, else the partner's sales: on the day it starts, a week and a day
            before it ends
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    BEIJING,
    Column,
    Instant,
    Line,
    OptionalEnd,
    OptionalLine,
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
    Rule,
    Sample,
    Stage,
    State,
    Tell,
    data_of,
    stage,
)
from schedules.rules._samples import sample_of


class Status(StrEnum):
    """Where an offer stands. PENDING: its start is still to come."""

    PENDING = "PENDING"
    EFFECTIVE = "EFFECTIVE"
    ENDED = "ENDED"
    DELETED = "DELETED"


class ExclusiveOfferData(RecordData):
    """One offer (专属优惠). `ends_at` given as a bare date includes that day (Beijing).

    `discount` is what the partner centre shows, as it stands. `owner` is the ref of the contact
    who looks after the customer; without one the partner's sales are told.
    """

    ref: Annotated[Ref, Column("优惠编号", "专属优惠ID", "offer_id")]
    product: Annotated[Line, Column("商品名称", "产品名称")]
    customer_name: Annotated[OptionalLine, Column("客户名称")] = None
    discount: Annotated[OptionalLine, Column("客户折扣", "折扣")] = None
    created_at: Annotated[Instant, Column("创建时间")]
    starts_at: Annotated[Instant, Column("生效时间")]
    ends_at: Annotated[OptionalEnd, Column("失效时间")] = None
    owner: Annotated[OptionalRef, Column("负责人ID", "客户经理ID")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            PENDING="待生效",
            EFFECTIVE="已生效",
            ENDED="失效|已失效",
            DELETED="已删除",
        ),
        Column("状态"),
    ] = Status.EFFECTIVE


class ExclusiveOffer(Rule):
    """An offer that is about to begin or to end."""

    kind = "exclusive_offer"
    title: ClassVar[Mapping[str, str]] = {"en": "Exclusive offer", "zh-CN": "专属优惠"}
    Data = ExclusiveOfferData
    named_roles: ClassVar[Mapping[str, str]] = {"owner": "sales"}
    cadence = Cadence(
        stages=(
            stage("start", "due - 15 hours", Tell("owner", ("mail",), "starting")),
            stage("T-7d", "due - 7 days", Tell("owner", ("mail",), "ending")),
            stage("T-1d", "due - 1 day", Tell("owner", ("mail", "sms"), "ending"), urgent=True),
        )
    )

    def opened_at(self, data: ExclusiveOfferData) -> datetime:
        """When it was made."""
        return data.created_at

    def ladder(self, data: ExclusiveOfferData) -> str:
        """The start is one climb, each end another."""
        if data.status is Status.PENDING:
            return "start"
        return "end" if data.ends_at is None else data.ends_at.astimezone(UTC).date().isoformat()

    def deadline(self, data: ExclusiveOfferData, calendar: WorkingCalendar) -> Deadline:
        """The start while that is to come, else the end; None for an offer without one."""
        if data.status is Status.PENDING:
            return Deadline(data.starts_at, Effect.STARTS)
        return Deadline(data.ends_at, Effect.NONE if data.ends_at is None else Effect.ENDS)

    def assess(self, data: ExclusiveOfferData, lines: Sequence[Any]) -> Assessment:
        """Open until it is ended or deleted."""
        if data.status in {Status.ENDED, Status.DELETED}:
            return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")
        if data.status is Status.PENDING:
            return Assessment(State.OPEN, "it hasn't begun yet")
        return Assessment(State.OPEN, "it is in force")

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Before the start only that is told, after it only the end."""
        pending = data_of(record, ExclusiveOfferData).status is Status.PENDING
        if stage.name == "start" and not pending:
            return "the offer has begun"
        if stage.name != "start" and pending:
            return "the offer hasn't begun yet"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the product, the discount, whose it is, and from when until when it holds."""
        data = data_of(record, ExclusiveOfferData)
        return {
            **super().view(record),
            "product": data.product,
            "customer_name": data.customer_name,
            "discount": data.discount,
            "created_at": data.created_at,
            "starts_at": data.starts_at,
            "ends_at": data.ends_at,
            "status": data.status.value,
        }

    def samples(self, now: datetime) -> Sequence[Sample]:
        """Ends in a week, begins and ends soon (English), ends tomorrow, begins and never ends."""
        return (
            _sample("ZSYH-20260901-06", "已生效", now, -80, 7),
            _sample(
                "EO-2026-0177",
                "PENDING",
                now,
                1,
                91,
                product="Harbour Backup Suite",
                customer_name="Northwind Traders GmbH",
                discount="15% off",
                english=True,
            ),
            _sample(
                "EO-2026-0152",
                "EFFECTIVE",
                now,
                -60,
                6,
                product="Harbour Backup Suite",
                customer_name="Northwind Traders GmbH",
                discount="15% off",
                english=True,
            ),
            _sample(
                "ZSYH-20261025-01",
                "已生效",
                now,
                -29,
                1,
                product="青禾云数据看板（专业版）",
                customer_name=None,
                discount="8 折",
            ),
            _sample("ZSYH-20261120-03", "待生效", now, 2, None, discount=None),
        )


def _sample(
    ref: str,
    status: str,
    now: datetime,
    starts_in: int,
    ends_in: int | None,
    english: bool = False,
    **extra: Any,
) -> Sample:
    today = now.astimezone(BEIJING).date()
    data = {
        "product": "青禾云协同办公套件",
        "customer_name": "星岸示例制造有限公司",
        "discount": "8.5 折",
        "created_at": (now + timedelta(days=min(starts_in, 0) - 4)).isoformat(),
        "starts_at": (today + timedelta(days=starts_in)).isoformat(),
        "ends_at": None if ends_in is None else (today + timedelta(days=ends_in)).isoformat(),
        "owner": "C-2",
        "status": status,
        **extra,
    }
    return sample_of(ref, english, "offers", data, "sales")
