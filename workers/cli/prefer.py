"""What a person gets, by which channel and how: shown, and chosen in their name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from schedules.fields import is_masked
from schedules.people import Channel, ContactData, Digest
from workers.cli.due import kinds_of
from workers.cli.frame import Call, dump, json_option, local, table, with_core
from workers.core import Core
from workers.errors import InputError, StateError, UnknownThingError
from workers.store import Row
from workers.store.preferences import RECIPIENT, Choice, Switch

CHANNELS: tuple[Channel, ...] = ("mail", "sms")


@dataclass(frozen=True, slots=True)
class _Person:
    """A contact as stored: what files say of them, and what is off at their addresses."""

    row: Row[Any]
    data: ContactData
    off: Sequence[Row[Any]]

    def address(self, channel: Channel) -> str | None:
        found = self.data.mail if channel == "mail" else self.data.mobile
        return None if found is None or is_masked(found) else found


@click.command("prefer")
@click.argument("contact")
@click.option(
    "--digest",
    type=click.Choice([one.value for one in Digest]),
    help="daily: one mail a day of what isn't urgent; each: every message by itself.",
)
@click.option("--off", multiple=True, metavar="KIND:CHANNEL", help="Stop a kind by mail or sms.")
@click.option("--on", multiple=True, metavar="KIND:CHANNEL", help="Let it come again.")
@click.option("--reason", default="", help="Why, kept with what is switched off.")
@json_option
def prefer_command(
    contact: str,
    digest: str | None,
    off: tuple[str, ...],
    on: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """What CONTACT gets and how; with options, choose it in their name.

    What is chosen so is the person's own choice: they may change it by the link in any mail. What
    came back or what duewatch suppress stopped isn't lifted by --on.

    \b
    duewatch prefer C1                               what is in force, and why
    duewatch prefer C1 --digest daily --off statement:sms
    """

    async def work(app: Core, called: Call) -> None:
        person = await _person(app, contact)
        wished = _switches(app, person, off), _switches(app, person, on)
        if both := set(wished[0]) & set(wished[1]):
            one = both.pop()
            raise InputError(f"{one.kind}:{one.channel} is in --off and in --on: give one of them")
        for one in wished[1]:
            _may_come(person, one)
        changes: list[str] = []
        if digest or off or on:
            why = reason or f"switched off in their name by {called.by}"
            choice = Choice(contact, *wished, Digest(digest) if digest else None, why)
            changes = await app.store.preferences.choose(choice, called.by, app.clock())
            person = await _person(app, contact)
        if as_json:
            dump(_as_json(app, person, changes))
            return
        for change in changes:
            click.echo(f"{contact}: {change}.")
        if not changes and (digest or off or on):
            click.echo("Nothing to change: that is in force already.")
        if not (digest or off or on):
            _show(app, person)

    with_core(work)


async def _person(app: Core, ref: str) -> _Person:
    row = await app.store.preferences.person(ref)
    if row is None:
        raise UnknownThingError(f"there is no contact {ref}: see duewatch contacts")
    data = ContactData.model_validate(row.data)
    blank = _Person(row, data, ())
    addresses = [(to, address) for to in CHANNELS if (address := blank.address(to))]
    return _Person(row, data, await app.store.preferences.switched_off(addresses))


def _switches(app: Core, person: _Person, wished: Iterable[str]) -> tuple[Switch, ...]:
    """What KIND:CHANNEL names for a person. Raises InputError, UnknownThingError for the kind."""
    found = []
    for text in wished:
        kind, _, by = text.rpartition(":")
        channel = next((one for one in CHANNELS if one == by), None)
        if not kind or channel is None:
            raise InputError(f"{text!r} isn't KIND:CHANNEL: write it like payment:sms")
        (known,) = kinds_of(app, kind)
        address = person.address(channel)
        if address is None:
            raise InputError(
                f"{text}: contact {person.row.ref} has no full {channel} address: import it first"
            )
        found.append(Switch(channel, address, known))
    return tuple(dict.fromkeys(found))


def _may_come(person: _Person, wished: Switch) -> None:
    """Raises StateError where something else than the person's choice stops it."""
    for row in person.off:
        mine = row.channel == wished.channel and row.kind in {wished.kind, "*"}
        if mine and row.by != RECIPIENT:
            raise StateError(
                f"{wished.kind}:{wished.channel} was stopped by {row.by} ({row.reason}): "
                f"duewatch unsuppress {wished.address} lets everything come again"
            )


def _always(app: Core, person: _Person, row: Row[Any]) -> list[str]:
    """The stages of what is off that come all the same, unless nothing at all comes any more."""
    if any(one.kind == "*" and one.channel == row.channel for one in person.off):
        return []
    cadence = app.registry.cadences.get(row.kind)
    return [
        stage.name
        for stage in (cadence.stages if cadence is not None and row.channel == "mail" else ())
        if stage.required and any("mail" in tell.by for tell in stage.tell)
    ]


def _as_json(app: Core, person: _Person, changes: Sequence[str]) -> dict[str, Any]:
    row, data = person.row, person.data
    return {
        "contact": row.ref,
        "partner": row.partner,
        "role": data.role,
        "name": data.name,
        "active": data.active,
        "digest": row.chosen or data.digest,
        "chosen": {"digest": row.chosen, "by": row.chosen_by, "at": row.chosen_at}
        if row.chosen
        else None,
        "files": {
            "digest": data.digest,
            "channels": data.channels,
            "quiet_hours": data.quiet_hours,
        },
        "addresses": {to: person.address(to) for to in CHANNELS},
        "off": [
            {
                "kind": one.kind,
                "channel": one.channel,
                "by": one.by,
                "reason": one.reason,
                "since": one.created_at,
                "comes_all_the_same": _always(app, person, one),
            }
            for one in person.off
        ],
        "changes": list(changes),
    }


def _show(app: Core, person: _Person) -> None:
    row, data = person.row, person.data
    who = " ".join(part for part in (row.ref, data.name) if part)
    active = "" if data.active else ", not active: nothing is sent"
    click.echo(f"{who}, {data.role or 'no role'} of {row.partner}{active}")
    chosen = f"files say {data.digest}"
    if row.chosen:
        chosen = f"chosen by {row.chosen_by} at {local(row.chosen_at)}; {chosen}"
    lines = [("digest", row.chosen or data.digest.value, chosen)]
    for channel in CHANNELS:
        lines.append((channel, *_way(person, channel)))
    lines.append(("quiet hours", data.quiet_hours or "as the channel's", ""))
    table("", ["what", "value", "why"], lines)
    if person.off:
        table(
            "\nSwitched off",
            ["kind", "by", "since", "who", "reason", "comes all the same"],
            [
                (
                    "everything" if one.kind == "*" else one.kind,
                    one.channel,
                    one.created_at,
                    one.by,
                    one.reason,
                    ", ".join(_always(app, person, one)),
                )
                for one in person.off
            ],
        )


def _way(person: _Person, channel: Channel) -> tuple[str, str]:
    """An address as it is used, or why it isn't."""
    address = person.address(channel)
    if address is None:
        given = person.data.mail if channel == "mail" else person.data.mobile
        return "none", "masked: import the full one" if given else "files have none"
    if channel not in person.data.channels:
        return address, f"files don't wish {channel}"
    return address, ""
