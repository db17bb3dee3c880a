"""The commands of sources: sync one now, list them and their runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from schedules.clock import Cron
from workers.cli.frame import Call, console, dump, json_option, table, with_core
from workers.core import Core
from workers.errors import UnavailableError
from workers.sources import Problem
from workers.syncing import CLOSED, REFUSED, Synced, Syncing

OUTCOMES = ("new", "changed", CLOSED, "unchanged", "stale", "gone", REFUSED)
SHOWN = 20
RUNS = 20


@click.command("sync")
@click.argument("source")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--full", is_flag=True, help="Read all there is, whatever was read before.")
@click.option(
    "--errors", type=click.Path(path_type=Path, dir_okay=False), help="Write all refusals as CSV."
)
@json_option
def sync_command(source: str, dry_run: bool, full: bool, errors: Path | None, as_json: bool) -> int:
    """Read SOURCE, a table [sources.SOURCE] of the settings, and take in what it has.

    Refused rows are named with their place and remedy, the others are taken (exit code 1).

    \b
    duewatch sync crm --dry-run     what would change
    duewatch sync crm --full        all of it, not only what changed since
    """

    async def work(core: Core, _: Call) -> int:
        syncing = Syncing(core)
        if dry_run:
            done = await syncing.trial(source, full=full)
        else:
            found = await syncing.run(source, full=full)
            assert found is not None, "only a clock's firing is another's"
            done = found
        if errors is not None:
            _write_errors(errors, done)
        if as_json:
            dump(_as_json(done))
        else:
            _show(done, dry_run, errors)
        if done.failed:
            raise UnavailableError("\n".join(done.faults))
        return int(done.outcome != "done")

    return with_core(work)


@click.command("sources")
@click.argument("source", required=False)
@json_option
def sources_command(source: str | None, as_json: bool) -> None:
    """The sources and their last sync, or the runs of SOURCE, newest first."""

    async def work(core: Core, _: Call) -> None:
        syncing = Syncing(core)
        if source is not None:
            syncing.one(source)
            rows = [_run(row) for row in await core.store.sources.runs(source, RUNS)]
        else:
            last = await core.store.sources.last_runs()
            rows = [
                {
                    "source": name,
                    "type": one.kind_of_source,
                    "from": one.place,
                    "when": _when(one.settings.schedule()),
                    **(_run(last[name]) if name in last else {}),
                }
                for name, one in syncing.sources.items()
            ]
        if as_json:
            dump(rows)
        elif source is not None:
            names = ["started", "trigger", "missed", "outcome", "brought", "detail"]
            table("", names, [[row.get(name) for name in names] for row in _flat(rows)])
        else:
            names = ["source", "type", "from", "when", "started", "outcome", "brought"]
            shown = [[row.get(name) for name in names] for row in _flat(rows)]
            table("", ["source", "type", "what", "when", "last sync", "outcome", "detail"], shown)

    with_core(work)


def _when(timing: timedelta | Cron | None) -> str:
    if timing is None:
        return "by hand"
    if isinstance(timing, Cron):
        return f"{timing.text} ({timing.zone})"
    return f"every {timing.total_seconds():g} s"


def _run(row: Any) -> dict[str, Any]:
    return {
        "started": row.started_at,
        "finished": row.finished_at,
        "trigger": row.trigger,
        "fire_at": row.fire_at,
        "missed": row.missed,
        "outcome": row.outcome or "running",
        "counts": row.counts,
        "detail": row.detail,
    }


def _flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"brought": _words(row.get("counts") or {})} for row in rows]


def _words(counts: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{shape}: " + ", ".join(f"{theirs[word]} {word}" for word in OUTCOMES if word in theirs)
        for shape, theirs in sorted(counts.items())
    )


def _show(done: Synced, trial: bool, errors: Path | None) -> None:
    rows = [
        (part.name, shape, *(counts.get(outcome, 0) for outcome in OUTCOMES))
        for part in done.parts
        for shape, counts in sorted(part.counts.items())
    ]
    rows += [
        (done.source, kind, *(len(refs) if outcome == "gone" else 0 for outcome in OUTCOMES))
        for kind, refs in done.gone.items()
    ]
    title = "Would be taken" if trial else ""
    table(title, ["from", "holds", *(f"{outcome} #" for outcome in OUTCOMES)], rows)
    out = console()
    for part in done.parts:
        if part.fault:
            out.print(f"{part.name}: {part.fault}", markup=False, style="red")
    if not done.failed:
        for fault in done.faults:
            out.print(fault, markup=False, style="red")
    _show_gone(done, trial)
    problems = _problems(done)
    for problem in problems[:SHOWN]:
        out.print(str(problem), markup=False, style="red")
    if len(problems) > SHOWN:
        where = f"all are in {errors}" if errors else "--errors FILE writes all"
        out.print(f"… and {len(problems) - SHOWN} more: {where}")


def _show_gone(done: Synced, trial: bool) -> None:
    out = console()
    then = "would be closed" if trial else "closed"
    means = then if done.gone_means == "close" else 'left as it is (gone = "close" closes it)'
    for kind, refs in done.gone.items():
        for ref in refs[:SHOWN]:
            out.print(f"{kind} {ref}: no longer there: {means}", markup=False, style="yellow")
        if len(refs) > SHOWN:
            out.print(f"… and {len(refs) - SHOWN} more of {kind}: {means}", markup=False)
    for kind, refs in done.back.items():
        out.print(f"{kind}: {len(refs)} there again", markup=False)


def _problems(done: Synced) -> list[Problem]:
    return [problem for part in done.parts for problem in part.problems]


def _write_errors(file: Path, done: Synced) -> None:
    with file.open("w", encoding="utf-8-sig", newline="") as target:
        writer = csv.DictWriter(target, ["place", "column", "value", "remedy"])
        writer.writeheader()
        for problem in _problems(done):
            writer.writerow({name: _inert(text) for name, text in _told(problem).items()})


def _told(problem: Problem) -> dict[str, str]:
    return {
        "place": str(problem.place),
        "column": problem.heading,
        "value": problem.value,
        "remedy": problem.remedy,
    }


def _inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _as_json(done: Synced) -> dict[str, Any]:
    return {
        "source": done.source,
        "outcome": done.outcome,
        "faults": done.faults,
        "gone": done.gone,
        "back": done.back,
        "parts": [
            {
                "name": part.name,
                "counts": part.counts,
                "fault": part.fault,
                "refused": [_told(problem) for problem in part.problems],
            }
            for part in done.parts
        ],
    }
