"""Intake: what comes in becomes partners, contacts, records and lines. One path for all doors.

Files, events and the API hand over models that are already validated; here they are compared
with what is there, judged by their rule and stored in one transaction a batch. The same content
twice changes nothing; what is older than the stored is stale and ignored; a masked value never
replaces a clear one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from schedules.fields import is_masked
from schedules.people import CustomerData, SpendData
from schedules.rule import ContactData, LineData, PartnerData, RecordData, Rule
from workers.judge import Judge, keys_of
from workers.records import Registry, lines_of, stored
from workers.store import AsyncConnection, Row, Store, is_deadlock

DEADLOCKS = 3
"""So many times a batch begins anew when the database let another go first."""

Clock = Callable[[], datetime]


class Taken(StrEnum):
    """What became of one thing that came in."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Incoming:
    """One validated thing: a partner, a contact, a record or a line of one (`kind` for the two)."""

    model: BaseModel
    kind: str | None = None


@dataclass(slots=True)
class Batch:
    """What a batch did: an outcome for each thing in order, and the records to look at now."""

    outcomes: list[Taken] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    @property
    def counts(self) -> Counter[Taken]:
        """How many of each outcome."""
        return Counter(self.outcomes)


@dataclass(slots=True)
class _Changed:
    """What a batch changed: refs by kind, at which partners by kind, and partners themselves."""

    refs: dict[str, set[str]] = field(default_factory=dict)
    at: dict[str, set[str]] = field(default_factory=dict)
    partners: set[str] = field(default_factory=set)

    def add(self, kind: str, refs: Sequence[str], outcomes: Sequence[Taken]) -> None:
        for ref, outcome in zip(refs, outcomes, strict=True):
            if outcome in {Taken.NEW, Taken.CHANGED}:
                self.refs.setdefault(kind, set()).add(ref)


