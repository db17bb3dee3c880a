"""Everything that has come in so far, as the judge keeps it."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workers.simulation.events import CONTACT, LINE, PARTNER, UNSUBSCRIBED, Event, in_order
from workers.simulation.states import Key, Known, Thing, deadline, names, state

RESELLERS = {"云经销商", "reseller"}
NEAR = 90


@dataclass(slots=True)
class World(Known):
    """Partners, their people and records, and when each record is to be looked at again."""

    partners: dict[str, dict[str, Any]] = field(default_factory=dict)
    people: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    unsubscribed: set[tuple[str, str, str]] = field(default_factory=set)
    of_partner: dict[str, dict[str, dict[Key, Thing]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    children: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _wakes: list[tuple[datetime, Key]] = field(default_factory=list)

    # --- when to look ---------------------------------------------------------------------

    def look(self, thing: Thing, at: datetime) -> None:
        """Has a thing looked at again from an instant on."""
        thing.mute = False
        self.sleep(thing, at)

    def sleep(self, thing: Thing, until: datetime | None) -> None:
        """Sets when a thing is looked at again; None: not before something changes."""
        thing.wake = until
        if until is not None:
            heapq.heappush(self._wakes, (until, thing.key))

    def next_wake(self) -> datetime | None:
        """The first instant at which a thing is to be looked at."""
        while self._wakes and self.things[self._wakes[0][1]].wake != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        return self._wakes[0][0] if self._wakes else None

    def awake(self, tick: datetime) -> Iterator[Thing]:
        """The things to be looked at by a tick."""
        found: dict[Key, Thing] = {}
        while (wake := self.next_wake()) is not None and wake <= tick:
            _, key = heapq.heappop(self._wakes)
            found[key] = self.things[key]
            self.things[key].wake = None
        yield from found.values()

    # --- who is told ----------------------------------------------------------------------

    def people_of(self, thing: Thing) -> Sequence[dict[str, Any]]:
        """The active people who are told of a thing: of a reseller's task the distributor's."""
        partner = thing.data["partner"]
        known = self.partners.get(partner, {})
        if thing.kind == "sales_task" and str(known.get("type")).casefold() in RESELLERS:
            partner = known.get("parent")
        return [one for one in self.people.get(partner, ()) if one.get("active", True)]

    # --- what comes in --------------------------------------------------------------------

    def take(self, at: datetime, batch: Iterable[Event]) -> None:
        """What comes in at one instant; whatever it touches is to be looked at again."""
        touched: set[str] = set()
        for event in sorted(batch, key=in_order):
            if event.kind == PARTNER:
                self._partner(at, event.data)
                touched.add(event.data["ref"])
            elif event.kind == CONTACT:
                self._contact(at, event.data)
            elif event.kind == LINE:
                touched |= {str(self._line(at, event.data))}
            elif event.kind == UNSUBSCRIBED:
                data = event.data
                self.unsubscribed.add((data["channel"], data["address"], data["kind"]))
            elif self._record(at, event):
                touched.add(event.data["partner"])
        for partner in sorted(touched - {"None"}):
            self._derive(at, partner)

    def _partner(self, at: datetime, data: dict[str, Any]) -> None:
        ref = data["ref"]
        before = self.partners.get(ref, {})
        after = {**before, **data}
        if after == before:
            return
        self.partners[ref] = after
        self.children[str(before.get("parent"))].discard(ref)
        self.children[str(after.get("parent"))].add(ref)
        self._people_changed(at, ref)

    def _contact(self, at: datetime, data: dict[str, Any]) -> None:
        theirs = self.people[data["partner"]]
        known = next((one for one in theirs if one["ref"] == data["ref"]), {})
        after = _merged(known, data)
        if after == known:
            return
        others = [one for one in theirs if one["ref"] != data["ref"]]
        self.people[data["partner"]] = sorted([*others, after], key=lambda one: str(one["ref"]))
        if data["partner"] not in self.partners:
            self.partners[data["partner"]] = {"ref": data["partner"]}
        self._people_changed(at, data["partner"])

    def _people_changed(self, at: datetime, partner: str) -> None:
        for ref in (partner, *self.children.get(partner, ())):
            for kind, things in self.of_partner.get(ref, {}).items():
                for thing in things.values():
                    if not thing.done and (ref == partner or kind == "sales_task"):
                        self.look(thing, at)

    def _record(self, at: datetime, event: Event) -> bool:
        key = (event.kind, str(event.data["ref"]))
        thing = self.things.get(key)
        before = thing.data if thing is not None else {}
        after = _merged(before, event.data)
        if _is_older(after, before):
            return False
        if thing is not None and _content(after) == _content(before):
            thing.data = after
            return False
        if thing is None:
            thing = Thing(event.kind, after)
            self.of_partner[after["partner"]][event.kind][key] = thing
        near = self._near(key, before, after)
        stood = {one.key: self._judgement(one) for one in near}
        self.things[key] = thing
        thing.data = after
        for other in names(thing.kind, before):
            self.named_by[other].discard(key)
        for other in names(thing.kind, after):
            self.named_by[other].add(key)
        self._look_at(at, thing, near, stood)
        return True

    def _line(self, at: datetime, data: dict[str, Any]) -> str | None:
        """A line of a payment's list; the payment's partner where that is known."""
        key = ("payment", str(data["payment"]))
        thing = self.things.get(key)
        near = [] if thing is None else self._near(key, thing.data, thing.data)
        stood = {one.key: self._judgement(one) for one in near}
        rows = self.lines[key[1]]
        if rows.get(data["line"]) == data:
            return None
        rows[data["line"]] = data
        if thing is None:
            return None
        self._look_at(at, thing, near, stood)
        return str(thing.data["partner"])

    def _near(self, key: Key, *datas: dict[str, Any]) -> list[Thing]:
        """The known records that a record names by any of these data, and those that name it."""
        keys = [other for data in datas if data for other in names(key[0], data)]
        keys += self.named_by.get(key, ())
        return [self.things[other] for other in dict.fromkeys(keys) if other in self.things]

    def _judgement(self, thing: Thing) -> tuple[str, datetime | None]:
        return state(thing, self), deadline(thing, self)

    def _look_at(
        self,
        at: datetime,
        thing: Thing,
        near: Iterable[Thing],
        stood: dict[Key, tuple[str, datetime | None]],
    ) -> None:
        """A changed record is looked at again, and of its neighbours those it makes a change to."""
        thing.done = False
        self.look(thing, at)
        for one in near:
            if not one.done and self._judgement(one) != stood[one.key]:
                self.look(one, at)

    # --- what is derived ------------------------------------------------------------------

    def _derive(self, at: datetime, partner: str) -> None:
        self._settlement(at, partner)
        self._limit(at, partner)

    def _settlement(self, at: datetime, partner: str) -> None:
        waits = []
        if self.partners.get(partner, {}).get("account_authenticated") is False:
            theirs = self.of_partner[partner]
            for thing in (*theirs["payment"].values(), *theirs["statement"].values()):
                found = state(thing, self)
                if found == "open" or (found == "held" and thing.kind == "payment"):
                    waits.append(thing.key)
        self._set(at, "settlement_account", partner, {"waits": sorted(waits)} if waits else None)

    def _limit(self, at: datetime, partner: str) -> None:
        pending = 0
        for thing in self.of_partner[partner]["pre_registration"].values():
            due = deadline(thing, self)
            if state(thing, self) in {"open", "waiting"} and (due is None or due > at):
                pending += 1
        made = {"pending": pending} if pending >= NEAR else None
        self._set(at, "pre_registration_limit", partner, made)

    def _set(self, at: datetime, kind: str, partner: str, made: dict[str, Any] | None) -> None:
        thing = self.things.get((kind, partner))
        if made is None:
            if thing is not None and not thing.data.get("gone"):
                thing.data = {**thing.data, "gone": True}
                self.look(thing, at)
            return
        present = thing.data if thing is not None and not thing.data.get("gone") else {}
        data = {"ref": partner, "partner": partner, "since": present.get("since", at), **made}
        if thing is None:
            thing = self.things[kind, partner] = Thing(kind, data)
            self.of_partner[partner][kind][thing.key] = thing
        elif thing.data == data:
            return
        thing.data = data
        self.look(thing, at)


def _merged(before: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """What is known afterwards: what is masked hides what is known, and doesn't change it."""
    hidden = {
        name: before[name]
        for name, value in data.items()
        if isinstance(value, str) and "*" in value and before.get(name)
    }
    return {**before, **data, **hidden}


ORDERING = {"version", "updated_at"}


def _content(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in ORDERING}


def _is_older(after: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether something came late: what is known already is newer."""
    for name in ("version", "updated_at"):
        if after.get(name) is not None and before.get(name) is not None:
            return bool(after[name] < before[name])
    return False
