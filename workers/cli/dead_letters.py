"""Commands about dead letters: what producers sent by the broker and couldn't be taken."""

from __future__ import annotations

import click

from workers.app import App
from workers.cli.frame import Call, dump, few, json_option, row_dict, table, with_app, with_core
from workers.core import Core
from workers.errors import StateError
from workers.events import EventIntake, read_json
from workers.store.dead_letters import MAX_KEPT_BYTES, DeadLetters
from workers.tasks import read_event


@click.group("dead-letters", invoke_without_command=True)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
@click.pass_context
def dead_letters_command(context: click.Context, limit: int, as_json: bool) -> None:
    """What came by the broker and couldn't be taken, and why, newest first.

    \b
    duewatch dead-letters --json                 with their bodies
    duewatch dead-letters replay 7               take it after all
    duewatch dead-letters drop 7 --reason "sent by a test"
    """
    if context.invoked_subcommand is not None:
        return

    async def work(core: Core, _: Call) -> None:
        rows = await DeadLetters(core.store.database).all(limit)
        if as_json:
            dump([row_dict(row) for row in rows])
            return
        table(
            "",
            ["id #", "from", "last came", "times #", "bytes #", "reason"],
            [(r.id, r.door, r.received_at, r.times, r.size, r.reason[:300]) for r in rows],
        )

    with_core(work)


@dead_letters_command.command("replay")
@click.argument("letter", type=click.IntRange(1))
def replay_command(letter: int) -> int:
    """Take LETTER in after all, once what was wrong is mended here.

    What is refused again stays, with its new reason.
    """

    async def work(app: App, called: Call) -> int:
        letters = DeadLetters(app.store.database)
        row = await letters.one(letter)
        if row.size > MAX_KEPT_BYTES:
            raise StateError(
                f"dead letter {letter} was {row.size} bytes long, and only the beginning is kept: "
                "have it sent again in parts, then drop it"
            )
        event, reason = read_event(row.body.encode(), read_json)
        if not reason:
            intake = EventIntake(app.store, app.registry, app.intake, app.clock)
            (result,) = await intake.take([event])
            if result.well:
                await letters.remove(letter, called.by, "replay", result.status, app.clock())
                kinds = sorted(set(result.kinds) & set(app.registry.enabled()))
                for kind in kinds:
                    if kind not in await app.store.operations.paused():
                        await app.scan.run(kind, trigger="event")
                scanned = f"; scanned {few(kinds)}" if kinds else ""
                click.echo(f"Dead letter {letter}: {result.outcome}{scanned}.")
                return 0
            faults = [f"{fault.field or 'event'} {fault.detail}" for fault in result.faults]
            reason = "; ".join(faults)
        await letters.refused_again(letter, reason)
        click.echo(f"Dead letter {letter} is refused again: {reason}", err=True)
        return 1

    return with_app(work)


@dead_letters_command.command("drop")
@click.argument("letter", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why it isn't wanted, for the audit.")
def drop_command(letter: int, reason: str) -> None:
    """Throw LETTER away."""

    async def work(core: Core, called: Call) -> None:
        letters = DeadLetters(core.store.database)
        await letters.remove(letter, called.by, "drop", reason, core.clock())
        click.echo(f"Dead letter {letter} is dropped.")

    with_core(work)