class Intake:
    """Takes batches in. `clock` is business time."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self.store = store
        self.registry = registry
        self.judge = Judge(store, registry)
        self.clock = clock

    async def take(self, things: Sequence[Incoming]) -> Batch:
        """Takes a batch in one transaction."""
        for _ in range(DEADLOCKS):
            try:
                async with self.store.database.write() as connection:
                    return await self.take_in(connection, things)
            except Exception as error:
                # Two batches whose records are linked with each other's: one goes first.
                if not is_deadlock(error):
                    raise
        async with self.store.database.write() as connection:
            return await self.take_in(connection, things)

    async def take_in(
        self,
        connection: AsyncConnection,
        things: Sequence[Incoming],
        lists: Mapping[int, Sequence[LineData]] | None = None,
    ) -> Batch:
        """Takes a batch within the caller's transaction (events and their effect are one).

        Order within a batch doesn't matter: partners and contacts come first, lines before records.
        `lists` has the whole list of some records by their place in `things`: it replaces the one
        that is stored, unless the record is stale.
        """
        batch = Batch(outcomes=[Taken.UNCHANGED] * len(things))
        changed = _Changed()
        await self.judge.hold(connection, [(one.kind, one.model) for one in things])
        grouped: dict[tuple[int, str | None], list[int]] = {}
        for index, thing in enumerate(things):
            grouped.setdefault((_order(thing.model), thing.kind), []).append(index)
        for (order, kind), indexes in sorted(grouped.items(), key=lambda item: item[0][0]):
            # One at a time where a batch names the same thing twice: the later word counts.
            for part in _without_repeats(indexes, things):
                models = [things[index].model for index in part]
                whole = {}
                if lists:
                    whole = {person_ref(things[at].model): lists[at] for at in part if at in lists}
                outcomes = await self._take_group(
                    connection, order, kind, models, whole, batch, changed
                )
                for index, outcome in zip(part, outcomes, strict=True):
                    batch.outcomes[index] = outcome
        batch.kinds |= await self.go_on(connection, changed.refs, changed.at, changed.partners)
        return batch

    async def go_on(
        self,
        connection: AsyncConnection,
        refs: Mapping[str, Collection[str]],
        at: Mapping[str, Collection[str]],
        partners: Collection[str] = (),
    ) -> set[str]:
        """What follows from a change for linked records and derived kinds.

        `refs` of records that changed by kind, and `at` which partners; `partners` that changed
        themselves. Returns the kinds of which something may be due now.
        """
        now = self.clock()
        kinds: set[str] = set()
        for kind, theirs in refs.items():
            kinds |= await self.judge.follow(connection, kind, theirs, now)
        if kinds:
            at = dict(at) | {kind: set().union(*at.values()) for kind in kinds}
        for derived in await self.judge.derive(connection, at, partners, now):
            if derived.models:
                await self._records(connection, derived.rule, derived.models, now)
                kinds.add(derived.rule.kind)
            await self.judge.close_over(connection, derived.over, now)
        return kinds

    async def _take_group(
        self,
        connection: AsyncConnection,
        order: int,
        kind: str | None,
        models: list[Any],
        lists: Mapping[str, Sequence[LineData]],
        batch: Batch,
        changed: _Changed,
    ) -> list[Taken]:
        now = self.clock()
        if order < len(_WHO):
            outcomes = await self._people(connection, _WHO[order][0], models, now)
            if order == 0:
                changed.partners |= {
                    model.ref
                    for model, outcome in zip(models, outcomes, strict=True)
                    if outcome in {Taken.NEW, Taken.CHANGED}
                }
            return outcomes
        assert kind is not None
        rule = self.registry.rule(kind)
        batch.kinds.add(kind)
        if order == len(_WHO):
            outcomes = await self._lines(connection, rule, models, now)
            changed.add(kind, [line_key(kind, model)[0] for model in models], outcomes)
            return outcomes
        outcomes = await self._records(connection, rule, models, now, lists)
        changed.add(kind, [model.ref for model in models], outcomes)
        changed.at.setdefault(kind, set()).update(
            model.partner
            for model, outcome in zip(models, outcomes, strict=True)
            if outcome in {Taken.NEW, Taken.CHANGED}
        )
        return outcomes

    # --- people ---------------------------------------------------------------------------

    async def _people(
        self, connection: AsyncConnection, which: str, models: list[Any], now: datetime
    ) -> list[Taken]:
        if which == "contact":
            await self._partners_named(connection, models, now)
        refs = [person_ref(model) for model in models]
        present = await self.store.records.hashes(connection, which, refs)
        outcomes, rows, partners = [], [], set()
        for ref, model in zip(refs, models, strict=True):
            before = present.get(ref)
            merged = _merged(model, before.data if before is not None else None)
            data, mark = stored(merged)
            if before is not None and before.hash == mark:
                outcomes.append(Taken.UNCHANGED)
                continue
            outcomes.append(Taken.NEW if before is None else Taken.CHANGED)
            row = {
                "ref": ref,
                "data": data,
                "hash": mark,
                "changed_at": now,
            }
            if which == "contact" and before is not None:
                partners.add(before.partner)
            if which == "partner":
                row["parent"] = merged.parent
            else:
                row["partner"] = merged.partner
            partners.add(row.get("partner", ref))
            rows.append(row)
        await self.store.records.save_people(connection, which, rows)
        if which in {"partner", "contact"}:
            await self.store.records.look_again(connection, partners, now)
        return outcomes

    async def _partners_named(
        self, connection: AsyncConnection, models: list[ContactData], now: datetime
    ) -> None:
        """A contacts file may name its partners: one that is new is made from it."""
        named = {model.partner: model.partner_name for model in models}
        present = await self.store.records.hashes(connection, "partner", named)
        missing = [
            PartnerData(ref=ref, name=name) for ref, name in named.items() if ref not in present
        ]
        if missing:
            await self._people(connection, "partner", missing, now)

    # --- lines ----------------------------------------------------------------------------

    async def _lines(
        self, connection: AsyncConnection, rule: Rule, models: list[Any], now: datetime
    ) -> list[Taken]:
        keys = [line_key(rule.kind, model) for model in models]
        present = await self.store.records.lines(connection, rule.kind, {ref for ref, _ in keys})
        marks = {(row.ref, row.line): row.hash for rows in present.values() for row in rows}
        outcomes, rows, touched = [], [], set()
        for (ref, line), model in zip(keys, models, strict=True):
            data, mark = stored(model)
            before = marks.get((ref, line))
            if before == mark:
                outcomes.append(Taken.UNCHANGED)
                continue
            outcomes.append(Taken.NEW if before is None else Taken.CHANGED)
            rows.append({"ref": ref, "line": line, "data": data, "hash": mark})
            touched.add(ref)
        await self.store.records.save_lines(connection, rule.kind, rows)
        await self._judge_again(connection, rule, touched, now)
        return outcomes

    async def _judge_again(
        self, connection: AsyncConnection, rule: Rule, refs: set[str], now: datetime
    ) -> None:
        present = await self.store.records.present(connection, rule.kind, refs)
        lines = await self.store.records.lines(connection, rule.kind, present)
        changes = []
        for ref, row in present.items():
            data = rule.Data.model_validate(row.data)
            theirs = lines_of(rule, lines.get(ref, []))
            changes.append({"id": row.id} | self.judge.state(rule, data, theirs, now, before=row))
        await self.store.records.change_records(connection, changes)

    # --- records --------------------------------------------------------------------------

    async def _records(
        self,
        connection: AsyncConnection,
        rule: Rule,
        models: list[Any],
        now: datetime,
        lists: Mapping[str, Sequence[LineData]] | None = None,
    ) -> list[Taken]:
        refs = [model.ref for model in models]
        present = await self.store.records.present(connection, rule.kind, refs)
        lines: dict[str, list[Row[Any]]] = {}
        if rule.Line is not None:
            lines = await self.store.records.lines(connection, rule.kind, refs)
        outcomes: list[Taken] = []
        added: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        newer: list[dict[str, Any]] = []
        taken: list[RecordData] = []
        replaced: dict[str, ListChange] = {}
        for model in models:
            before = present.get(model.ref)
            merged = _merged(model, before.data if before is not None else None)
            data, mark = stored(merged)
            outcome = _compare(merged, mark, before)
            theirs = lines.get(model.ref, [])
            listed: Sequence[LineData] | None = (lists or {}).get(model.ref)
            if listed is not None and outcome is not Taken.STALE:
                change = list_change(rule.kind, model.ref, listed, theirs)
                if change.rows or change.dropped:
                    replaced[model.ref] = change
                    outcome = Taken.CHANGED if outcome is Taken.UNCHANGED else outcome
            outcomes.append(outcome)
            if outcome is Taken.UNCHANGED and before is not None and _is_newer(merged, before):
                newer.append(_order_of(merged, data) | {"id": before.id})
            if outcome in {Taken.UNCHANGED, Taken.STALE}:
                continue
            taken.append(merged)
            parsed = lines_of(rule, theirs) if listed is None else listed
            row = {"hash": mark} | _order_of(merged, data)
            row |= self._row(rule, merged, parsed, now, before)
            (added if before is None else changed).append(row)
        lost = await self.store.records.add_records(connection, added)
        await self.store.records.change_records(connection, changed)
        await self.store.records.change_records(connection, newer)
        await self._replace_lines(connection, rule.kind, replaced, lost)
        if type(rule).links is not Rule.links:
            links = {one.ref: keys_of(rule, one) for one in taken if one.ref not in lost}
            await self.store.relations.save_links_of(connection, rule.kind, links)
        if lost:  # another batch added them in the meantime: now they are there to compare with
            again = [index for index, model in enumerate(models) if model.ref in lost]
            those = [models[index] for index in again]
            redone = await self._records(connection, rule, those, now, lists)
            for index, outcome in zip(again, redone, strict=True):
                outcomes[index] = outcome
        return outcomes

    async def _replace_lines(
        self,
        connection: AsyncConnection,
        kind: str,
        replaced: Mapping[str, ListChange],
        lost: Collection[str],
    ) -> None:
        mine = [change for ref, change in replaced.items() if ref not in lost]
        await self.store.records.save_lines(
            connection, kind, [row for change in mine for row in change.rows]
        )
        await self.store.records.drop_lines(
            connection, kind, [(change.ref, line) for change in mine for line in change.dropped]
        )

    def _row(
        self,
        rule: Rule,
        model: RecordData,
        lines: Sequence[LineData],
        now: datetime,
        before: Row[Any] | None,
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"partner": model.partner}
        row |= self.judge.state(rule, model, lines, now, before=before)
        if before is None:
            return row | {
                "kind": rule.kind,
                "ref": model.ref,
                "created_at": now,
                "snoozed_until": None,
                "revision": 1,
            }
        return row | {"id": before.id}


@dataclass(frozen=True, slots=True)
class ListChange:
    """What makes a record's list another: rows to be saved, and numbers of lines to be dropped."""

    ref: str
    rows: list[dict[str, Any]]
    dropped: list[int]


