"""Commands about providers: how each of them stands, and leaving one alone by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import click

from workers import by_hand
from workers.cli.frame import Call, console, dump, json_option, local, table, with_app
from workers.errors import InputError

if TYPE_CHECKING:
    from workers.app import App
    from workers.carriers import Shown


@click.command("providers")
@click.argument("action", required=False, type=click.Choice(["open", "close"]))
@click.argument("name", required=False)
@click.option("--reason", default="", help="Why, for the audit; needed to open or close one.")
@json_option
def providers_command(
    action: Literal["open", "close"] | None, name: str | None, reason: str, as_json: bool
) -> None:
    """How each provider stands: in use or left alone, why, since when, and limits used.

    \b
    duewatch providers                                      look
    duewatch providers open twilio --reason "their outage"  leave it alone; the next takes over
    duewatch providers close twilio --reason "it is over"   use it again

    One that fails is opened by itself, and tried by one message after a while; one that a person
    opened stays so until a person closes it.
    """
    if action is not None and (name is None or not reason):
        raise InputError(f"providers {action}: give the provider's name and --reason")

    async def work(app: App, called: Call) -> None:
        if action is not None and name is not None:
            await _move(app, called, action, name, reason)
            return
        shown = await app.delivery.provider_states()
        spent = await app.delivery.purse.spent_today()
        sms = app.settings.sms
        if as_json:
            money = {"spent": spent, "most": sms.money_a_day, "currency": sms.currency}
            dump({"providers": [asdict(one) for one in shown], "sms_today": money})
            return
        table(
            "",
            ["provider", "for", "state", "since", "until", "limits used", "why"],
            [_row(one) for one in shown],
        )
        if sms.money_a_day is not None:
            console().print(f"SMS today: {spent} of {sms.money_a_day} {sms.currency}")

    with_app(work)


def _row(one: Shown) -> tuple[str, ...]:
    state = {"closed": "in use", "open": "left alone", "half_open": "being tried"}[one.state]
    until = local(one.until)
    if one.state == "open" and one.until is None:
        until = "closed by hand"
    used = ", ".join(
        f"{some} of {most} a {span}" for span, (some, most) in (one.used or {}).items()
    )
    why = f"{one.why} ({one.by})" if one.by else one.why
    return one.name, ", ".join(one.channels), state, local(one.since), until, used, why


async def _move(
    app: App, called: Call, action: Literal["open", "close"], name: str, reason: str
) -> None:
    others = await by_hand.set_provider(app, name, action, called.by, reason)
    if action == "close":
        click.echo(f"{name} is in use again.")
    elif others:
        click.echo(f"{name} is left alone until duewatch providers close {name}; the next carries.")
    else:
        click.echo(
            f"{name} is left alone until duewatch providers close {name}: there is no other, so "
            "what it carries waits."
        )
