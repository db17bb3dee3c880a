"""From rows to what the planner and the templates see: records with their partner and people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from schedules.calendar import QuietHours, WorkingCalendar
from schedules.people import Digest
from schedules.planner import Circumstances, Plan, Told, plan
from schedules.rule import (
    Assessment,
    Contact,
    ContactData,
    Deadline,
    LineData,
    Partner,
    PartnerData,
    Record,
    Related,
    Rule,
    State,
)
from workers.cadences import cadence_of
from workers.errors import HeldError, UnknownThingError
from workers.settings import Settings
from workers.store import AsyncConnection, Row, Store

log = structlog.get_logger("records")


@dataclass(frozen=True, slots=True)
class Watched:
    """A stored record, revived: what the planner needs, and the row it came from."""

    id: int
    revision: int
    row: Row[Any]
    record: Record
    contacts: tuple[Contact, ...]
    told: Mapping[Told, str]


class Registry:
    """The rules that are on, each with its cadence, and what all their planning shares."""

    def __init__(
        self, rules: Mapping[str, Rule], settings: Settings, calendar: WorkingCalendar
    ) -> None:
        self.rules = dict(rules)
        self.calendar = calendar
        self.cadences = {kind: cadence_of(rule, settings) for kind, rule in rules.items()}
        self.quiet = {
            "mail": QuietHours.parse(settings.mail.quiet_hours),
            "sms": QuietHours.parse(settings.sms.quiet_hours),
        }
        self.digest_at = settings.digest.send_at
        self._off = {kind for kind, rule in settings.rules.items() if not rule.enabled}

    def rule(self, kind: str) -> Rule:
        """Raises UnknownThingError naming the rules there are."""
        found = self.rules.get(kind)
        if found is None:
            raise UnknownThingError(f"there is no rule {kind!r}; there are {', '.join(self.rules)}")
        return found

    def enabled(self) -> list[str]:
        """The kinds that are scanned, in a steady order."""
        return [kind for kind in sorted(self.rules) if kind not in self._off]

    def around(
        self, kind: str, unsubscribed: Collection[tuple[str, str]] = frozenset()
    ) -> Circumstances:
        """What the planner needs beside a record."""
        return Circumstances(
            rule=self.rule(kind),
            cadence=self.cadences[kind],
            calendar=self.calendar,
            quiet=self.quiet,
            unsubscribed=frozenset(unsubscribed),
            digest_at=self.digest_at,
        )

    def fingerprint(self, kind: str) -> str:
        """What all planning of a kind rests on beside its records: other once any of it changed."""
        parts = (self.cadences[kind], sorted(self.quiet.items()), self.calendar.content)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def judge(
        self, rule: Rule, data: Any, lines: Sequence[Any], related: Sequence[Related] = ()
    ) -> tuple[Assessment, Deadline]:
        """A rule's judgement of a record, in the light of those it is linked with.

        A rule's own fault holds that record alone.
        """
        try:
            judged = rule.assess(data, lines), rule.deadline(data, self.calendar)
            return rule.in_light_of(data, related, *judged) if related else judged
        except Exception as error:
            why = (
                f"the rule {rule.kind} can't judge it ({type(error).__name__}: {error}): report it"
            )
            return Assessment(State.HELD, why), Deadline(None)


def contact_of(row: Row[Any]) -> Contact | None:
    """A stored contact as the planner sees one, or None when it isn't active."""
    data = _parsed(ContactData, row.hash, row.data)
    if not data.active:
        return None
    return Contact(
        ref=row.ref,
        partner=data.partner,
        role=data.role or "",
        name=data.name or "",
        mail=data.mail,
        mobile=data.mobile,
        language=data.language,
        time_zone=data.time_zone,
        channels=frozenset(data.channels),
        quiet=data.quiet_hours,
        daily=(row.chosen or data.digest) == Digest.DAILY,
    )


def _people(rows: Sequence[Row[Any]]) -> tuple[Contact, ...]:
    found = []
    for row in rows:
        try:
            found.append(contact_of(row))
        except ValidationError as error:
            # Nobody is written to by data that are no longer accepted; the others still are.
            log.error("contact", partner=row.partner, detail=error.errors()[0]["msg"])
    return tuple(one for one in found if one is not None)


class _Frozen:
    """Makes a row's JSON hashable for the cache: equal by its stored hash."""

    __slots__ = ("data", "hash")

    def __init__(self, digest: str, data: Any) -> None:
        self.hash, self.data = digest, data

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.hash == self.hash


@lru_cache(maxsize=20_000)
def _cached(model: Any, frozen: _Frozen) -> BaseModel:
    found: BaseModel = model.model_validate(frozen.data)
    return found


def _parsed(model: Any, digest: str, data: Any) -> Any:
    return _cached(model, _Frozen(digest, data))


def partner_of(ref: str, row: Row[Any] | None) -> Partner:
    """A stored partner, or one of whom only the ref is known."""
    if row is None:
        return Partner(ref, ref)
    data = _parsed(PartnerData, row.hash, row.data)
    return Partner(ref, data.name or ref, data.type or "", data.parent, data.account_authenticated)


def related_of(registry: Registry, rows: Sequence[Row[Any]]) -> tuple[Related, ...]:
    """Stored records as others that are linked with them see them; unreadable ones left out."""
    found = []
    for row in rows:
        rule = registry.rules.get(row.kind)
        if rule is None:
            continue
        try:
            data = _parsed(rule.Data, row.hash, row.data)
        except ValidationError as error:
            log.error("related", kind=row.kind, ref=row.ref, detail=error.errors()[0]["msg"])
            continue
        state = State.OPEN if row.unheard else State(row.state)
        found.append(Related(row.kind, row.ref, state, row.opened_at, row.due_at, data))
    return tuple(found)