def list_change(
    kind: str, ref: str, lines: Sequence[LineData], before: Sequence[Row[Any]]
) -> ListChange:
    """What makes these lines the whole list of a record."""
    marks = {row.line: row.hash for row in before}
    rows = []
    for model in lines:
        _, line = line_key(kind, model)
        data, mark = stored(model)
        if marks.pop(line, None) != mark:
            rows.append({"ref": ref, "line": line, "data": data, "hash": mark})
    return ListChange(ref, rows, list(marks))


def line_key(kind: str, model: Any) -> tuple[str, int]:
    """(the record's ref, the line's number) of a line: the ref's field is named like the kind."""
    return str(getattr(model, kind)), int(model.line)


_WHO: tuple[tuple[str, type[BaseModel]], ...] = (
    ("partner", PartnerData),
    ("contact", ContactData),
    ("customer", CustomerData),
    ("spend", SpendData),
)
"""Who and what isn't watched, in the order in which it is taken in."""


def _order(model: BaseModel) -> int:
    for order, (_, kind) in enumerate(_WHO):
        if isinstance(model, kind):
            return order
    return len(_WHO) + (not isinstance(model, LineData))


def key_of(thing: Incoming) -> Any:
    """What tells a thing from others of its kind."""
    model = thing.model
    if isinstance(model, LineData):
        return line_key(str(thing.kind), model)
    return person_ref(model) if hasattr(model, "partner") else getattr(model, "ref", None)


