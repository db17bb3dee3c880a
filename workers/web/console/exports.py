"""/exports: every table as CSV or XLSX, as the visitor may see it; made as a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from workers import shown
from workers.errors import InputError, UnknownThingError
from workers.jobs import Progress
from workers.render.formats import N_
from workers.render.tables import csv_table, xlsx_table
from workers.tokens import Scope, standing
from workers.web.console._visit import Route, Visit
from workers.web.console.notifications import filters
from workers.web.console.records import STATES
from workers.web.problems import ProblemError

MOST = 200_000
"""Rows of one file; the newest, or the first, where there are more."""
PAGE = 500
Query = Mapping[str, str]
Rows = AsyncIterator[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """What may be exported: who may, the columns' names (English, marked), and its rows."""

    scope: Scope
    head: tuple[str, ...]
    rows: Callable[[Visit, Query, str], Rows]
    title: str


async def _records(visit: Visit, query: Query, _: str) -> Rows:
    after = 0
    state = query.get("state")
    while rows := await visit.app.store.records.search(
        kind=query.get("kind") or None,
        state=state if state in STATES else None,
        partner=query.get("partner") or None,
        text=query.get("text") or None,
        people=visit.sees_people,
        after=after,
        limit=PAGE,
    ):
        after = rows[-1].id
        for row in rows:
            yield (
                *(row.kind, row.ref, row.partner, row.state, visit.why(row.why)),
                *(row.opened_at, row.due_at, row.effect, row.next_due_at, row.snoozed_until),
                *(row.closed_at, row.changed_at),
            )


async def _notifications(visit: Visit, query: Query, _: str) -> Rows:
    wanted = filters(query, visit.app.rules)
    if not visit.sees_people:
        wanted["text"] = None
    before: int | None = None
    while rows := await visit.app.store.operations.notifications(
        **wanted, before=before, limit=PAGE
    ):
        before = rows[-1].id
        for row in rows:
            yield (
                *(row.uid, row.kind, row.message, row.channel, visit.name(row.name), row.role),
                *(visit.address(row.address), row.language, row.state, visit.why(row.reason)),
                *(row.line_count, row.attempt_count, row.provider, row.created_at),
                *(row.not_before, row.accepted_at),
            )


async def _forecast(visit: Visit, query: Query, _: str) -> Rows:
    forecast = await visit.console.foreseen.get()
    if forecast is None:
        raise InputError("the forecast is being reckoned: try again in a moment")
    for one in forecast.told:
        if query.get("rule", "") in {"", one.kind} and query.get("channel", "") in {
            "",
            one.channel,
        }:
            yield (
                *(one.day.isoformat(), one.at, one.kind, one.channel, one.message),
                *(visit.name(one.name), visit.address(one.address), one.language),
                *(", ".join(sorted(one.stages)), len(one.refs), " ".join(one.refs)),
            )


async def _rules(visit: Visit, _: Query, __: str) -> Rows:
    last = await visit.app.store.operations.last_runs()
    for one in await shown.rules(visit.app):
        run = last.get(one["kind"])
        yield (
            *(one["kind"], visit.kind(one["kind"]), one["state"], one["reason"]),
            "; ".join(f"{name}: {words}" for name, words in one["cadence"].items()),
            *(run.started_at if run else None, run.planned if run else None),
            *(one["open"], one["held"]),
        )


def _newest(
    of: str,
    cells: Callable[[Visit, Any], tuple[Any, ...]],
    *,
    equal: Mapping[str, str] | None = None,
    holds: Mapping[str, str] | None = None,
) -> Any:
    """Rows of what is numbered, newest first, narrowed as the page was: column -> query's name."""

    async def rows(visit: Visit, query: Query, which: str) -> Rows:
        same: dict[str, Any] = {to: query.get(name) or None for to, name in (equal or {}).items()}
        part = {to: query.get(name) or None for to, name in (holds or {}).items()}
        if of == "runs":
            same["kind"] = which
        before: int | None = None
        while found := await visit.app.store.lists.newest(
            of, before=before, limit=PAGE, holds=part, **same
        ):
            before = found[-1].id
            for row in found:
                yield cells(visit, row)

    return rows


