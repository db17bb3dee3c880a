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
from schedules.planner import Step, Told, Verdict
from schedules.rule import Cadence, Stage
from workers.cli.frame import (
    Call,
    cell,
    console,
    dump,
    few,
    json_option,
    local,
    moment,
    row_dict,
    table,
    with_app,
    with_core,
)
from workers.core import Core
from workers.errors import InputError, StateError, UnknownThingError
from workers.outlook import WORDS, Explained, explain
from workers.restore import Gate
from workers.scan import Tally

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
            dump([_tally(tally) for tally in tallies])
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


def _drafts(tally: Tally) -> list[dict[str, Any]]:
    return [
        {
            "kind": draft.kind,
            "message": draft.step.message,
            "channel": draft.step.channel,
            "contact": draft.step.contact.ref if draft.step.contact else None,
            "name": draft.step.contact.name if draft.step.contact else None,
            "address": draft.step.contact.address(draft.step.channel)
            if draft.step.contact
            else None,
            "stages": sorted({step.stage for _, step in draft.items}),
            "records": [one.record.ref for one, _ in draft.items],
        }
        for draft in tally.drafts
    ]


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "kind": tally.kind,
        "at": tally.fire_at,
        "run": tally.run_id,
        "looked_at": tally.looked_at,
        "planned": tally.planned,
        "held": tally.held,
        "notifications": _drafts(tally),
    }


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
        for draft in _drafts(tally)
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
            dump(_explained(told))
        else:
            _show_explained(told)

    with_core(work)


def _explained(told: Explained) -> dict[str, Any]:
    record = told.watched.record
    return {
        "kind": record.kind,
        "ref": record.ref,
        "partner": {"ref": record.partner.ref, "name": record.partner.name},
        "state": record.assessment.state.value,
        "why": record.assessment.why,
        "opened_at": record.opened_at,
        "deadline": record.deadline.at,
        "effect": str(record.deadline.effect),
        "ladder": record.ladder,
        "next_due_at": told.next_due_at,
        "steps": [_step(told, step) for step in told.steps],
        "history": [row_dict(row) for row in told.history],
    }


def _step(told: Explained, step: Step) -> dict[str, Any]:
    contact = step.contact
    row = told.told.get(Told(step.stage, step.channel, contact.ref)) if contact else None
    return {
        "stage": step.stage,
        "role": step.role,
        "channel": step.channel,
        "contact": contact.ref if contact else None,
        "name": contact.name if contact else None,
        "at": _at(step, row),
        "verdict": step.verdict.value,
        "why": step.why,
        "notification": row.uid if row is not None else None,
        "state": row.state if row is not None else None,
        "reply": row.reply if row is not None else None,
    }


def _at(step: Step, row: Any) -> Any:
    """When it was told, is to be told, or would have been."""
    if row is not None:
        return row.accepted_at or row.created_at
    return step.order[0] if step.verdict in {Verdict.OVERTAKEN, Verdict.VOID} else step.at


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
        said = _step(told, step)
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
        paused, runs = await app.store.operations.paused(), await app.store.operations.last_runs()
        counts = await app.store.records.count()
        rows: list[dict[str, Any]] = []
        for kind, rule in app.rules.items():
            state = "paused" if kind in paused else "on"
            state = state if kind in app.registry.enabled() else "off"
            last = runs.get(kind)
            rows.append(
                {
                    "kind": kind,
                    "title": dict(rule.title),
                    "state": state,
                    "reason": paused[kind].reason if kind in paused else "",
                    "cadence": _cadence(app.registry.cadences[kind]),
                    "last_run": last.fire_at if last else None,
                    "open": counts.get((kind, "open"), 0),
                    "held": counts.get((kind, "held"), 0),
                }
            )
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


def _cadence(cadence: Cadence) -> dict[str, str]:
    return {one.name: _stage(one) for one in cadence.stages}


def _stage(one: Stage) -> str:
    when = one.when
    words: str = when.anchor
    if when.count:
        unit = when.unit + ("s" if abs(when.count) != 1 else "")
        words += f" {'-' if when.count < 0 else '+'} {abs(when.count)} {unit}"
    elif when.unit != "hour":
        words += f" - 0 {when.unit}s"
    if when.every:
        words += f", then every {when.every} {when.every_unit}s"
    tells = "; ".join(
        f"{tell.role} by {' and '.join(tell.by)} ({tell.message})" for tell in one.tell
    )
    return f"{words}: {tells}{' · urgent' if one.urgent else ''}"


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
