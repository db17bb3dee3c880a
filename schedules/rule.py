"""The words a rule is written in: Rule, Cadence, Stage, and what a rule says of a record.

A rule is everything that is known about one kind of record, in one file of `schedules/rules/`:
its data model, what closes it, its deadline and what happens then, whom to tell and when, and
sample records. It is pure: no clock, no SQL, no network.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field

from schedules.calendar import QuietHours as QuietHours
from schedules.calendar import WorkingCalendar
from schedules.fields import (
    BEIJING,
    Column,
    Language,
    Line,
    OptionalInstant,
    OptionalLine,
    OptionalMail,
    OptionalMobile,
    OptionalRef,
    Ref,
    Zone,
)
from schedules.figures import Figures
from schedules.people import Channel as Channel
from schedules.people import Contact as Contact
from schedules.people import ContactData as ContactData
from schedules.people import Data
from schedules.people import Partner as Partner
from schedules.people import PartnerData as PartnerData

Plain = None | bool | int | str | Decimal | datetime | list["Plain"] | dict[str, "Plain"]
"""What templates are given: plain values only, so that a template can reach nothing else."""


class RecordData(Data):
    """What every kind of record carries; a rule's model extends it.

    `version` orders what producers send: a lower one than the stored is stale and ignored. Without
    it `updated_at` orders, and without both the order of arrival does. `noun` is what an error
    calls one, where the model's own name doesn't read well.
    """

    noun: ClassVar[str] = ""
    ref: Annotated[Ref, Column("编号", "单号", "ID")]
    partner: Annotated[Ref, Column("伙伴ID", "合作伙伴ID", "伙伴编号", "partner_id")]
    version: Annotated[int | None, Field(ge=0, lt=2**63), Column("版本")] = None
    updated_at: Annotated[OptionalInstant, Column("更新时间")] = None
    url: Annotated[OptionalLine, Column("链接地址", "详情链接")] = None


class CustomerRecordData(RecordData):
    """A record that a customer acts on, who stands in it and in no list of contacts.

    `customer` is the vendor's identifier of the customer: several records of one come together.
    """

    customer: Annotated[OptionalRef, Column("客户ID", "客户编号", "customer_id")] = None
    customer_name: Annotated[Line, Column("客户名称", "客户", "客户姓名")]
    customer_mail: Annotated[OptionalMail, Column("客户邮箱", "客户电子邮箱")] = None
    customer_mobile: Annotated[OptionalMobile, Column("客户手机", "客户手机号", "报备手机号")] = (
        None
    )
    customer_language: Annotated[Language, Column("客户语言")] = "zh-CN"
    customer_time_zone: Annotated[Zone, Column("客户时区")] = "Asia/Shanghai"


def customer_of(data: CustomerRecordData) -> Contact:
    """The customer of a record as a person to tell."""
    return Contact(
        ref=f"customer:{data.customer or data.ref}",
        partner=data.partner,
        role="customer",
        name=data.customer_name,
        mail=data.customer_mail,
        mobile=data.customer_mobile,
        language=data.customer_language,
        time_zone=data.customer_time_zone,
    )


class LineData(Data):
    """One line of a record's list (an invoice list's row).

    It has a field `line` (from 1) and one named like the rule's kind, with the record's ref.
    """


class Effect(StrEnum):
    """What happens by itself at a record's deadline; the message must say which.

    A rule may have a word of its own: lower case, at most 24 characters.
    """

    LINK_DIES = "link_dies"
    REGISTRATION_ENDS = "registration_ends"
    AUTO_CONFIRM = "auto_confirm"
    FORFEIT = "forfeit"
    BLOCK = "block"
    DECLINED = "declined"
    EXPIRES = "expires"
    STARTS = "starts"
    ENDS = "ends"
    OVERDUE = "overdue"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a record must have been acted on, as the first instant that is too late.

    `at` is None when nothing ends by itself. `provisional` marks a day that rests on a year whose
    working days aren't announced yet: then the earlier bound is taken.
    """

    at: datetime | None
    effect: str = Effect.NONE
    provisional: bool = False


class State(StrEnum):
    """What a record's own data say of it. Who leaves a state: the next event on the record.

    waiting  not yet anybody's turn (a payment not yet approved): no reminder
    open     someone must act
    paused   open, but nagging would be wrong (a disputed statement)
    held     it must not be told of until mended (a list that doesn't add up)
    closed   done, or it can't be done any more
    """

    WAITING = "waiting"
    OPEN = "open"
    PAUSED = "paused"
    HELD = "held"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Assessment:
    """A rule's judgement of one record. `why` is a sentence for people; held says the remedy.

    `last_word` marks what is open only to be told once more: with that planned it is closed.
    """

    state: State
    why: str = ""
    last_word: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """That a record has to do with another: its kind and ref, which needn't be known yet."""

    kind: str
    ref: str


@dataclass(frozen=True, slots=True)
class Related:
    """A record as another one that it is linked with sees it. Instants are aware UTC."""

    kind: str
    ref: str
    state: State
    opened_at: datetime
    due_at: datetime | None
    data: RecordData


