"""/import: a file is read on trial, what it would change is shown, then it is taken in."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from aiohttp import web

from workers.errors import InputError, StateError
from workers.importing import Imported, import_file
from workers.jobs import Progress
from workers.render.formats import N_
from workers.store.jobs import TRIED_KEPT
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit
from workers.web.problems import ProblemError

SHOWN = 200
"""Refused rows that are told; all are counted."""
ENDINGS = (".csv", ".xlsx", ".tsv", ".txt")


async def _ask(visit: Visit) -> web.Response:
    return visit.page("import.html", endings=ENDINGS)


async def _try(visit: Visit) -> web.Response:
    if visit.file is None or not visit.file[1]:
        raise InputError("file: choose one that isn't empty")
    name, content = visit.file
    if not name.lower().endswith(ENDINGS):
        raise InputError(f"file {name}: must be one of {', '.join(ENDINGS)}")
    return await _begin(visit, name, content, trial=True)


async def _take(visit: Visit) -> web.Response:
    row = await visit.app.store.jobs.one(visit.place("uid"), whole=True)
    if row.kind != "import" or not row.about.get("trial") or row.file is None:
        raise StateError("there is no file of a trial: choose the file again")
    if row.ended_at is None or visit.now - row.ended_at > TRIED_KEPT:
        raise StateError("the trial is older than 15 minutes: choose the file again")
    if row.by != visit.by:
        raise ProblemError("scope", "Who tried the file takes it in: try it yourself.")
    answer = await _begin(visit, row.file_name, row.file, trial=False)
    await visit.app.store.jobs.let_go(row.uid)
    return answer


async def _begin(visit: Visit, name: str, content: bytes, *, trial: bool) -> web.Response:
    async def work(progress: Progress) -> None:
        with tempfile.TemporaryDirectory(prefix="duewatch-import-") as folder:
            path = Path(folder) / name
            await asyncio.to_thread(path.write_bytes, content)
            done = await import_file(
                visit.app.intake, visit.app.rules, path, trial=trial, progress=progress.at
            )
        _tell(progress, done)
        if trial:
            progress.file = (name, content)

    about = {"file": name, "trial": trial}
    return visit.to(f"/jobs/{await visit.console.jobs.begin('import', about, visit.by, work)}")


def _tell(progress: Progress, done: Imported) -> None:
    for shape, counts in sorted(done.counts.items()):
        for outcome, count in counts.items():
            progress.counts[f"{shape}: {outcome}"] += count
    notes = [f"{one.file} {one.name}: {one.note}" for one in done.sheets if one.note]
    problems = [str(one) for one in done.problems[:SHOWN]]
    if len(done.problems) > SHOWN:
        problems.append(f"… {len(done.problems) - SHOWN} more")
    progress.detail = "\n".join([*notes, *problems])
    progress.done = progress.total or progress.done


ROUTES = (
    Route("GET", "/import", _ask, Scope.RECORDS_WRITE),
    Route("POST", "/import", _try, Scope.RECORDS_WRITE),
    Route("POST", "/import/{uid:[0-9a-f]{32}}", _take, Scope.RECORDS_WRITE),
)
NAV = Nav("doors", 15, "/import", N_("Import"), Scope.RECORDS_WRITE)
