"""Requests: one message that a producer asks for, in words that it names.

Opens:      when it is asked for, or at the time it asks for
Closes:     it is told, or withdrawn
Deadline:   when it would no longer be worth telling, if it says so
Tells:      the contact it names, else the partner's contacts with the role it names
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from schedules.calendar import WorkingCalendar
from schedules.fields import (
    Column,
    Flag,
    Instant,
    Line,
    OptionalInstant,
    OptionalRef,
    Ref,
    Refs,
    choice,
    clean_text,
)
from schedules.people import Role, role_of
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
from schedules.rules._samples import iso, sample_of

ANNOUNCEMENT = "announcement"
"""The words that are shipped: a title, a text, and perhaps a button for the record's address."""
MAX_VALUES = 20
MAX_CHARACTERS = 1000
"""Of one value."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Status(StrEnum):
    """Whether it is still wanted."""

    REQUESTED = "REQUESTED"
    WITHDRAWN = "WITHDRAWN"


def _template(value: Any) -> str:
    text = str(value or ANNOUNCEMENT)
    if not _NAME.fullmatch(text):
        raise ValueError("isn't the name of a message's words: a-z, 0-9 and _, at most 40")
    return text


def _values(value: Any) -> dict[str, str]:
    """Names with their text, as an object or as JSON in a cell. Raises ValueError."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError:
            raise ValueError('isn\'t a JSON object: write it like {"title": "…"}') from None
    if not isinstance(value, Mapping) or len(value) > MAX_VALUES:
        raise ValueError(f"must be an object with at most {MAX_VALUES} names")
    found = {}
    for name, text in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError("has a name that isn't a-z, 0-9 and _, at most 40")
        if isinstance(text, bool) or not isinstance(text, str | int):
            raise ValueError(f"{name} must be text: write numbers and dates as they are to be read")
        try:
            found[name] = clean_text(str(text), MAX_CHARACTERS)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return found


class RequestData(RecordData):
    """One message that is wanted. `template` names its words, `values` what they say.

    The words `announcement` take the values title and text, and perhaps button (what stands on the
    button that leads to `url`). Without a `contact` everybody with the `role` is told. `send_at` is
    not before which, `expires_at` the first instant that is too late; a bare date is its beginning.
    """

    ref: Annotated[Ref, Column("通知编号", "request_id")]
    template: Annotated[str, BeforeValidator(_template), Column("模板")] = ANNOUNCEMENT
    values: Annotated[dict[str, str], BeforeValidator(_values), Column("内容")] = {}  # noqa: RUF012
    contact: Annotated[OptionalRef, Column("联系人ID", "联系人编号", "contact_id")] = None
    role: Annotated[Line, BeforeValidator(role_of), Column("角色", "职务")] = Role.ADMINISTRATOR
    channels: Annotated[Refs, Column("接收渠道", "渠道")] = ("mail",)
    urgent: Annotated[Flag, Column("是否紧急")] = False
    requested_at: Annotated[Instant, Column("申请时间")]
    send_at: Annotated[OptionalInstant, Column("发送时间")] = None
    expires_at: Annotated[OptionalInstant, Column("失效时间")] = None
    status: Annotated[
        Status,
        choice(Status, REQUESTED="待发送", WITHDRAWN="已撤回"),
        Column("状态"),
    ] = Status.REQUESTED


class Request(Rule):
    """A message that somebody asked for."""

    kind = "request"
    title: ClassVar[Mapping[str, str]] = {"en": "Message on request", "zh-CN": "单次通知"}
    Data = RequestData
    cadence = Cadence(
        stages=(
            stage("now", "opened", Tell("recipient", ("mail", "sms"), ANNOUNCEMENT)),
            stage(
                "now-urgent",
                "opened",
                Tell("recipient", ("mail", "sms"), ANNOUNCEMENT),
                urgent=True,
            ),
        ),
        scan_every=timedelta(minutes=1),
    )

    def opened_at(self, data: RequestData) -> datetime:
        """When it was asked for, or the time that it asks for."""
        return data.requested_at if data.send_at is None else max(data.requested_at, data.send_at)

    def deadline(self, data: RequestData, calendar: WorkingCalendar) -> Deadline:
        """When it would come too late."""
        return Deadline(data.expires_at, Effect.NONE if data.expires_at is None else Effect.EXPIRES)

    def assess(self, data: RequestData, lines: Sequence[Any]) -> Assessment:
        """Open to be told once; held without the values that the shipped words need."""
        if data.status is Status.WITHDRAWN:
            return Assessment(State.CLOSED, "it was withdrawn")
        lacking = [name for name in ("title", "text") if not data.values.get(name)]
        if data.template == ANNOUNCEMENT and lacking:
            why = f"values lacks {' and '.join(lacking)}: send them, or name other words"
            return Assessment(State.HELD, why)
        return Assessment(State.OPEN, "it is asked for", last_word=True)

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Urgent or not: one of the two stages."""
        urgent = data_of(record, RequestData).urgent
        if stage.urgent is not urgent:
            return "it is urgent" if urgent else "it isn't urgent"
        return super().applies(stage, record)

    def recipients(self, role: str, record: Record, contacts: Sequence[Contact]) -> list[Contact]:
        """`recipient` is the named contact, or else all of the role; by the channels asked for."""
        if role != "recipient":
            return super().recipients(role, record, contacts)
        data = data_of(record, RequestData)
        named = [one for one in contacts if one.ref == data.contact]
        return [
            replace(one, channels=one.channels & {*data.channels})
            for one in named or super().recipients(data.role, record, contacts)
        ]

    def message(self, tell: Tell, record: Record) -> str:
        """The words that the request names."""
        return data_of(record, RequestData).template

    def chosen_words(self, data: RequestData) -> str | None:
        """Its template."""
        return data.template

    def view(self, record: Record) -> dict[str, Plain]:
        """Adds `values`, by name; `button` is among them, perhaps empty."""
        values: dict[str, Plain] = {"button": "", **data_of(record, RequestData).values}
        return {**super().view(record), "values": values}

    def samples(self, now: datetime) -> Sequence[Sample]:
        """An announcement in Chinese and in English, and urgent ones without an end."""
        chinese = {
            "title": "伙伴中心将于周六凌晨维护",
            "text": "维护期间（周六 0:00 至 4:00）伙伴中心暂停服务，请提前下载需要的清单。",
            "button": "查看维护公告",
        }
        english = {
            "title": "The partner centre is down for maintenance on Saturday",
            "text": "Between 00:00 and 04:00 it can't be used. Please download the lists that you "
            "need before then.",
            "button": "Read more",
        }
        return (
            _sample("TZ-20261124-01", now, chinese, False, expires_at=iso(now + timedelta(days=4))),
            _sample("RQ-2026-0031", now, english, True, expires_at=iso(now + timedelta(days=4))),
            _sample(
                "TZ-20261124-02",
                now,
                {"title": "发票邮寄地址已变更", "text": "请从即日起使用付款清单上的新地址。"},
                False,
                urgent=True,
            ),
            _sample(
                "RQ-2026-0032",
                now,
                {
                    "title": "Invoices go to a new address",
                    "text": "From today please use the address on the invoice list.",
                },
                True,
                urgent=True,
            ),
        )


def _sample(
    ref: str, now: datetime, values: Mapping[str, str], english: bool, **extra: Any
) -> Sample:
    data = {
        "values": values,
        "channels": "mail sms",
        "requested_at": iso(now - timedelta(minutes=1)),
        "status": "REQUESTED",
        **extra,
    }
    return sample_of(ref, english, "notices", data, "administrator")
