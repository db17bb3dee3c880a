"""What a person gets, by which channel and how: shown, and chosen in their name."""

from __future__ import annotations

from collections.abc import Iterable

import click

from schedules.people import Channel, Digest
from workers.cli.due import kinds_of
from workers.cli.frame import Call, dump, json_option, local, table, with_core
from workers.core import Core
from workers.errors import InputError
from workers.wishes import CHANNELS, Person, choose, comes_all_the_same, person, wishes


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
        changes: list[str] = []
        if digest or off or on:
            who, changes = await choose(
                app,
                contact,
                digest=digest,
                off=_pairs(app, off),
                on=_pairs(app, on),
                by=called.by,
                reason=reason,
            )
        else:
            who = await person(app, contact)
        if as_json:
            dump(wishes(app, who, changes))
            return
        for change in changes:
            click.echo(f"{contact}: {change}.")
        if not changes and (digest or off or on):
            click.echo("Nothing to change: that is in force already.")
        if not (digest or off or on):
            _show(app, who)

    with_core(work)


def _pairs(app: Core, wished: Iterable[str]) -> list[tuple[str, str]]:
    """What each KIND:CHANNEL names. Raises InputError, UnknownThingError for the kind."""
    found: list[tuple[str, str]] = []
    for text in wished:
        kind, _, by = text.rpartition(":")
        if not kind or by not in CHANNELS:
            raise InputError(f"{text!r} isn't KIND:CHANNEL: write it like payment:sms")
        found.append((kinds_of(app, kind)[0], by))
    return found


def _show(app: Core, who: Person) -> None:
    row, data = who.row, who.data
    name = " ".join(part for part in (row.ref, data.name) if part)
    active = "" if data.active else ", not active: nothing is sent"
    click.echo(f"{name}, {data.role or 'no role'} of {row.partner}{active}")
    chosen = f"files say {data.digest}"
    if row.chosen:
        chosen = f"chosen by {row.chosen_by} at {local(row.chosen_at)}; {chosen}"
    lines = [("digest", row.chosen or data.digest.value, chosen)]
    for channel in CHANNELS:
        lines.append((channel, *_way(who, channel)))
    lines.append(("quiet hours", data.quiet_hours or "as the channel's", ""))
    table("", ["what", "value", "why"], lines)
    if who.off:
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
                    ", ".join(comes_all_the_same(app, who, one)),
                )
                for one in who.off
            ],
        )


def _way(who: Person, channel: Channel) -> tuple[str, str]:
    """An address as it is used, or why it isn't."""
    address = who.address(channel)
    if address is None:
        given = who.data.mail if channel == "mail" else who.data.mobile
        return "none", "masked: import the full one" if given else "files have none"
    if channel not in who.data.channels:
        return address, f"files don't wish {channel}"
    return address, ""
