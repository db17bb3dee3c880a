"""The judge: what state a record is in, alone and in the light of those it is linked with.

Whatever changes a record goes on to its neighbours: an invitation that was accepted closes its
registration, a payment closes the statements it bills. That is followed until nothing changes, in
the transaction of the change. Derived kinds, whose records nobody sends, are made from what stands
open at a partner.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from schedules.rule import LineData, PartnerData, RecordData, Related, Rule, State
from workers.records import Registry, lines_of, partner_of, related_of
from workers.store import AsyncConnection, Row, Store

log = structlog.get_logger("judge")

REPLANNED = 500
"""Records judged anew in one transaction."""
FOLLOWED = 5
"""So many links in a row are followed; rules whose judgements chase each other end there."""
_PARTNER = "partner"
_FOLLOWS = ("state", "why", "due_at", "effect", "ladder", "last_word")


@dataclass(slots=True)
class Derived:
    """What is to be taken in for a derived kind, and the ids of its records to be closed."""

    rule: Rule
    models: list[RecordData] = field(default_factory=list)
    over: list[int] = field(default_factory=list)


class Judge:
    """Reads and judges within the caller's transaction."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self.store = store
        self.registry = registry

    async def hold(
        self, connection: AsyncConnection, things: Sequence[tuple[str | None, BaseModel]]
    ) -> None:
        """Before anything is written: whoever writes what these are linked with waits."""
        derived = {kind for rule in self.registry.rules.values() for kind in rule.derives_from}
        keys: set[tuple[str, str]] = set()
        for kind, model in things:
            if isinstance(model, PartnerData):
                keys.add((_PARTNER, model.ref))
            elif kind is not None and isinstance(model, RecordData):
                keys.add((kind, model.ref))
                keys.update(keys_of(self.registry.rule(kind), model))
                if kind in derived:
                    keys.add((_PARTNER, model.partner))
        await self.store.relations.hold(connection, keys)

    def state(
        self,
        rule: Rule,
        model: RecordData,
        lines: Sequence[LineData],
        now: datetime,
        *,
        before: Row[Any] | None,
        related: Sequence[Related] = (),
    ) -> dict[str, Any]:
        """What follows from a record's data: its state, deadline and that it is to be planned."""
        assessment, deadline = self.registry.judge(rule, model, lines, related)
        ladder = rule.ladder(model)
        state, why = assessment.state, assessment.why
        by_hand = before.closed_by_hand if before is not None and before.ladder == ladder else None
        if by_hand:
            state, why = State.CLOSED, by_hand
        climb = {
            "opened_at": rule.opened_at(model),
            "due_at": deadline.at,
            "effect": str(deadline.effect),
            "ladder": ladder,
        }
        if state is State.CLOSED and before is not None:
            # What was told was told on the climb that ends here, whatever the data say by now.
            climb = {name: getattr(before, name) for name in climb}
        return climb | {
            "closed_by_hand": by_hand,
            "closed_at": _closed_at(state, model, now, before),
            "state": state.value,
            "why": why,
            "last_word": assessment.last_word,
            "unheard": False,
            "next_due_at": now if state is State.OPEN else None,
            "changed_at": now,
        }

    async def follow(
        self, connection: AsyncConnection, kind: str, refs: Collection[str], now: datetime
    ) -> set[str]:
        """Judges these records and what is linked with them anew, until nothing changes.

        Returns the kinds of which something may be due now.
        """
        touched: set[str] = set()
        ids = await self.store.relations.linked_ids(connection, kind, refs)
        for _ in range(FOLLOWED):
            if not ids:
                break
            changed = await self._judge_again(connection, ids, now)
            ids = set()
            for each in {row.kind for row in changed}:
                touched.add(each)
                theirs = [row.ref for row in changed if row.kind == each]
                ids |= await self.store.relations.linked_ids(connection, each, theirs)
        return touched

    async def _judge_again(
        self, connection: AsyncConnection, ids: Collection[int], now: datetime
    ) -> list[Row[Any]]:
        rows = [
            row
            for row in await self.store.relations.locked(connection, ids)
            if (rule := self.registry.rules.get(row.kind)) is not None
            and type(rule).in_light_of is not Rule.in_light_of
        ]
        judged = await self._judged(connection, rows, now)
        changed = [(row, after) for row, after in judged if _differs(row, after)]
        await self.store.records.change_records(
            connection, [{"id": row.id} | after for row, after in changed]
        )
        return [row for row, _ in changed]

    async def _judged(
        self, connection: AsyncConnection, rows: Sequence[Row[Any]], now: datetime
    ) -> list[tuple[Row[Any], dict[str, Any]]]:
        """Each record with what follows from its data, its list and its links now."""
        near = await self.store.relations.neighbours(connection, rows)
        lines: dict[str, Mapping[str, Sequence[Row[Any]]]] = {}
        for kind in {row.kind for row in rows}:
            if self.registry.rule(kind).Line is not None:
                refs = [row.ref for row in rows if row.kind == kind]
                lines[kind] = await self.store.records.lines(connection, kind, refs)
        judged = []
        for row in rows:
            rule = self.registry.rule(row.kind)
            try:
                model = rule.Data.model_validate(row.data)
            except ValidationError as error:
                # The next look holds it, and says so.
                log.error("judge", kind=row.kind, ref=row.ref, detail=error.errors()[0]["msg"])
                continue
            related = related_of(self.registry, near.get(row.id, []))
            theirs = lines_of(rule, lines.get(row.kind, {}).get(row.ref, []))
            judged.append((row, self.state(rule, model, theirs, now, before=row, related=related)))
        return judged

    async def replan(self, kind: str, now: datetime) -> int:
        """Judges all records of a kind anew that aren't closed and has them planned; how many.

        Wanted when the cadence, the quiet hours or the working days have changed. A batch is one
        transaction; to begin anew after a crash does no harm.
        """
        count, after = 0, 0
        while True:
            async with self.store.database.write() as connection:
                rows = await self.store.records.unclosed(connection, kind, after, REPLANNED)
                judged = await self._judged(connection, rows, now)
                await self.store.records.change_records(
                    connection, [{"id": row.id} | values for row, values in judged]
                )
            if not rows:
                return count
            count, after = count + len(rows), rows[-1].id

    async def derive(
        self,
        connection: AsyncConnection,
        touched: Mapping[str, Collection[str]],
        partners: Collection[str],
        now: datetime,
    ) -> list[Derived]:
        """What the deriving rules make of a change.

        `touched` says at which partners records of a kind changed; `partners` themselves changed.
        """
        made = []
        for rule in self.registry.rules.values():
            if not rule.derives_from:
                continue
            at = set(partners).union(*(touched.get(kind, ()) for kind in rule.derives_from))
            if at:
                made.append(await self._derive(connection, rule, at, now))
        return made

    async def _derive(
        self, connection: AsyncConnection, rule: Rule, at: Collection[str], now: datetime
    ) -> Derived:
        derived = Derived(rule)
        present = await self.store.relations.of_partners(connection, rule.kind, at)
        known = await self.store.records.hashes(connection, _PARTNER, at)
        # A partner may have thousands of records: they are read only where they may matter.
        asked = [ref for ref in at if _may_derive(rule, ref, known.get(ref))]
        standing = await self.store.relations.standing(connection, rule.derives_from, asked)
        for ref in sorted(at):
            row = present.get(ref)
            there = row is not None and row.state != State.CLOSED
            if not there and ref not in standing:
                continue
            try:
                model = rule.derive(
                    partner_of(ref, known.get(ref)),
                    related_of(self.registry, standing.get(ref, [])),
                    rule.Data.model_validate(row.data) if row is not None and there else None,
                    now,
                )
            except Exception:
                log.exception("derive", kind=rule.kind, partner=ref)
                continue
            if model is not None:
                derived.models.append(model)
            elif row is not None and there:
                derived.over.append(row.id)
        return derived

    async def close_over(
        self, connection: AsyncConnection, ids: Collection[int], now: datetime
    ) -> None:
        """Closes derived records that there is nothing to watch of any more."""
        await self.store.records.change_records(
            connection,
            [
                {
                    "id": one,
                    "state": State.CLOSED.value,
                    "why": "there is nothing to watch any more",
                    "unheard": False,
                    "closed_at": now,
                    "next_due_at": None,
                    "changed_at": now,
                }
                for one in ids
            ],
        )


