"""Commands for what happens seldom: restore, backup, move, prune."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from workers.cli.frame import (
    Call,
    call,
    console,
    dump,
    json_option,
    local,
    moment,
    table,
    with_app,
    with_core,
)
from workers.core import Core, utc_now
from workers.errors import InputError

if TYPE_CHECKING:
    from workers.app import App
    from workers.restore import Again
    from workers.settings import Retention
    from workers.store.retention import Ages


@click.command("resume-after-restore")
@click.option(
    "--lost-at",
    metavar="TIME",
    help="Until when the lost database was sending (default: what is known, else now).",
)
@click.option(
    "--cancel", is_flag=True, help="Cancel what was probably sent before, then send the rest."
)
@click.option("--send", is_flag=True, help="Send everything, what was probably sent before too.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit.")
def resume_after_restore_command(lost_at: str | None, cancel: bool, send: bool, reason: str) -> int:
    """Let sends go on after a backup was restored, once you have seen what would be sent again.

    Every rule is scanned first, so that all that would be sent is counted. Without --cancel or
    --send it asks; on no terminal it only shows, and ends with exit code 1.
    """
    if cancel and send:
        raise InputError("--cancel and --send exclude each other: give one")
    until = moment(lost_at)

    async def work(app: App, called: Call) -> int:
        from workers.restore import resume, what_would_be_sent

        if await what_would_be_sent(app, until) is None:
            click.echo("Nothing is refused: sends may go on as they are.")
            return 0
        paused = await app.store.operations.paused()
        for kind in app.registry.enabled():
            if kind not in paused:
                await app.scan.run(kind)
        again = await what_would_be_sent(app, until)
        assert again is not None
        _show(again)
        choice = "cancel" if cancel else "send" if send else _ask()
        if choice == "nothing":
            click.echo("Nothing was changed: nothing is sent.")
            return 1
        await resume(app, again, cancel=choice == "cancel", by=called.by, reason=reason)
        count = len(again.repeats)
        click.echo(
            f"Sends go on. {count} messages were cancelled or parked."
            if choice == "cancel"
            else f"Sends go on, {count} probable repeats among them."
        )
        return 0

    return with_app(work)


def _show(again: Again) -> None:
    out = console()
    out.print(f"Nothing is sent: {again.refusal.why}.", markup=False)
    last = local(again.last_known) or "never"
    out.print(f"Last send that this database knows of   {last}")
    out.print(f"Sends went on until, as far as is known {local(again.lost_at)}")
    if again.last_known is not None and again.lost_at > again.last_known:
        out.print(
            f"Forgotten time                          {_span(again.lost_at - again.last_known)}"
        )
    if again.refusal.sends:
        out.print(f"Attempts that are missing               {again.refusal.sends}")
    table(
        "Would be sent",
        ["rule", "by", "state", "in the backup #", "planned since #"],
        [(one.kind, one.channel, one.state, one.before, one.since) for one in again.waiting],
    )
    total = sum(one.before + one.since for one in again.waiting)
    out.print(f"Probably sent before: {len(again.repeats)} of {total}; duewatch list shows them.")


def _span(span: timedelta) -> str:
    hours, rest = divmod(int(span.total_seconds()), 3600)
    return f"{hours} h {rest // 60:02} min {rest % 60:02} s"


def _ask() -> str:
    if not sys.stdin.isatty():
        return "nothing"
    found: str = click.prompt(
        "cancel what was probably sent before, send everything, or change nothing?",
        type=click.Choice(["cancel", "send", "nothing"]),
        default="nothing",
    )
    return found


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup_command(file: Path) -> None:
    """Copy the SQLite database to FILE, while the daemon goes on.

    The copy is checked, and says of itself that it is one: a daemon on it sends nothing before
    duewatch resume-after-restore. For PostgreSQL use pg_dump.
    """
    from workers.store.copying import back_up

    back_up(call().settings.database_url, file)
    click.echo(f"Copied to {file} ({file.stat().st_size:,} bytes), and checked.")


@click.command("move-database")
@click.option("--to", "target", required=True, metavar="URL", help="The empty database to fill.")
def move_database_command(target: str) -> None:
    """Copy everything to the empty database URL: SQLite to PostgreSQL, or back.

    Stop the daemon first. It is all or nothing: after a failure the target is empty. The database
    that was moved sends no more; set database_url to the new one and start again.
    """
    from workers.moving import move_database
    from workers.settings import Settings
    from workers.store.engine import shown_url

    called = call()
    try:
        Settings.model_validate({"database_url": target})
    except ValidationError:
        raise InputError(f"--to {target!r} must begin with sqlite:/// or postgresql://") from None
    if target == called.settings.database_url:
        raise InputError("--to names the database that is in use: name another one")
    copied = asyncio.run(move_database(called.settings.database_url, target, utc_now, _progress()))
    rows = [(name, count) for name, count in copied.items() if count]
    table("Moved", ["table", "rows #"], rows)
    click.echo(f"The ledger adds up. Now set database_url to {shown_url(target)} and start again.")


def _progress() -> Callable[[str, int, int], None]:
    err = console(err=True)
    if not err.is_terminal:
        return lambda *_: None
    return lambda name, done, total: err.print(f"{name} {done:,} of {total:,}   ", end="\r")


@click.command("prune")
@click.option(
    "--older-than",
    metavar="AGE",
    help="Like 400d: instead of the [retention] settings, for all but the audit.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
@json_option
def prune_command(older_than: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove what is over and old: messages of closed records, inbox copies, events, runs, audit,
    what is in quarantine.

    Ages are in [retention]. Small transactions, so it may run beside the daemon, best each night.
    """
    age = _age(older_than)

    async def work(app: Core, called: Call) -> dict[str, int]:
        from workers.store.retention import Retention as Pruning

        ages = _ages(app.settings.retention, age)
        now = app.clock()
        found = await Pruning(app.store.database).prune(ages, now, dry_run=dry_run)
        if not dry_run and any(found.values()):
            said = ", ".join(f"{count} {name}" for name, count in found.items() if count)
            async with app.store.database.write() as connection:
                await app.store.operations.note(
                    connection, called.by, "prune", "old rows", said, now
                )
        return found

    found = with_core(work)
    if as_json:
        dump({"dry_run": dry_run, "removed": found})
        return
    columns = ["what", "would be removed #" if dry_run else "removed #"]
    table("", columns, list(found.items()))


def _ages(kept: Retention, age: timedelta | None) -> Ages:
    from workers.store.retention import Ages

    ages = Ages(
        **{
            one.name: timedelta(days=days)
            for one in fields(Ages)
            if (days := getattr(kept, f"{one.name}_days", None)) is not None
        }
    )
    if age is None:
        return ages
    return replace(
        ages, messages=age, inbox=age, events=age, runs=age, quarantine=age, webhooks=age
    )


LEAST = timedelta(days=31)


def _age(text: str | None) -> timedelta | None:
    """Raises InputError for what isn't an age of 31 days or more."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})\s*d(?:ays?)?", text.strip())
    if found is None or timedelta(days=int(found[1])) < LEAST:
        raise InputError(f"--older-than {text!r}: write days, 31 or more, like 400d")
    return timedelta(days=int(found[1]))
