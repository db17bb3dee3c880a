"""Commands about what is due: scan, deliver, explain, rules, pause, resume."""

from __future__ import annotations

import asyncio
import difflib
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from rich.text import Text

from schedules.fields import BEIJING
from schedules.planner import Verdict
from workers.cli.frame import (
    Call,
    cell,
    console,
    dump,
    few,
    json_option,
    local,
    moment,
    table,
    with_app,
    with_core,
)
from workers.core import Core
from workers.errors import InputError, StateError, UnknownThingError
from workers.outlook import WORDS, Explained, explain
from workers.restore import Gate
from workers.scan import Tally
from workers.shown import drafts, explained, rules, step_of, tally_of

if TYPE_CHECKING:
    from workers.app import App


def kinds_of(app: Core, rule: str | None) -> list[str]:
    """The rule that was named, or all that are on. Raises UnknownThingError with the nearest."""
    if rule is None:
        return app.registry.enabled()
    if rule not in app.rules:
        close = difflib.get_close_matches(rule, app.rules, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(app.rules)}"
        raise UnknownThingError(f"there is no rule {rule!r}: {hint}")
    return [rule]


@click.command("scan")
@click.argument("rule", required=False)
@click.option("--dry-run", is_flag=True, help="Show who would be told what, and write nothing.")
@click.option("--at", metavar="TIME", help="With --dry-run: as if it were TIME (Beijing).")
@click.option("--request", is_flag=True, help="Ask a scheduler for it, through the broker.")
@json_option
def scan_command(
    rule: str | None, dry_run: bool, at: str | None, request: bool, as_json: bool
) -> None:
    """Look for what is due and plan notifications, for RULE or for all rules.

    \b
    duewatch scan --dry-run                          who would be told what, now
    duewatch scan statement --dry-run --at "2026-11-30 09:00"
    duewatch scan                                    plan it; the worker delivers
    duewatch scan statement --request                have another machine plan it
    """
    if at is not None and not dry_run:
        raise InputError("--at goes with --dry-run: a real scan is always at the present time")
    if request:
        _request(rule, dry_run, as_json)
        return

    async def work(app: App, _: Call) -> None:
        when, tallies = moment(at), list[Tally]()
        paused = await app.store.operations.paused()
        for kind in kinds_of(app, rule):
            if rule is None and kind in paused and not dry_run:
                click.echo(f"{kind} is paused ({paused[kind].reason}): left out", err=True)
            elif dry_run:
                tallies.append(await app.scan.dry_run(kind, when))
            elif tally := await app.scan.run(kind):
                tallies.append(tally)
        if as_json:
            dump([tally_of(tally) for tally in tallies])
            return
        if dry_run:
            _show_drafts(tallies)
        table(
            "",
            ["rule", "looked at #", "notifications #", "held #"],
            [(t.kind, t.looked_at, t.planned, t.held) for t in tallies],
        )

    with_app(work)


