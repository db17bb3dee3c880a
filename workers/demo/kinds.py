"""Records of all the other kinds, each so placed in time that its stages are due in the demo.

They are the rules' own samples, moved through time until the planner says that a stage is due: a
new kind is in the demo as soon as its file is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from schedules.calendar import WorkingCalendar
from schedules.planner import Circumstances, plan
from schedules.rule import Contact, Partner, Record, Rule, Sample
from workers.demo.people import MadePartner, Numbers, customer
from workers.demo.tables import Row

FARTHEST = 75
"""Days that a sample is moved at most."""
COPIES = 2
"""Records for each stage and language, each of another partner."""
NEARLY_FULL = 93
"""Registrations pending at one partner of each language, so that it is warned."""


@dataclass(frozen=True, slots=True)
class Found:
    """A sample whose stage is due when its own "now" is `moved` away from the demo's."""

    sample: Sample
    moved: timedelta


def watched_kinds(
    rng: Random,
    now: datetime,
    rules: Mapping[str, Rule],
    partners: Sequence[MadePartner],
    contacts: Sequence[Row],
    numbers: Numbers,
    calendar: WorkingCalendar,
) -> dict[str, list[tuple[MadePartner, Row]]]:
    """By kind, the rows of every kind in `rules`; `now` is aware."""
    by_partner: dict[str, list[Row]] = {}
    for row in contacts:
        by_partner.setdefault(row["partner"], []).append(row)
    made: dict[str, list[tuple[MadePartner, Row]]] = {}
    for number, rule in enumerate(rules.values()):
        writer = _Writer(rng, rule, by_partner, numbers, number * 40)
        due = {chinese: _due(rule, now, chinese, calendar) for chinese in (True, False)}
        for chinese in (True, False):
            choice = [one for one in partners if one.chinese is chinese and _whole(one, by_partner)]
            # A stage that no sample of this language comes to is shown with one of the other's.
            found = due[not chinese] | due[chinese]
            rows = made.setdefault(rule.kind, [])
            for at, one in enumerate(found.values()):
                for copy in range(COPIES):
                    partner = choice[(number * 5 + at * COPIES + copy) % len(choice)]
                    rows.append((partner, writer.row(partner, one)))
    return made


def pending_registrations(
    rng: Random, now: datetime, partners: Sequence[MadePartner]
) -> Iterator[tuple[MadePartner, Row]]:
    """Two partners that have nearly as many customers registered as they may."""
    for chinese in (True, False):
        partner = [one for one in partners if one.chinese is chinese][3]
        for number in range(NEARLY_FULL):
            name, _ = customer(rng, chinese, number + 500)
            yield (
                partner,
                {
                    "ref": f"BB{now:%Y%m}-{partner.ref[2:]}{number:03}",
                    "partner": partner.ref,
                    "customer_name": f"{name} {number + 1}",
                    "registered_at": now - timedelta(days=1 + number % 8, hours=number % 7),
                    "owner": partner.sales,
                    "status": "已报备" if chinese else "REGISTERED",
                },
            )


def _whole(partner: MadePartner, contacts: Mapping[str, Sequence[Row]]) -> bool:
    """Whether a partner has somebody in every role who can be written to.

    Australian numbers are refused in the demo, on purpose and often enough.
    """
    if partner.time_zone.startswith("Australia/"):
        return False
    found = {row["role"] for row in contacts.get(partner.ref, ()) if row["mail"] and row["mobile"]}
    return found >= {"administrator", "sales", "delivery", "supervisor"}