_ORDER = ("version", "updated_at")
_CONTENT = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def stored(model: BaseModel) -> tuple[dict[str, Any], str]:
    """(what is stored of a model, its content hash): equal data, equal hash."""
    data = model.model_dump(mode="json")
    said = {name: value for name, value in data.items() if name not in _ORDER}
    return data, hashlib.sha256(_CONTENT.encode(said).encode()).hexdigest()


def digest(model: BaseModel) -> str:
    """A content hash: equal data, equal hash."""
    return stored(model)[1]


def lines_of(rule: Rule, rows: Sequence[Row[Any]]) -> list[LineData]:
    """A stored list's lines; none for a rule without lists. Raises ValidationError."""
    return [] if rule.Line is None else [_parsed(rule.Line, row.hash, row.data) for row in rows]


class Records:
    """Reads records whole. `with_lines` also reads and parses their lists."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self.store = store
        self.registry = registry

    async def revive(
        self, connection: AsyncConnection, rows: Sequence[Row[Any]], *, with_lines: bool
    ) -> tuple[dict[int, Watched], dict[int, str]]:
        """(watched records by id, why by id where a rule no longer accepts what is stored)."""
        store = self.store.records
        partners, contacts = await store.people(connection, {row.partner for row in rows})
        told = await store.told(connection, [row.id for row in rows])
        lists: dict[str, dict[str, list[Row[Any]]]] = {}
        if with_lines:
            for kind in {row.kind for row in rows}:
                if self.registry.rule(kind).Line is not None:
                    refs = [row.ref for row in rows if row.kind == kind]
                    lists[kind] = await store.lines(connection, kind, refs)
        people = {ref: _people(theirs) for ref, theirs in contacts.items()}
        near: dict[int, list[Row[Any]]] = {}
        if with_lines:
            near = await self.store.relations.neighbours(connection, rows)
        watched: dict[int, Watched] = {}
        broken: dict[int, str] = {}
        for row in rows:
            try:
                partner = partner_of(row.partner, partners.get(row.partner))
                theirs = people.get(row.partner, ())
                if partner.parent and partner.parent != row.partner:
                    theirs += people.get(partner.parent, ())
                watched[row.id] = self._watched(
                    row,
                    partner,
                    theirs,
                    told.get(row.id, []),
                    lists.get(row.kind, {}).get(row.ref, []) if with_lines else None,
                    related_of(self.registry, near.get(row.id, [])),
                )
            except HeldError as error:
                broken[row.id] = str(error)
        return watched, broken

    def _watched(
        self,
        row: Row[Any],
        partner: Partner,
        contacts: tuple[Contact, ...],
        told: Sequence[tuple[str, Told, str]],
        lines: list[Row[Any]] | None,
        related: tuple[Related, ...],
    ) -> Watched:
        rule = self.registry.rule(row.kind)
        assessment = Assessment(State(row.state), row.why, row.last_word)
        try:
            data = _parsed(rule.Data, row.hash, row.data)
            parsed: tuple[LineData, ...] = ()
            if lines and rule.Line is not None:
                parsed = tuple(_parsed(rule.Line, one.hash, one.data) for one in lines)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise HeldError(
                f"{row.kind} {row.ref}: the rule no longer accepts its data: {said}"
            ) from None
        # What is closed with its last word planned may still say that one.
        speaks = row.state == State.OPEN or (row.last_word and not row.closed_by_hand)
        if lines is not None and speaks:
            assessment, _ = self.registry.judge(rule, data, parsed, related)
        record = Record(
            kind=row.kind,
            data=data,
            opened_at=row.opened_at,
            deadline=Deadline(row.due_at, row.effect),
            partner=partner,
            lines=parsed,
            ladder=row.ladder,
            assessment=assessment,
            snoozed_until=row.snoozed_until,
            related=related,
        )
        mine = {what: to for ladder, what, to in told if ladder == row.ladder}
        return Watched(row.id, row.revision, row, record, contacts, mine)

    async def one(self, ref: str, kind: str | None = None, *, with_lines: bool = True) -> Watched:
        """One record by its ref, and its kind where the ref isn't unique.

        Raises UnknownThingError, naming the kinds to choose from where there are several.
        """
        rows = await self.store.records.find(ref, kind)
        if not rows:
            raise UnknownThingError(
                f"there is no {kind or 'record'} {ref}: import or send it first"
            )
        if len(rows) > 1:
            kinds = ", ".join(row.kind for row in rows)
            raise UnknownThingError(f"{ref} names several records ({kinds}): give the kind too")
        async with self.store.database.read() as connection:
            watched, broken = await self.revive(connection, rows, with_lines=with_lines)
        if broken:
            raise HeldError(broken[rows[0].id])
        return watched[rows[0].id]


def plan_all(
    watched: Mapping[int, Watched], now: datetime, around: Circumstances
) -> tuple[list[tuple[Watched, Plan]], dict[int, str]]:
    """(each record with its plan, why by id where none can be made): one harms only itself.

    The plans leave out the stages that aren't for their record.
    """
    plans: list[tuple[Watched, Plan]] = []
    faults: dict[int, str] = {}
    for one in watched.values():
        try:
            planned = plan(one.record, one.contacts, one.told, now, around, whole=False)
            plans.append((one, planned))
        except Exception as error:
            faults[one.id] = f"it can't be planned ({type(error).__name__}: {error}): report it"
    return plans, faults


def plan_watched(watched: Watched, now: datetime, around: Circumstances) -> Plan:
    """The planner's word on a stored record."""
    return plan(watched.record, watched.contacts, watched.told, now, around)
