"""/sources: what is read from other systems, when, and what it brought; syncing by hand."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from schedules.clock import Cron
from workers.errors import UnavailableError
from workers.jobs import Progress
from workers.render.formats import N_
from workers.syncing import Syncing
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit

RUNS = 50


def _when(visit: Visit, timing: timedelta | Cron | None) -> str:
    if timing is None:
        return visit.t("by hand")
    if isinstance(timing, Cron):
        return f"{timing.text} ({timing.zone})"
    formats = visit.console.pages.formats[visit.language]
    return visit.t("every %(span)s", span=formats.span(timing))


async def _list(visit: Visit) -> web.Response:
    last = await visit.app.store.sources.last_runs()
    syncing = Syncing(visit.app)
    return visit.page(
        "sources.html",
        sources=[
            (name, one, _when(visit, one.settings.schedule()), last.get(name))
            for name, one in syncing.sources.items()
        ],
    )


async def _one(visit: Visit) -> web.Response:
    name = visit.place("name")
    source = Syncing(visit.app).one(name)
    return visit.page(
        "source.html",
        name=name,
        source=source,
        when=_when(visit, source.settings.schedule()),
        runs=await visit.app.store.sources.runs(name, RUNS),
    )


async def _sync(visit: Visit) -> web.Response:
    name, syncing = visit.place("name"), Syncing(visit.app)
    syncing.one(name)
    trial, full = visit.said("trial") == "1", visit.said("full") == "1"

    async def work(progress: Progress) -> None:
        done = await (syncing.trial if trial else syncing.run)(name, full=full)
        assert done is not None, "only a clock's firing is another's"
        for shape, counts in done.counts.items():
            for outcome, count in counts.items():
                progress.counts[f"{shape}: {outcome}"] += count
        progress.done = sum(progress.counts.values())
        progress.detail = done.detail
        if done.failed:
            raise UnavailableError("\n".join(done.faults))

    about = {"source": name, "trial": trial}
    return visit.to(f"/jobs/{await visit.console.jobs.begin('sync', about, visit.by, work)}")


ROUTES = (
    Route("GET", "/sources", _list, Scope.RULES_READ),
    Route("GET", "/sources/{name}", _one, Scope.RULES_READ),
    Route("POST", "/sources/{name}/sync", _sync, Scope.RULES_RUN),
)
NAV = Nav("doors", 10, "/sources", N_("Sources"), Scope.RULES_READ)