async def _contacts(visit: Visit, query: Query, _: str) -> Rows:
    after: str | None = None
    partner, text = query.get("partner") or None, query.get("text") or None
    while rows := await visit.app.store.lists.contacts(
        partner=partner, text=text, after=after, limit=PAGE
    ):
        after = rows[-1].ref
        for row in rows:
            data = row.data
            yield (
                *(row.ref, row.partner, data.get("role"), visit.name(data.get("name"))),
                *(visit.address(data.get("mail")), visit.address(data.get("mobile"))),
                *(data.get("language"), row.chosen or data.get("digest"), row.changed_at),
            )


async def _tokens(visit: Visit, _: Query, __: str) -> Rows:
    for row in await visit.app.store.tokens.all(MOST):
        yield (
            *(row.prefix, row.name, " ".join(row.scopes), " ".join(row.kinds or ())),
            *(standing(row, visit.now), row.by, row.created_at, row.expires_at, row.used_at),
        )


async def _users(visit: Visit, _: Query, __: str) -> Rows:
    for row in await visit.app.store.users.all():
        yield (*(row.name, row.role, row.by, row.created_at, row.signed_in_at, row.disabled_at),)


async def _sources(visit: Visit, _: Query, __: str) -> Rows:
    for name, row in sorted((await visit.app.store.sources.last_runs()).items()):
        yield (
            *(name, row.trigger, row.outcome, row.started_at, row.finished_at, row.missed),
            *(str(row.counts), row.detail),
        )


_WHO = (N_("name"), N_("role"), N_("address"), N_("language"))
TABLES: Final[Mapping[str, Table]] = {
    "records": Table(
        Scope.RECORDS_READ,
        (
            *(N_("kind"), N_("number"), N_("partner"), N_("state"), N_("reason"), N_("opened")),
            *(N_("deadline"), N_("effect"), N_("looked at next"), N_("snoozed until")),
            *(N_("closed"), N_("changed")),
        ),
        _records,
        N_("Records"),
    ),
    "notifications": Table(
        Scope.NOTIFICATIONS_READ,
        (
            *("ID", N_("kind"), N_("message"), N_("channel"), *_WHO, N_("state"), N_("reason")),
            *(N_("records"), N_("attempts"), N_("provider"), N_("planned"), N_("not before")),
            N_("taken"),
        ),
        _notifications,
        N_("Notifications"),
    ),
    "forecast": Table(
        Scope.RECORDS_READ,
        (
            *(N_("day"), N_("time"), N_("kind"), N_("channel"), N_("message"), N_("name")),
            *(N_("address"), N_("language"), N_("stages"), N_("records"), N_("numbers")),
        ),
        _forecast,
        N_("Calendar"),
    ),
    "rules": Table(
        Scope.RULES_READ,
        (
            *(N_("kind"), N_("name"), N_("state"), N_("reason"), N_("stages"), N_("last scan")),
            *(N_("planned"), N_("open"), N_("held")),
        ),
        _rules,
        N_("Rules"),
    ),
    "runs": Table(
        Scope.RULES_READ,
        (
            *(N_("kind"), N_("fire time"), N_("trigger"), N_("began"), N_("ended")),
            *(N_("missed"), N_("looked at"), N_("planned"), N_("held")),
        ),
        _newest(
            "runs",
            lambda _, row: (
                *(row.kind, row.fire_at, row.trigger, row.started_at, row.finished_at),
                *(row.missed, row.looked_at, row.planned, row.held),
            ),
        ),
        N_("Scans"),
    ),
    "suppressions": Table(
        Scope.PEOPLE_READ,
        (N_("channel"), N_("address"), N_("kind"), N_("reason"), N_("by"), N_("since")),
        _newest(
            "suppressions",
            lambda visit, row: (
                *(row.channel, visit.address(row.address), row.kind, visit.why(row.reason)),
                *(row.by, row.created_at),
            ),
            equal={"channel": "channel", "kind": "kind"},
            holds={"address": "text"},
        ),
        N_("Suppressions"),
    ),
    "quarantine": Table(
        Scope.QUARANTINE_READ,
        ("ID", N_("door"), N_("received"), N_("times"), N_("bytes"), N_("reason"), N_("body")),
        _newest(
            "letters",
            lambda _, row: (
                *(row.id, row.door, row.received_at, row.times, row.size, row.reason, row.body),
            ),
            equal={"door": "door"},
            holds={"reason": "text"},
        ),
        N_("Quarantine"),
    ),
    "audit": Table(
        Scope.ADMIN,
        (N_("when"), N_("by"), N_("action"), N_("what"), N_("reason"), N_("from where")),
        _newest(
            "audit",
            lambda _, row: (row.at, row.by, row.action, row.target, row.reason, row.origin),
            holds={name: name for name in ("by", "action", "target", "origin")},
        ),
        N_("Audit"),
    ),
    "contacts": Table(
        Scope.PEOPLE_READ,
        (
            *(N_("number"), N_("partner"), N_("role"), N_("name"), N_("mail"), N_("mobile")),
            *(N_("language"), N_("digest"), N_("changed")),
        ),
        _contacts,
        N_("Contacts"),
    ),
    "tokens": Table(
        Scope.ADMIN,
        (
            *(N_("prefix"), N_("name"), N_("scopes"), N_("kinds"), N_("state"), N_("by")),
            *(N_("made"), N_("expires"), N_("used")),
        ),
        _tokens,
        N_("Tokens"),
    ),
    "users": Table(
        Scope.ADMIN,
        (N_("name"), N_("role"), N_("by"), N_("made"), N_("signed in"), N_("disabled")),
        _users,
        N_("Users"),
    ),
    "sources": Table(
        Scope.RULES_READ,
        (
            *(N_("source"), N_("trigger"), N_("outcome"), N_("began"), N_("ended")),
            *(N_("missed"), N_("counts"), N_("detail")),
        ),
        _sources,
        N_("Sources"),
    ),
}