def _request(rule: str | None, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        raise InputError("--request and --dry-run exclude each other: leave one out")

    async def work(app: App, _: Call) -> None:
        kinds = kinds_of(app, rule)
        for kind in kinds:
            await asyncio.to_thread(app.bell.request_scan, kind)
        if as_json:
            dump({"requested": kinds})
        else:
            click.echo(f"Asked for a scan of {few(kinds)}. duewatch rules shows when it was done.")

    with_app(work)


def _show_drafts(tallies: list[Tally]) -> None:
    rows = [
        (
            draft["kind"],
            ", ".join(draft["stages"]),
            draft["channel"],
            draft["message"],
            draft["name"],
            draft["address"],
            few(draft["records"]),
        )
        for tally in tallies
        for draft in drafts(tally)
    ]
    columns = ["rule", "stages", "by", "message", "who", "address", "records"]
    table("Would be told", columns, rows)


@click.command("deliver")
@json_option
def deliver_command(as_json: bool) -> None:
    """Send what is pending now, then end. A running worker does this by itself."""

    async def work(app: App, _: Call) -> None:
        if closed := await Gate(app.store, app.settings, app.clock).look():
            raise StateError(f"nothing is sent: {closed}")
        claimed = await app.delivery.drain()
        outcomes = {
            f"{channel} {outcome}": count
            for (channel, outcome), count in sorted(app.delivery.outcomes.items())
        }
        if as_json:
            dump({"claimed": claimed, "outcomes": outcomes})
        else:
            table("", ["outcome", "messages #"], list(outcomes.items()))

    with_app(work)


@click.command("explain")
@click.argument("record")
@click.option("--kind", help="Where the reference names records of several kinds.")
@click.option("--at", metavar="TIME", help="As it will stand at TIME (Beijing).")
@json_option
def explain_command(record: str, kind: str | None, at: str | None, as_json: bool) -> None:
    """Every stage of RECORD: due when, told whom, or skipped and why; and what comes next."""

    async def work(app: Core, _: Call) -> None:
        now = moment(at) or app.clock()
        told = await explain(app.store, app.registry, record, kind, now)
        if as_json:
            dump(explained(told))
        else:
            _show_explained(told)

    with_core(work)


def _show_explained(told: Explained) -> None:
    record, out = told.watched.record, console()
    out.print(Text(f"{record.kind} {record.ref}", style="bold"), end="")
    out.print(Text(f"  {record.partner.name} ({record.partner.ref})"))
    out.print(cell(record.assessment.state.value), end="")
    out.print(Text(f"  {record.assessment.why}" if record.assessment.why else ""))
    out.print(f"opened    {local(record.opened_at)} Beijing")
    if record.deadline.at is not None:
        out.print(f"deadline  {local(record.deadline.at)} Beijing, then: {record.deadline.effect}")
    else:
        out.print("deadline  none: nothing ends by itself")
    if record.snoozed_until is not None:
        out.print(f"snoozed   until {local(record.snoozed_until)} Beijing")
    out.print()
    table("", ["stage", "by", "who", "when (theirs)", "what", ""], _lines(told))
    moot = [row for row in told.history if row.dropped is not None]
    for row in moot:
        out.print(Text(f"not sent: {row.stage} by {row.channel} to {row.contact}: {row.dropped}"))
    if told.next_due_at is not None:
        out.print(f"Next look: {local(told.next_due_at)} Beijing.")


def _lines(told: Explained) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    seen: set[tuple[str, str]] = set()
    for step in told.steps:
        if step.contact is None and step.verdict is Verdict.OFF:
            if (step.stage, step.why) not in seen:
                rows.append((step.stage, "", "", "", WORDS[step.verdict], step.why))
            seen.add((step.stage, step.why))
            continue
        said = step_of(told, step)
        who = (
            f"{step.contact.name or step.contact.ref} ({step.role})" if step.contact else step.role
        )
        zone = ZoneInfo(step.contact.time_zone) if step.contact else BEIJING
        detail = step.why
        if said["notification"]:
            detail = f"{said['notification'][:8]} {said['state']}: {said['reply'] or ''}".rstrip(
                ": "
            )
        at = "" if step.verdict is Verdict.OFF else local(said["at"], zone)
        rows.append((step.stage, step.channel, who, at, WORDS[step.verdict], detail))
    return rows


@click.command("rules")
@json_option
def rules_command(as_json: bool) -> None:
    """The rules: on, off or paused, their cadence in words, their last run and records."""

    async def work(app: Core, _: Call) -> None:
        rows = await rules(app)
        if as_json:
            dump(rows)
            return
        for row in rows:
            title = " · ".join(row["title"].values())
            out = console()
            out.print(Text(f"{row['kind']}", style="bold"), Text(title), cell(row["state"]), end="")
            out.print(Text(f"  {row['reason']}"), style="yellow")
            out.print(
                f"  {row['open']} open, {row['held']} held; last run {local(row['last_run'])}"
            )
            for name, words in row["cadence"].items():
                out.print(Text(f"  {name:8} {words}"))
            out.print()

    with_core(work)


@click.command("pause")
@click.argument("rule")
@click.option("--reason", required=True, help="Why; shown to whoever looks next.")
def pause_command(rule: str, reason: str) -> None:
    """Stop RULE's scans and the sending of what it planned, until it is resumed."""

    async def work(app: Core, called: Call) -> None:
        kind = kinds_of(app, rule)[0]
        await app.store.operations.pause(kind, called.by, reason, app.clock())
        click.echo(f"Paused {kind}. duewatch resume {kind} lets it go on.")

    with_core(work)


@click.command("resume")
@click.argument("rule")
@click.option("--reason", default="", help="Why, for the audit.")
def resume_command(rule: str, reason: str) -> None:
    """Let RULE go on. What came due in the meantime is told once, at the stage that stands."""

    async def work(app: Core, called: Call) -> None:
        kind = kinds_of(app, rule)[0]
        await app.store.operations.resume(kind, called.by, reason, app.clock())
        every = app.registry.cadences[kind].scan_every or timedelta(0)
        click.echo(f"Resumed {kind}: scanned again within {int(every.total_seconds() // 60)} min.")

    with_core(work)