def _may_derive(rule: Rule, ref: str, row: Row[Any] | None) -> bool:
    """Whether a partner's records matter; what can't be told is seen when they are looked at."""
    try:
        return rule.may_derive(partner_of(ref, row))
    except Exception:
        return True


def keys_of(rule: Rule, model: RecordData) -> list[tuple[str, str]]:
    """The keys that a record names; a rule's own fault leaves it without links."""
    try:
        return [(link.kind, link.ref) for link in rule.links(model)]
    except Exception:
        log.exception("links", kind=rule.kind, ref=model.ref)
        return []


def _closed_at(
    state: State, model: RecordData, now: datetime, before: Row[Any] | None
) -> datetime | None:
    """When it was done, as far as is known: by the data's own time, else when we heard of it."""
    if state is not State.CLOSED:
        return None
    if before is not None and before.state == State.CLOSED:
        closed: datetime | None = before.closed_at
        return closed
    return min(now, model.updated_at) if model.updated_at is not None else now


def _differs(row: Row[Any], after: Mapping[str, Any]) -> bool:
    state = State.OPEN.value if row.unheard else row.state
    if row.last_word and after["last_word"] and state == State.CLOSED:
        return False  # it was closed with its last word, and that stands
    mine = row._mapping
    return any(
        (state if name == "state" else "" if row.unheard and name == "why" else mine[name])
        != ("" if row.unheard and name == "why" else after[name])
        for name in _FOLLOWS
    )
