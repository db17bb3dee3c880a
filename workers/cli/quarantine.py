"""Commands about the quarantine: what producers sent and couldn't be taken."""

from __future__ import annotations

import click

from workers import by_hand
from workers.app import App
from workers.cli.frame import Call, dump, few, json_option, row_dict, table, with_app, with_core
from workers.core import Core
from workers.store.quarantine import Quarantine


@click.group("quarantine", invoke_without_command=True)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
@click.pass_context
def quarantine_command(context: click.Context, limit: int, as_json: bool) -> None:
    """What producers sent by any door and couldn't be taken, and why, newest first.

    \b
    duewatch quarantine --json                 with their bodies
    duewatch quarantine replay 7               take it after all
    duewatch quarantine drop 7 --reason "sent by a test"
    """
    if context.invoked_subcommand is not None:
        return

    async def work(core: Core, _: Call) -> None:
        rows = await Quarantine(core.store.database).all(limit)
        if as_json:
            dump([row_dict(row) for row in rows])
            return
        table(
            "",
            ["id #", "from", "last came", "times #", "bytes #", "reason"],
            [(r.id, r.door, r.received_at, r.times, r.size, r.reason[:300]) for r in rows],
        )

    with_core(work)


@quarantine_command.command("replay")
@click.argument("letter", type=click.IntRange(1))
def replay_command(letter: int) -> int:
    """Take LETTER in after all, once what was wrong is mended here.

    What is refused again stays, with its new reason.
    """

    async def work(app: App, called: Call) -> int:
        done = await by_hand.replay(app, letter, called.by)
        if done.refused:
            click.echo(f"Message {letter} is refused again: {done.refused}", err=True)
            return 1
        scanned = f"; scanned {few(done.scanned)}" if done.scanned else ""
        click.echo(f"Message {letter}: {done.outcome}{scanned}.")
        return 0

    return with_app(work)


@quarantine_command.command("drop")
@click.argument("letter", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why it isn't wanted, for the audit.")
def drop_command(letter: int, reason: str) -> None:
    """Throw LETTER away."""

    async def work(core: Core, called: Call) -> None:
        letters = Quarantine(core.store.database)
        await letters.remove(letter, called.by, "drop", reason, core.clock())
        click.echo(f"Message {letter} is dropped.")

    with_core(work)