@dataclass(frozen=True, slots=True)
class Record:
    """One watched thing, as the planner and the templates see it.

    `ladder` tells one climb of the cadence from the next: a re-issued invitation or a payment
    rejected and approved again starts a new one, and each stage may be told once more. `related`
    are the records it is linked with, in either direction, where what is told needs them.
    """

    kind: str
    data: RecordData
    opened_at: datetime
    deadline: Deadline
    partner: Partner
    lines: tuple[LineData, ...] = ()
    ladder: str = "1"
    assessment: Assessment = Assessment(State.OPEN)
    snoozed_until: datetime | None = None
    related: tuple[Related, ...] = ()

    @property
    def ref(self) -> str:
        """The host business's identifier."""
        return self.data.ref


_Data = TypeVar("_Data", bound=RecordData)


def data_of(record: Record, model: type[_Data]) -> _Data:
    """The record's data as its rule's model. Raises TypeError for a record of another kind."""
    if isinstance(record.data, model):
        return record.data
    raise TypeError(f"record {record.ref} is of kind {record.kind}, not {_noun(model)}")


def _noun(model: type[RecordData]) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__.removesuffix("Data")).lower()
    return model.noun or f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


_WHEN = re.compile(
    r"(?P<anchor>due|opened)\s*"
    r"(?:(?P<sign>[+-])\s*(?P<count>\d+)\s*(?P<unit>hours?|days?|working days?))?"
    r"(?:\s*,?\s*then every (?P<every>\d+) (?P<every_unit>days?|working days?))?"
)


@dataclass(frozen=True, slots=True)
class When:
    """When a stage falls due, written like a sentence.

    `due - 72 hours` is an exact instant. `due - 5 working days`, `opened + 3 days` are days of the
    vendor's zone at the cadence's send time; `due - 0 working days` is the last working day on or
    before the deadline's. `opened + 7 working days, then every 5 working days` repeats until the
    record closes.
    """

    anchor: Literal["due", "opened"]
    count: int
    unit: Literal["hour", "day", "working day"]
    every: int = 0
    every_unit: Literal["day", "working day"] = "working day"

    @classmethod
    def parse(cls, text: str) -> When:
        """Raises ValueError that shows the forms there are."""
        found = _WHEN.fullmatch(text.strip())
        if not found:
            raise ValueError(
                f"{text!r} isn't a time of a stage: write it like 'due - 72 hours', "
                "'due - 5 working days', 'opened + 3 days', 'due' or "
                "'opened + 7 working days, then every 5 working days'"
            )
        unit = (found["unit"] or "hours").removesuffix("s")
        every_unit = (found["every_unit"] or "working days").removesuffix("s")
        if found["every"] is not None and int(found["every"]) == 0:
            raise ValueError(f"{text!r} repeats every 0 days: every 1 or more")
        return cls(
            anchor="due" if found["anchor"] == "due" else "opened",
            count=int(found["count"] or 0) * (-1 if found["sign"] == "-" else 1),
            unit="hour" if unit == "hour" else "day" if unit == "day" else "working day",
            every=int(found["every"] or 0),
            every_unit="day" if every_unit == "day" else "working day",
        )


@dataclass(frozen=True, slots=True)
class Tell:
    """Whom a stage tells, by which channels, with which text.

    `role` is a contact's role at the partner, or one that the rule itself resolves (`customer`,
    `inviter`). Where nobody has it, `or_else` names the role that is told instead.
    """

    role: str
    by: tuple[Channel, ...] = ("mail",)
    message: str = "reminder"
    or_else: str = "administrator"


@dataclass(frozen=True, slots=True)
class Stage:
    """One rung of the ladder. `name` is its key in SQL, settings, templates and reports.

    `after_deadline` marks what is said once the deadline has passed; every other stage of a dated
    record is void from the deadline on.
    """

    name: str
    when: When
    tell: tuple[Tell, ...]
    after_deadline: bool = False
    urgent: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Cadence:
    """A rule's ladder. `send_at` is a wall-clock time of the recipient's zone for day stages.

    `scan_every` is how often due records are looked for: a reminder is at most so late.
    """

    stages: tuple[Stage, ...]
    send_at: time = time(9, 0)
    scan_every: timedelta = timedelta(minutes=5)


def stage(
    name: str,
    when: str,
    *tell: Tell,
    after_deadline: bool = False,
    urgent: bool = False,
    required: bool = False,
) -> Stage:
    """A stage with its time written as a sentence. Raises ValueError (see `When`)."""
    return Stage(name, When.parse(when), tell, after_deadline, urgent, required)


@dataclass(frozen=True, slots=True)
class Sample:
    """A believable record for previews, contract tests and translators, given as files give it."""

    data: Mapping[str, Any]
    lines: tuple[Mapping[str, Any], ...] = ()
    contacts: tuple[Mapping[str, Any], ...] = ()
    partner: Mapping[str, Any] = field(default_factory=dict)