async def _export(visit: Visit) -> web.Response:
    name, _, which = visit.place("table").partition("/")
    table: Table | None = visit.console.tables.get(name)
    if table is None:
        raise UnknownThingError(f"there is no table {name}: {', '.join(visit.console.tables)}")
    if not visit.caller.may(table.scope):
        raise ProblemError("scope", f"It needs the scope {table.scope}.")
    if name == "runs":
        visit.app.registry.rule(which)
    form = "xlsx" if visit.said("form") == "xlsx" else "csv"
    query = {
        key.removeprefix("q."): values[0]
        for key, values in visit.form.items()
        if key.startswith("q.") and values
    }
    head = [visit.t(one) for one in table.head]
    stamp = f"{visit.now:%Y%m%d-%H%M}"

    async def work(progress: Progress) -> None:
        rows: list[tuple[Any, ...]] = []
        async for row in table.rows(visit, query, which):
            rows.append(row)
            progress.done = len(rows)
            if len(rows) >= MOST:
                progress.detail = visit.t("Only the first %(n)s rows: there are more.", n=MOST)
                break
        title = visit.t(table.title)
        # Made by a thread: the pages go on meanwhile.
        content = await visit.console.in_thread(
            lambda: xlsx_table(title, head, rows) if form == "xlsx" else csv_table(head, rows)
        )
        progress.counts["rows"] = len(rows)
        progress.file = (f"duewatch-{name}-{stamp}.{form}", content)

    about = {"table": table.title, "form": form.upper()}
    uid = await visit.console.jobs.begin("export", about, visit.by, work)
    return visit.to(f"/jobs/{uid}")


ROUTES = (Route("POST", "/exports/{table:.+}", _export, Scope.NOTIFICATIONS_READ),)
NAV = None