def _without_repeats(indexes: Sequence[int], things: Sequence[Incoming]) -> list[list[int]]:
    """Splits indexes so that no part names one thing twice, in order."""
    parts: list[list[int]] = []
    seen: set[Any] = set()
    for index in indexes:
        key = key_of(things[index])
        if not parts or key in seen:
            parts.append([])
            seen = set()
        seen.add(key)
        parts[-1].append(index)
    return parts


def person_ref(model: Any) -> str:
    """The ref under which a partner, contact, customer, spend or record is kept."""
    if isinstance(model, SpendData):
        return f"{model.customer}|{model.month}|{model.currency}"
    if isinstance(model, ContactData) and model.ref is None:
        made = (
            f"{model.partner}:{model.role or ''}:{model.mail or model.mobile or model.name or ''}"
        )
        return made if len(made) <= 200 else hashlib.sha256(made.encode()).hexdigest()
    return str(model.ref)


def _merged(model: Any, before: Mapping[str, Any] | None) -> Any:
    """What is stored afterwards: a field that didn't come keeps its value, and so does a clear one
    where the new one is only masked."""
    if before is None:
        return model
    kept = {
        name: before[name]
        for name in type(model).model_fields
        if name in before
        and before[name] is not None
        and (name not in model.model_fields_set or _only_hides(getattr(model, name)))
    }
    if not kept:
        return model
    came = {name: getattr(model, name) for name in model.model_fields_set}
    return type(model).model_validate(came | kept)


def _only_hides(value: object) -> bool:
    """Whether a value only hides what may be known already."""
    return isinstance(value, str) and is_masked(value)


def _compare(model: RecordData, mark: str, before: Row[Any] | None) -> Taken:
    if before is None:
        return Taken.NEW
    if _is_older(model, before):
        return Taken.STALE
    return Taken.UNCHANGED if before.hash == mark else Taken.CHANGED


def _order_of(model: RecordData, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": data, "version": model.version, "updated_at": model.updated_at}


def _is_newer(model: RecordData, before: Row[Any]) -> bool:
    """Whether equal content came with a later order, which what is older must be told by."""
    return (model.version, model.updated_at) != (before.version, before.updated_at)


def _is_older(model: RecordData, before: Row[Any]) -> bool:
    if model.version is not None and before.version is not None:
        return model.version < int(before.version)
    if model.updated_at is not None and before.updated_at is not None:
        return bool(model.updated_at < before.updated_at)
    return False
