"""Commands about the quarantine: what producers sent and couldn't be taken."""

from __future__ import annotations

import click

from workers import by_hand
from workers.app import App
from workers.cli.frame import (
    Call,
    dump,
    few,
    json_option,
    local,
    row_dict,
    table,
    with_app,
    with_core,
)
from workers.core import Core
from workers.store.quarantine import Quarantine


@click.group("quarantine")
def quarantine_command() -> None:
    """What producers sent by any door and couldn't be taken, and why.

    \b
    duewatch quarantine list                   what is there; --json with the bodies
    duewatch quarantine show 7                 one message, whole
    duewatch quarantine replay 7               take it after all
    duewatch quarantine drop 7 --reason "sent by a test"
    """


@quarantine_command.command("list")
@click.option("--door", help="Only what came in here: a queue's name, or http and who sent it.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
def list_command(door: str | None, limit: int, as_json: bool) -> None:
    """What is there, newest first."""

    async def work(core: Core, _: Call) -> None:
        rows = await core.store.lists.newest("letters", before=None, limit=limit, door=door)
        if as_json:
            dump([row_dict(row) for row in rows])
            return
        table(
            "",
            ["id #", "from", "last came", "times #", "bytes #", "reason"],
            [(r.id, r.door, r.received_at, r.times, r.size, r.reason[:300]) for r in rows],
        )

    with_core(work)


@quarantine_command.command("show")
@click.argument("letter", type=click.IntRange(1))
@json_option
def show_command(letter: int, as_json: bool) -> None:
    """LETTER, whole; of one that is longer than 64 KiB the beginning."""

    async def work(core: Core, _: Call) -> None:
        row = await Quarantine(core.store.database).one(letter)
        if as_json:
            dump(row_dict(row))
            return
        named = {"from": row.door, "last came": local(row.received_at), "times": row.times}
        named |= {"bytes": row.size, "SHA-256": row.hash or "unknown", "reason": row.reason}
        for name, value in named.items():
            click.echo(f"{name}: {value}")
        click.echo(f"\n{row.body}")

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
