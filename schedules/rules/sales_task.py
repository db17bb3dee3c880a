"""Sales tasks: a customer is to be seen to before the task's day is over.

Opens:      the task is assigned
Closes:     done, or closed
Deadline:   the end of its day (Beijing); a large renewal has to the end of that calendar month.
            Then it is overdue, and can still be done
Tells:      the account manager, once it is overdue the supervisor too. Tasks of a reseller's
            customers are its distributor's: whose people are told, never the reseller's
Undated:    a ladder of its own from assignment
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    BEIJING,
    Column,
    Currency,
    Flag,
    Instant,
    Line,
    OptionalAmount,
    OptionalDay,
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
    end_of_day,
    stage,
)
from schedules.rules._samples import SALES_TEAM, customer, iso, sample_of


class TaskType(StrEnum):
    """What the task is about."""

    LEAD = "LEAD"
    CROSS_SELL = "CROSS_SELL"
    RENEWAL = "RENEWAL"
    SCENARIO = "SCENARIO"


class Status(StrEnum):
    """Where a task stands."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"
    CLOSED = "CLOSED"


RESELLER_TYPES = frozenset({"云经销商", "reseller"})
"""Types of partners (in lower case) that may see their customers' tasks, but not do them."""


class SalesTaskData(RecordData):
    """One sales task (销售拓展任务). `due_on` is the last day (of Beijing) on which to do it.

    `large` marks a large renewal, which may be done until its calendar month is over.
    `account_manager` is the ref of the contact who does it; without one all of sales are told.
    """

    ref: Annotated[Ref, Column("任务编号", "任务ID", "task_id")]
    name: Annotated[Line, Column("任务名称")]
    task_type: Annotated[
        TaskType,
        choice(
            TaskType,
            LEAD="线索挖掘",
            CROSS_SELL="交叉复购",
            RENEWAL="到期续费",
            SCENARIO="场景化方案推荐",
        ),
        Column("任务类型"),
    ]
    customer_name: Annotated[Line, Column("客户名称", "客户")]
    assigned_at: Annotated[Instant, Column("下发时间", "分配时间")]
    due_on: Annotated[OptionalDay, Column("任务截止时间", "截止日期", "任务截止日期")] = None
    amount: Annotated[OptionalAmount, Column("预计金额", "续费金额")] = None
    currency: Annotated[Currency, Column("币种")] = "CNY"
    large: Annotated[Flag, Column("大额续费")] = False
    account_manager: Annotated[OptionalRef, Column("客户经理ID")] = None
    status: Annotated[
        Status,
        choice(
            Status,
            PENDING="待处理|未处理",
            IN_PROGRESS="处理中",
            DONE="已处理|已完成",
            CLOSED="已关闭",
        ),
        Column("任务状态", "状态"),
    ] = Status.PENDING


def by_month(data: SalesTaskData) -> bool:
    """Whether the calendar month counts and not the day: for large renewals."""
    return data.large and data.task_type is TaskType.RENEWAL


def of_reseller(record: Record) -> bool:
    """Whether the customer is a reseller's, so that its distributor has to do the task."""
    return record.partner.type.strip().casefold() in RESELLER_TYPES


def last_day(data: SalesTaskData) -> date | None:
    """The last day (of Beijing) on which a task is in time, or None where none is set."""
    if not by_month(data):
        return data.due_on
    day = data.due_on or data.assigned_at.astimezone(BEIJING).date()
    return day.replace(day=monthrange(day.year, day.month)[1])


_ACCOUNT_MANAGER = Tell("account_manager")