class Rule(ABC):
    """Everything that is known about one kind. Subclass it in one file of `schedules/rules/`.

    kind      the name in events, settings, commands and template folders
    title     what people call it, by language
    Data      the model of a record;  Line: the model of its list's rows, or None
    cadence   the ladder; settings may replace it
    zone      where the kind's deadlines are counted (the vendor's: Beijing)
    derives_from  the kinds from whose records `derive` makes this one's
    made_here  whether only Duewatch makes its records: neither files nor producers bring them
    named_roles  the roles of contacts whom a record names in a field called like the role, each
        with the role that is told where it names nobody
    """

    kind: ClassVar[str]
    title: ClassVar[Mapping[str, str]]
    Data: ClassVar[type[RecordData]]
    Line: ClassVar[type[LineData] | None] = None
    cadence: ClassVar[Cadence]
    zone: ClassVar[ZoneInfo] = BEIJING
    derives_from: ClassVar[tuple[str, ...]] = ()
    made_here: ClassVar[bool] = False
    named_roles: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def opened_at(self, data: Any) -> datetime:
        """The instant from which `opened + …` stages count."""

    @abstractmethod
    def deadline(self, data: Any, calendar: WorkingCalendar) -> Deadline:
        """The effective deadline and what happens then."""

    @abstractmethod
    def assess(self, data: Any, lines: Sequence[Any]) -> Assessment:
        """What state the record is in, and why. Never raises: what is wrong is held."""

    def record(
        self,
        data: RecordData,
        partner: Partner,
        calendar: WorkingCalendar,
        lines: Sequence[LineData] = (),
    ) -> Record:
        """A record of this kind, judged by its own data alone."""
        return Record(
            kind=self.kind,
            data=data,
            opened_at=self.opened_at(data),
            deadline=self.deadline(data, calendar),
            partner=partner,
            lines=tuple(lines),
            ladder=self.ladder(data),
            assessment=self.assess(data, lines),
        )

    def links(self, data: Any) -> Sequence[Link]:
        """The records that this one has to do with. Each is judged anew when the other changes."""
        return ()

    def in_light_of(
        self, data: Any, related: Sequence[Related], assessment: Assessment, deadline: Deadline
    ) -> tuple[Assessment, Deadline]:
        """The judgement with the linked records known, in either direction; called with any.

        `assessment` and `deadline` are the rule's own, from the record alone.
        """
        return assessment, deadline

    def may_derive(self, partner: Partner) -> bool:
        """Whether `derive` could make a record at this partner, by what is known of it alone."""
        return True

    def derive(
        self,
        partner: Partner,
        watched: Sequence[Related],
        present: Any | None,
        now: datetime,
    ) -> RecordData | None:
        """This kind's record of a partner, made from its records of `derives_from` not yet closed.

        `present` is the record's data as it stands, None where there is none or it is closed;
        `now` is aware UTC. None when there is nothing to watch: what is there is closed then.
        """
        return None

    def told_at(self, record: Record) -> str | None:
        """The partner whose people are told; None where it isn't known, and the record is held."""
        return record.partner.ref

    def ladder(self, data: Any) -> str:
        """Which climb of the cadence this is (see Record)."""
        return "1"

    def applies(self, stage: Stage, record: Record) -> str | None:
        """Why a stage isn't for this record, or None when it is."""
        if stage.when.anchor == "due" and record.deadline.at is None:
            return "the record has no deadline"
        return None

    def recipients(self, role: str, record: Record, contacts: Sequence[Contact]) -> list[Contact]:
        """Who holds `role` for this record; a rule whose records hold people extends it."""
        if role in self.named_roles:
            named = [one for one in contacts if one.ref == getattr(record.data, role)]
            if named:
                return named
            role = self.named_roles[role]
        return [contact for contact in contacts if contact.role == role]

    def message(self, tell: Tell, record: Record) -> str:
        """The name of the words in which a record is told; a rule may let the record choose."""
        return tell.message

    def chosen_words(self, data: Any) -> str | None:
        """The name of the words that a record chooses for itself; there must be such words."""
        return None

    @abstractmethod
    def view(self, record: Record) -> dict[str, Plain]:
        """What templates may say of one record: plain values, amounts and instants unformatted.

        What every view has is here, `deadline` aware UTC or None; a rule adds its own to it.
        Renderers add the stage, the recipient and the links.
        """
        return {
            "ref": record.ref,
            "url": record.data.url,
            "deadline": record.deadline.at,
            "effect": str(record.deadline.effect),
            "partner": record.partner.name,
        }

    def amount(self, record: Record) -> tuple[Decimal, str] | None:
        """(amount, ISO 4217 currency) for totals over a digest, or None for kinds without money."""
        return None

    def documents(self, record: Record) -> Sequence[Any]:
        """The lists that go along as files (`schedules.invoice_list.InvoiceList`)."""
        return ()

    def figures(self, record: Record) -> Figures | None:
        """The record as charts: pictures in the mail and a workbook that goes along, or None."""
        return None

    @abstractmethod
    def samples(self, now: datetime) -> Sequence[Sample]:
        """Records that are due soon after `now` (aware UTC); the first is the preview's."""


def end_of_day(day: Any, zone: ZoneInfo) -> datetime:
    """The first instant after a day of `zone`, as aware UTC."""
    following = datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)
    return following.astimezone(UTC)
