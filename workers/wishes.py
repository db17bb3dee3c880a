"""What a person gets, by which channel and how: read, and chosen in their name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.fields import is_masked
from schedules.people import Channel, ContactData, Digest
from workers.core import Core
from workers.errors import InputError, StateError, UnknownThingError
from workers.store import Row
from workers.store.preferences import RECIPIENT, Choice, Switch

CHANNELS: tuple[Channel, ...] = ("mail", "sms")


@dataclass(frozen=True, slots=True)
class Person:
    """A contact as stored: what files say of them, and what is off at their addresses."""

    row: Row[Any]
    data: ContactData
    off: Sequence[Row[Any]]

    def address(self, channel: Channel) -> str | None:
        """The full address for a channel, or None."""
        found = self.data.mail if channel == "mail" else self.data.mobile
        return None if found is None or is_masked(found) else found


async def person(core: Core, ref: str) -> Person:
    """A contact with their wishes. Raises UnknownThingError."""
    row = await core.store.preferences.person(ref)
    if row is None:
        raise UnknownThingError(f"there is no contact {ref}: see duewatch contacts")
    data = ContactData.model_validate(row.data)
    blank = Person(row, data, ())
    addresses = [(to, address) for to in CHANNELS if (address := blank.address(to))]
    return Person(row, data, await core.store.preferences.switched_off(addresses))


async def choose(
    core: Core,
    ref: str,
    *,
    digest: str | None,
    off: Iterable[tuple[str, str]],
    on: Iterable[tuple[str, str]],
    by: str,
    reason: str,
) -> tuple[Person, list[str]]:
    """Puts a choice in a person's name in force: (kind, channel) pairs off and on, the digest.

    Returns the person afterwards and what it changed, in words. Raises UnknownThingError for the
    contact or a kind, InputError for a channel without an address, StateError where something else
    than the person's own choice stops a kind.
    """
    one = await person(core, ref)
    wished_off, wished_on = _switches(core, one, off), _switches(core, one, on)
    if both := set(wished_off) & set(wished_on):
        twice = both.pop()
        raise InputError(
            f"{twice.kind}:{twice.channel} is to be off and to be on: give one of them"
        )
    for switch in wished_on:
        _may_come(one, switch)
    why = reason or f"switched off in their name by {by}"
    choice = Choice(ref, wished_off, wished_on, Digest(digest) if digest else None, why)
    changes = await core.store.preferences.choose(choice, by, core.clock())
    return await person(core, ref), changes


def _switches(core: Core, one: Person, wished: Iterable[tuple[str, str]]) -> tuple[Switch, ...]:
    found = []
    for kind, by in wished:
        channel = next((to for to in CHANNELS if to == by), None)
        if channel is None:
            raise InputError(f"{by!r} isn't a channel: it is {' or '.join(CHANNELS)}")
        core.registry.rule(kind)
        address = one.address(channel)
        if address is None:
            raise InputError(
                f"{kind}:{by}: contact {one.row.ref} has no full {channel} address: import it first"
            )
        found.append(Switch(channel, address, kind))
    return tuple(dict.fromkeys(found))


def _may_come(one: Person, wished: Switch) -> None:
    for row in one.off:
        mine = row.channel == wished.channel and row.kind in {wished.kind, "*"}
        if mine and row.by != RECIPIENT:
            raise StateError(
                f"{wished.kind}:{wished.channel} was stopped by {row.by} ({row.reason}): "
                f"duewatch unsuppress {wished.address} lets everything come again"
            )


def comes_all_the_same(core: Core, one: Person, row: Row[Any]) -> list[str]:
    """The stages of what is off that come all the same, unless nothing at all comes any more."""
    if any(off.kind == "*" and off.channel == row.channel for off in one.off):
        return []
    cadence = core.registry.cadences.get(row.kind)
    return [
        stage.name
        for stage in (cadence.stages if cadence is not None and row.channel == "mail" else ())
        if stage.required and any("mail" in tell.by for tell in stage.tell)
    ]


def wishes(core: Core, one: Person, changes: Sequence[str] = ()) -> dict[str, Any]:
    """What is in force for a person, as plain values."""
    row, data = one.row, one.data
    return {
        "contact": row.ref,
        "partner": row.partner,
        "role": data.role,
        "name": data.name,
        "active": data.active,
        "digest": row.chosen or data.digest.value,
        "chosen": {"digest": row.chosen, "by": row.chosen_by, "at": row.chosen_at}
        if row.chosen
        else None,
        "files": {
            "digest": data.digest.value,
            "channels": data.channels,
            "quiet_hours": data.quiet_hours,
        },
        "addresses": {to: one.address(to) for to in CHANNELS},
        "off": [
            {
                "kind": off.kind,
                "channel": off.channel,
                "by": off.by,
                "reason": off.reason,
                "since": off.created_at,
                "comes_all_the_same": comes_all_the_same(core, one, off),
            }
            for off in one.off
        ],
        "changes": list(changes),
    }