class SalesTask(Rule):
    """A task at a customer isn't done yet."""

    kind = "sales_task"
    title: ClassVar[Mapping[str, str]] = {"en": "Sales task", "zh-CN": "销售拓展任务"}
    Data = SalesTaskData
    named_roles: ClassVar[Mapping[str, str]] = {"account_manager": "sales"}
    cadence = Cadence(
        stages=(
            stage("M-15", "due - 15 days", _ACCOUNT_MANAGER),
            stage("T-3", "due - 3 working days", _ACCOUNT_MANAGER),
            stage(
                "T-0",
                "due - 0 working days",
                Tell("account_manager", ("mail", "sms")),
                urgent=True,
            ),
            stage(
                "overdue",
                "due + 1 working day, then every 5 working days",
                Tell("account_manager", message="overdue"),
                Tell("supervisor", message="overdue"),
                after_deadline=True,
            ),
            stage("+5", "opened + 5 working days, then every 5 working days", _ACCOUNT_MANAGER),
        )
    )

    def opened_at(self, data: SalesTaskData) -> datetime:
        """When it was assigned."""
        return data.assigned_at

    def ladder(self, data: SalesTaskData) -> str:
        """A last day that is moved starts a new climb."""
        last = last_day(data)
        return "1" if last is None else last.isoformat()

    def deadline(self, data: SalesTaskData, calendar: WorkingCalendar) -> Deadline:
        """The end of its last day; it is overdue then."""
        last = last_day(data)
        if last is None:
            return Deadline(None)
        return Deadline(end_of_day(last, self.zone), Effect.OVERDUE)

    def assess(self, data: SalesTaskData, lines: Sequence[Any]) -> Assessment:
        """Open until it is done or closed."""
        if data.status in {Status.DONE, Status.CLOSED}:
            return Assessment(State.CLOSED, f"it is {data.status.value.lower()}")
        return Assessment(State.OPEN, "it isn't done yet")

    def told_at(self, record: Record) -> str | None:
        """The partner itself; for a reseller the distributor, or None where that isn't known."""
        return record.partner.parent if of_reseller(record) else record.partner.ref

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Half a month ahead only for large renewals; days from assignment without a deadline."""
        if stage.name == "M-15" and not by_month(data_of(record, SalesTaskData)):
            return "only large renewals are told of so early"
        if stage.when.anchor == "opened" and record.deadline.at is not None:
            return "the task has a deadline, and the days before it are told instead"
        return super().applies(stage, record)

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds the customer, the kind of task, whether its month counts, and whose reseller's."""
        data = data_of(record, SalesTaskData)
        return {
            **super().view(record),
            "name": data.name,
            "task_type": data.task_type.value,
            "customer_name": data.customer_name,
            "assigned_at": data.assigned_at,
            "by_month": by_month(data),
            "reseller": record.partner.name if of_reseller(record) else None,
            "status": data.status.value,
        }

    def amount(self, record: Record) -> tuple[Decimal, str] | None:
        """What the task is expected to bring, where that is known."""
        data = data_of(record, SalesTaskData)
        return None if data.amount is None else (data.amount, data.currency)

    def samples(self, now: datetime) -> Sequence[Sample]:
        """A renewal, a large one, one without a day, and in English one without an amount."""
        today = now.astimezone(BEIJING).date()
        day = timedelta(days=1)
        return (
            _sample(
                ("XS-20261102-018", "云服务器到期续费", "RENEWAL", "星岸示例制造有限公司"),
                now - 12 * day,
                due_on=(today + 3 * day).isoformat(),
                amount="36800.00",
            ),
            _sample(
                ("XS-20261101-003", "数据库年度续费", "到期续费", "澜石示例医药集团"),
                now - 20 * day,
                due_on=(today + day).isoformat(),
                amount="1280000.00",
                large="是",
            ),
            _sample(
                ("XS-20261110-041", "安全方案推荐", "场景化方案推荐", "松果示例教育公司"),
                now - 9 * day,
            ),
            _sample(
                ("TASK-2026-0457", "Analytics add-on", "CROSS_SELL", customer(english=True)),
                now - 8 * day,
                due_on=(today + 2 * day).isoformat(),
                status="IN_PROGRESS",
            ),
        )


def _sample(named: tuple[str, str, str, str], assigned_at: datetime, **changes: str) -> Sample:
    ref, name, task_type, customer_name = named
    data = {
        "name": name,
        "task_type": task_type,
        "customer_name": customer_name,
        "assigned_at": iso(assigned_at),
        "account_manager": "C-2",
        **changes,
    }
    return sample_of(ref, name.isascii(), "tasks", data, *SALES_TEAM)
