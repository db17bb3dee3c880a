"""/v1/rules, /v1/runs, /v1/due, /v1/effect: what is scanned, what came of it, what is due now."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import Field

from workers import shown
from workers.effect import WITHIN_DAYS, rule_effects
from workers.shown import tally_of
from workers.tokens import Scope
from workers.web.api._cursors import page, read_cursor
from workers.web.api._operation import (
    Answer,
    Asked,
    Call,
    Instant,
    Kind,
    Number,
    Operation,
    PageAsked,
    Reason,
    Ref,
    Why,
    page_of,
)


class Rule(Answer):
    """A rule as it is in force here. `cadence` has each stage in words."""

    kind: str
    title: dict[str, str]
    state: str = Field(description="on, paused or off.")
    reason: str
    cadence: dict[str, str]
    last_run: Instant | None
    open: int
    held: int


class AllRules(Answer):
    """All rules."""

    items: list[Rule]


class RulePlace(Asked):
    """Which rule."""

    kind: Kind


class PauseRule(Asked):
    """Why; shown to whoever looks next."""

    reason: Why


class ResumeRule(Asked):
    """Why."""

    reason: Reason = ""


class Run(Answer):
    """One firing of a rule's scan, with its counts."""

    id: int
    kind: str
    trigger: str = Field(description="clock, hand or event.")
    fire_at: Instant
    started_at: Instant
    finished_at: Instant | None
    missed: int
    looked_at: int
    planned: int
    held: int


class RunsAsked(PageAsked):
    """Which runs."""

    kind: Kind | None = None


class RunPlace(Asked):
    """Which run."""

    id: Number = Field(ge=1, le=2**53)


class DueAsked(Asked):
    """Of which rule, as of when."""

    kind: Kind | None = None
    at: Instant | None = Field(None, description="As if it were then; now, if left out.")


class Draft(Answer):
    """A notification that a scan would plan."""

    kind: str
    message: str
    channel: str
    contact: str | None
    name: str | None
    address: str | None
    stages: list[str]
    records: list[str]


class Tally(Answer):
    """What a scan did, or would do. `notifications` are told of a dry run only."""

    kind: str
    at: Instant
    run: int | None
    looked_at: int
    planned: int
    held: int
    notifications: list[Draft]


class Tallies(Answer):
    """By rule."""

    items: list[Tally]


class EffectAsked(Asked):
    """Of which rule and partner, in which span."""

    kind: Kind | None = None
    partner: Ref | None = None
    since: Instant | None = Field(None, description="Only what was told or done since.")
    until: Instant | None = Field(None, description="And before.")
    days: Number = Field(WITHIN_DAYS, ge=1, le=366, description="N of: done within N days.")


class StageEffect(Answer):
    """What came of one stage. `told` is `after` + `elsewhere` + `never`."""

    stage: str
    before: int
    told: int
    after: int
    within: int
    elsewhere: int
    never: int
    median_days: Decimal | None


class RuleEffect(Answer):
    """What came of one rule: records done, those of them never told, and its stages."""

    kind: str
    closed: int
    untold: int
    stages: list[StageEffect]


class Effects(Answer):
    """By rule."""

    items: list[RuleEffect]


async def _list(call: Call) -> dict[str, Any]:
    return {"items": await shown.rules(call.app)}


async def _show(call: Call) -> dict[str, Any]:
    call.app.registry.rule(call.place.kind)
    return next(one for one in await shown.rules(call.app) if one["kind"] == call.place.kind)


async def _pause(call: Call) -> dict[str, Any]:
    app, kind = call.app, call.place.kind
    app.registry.rule(kind)
    await app.store.operations.pause(kind, call.caller.name, call.body.reason, app.clock())
    return await _show(call)


async def _resume(call: Call) -> dict[str, Any]:
    app, kind = call.app, call.place.kind
    app.registry.rule(kind)
    await app.store.operations.resume(kind, call.caller.name, call.body.reason, app.clock())
    return await _show(call)


