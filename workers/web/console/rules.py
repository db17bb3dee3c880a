"""/rules: each ladder, its runs, what its messages say; pause, resume, and run after a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from schedules.rule import Cadence, Stage
from workers import shown
from workers.errors import CallerError, TemplateError
from workers.jobs import Progress
from workers.model import Notice
from workers.previews import notice_of
from workers.providers import Sms
from workers.render.formats import N_
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit
from workers.web.mails import FRAME_POLICY, framed

RUNS = 20
SHOWN = 80
"""Messages of a dry run that are listed."""


async def _list(visit: Visit) -> web.Response:
    last = await visit.app.store.operations.last_runs()
    return visit.page(
        "rules.html",
        rules=[(one, last.get(one["kind"])) for one in await shown.rules(visit.app)],
    )


def rungs(cadence: Cadence) -> list[tuple[Stage | None, str]]:
    """The stages in the order of time, with the deadline (None) where it lies among them."""

    def place(one: Stage) -> tuple[int, float]:
        unit = {"hour": 1 / 24, "day": 1.0, "working day": 1.4}[one.when.unit]
        after = one.when.anchor == "due" and (one.after_deadline or one.when.count > 0)
        return (2 if after else 1 if one.when.anchor == "due" else 0, one.when.count * unit)

    ordered = sorted(cadence.stages, key=place)
    found: list[tuple[Stage | None, str]] = [(one, when_words(one)) for one in ordered]
    due = [n for n, one in enumerate(ordered) if place(one)[0] == 2]
    if any(one.when.anchor == "due" for one in ordered):
        found.insert(due[0] if due else len(found), (None, ""))
    return found


def when_words(stage: Stage) -> str:
    """When a stage is told, as settings write it."""
    words = shown.cadence_in_words(Cadence((stage,)))[stage.name]
    return words.partition(": ")[0]


async def _one(visit: Visit) -> web.Response:
    kind = visit.place("kind")
    visit.app.registry.rule(kind)
    store = visit.app.store
    before = visit.number("before")
    runs = await store.lists.newest("runs", before=before, limit=RUNS + 1, kind=kind)
    cadence = visit.app.registry.cadences[kind]
    return visit.page(
        "rule.html",
        kind=kind,
        rule=next(one for one in await shown.rules(visit.app) if one["kind"] == kind),
        pause=(await store.operations.paused()).get(kind),
        rungs=[(stage, visit.catalogue.cadence(when)) for stage, when in rungs(cadence)],
        cadence=cadence,
        runs=runs[:RUNS],
        older=visit.again(before=runs[RUNS - 1].id) if len(runs) > RUNS else "",
        newest=visit.again(before=None) if before else "",
        next_due=await store.records.next_due(kind),
    )


async def _pause(visit: Visit) -> web.Response:
    kind = visit.place("kind")
    visit.app.registry.rule(kind)
    reason = visit.reason(needed=True)
    await visit.app.store.operations.pause(kind, visit.by, reason, visit.now)
    visit.console.foreseen.forget()
    return visit.to(f"/rules/{kind}", "paused")


async def _resume(visit: Visit) -> web.Response:
    kind = visit.place("kind")
    visit.app.registry.rule(kind)
    await visit.app.store.operations.resume(kind, visit.by, visit.reason(), visit.now)
    visit.console.foreseen.forget()
    return visit.to(f"/rules/{kind}", "resumed")


async def _dry_run(visit: Visit) -> web.Response:
    kind = visit.place("kind")
    tally = await visit.app.scan.dry_run(kind)
    return visit.page(
        "rule_run.html",
        kind=kind,
        tally=tally,
        drafts=shown.drafts(tally)[:SHOWN],
        pause=(await visit.app.store.operations.paused()).get(kind),
    )


async def _run(visit: Visit) -> web.Response:
    kind, app = visit.place("kind"), visit.app
    app.registry.rule(kind)

    async def work(progress: Progress) -> None:
        tally = await app.scan.run(kind, progress=progress.at)
        assert tally is not None, "only a clock's firing may be taken by another"
        progress.counts.update(looked_at=tally.looked_at, planned=tally.planned, held=tally.held)
        progress.done = tally.looked_at

    uid = await visit.console.jobs.begin("scan", {"kind": kind}, visit.by, work)
    return visit.to(f"/jobs/{uid}")


# --- what its messages say ------------------------------------------------------------------


def _messages(visit: Visit, kind: str) -> Sequence[str]:
    cadence = visit.app.registry.cadences[kind]
    return sorted({tell.message for stage in cadence.stages for tell in stage.tell})


async def _notice(visit: Visit, kind: str, channel: str) -> Notice | None:
    """The sample's message, or a record's; None where there is none by that channel."""
    what = visit.query("record") if visit.sees_people else ""
    message = visit.query("message") or None
    language = visit.query("in") or visit.language
    try:
        return await notice_of(visit.app, what or kind, message, channel, language)
    except CallerError:
        if what and channel == "mail":
            raise
        return None


async def _preview(visit: Visit) -> web.Response:
    kind = visit.place("kind")
    visit.app.registry.rule(kind)
    values: dict[str, Any] = {"subject": "", "text": "", "sms": None, "fault": ""}
    try:
        if notice := await _notice(visit, kind, "mail"):
            parts = visit.app.renderer.parts(notice)
            values |= {"subject": parts["subject.txt"].strip(), "text": parts["txt"]}
        if notice := await _notice(visit, kind, "sms"):
            sms = visit.app.renderer.render(notice)
            values["sms"] = sms if isinstance(sms, Sms) else None
    except (CallerError, TemplateError) as error:
        values["fault"] = str(error)
    return visit.page(
        "rule_preview.html",
        kind=kind,
        messages_pairs=[(one, one) for one in _messages(visit, kind)],
        message=visit.query("message"),
        languages=visit.app.renderer.languages,
        reads=visit.query("in") or visit.language,
        record=visit.query("record") if visit.sees_people else "",
        **values,
    )


async def _frame(visit: Visit) -> web.Response:
    kind = visit.place("kind")
    visit.app.registry.rule(kind)
    notice = await _notice(visit, kind, "mail")
    if notice is None:
        raise web.HTTPNotFound
    page = visit.app.renderer.whole_page(notice)
    return web.Response(
        text=framed(page, visit.look or "own"),
        content_type="text/html",
        headers={"Content-Security-Policy": FRAME_POLICY},
    )


ROUTES = (
    Route("GET", "/rules", _list, Scope.RULES_READ),
    Route("GET", "/rules/{kind}", _one, Scope.RULES_READ),
    Route("POST", "/rules/{kind}/pause", _pause, Scope.RULES_RUN),
    Route("POST", "/rules/{kind}/resume", _resume, Scope.RULES_RUN),
    Route("GET", "/rules/{kind}/run", _dry_run, Scope.RULES_RUN),
    Route("POST", "/rules/{kind}/run", _run, Scope.RULES_RUN),
    Route("GET", "/rules/{kind}/preview", _preview, Scope.RULES_READ),
    Route("GET", "/rules/{kind}/preview/frame", _frame, Scope.RULES_READ),
)
NAV = Nav("watch", 30, "/rules", N_("Rules"), Scope.RULES_READ)
