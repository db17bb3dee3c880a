"""/jobs: long work begun from a page: how far it is, what it left, ending it, undoing it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from workers import bulk
from workers.errors import StateError, UnknownThingError
from workers.jobs import Progress, standing
from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit
from workers.web.problems import ProblemError, download

PAGE = 50
_ACTIONS = {
    "retry": N_("Retry of %(count)s notifications"),
    "release": N_("Release of %(count)s notifications"),
    "cancel": N_("Cancelling %(count)s notifications"),
    "undo": N_("Undoing a move of %(count)s notifications"),
}
_TITLES = {
    "scan": N_("Scan: %(kind)s"),
    "sync": N_("Sync: %(source)s"),
    "import": N_("Import: %(file)s"),
    "export": N_("Export: %(table)s as %(form)s"),
    "quarantine": N_("Quarantine: %(action)s %(count)s"),
}


def title(visit: Visit, row: Any) -> str:
    """What a job is about, in the reader's words."""
    about = {**row.about}
    if row.kind == "move":
        return visit.t(_ACTIONS[about["action"]], **about)
    if "table" in about:
        about["table"] = visit.t(about["table"])
    if "kind" in about:
        about["kind"] = visit.kind(about["kind"])
    found = _TITLES.get(row.kind) or about.get("title")
    text = visit.t(found, **about) if found else str(row.kind)
    trial = visit.t("a trial")
    return f"{text} ({trial})" if about.get("trial") else text


def mine(visit: Visit, row: Any) -> bool:
    """Whether the visitor may end a job and have its file: who began it, or an administrator."""
    return bool(row.by == visit.by) or visit.caller.may(Scope.ADMIN)


def detail(visit: Visit, row: Any) -> str:
    """What a job says of itself; of what files and systems hold only to whom may see people."""
    if row.kind in {"import", "sync"} and not visit.sees_people:
        return ""
    return visit.why(row.detail)


async def _list(visit: Visit) -> web.Response:
    before = visit.number("before")
    rows = await visit.app.store.jobs.newest(PAGE + 1, before)
    return visit.page(
        "jobs.html",
        rows=[
            (row, title(visit, row), standing(row, visit.now), detail(visit, row))
            for row in rows[:PAGE]
        ],
        older=visit.again(before=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        newest=visit.again(before=None) if before else "",
    )


async def _one(visit: Visit) -> web.Response:
    row = await visit.app.store.jobs.one(visit.place("uid"), whole=True)
    state = standing(row, visit.now)
    took = ((row.ended_at or visit.now) - row.began_at).total_seconds()
    rate = row.done / took if took > 0 else 0.0
    left = (row.total - row.done) / rate if rate and row.total and row.total > row.done else None
    return visit.page(
        "job.html",
        row=row,
        title=title(visit, row),
        detail=detail(visit, row),
        state=state,
        took=took,
        rate=rate,
        left=left,
        mine=mine(visit, row),
        may_import=row.kind == "import"
        and bool(row.about.get("trial"))
        and row.file is not None
        and row.by == visit.by,
        can_undo=bool(row.changed)
        and visit.may("notifications:write")
        and row.ended_at is not None
        and visit.now < row.ended_at + bulk.UNDO_WITHIN,
        undo_s=int(bulk.UNDO_WITHIN.total_seconds()),
    )


async def _file(visit: Visit) -> web.Response:
    row = await visit.app.store.jobs.one(visit.place("uid"), whole=True)
    if row.file is None or row.kind != "export":
        raise UnknownThingError("this job left no file")
    if not mine(visit, row):
        raise ProblemError("scope", "Only who made the export may have it: make your own.")
    return download(row.file, row.file_name)


async def _end(visit: Visit) -> web.Response:
    uid = visit.place("uid")
    row = await visit.app.store.jobs.one(uid)
    if not mine(visit, row):
        raise ProblemError("scope", "Who began it ends it, or an administrator.")
    await visit.app.store.jobs.wish_end(uid)
    return visit.to(f"/jobs/{uid}", "ending")


async def _undo(visit: Visit) -> web.Response:
    uid = visit.place("uid")
    row = await visit.app.store.jobs.one(uid, whole=True)
    if not row.changed:
        raise StateError("there is nothing to undo: it was undone, or it can't be")
    await visit.app.store.jobs.undone(uid)
    changed = [tuple(one) for one in row.changed]

    async def work(progress: Progress) -> None:
        await bulk.undo_all(visit.app, changed, visit.by, f"undo of job {uid[:8]}", progress)

    about = {"action": "undo", "count": len(changed)}
    return visit.to(f"/jobs/{await visit.console.jobs.begin('move', about, visit.by, work)}")


_ONE = "/jobs/{uid:[0-9a-f]{32}}"
ROUTES = (
    Route("GET", "/jobs", _list, Scope.NOTIFICATIONS_READ),
    Route("GET", _ONE, _one, Scope.NOTIFICATIONS_READ),
    Route("GET", f"{_ONE}/file", _file, Scope.NOTIFICATIONS_READ),
    Route("POST", f"{_ONE}/end", _end, Scope.NOTIFICATIONS_READ),
    Route("POST", f"{_ONE}/undo", _undo, Scope.NOTIFICATIONS_WRITE),
)
NAV = Nav("system", 20, "/jobs", N_("Jobs"), Scope.NOTIFICATIONS_READ)