def _due(
    rule: Rule, now: datetime, chinese: bool, calendar: WorkingCalendar
) -> dict[tuple[str, str], Found]:
    """For each (stage, message) the nearest moved sample of which it is due."""
    wanted = {(stage.name, tell.message) for stage in rule.cadence.stages for tell in stage.tell}
    around = Circumstances(rule, rule.cadence, calendar, {"mail": None, "sms": None})
    found: dict[tuple[str, str], Found] = {}
    for days in sorted(range(-FARTHEST, FARTHEST + 1), key=abs):
        for sample in rule.samples(now + timedelta(days=days)):
            if _is_chinese(sample) is not chinese:
                continue
            record, people = _record(rule, sample, calendar)
            for step in plan(record, people, {}, now, around).due:
                key = (step.stage.partition("#")[0], step.message)
                found.setdefault(key, Found(sample, timedelta(days=days)))
        if found.keys() >= wanted:
            break
    return found


def _is_chinese(sample: Sample) -> bool:
    language = next((str(v) for k, v in sample.data.items() if k.endswith("_language")), "")
    if not language and sample.contacts:
        language = str(sample.contacts[0].get("language", "zh-CN"))
    return language != "en"


def _record(
    rule: Rule, sample: Sample, calendar: WorkingCalendar
) -> tuple[Record, Sequence[Contact]]:
    data = rule.Data.model_validate(dict(sample.data))
    partner = Partner(data.partner, str(sample.partner.get("name", data.partner)))
    roles = ("administrator", "sales", "supervisor", "finance", "delivery", "partner_manager")
    people = [
        Contact(
            ref=role,
            partner=data.partner,
            role=role,
            name=role,
            mail=f"{role}@vendor.example",
            mobile="+8613800001000",
        )
        for role in roles
    ]
    return rule.record(data, partner, calendar), people


class _Writer:
    """Writes samples as rows of the demo's own partners, people and customers."""

    def __init__(
        self,
        rng: Random,
        rule: Rule,
        contacts: Mapping[str, Sequence[Row]],
        numbers: Numbers,
        first: int,
    ) -> None:
        self._rng = rng
        self._rule = rule
        self._contacts = contacts
        self._numbers = numbers
        self._serial: Counter[str] = Counter()
        # Kinds that share refs on purpose are linked by them, and these must stay apart.
        self._first = first

    def row(self, partner: MadePartner, found: Found) -> Row:
        """One row, with a ref of its own."""
        data: dict[str, Any] = dict(found.sample.data)
        first = str(data["ref"]).split("-")[0]
        self._serial[first] += 1
        number = self._first + self._serial[first]
        ref = f"{first}-{partner.ref[2:]}-{number:03}"
        if "url" in data:
            data["url"] = str(data["url"]).replace(str(data["ref"]), ref)
        data |= {"ref": ref, "partner": partner.ref}
        for field, role in (
            ("owner", "sales"),
            ("account_manager", "sales"),
            ("inviter", "sales"),
            ("lead", "delivery"),
        ):
            if data.get(field):
                data[field] = self._person(partner, role)["ref"]
        self._people(partner, data, number)
        return data

    def _people(self, partner: MadePartner, data: dict[str, Any], number: int) -> None:
        if "customer_name" in data:
            name, mail = customer(self._rng, partner.chinese, number + len(self._rule.kind) * 7)
            data["customer_name"] = name
            if "customer" in data:
                data["customer"] = f"KH-{self._rule.kind[:2].upper()}{number:04}"
            if "customer_mail" in data:
                data["customer_mail"] = mail
        for who in ("customer", "member"):
            if f"{who}_mobile" in self._rule.Data.model_fields:
                data[f"{who}_mobile"] = self._numbers.mobile("Asia/Shanghai")
            if f"{who}_language" in data:
                data[f"{who}_language"] = partner.language
            if f"{who}_time_zone" in self._rule.Data.model_fields:
                # Awake at the demo's hour, or there would be no SMS to look at.
                data[f"{who}_time_zone"] = "Asia/Shanghai" if partner.chinese else "Asia/Singapore"
        if "member_mail" in data:
            data["member_mail"] = f"member{number}@{partner.domain}"

    def _person(self, partner: MadePartner, role: str) -> Row:
        return next(row for row in self._contacts[partner.ref] if row["role"] == role)
