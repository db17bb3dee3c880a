"""The command that brings files in."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from workers.app import App
from workers.cli.frame import Call, console, dump, json_option, table, with_app
from workers.errors import InputError
from workers.importing import REFUSED, Imported, import_file

OUTCOMES = ("new", "changed", "unchanged", "stale", REFUSED)
SHOWN = 20


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--kind", help="What the file holds, where its headings leave that open.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@click.option(
    "--errors", type=click.Path(path_type=Path, dir_okay=False), help="Write all refusals as CSV."
)
@json_option
def import_command(
    files: tuple[Path, ...], kind: str | None, dry_run: bool, errors: Path | None, as_json: bool
) -> int:
    """Import contacts, partners, invitations, statements, payments and invoice lines.

    CSV (UTF-8 or GB18030) and XLSX, with English or Chinese headings; what a sheet holds is told
    by its headings. The same file twice changes nothing. Refused rows are named with their remedy,
    the others are taken (exit code 1).

    \b
    duewatch import contacts.csv 邀请记录.csv
    duewatch import --dry-run payments.xlsx
    """

    async def work(app: App, _: Call) -> int:
        done: list[Imported] = []
        unread: InputError | None = None
        for path in files:
            try:
                done.append(await _one(app, path, kind, dry_run))
            except InputError as error:
                unread = error
                break
        if errors is not None:
            _write_errors(errors, done)
        if as_json and unread is None:
            dump([_as_json(one) for one in done])
        elif done or unread is None:
            _show(done, dry_run, errors)
        if unread is not None:
            raise unread
        return int(any(one.refused for one in done))

    return with_app(work)


async def _one(app: App, path: Path, kind: str | None, trial: bool) -> Imported:
    out, size = console(err=True), _size(path)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    ) as bar:
        task = bar.add_task(path.name, total=size)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        await asyncio.sleep(0)
        return await import_file(
            app.intake, app.rules, path, only=kind, trial=trial, progress=progress
        )


def _size(path: Path) -> int:
    return path.stat().st_size


def _show(done: list[Imported], trial: bool, errors: Path | None) -> None:
    rows = [
        (one.file, shape, *(counts[outcome] for outcome in OUTCOMES))
        for one in done
        for shape, counts in sorted(one.counts.items())
    ]
    table(
        "Would be imported" if trial else "",
        ["file", "holds", *(f"{outcome} #" for outcome in OUTCOMES)],
        rows,
    )
    out = console()
    for one in done:
        for sheet in one.sheets:
            where = f"{sheet.file}, sheet {sheet.name}" if sheet.name else sheet.file
            if sheet.note:
                out.print(f"{where}: {sheet.note}", markup=False, style="yellow")
            if sheet.ignored:
                named = ", ".join(sheet.ignored)
                out.print(f"{where}: columns left out: {named}", markup=False, style="yellow")
    problems = [problem for one in done for problem in one.problems]
    for problem in problems[:SHOWN]:
        out.print(str(problem), markup=False, style="red")
    if len(problems) > SHOWN:
        where = f"all are in {errors}" if errors else "--errors FILE writes all"
        out.print(f"… and {len(problems) - SHOWN} more: {where}")


def _write_errors(file: Path, done: list[Imported]) -> None:
    with file.open("w", encoding="utf-8-sig", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["file", "sheet", "line", "column", "value", "remedy"])
        for one in done:
            for problem in one.problems:
                place = problem.place
                row = [place.file, place.sheet, place.line, problem.heading, problem.value]
                writer.writerow([*(_inert(value) for value in row), problem.remedy])


def _inert(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _as_json(one: Imported) -> dict[str, object]:
    return {
        "file": one.file,
        "counts": {shape: dict(counts) for shape, counts in one.counts.items()},
        "refused": [
            {
                "sheet": problem.place.sheet,
                "line": problem.place.line,
                "column": problem.heading,
                "value": problem.value,
                "remedy": problem.remedy,
            }
            for problem in one.problems
        ],
        "left_out": [
            {"sheet": sheet.name, "columns": list(sheet.ignored), "note": sheet.note}
            for sheet in one.sheets
            if sheet.ignored or sheet.note
        ],
    }