async def _run(call: Call) -> dict[str, Any]:
    tally = await call.app.scan.run(call.place.kind)
    assert tally is not None, "only a clock's firing may be taken by another"
    return tally_of(tally)


async def _due(call: Call) -> dict[str, Any]:
    app, asked = call.app, call.query
    kinds = [asked.kind] if asked.kind is not None else app.registry.enabled()
    return {"items": [tally_of(await app.scan.dry_run(kind, asked.at)) for kind in kinds]}


async def _runs(call: Call) -> dict[str, Any]:
    rows = await call.app.store.lists.newest(
        "runs", before=read_cursor(call, int), limit=call.query.limit + 1, kind=call.query.kind
    )
    return page(call, rows, "id")


async def _one_run(call: Call) -> Any:
    return await call.app.store.operations.run(call.place.id)


async def _effect(call: Call) -> dict[str, Any]:
    app, asked = call.app, call.query
    kinds = [asked.kind] if asked.kind is not None else app.registry.enabled()
    for kind in kinds:
        app.registry.rule(kind)
    cadences = {kind: app.registry.cadences[kind] for kind in kinds}
    found = await rule_effects(
        app.store, cadences, asked.since, asked.until, asked.days, asked.partner
    )
    return {"items": found}


_ONE = "/v1/rules/{kind}"
OPERATIONS = (
    Operation(
        "GET",
        "/v1/rules",
        "listRules",
        "The rules, their cadence, last run and records",
        _list,
        scope=Scope.RULES_READ,
        answer=AllRules,
    ),
    Operation(
        "GET",
        _ONE,
        "showRule",
        "One rule",
        _show,
        scope=Scope.RULES_READ,
        place=RulePlace,
        answer=Rule,
        problems=("not-found",),
    ),
    Operation(
        "POST",
        f"{_ONE}/pause",
        "pauseRule",
        "Stop a rule's scans and the sending of what it planned",
        _pause,
        scope=Scope.RULES_RUN,
        place=RulePlace,
        body=PauseRule,
        answer=Rule,
        problems=("not-found", "state"),
    ),
    Operation(
        "POST",
        f"{_ONE}/resume",
        "resumeRule",
        "Let a paused rule go on",
        _resume,
        scope=Scope.RULES_RUN,
        place=RulePlace,
        body=ResumeRule,
        answer=Rule,
        text="What came due in the meantime is told once, at the stage that stands.",
        problems=("not-found", "state"),
    ),
    Operation(
        "POST",
        f"{_ONE}/run",
        "runRule",
        "Scan a rule now",
        _run,
        scope=Scope.RULES_RUN,
        place=RulePlace,
        answer=Tally,
        text="GET /v1/due says beforehand what it would plan.",
        problems=("not-found", "state"),
    ),
    Operation(
        "GET",
        "/v1/due",
        "listDue",
        "What a scan would plan now, or at another time: a dry run",
        _due,
        scope=Scope.RECORDS_READ,
        query=DueAsked,
        answer=Tallies,
        problems=("not-found",),
    ),
    Operation(
        "GET",
        "/v1/runs",
        "listRuns",
        "Scans, newest first",
        _runs,
        scope=Scope.RULES_READ,
        query=RunsAsked,
        answer=page_of(Run),
        problems=("cursor",),
    ),
    Operation(
        "GET",
        "/v1/runs/{id}",
        "showRun",
        "One scan",
        _one_run,
        scope=Scope.RULES_READ,
        place=RunPlace,
        answer=Run,
        problems=("not-found",),
    ),
    Operation(
        "GET",
        "/v1/effect",
        "showEffect",
        "What reminders led to, by rule and stage",
        _effect,
        scope=Scope.RULES_READ,
        query=EffectAsked,
        answer=Effects,
        problems=("not-found",),
    ),
)
