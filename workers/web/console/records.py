"""/records: what is watched; one record's whole life, in plain words, and what a person changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from schedules.planner import Step, Told, Verdict
from workers import by_hand
from workers.errors import HeldError, UnknownThingError
from workers.outlook import Explained, explain
from workers.render.formats import N_
from workers.store.operations import Whole
from workers.tokens import Scope
from workers.web.console._visit import Nav, Route, Visit, safe

PAGE = 50
TOLD_SHOWN = 30
"""Notifications of a record that its time line has."""
STATES: Final = ("waiting", "open", "paused", "held", "closed")
VERDICTS: Final[Mapping[Verdict, str]] = {
    Verdict.TOLD: N_("told"),
    Verdict.DUE: N_("due now: the next scan tells"),
    Verdict.COMING: N_("to come"),
    Verdict.OVERTAKEN: N_("skipped: a later stage was told"),
    Verdict.VOID: N_("skipped: its time has passed"),
    Verdict.UNREACHABLE: N_("nobody to tell"),
    Verdict.UNWANTED: N_("not wished"),
    Verdict.TWICE: N_("skipped: the same address is told already"),
    Verdict.OFF: N_("not told"),
}
EFFECTS: Final[Mapping[str, str]] = {
    "link_dies": N_("the link stops working"),
    "registration_ends": N_("the registration ends"),
    "auto_confirm": N_("it is confirmed by itself"),
    "forfeit": N_("the money is forfeit"),
    "block": N_("further settlement is blocked"),
    "declined": N_("it counts as declined"),
    "expires": N_("it expires"),
    "starts": N_("it starts"),
    "ends": N_("it ends"),
    "overdue": N_("it is overdue"),
    "none": N_("nothing happens by itself"),
}
_MARKS = {
    Verdict.TOLD: "told",
    Verdict.DUE: "",
    Verdict.COMING: "",
    Verdict.UNREACHABLE: "bad",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing on a record's time line. `mark` says how it looks; `text` is as a person reads it.

    `at` is None for what has no time of its own.
    """

    at: datetime | None
    title: str
    text: str = ""
    mark: str = ""
    uid: str = ""
    state: str = ""
    channel: str = ""


async def _list(visit: Visit) -> web.Response:
    app, text = visit.app, visit.query("text")
    kind, state = visit.query("kind"), visit.choice("state", *STATES)
    if kind and kind not in app.rules:
        kind = ""
    after = visit.number("after") or 0
    rows = await app.store.records.search(
        kind=kind or None,
        state=state or None,
        partner=visit.query("partner") or None,
        text=text or None,
        people=visit.sees_people,
        after=after,
        limit=PAGE + 1,
    )
    if text and len(rows) == 1 and rows[0].ref == text and not after:
        return visit.to(f"/records/{rows[0].kind}/{safe(text)}")
    return visit.page(
        "records.html",
        rows=rows[:PAGE],
        older=visit.again(after=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        newest=visit.again(after=None) if after else "",
        kinds=[(one, visit.kind(one)) for one in sorted(app.rules)],
        states=STATES,
        text=text,
        kind=kind,
        state=state,
        partner=visit.query("partner"),
    )


async def _one(visit: Visit) -> web.Response:
    app, kind, ref = visit.app, visit.place("kind"), visit.place("ref")
    row = await app.store.lists.record(kind, ref)
    if row is None:
        raise UnknownThingError(f"there is no {kind} {ref}")
    told: Explained | None = None
    fault = ""
    try:
        if kind in app.rules:
            told = await explain(app.store, app.registry, ref, kind, visit.now)
    except HeldError as error:
        fault = str(error)
    sent = await app.store.operations.notifications(record_id=row.id, limit=TOLD_SHOWN)
    wholes = [await app.store.operations.whole(one.uid) for one in sent]
    return visit.page(
        "record.html",
        row=row,
        told=told,
        fault=fault,
        partner=told.watched.record.partner if told else None,
        amount=told.rule.amount(told.watched.record) if told else None,
        words=list(_in_words(visit, row, told)),
        moments=_life(visit, row, told, wholes),
        steps=[(one, visit.t(VERDICTS[one.verdict])) for one in told.steps] if told else [],
        data=_data(row.data) if visit.sees_people else [],
        lines=len(told.watched.record.lines) if told else 0,
    )


def _data(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The record's fields that say something, as text."""
    return [(name, str(value)) for name, value in data.items() if value not in (None, "", [])]


def _in_words(visit: Visit, row: Any, told: Explained | None) -> Iterator[str]:
    """The record's story in sentences."""
    say, formats = visit.t, visit.console.pages.formats[visit.language]
    opening = {
        "open": N_("It is open: somebody must act on it."),
        "closed": N_("It is closed: nobody is reminded of it any more."),
        "held": N_("It is held: it can't be told as it stands, and a person must look at it."),
        "paused": N_("It waits: its own system has it on hold."),
        "waiting": N_("It waits: it can't be acted on yet."),
    }
    yield say(opening[row.state])
    if row.why:
        yield say("Why: %(why)s.", why=visit.why(row.why))
    if row.due_at is not None:
        effect = say(EFFECTS.get(row.effect, row.effect))
        at = formats.plain(row.due_at)
        past = row.due_at <= visit.now
        yield say(
            N_("Its deadline was %(at)s: then %(effect)s.")
            if past
            else N_("Its deadline is %(at)s: then %(effect)s."),
            at=at,
            effect=effect,
        )
    if row.snoozed_until is not None and row.snoozed_until > visit.now:
        yield say("Nobody is reminded before %(at)s.", at=formats.plain(row.snoozed_until))
    if told is None:
        return
    done = [one for one in told.steps if one.verdict is Verdict.TOLD]
    if not done:
        yield say("Nobody has been told of it on this ladder yet.")
    else:
        people = {one.contact.ref for one in done if one.contact}
        yield visit.catalogue.ngettext(
            "%(num)s person has been told.", "%(num)s people have been told.", len(people)
        ) % {"num": len(people)}
    coming = [one for one in told.steps if one.verdict is Verdict.COMING and one.at]
    if coming and row.state == "open":
        nearest = min(coming, key=lambda one: one.at or visit.now)
        assert nearest.at is not None
        yield say(
            "Next: stage %(stage)s to %(name)s by %(channel)s at %(at)s.",
            stage=nearest.stage,
            name=visit.name(nearest.contact.name) if nearest.contact else nearest.role,
            channel=say("mail") if nearest.channel == "mail" else say("SMS"),
            at=formats.plain(nearest.at),
        )
    elif row.state == "open" and not any(one.verdict is Verdict.DUE for one in told.steps):
        yield say("Nothing more will be told on this ladder.")


def _life(visit: Visit, row: Any, told: Explained | None, wholes: list[Whole]) -> list[Moment]:
    """All that happened and is to come, in order."""
    say = visit.t
    found = [Moment(row.opened_at, say("Opened"))]
    if row.due_at is not None:
        effect = say(EFFECTS.get(row.effect, row.effect))
        found.append(Moment(row.due_at, say("Deadline"), effect, "deadline"))
    for whole in wholes:
        found.extend(_told(visit, whole))
    if told is not None:
        for step in told.steps:
            if step.verdict in {Verdict.COMING, Verdict.DUE}:
                found.append(_to_come(visit, told, step))
    if row.closed_at is not None or row.closed_by_hand:
        found.append(
            Moment(row.closed_at, say("Closed"), visit.why(row.closed_by_hand or row.why), "good")
        )
    last = visit.now
    return sorted(found, key=lambda one: one.at or last)


def _told(visit: Visit, whole: Whole) -> Iterator[Moment]:
    row = whole.row
    title = visit.t("Planned for %(name)s", name=visit.name(row.name))
    stages = ", ".join(dict.fromkeys(line.stage for line in whole.lines))
    yield Moment(row.created_at, title, stages, "", row.uid, row.state, row.channel)
    for one in whole.attempts:
        title = visit.t("Attempt %(n)s by %(provider)s", n=one.number, provider=one.provider)
        mark = {"accepted": "good", "rejected": "bad"}.get(one.outcome or "", "")
        yield Moment(
            one.began_at, title, visit.why(one.reply), mark, "", one.outcome or "sending", ""
        )
    for one in whole.receipts:
        good = one.status == "delivered"
        yield Moment(
            one.at,
            visit.t("The provider reports"),
            visit.why(one.detail),
            "good" if good else "bad",
            "",
            one.status,
        )


def _to_come(visit: Visit, told: Explained, step: Step) -> Moment:
    name = visit.name(step.contact.name) if step.contact else step.role
    assert step.contact is None or Told(step.stage, step.channel, step.contact.ref)
    at = step.at if step.verdict is Verdict.COMING else visit.now
    title = visit.t("To tell %(name)s", name=name)
    text = f"{step.stage}: {visit.t(VERDICTS[step.verdict])}"
    return Moment(at, title, text, _MARKS.get(step.verdict, ""), "", "", step.channel)


# --- what a person changes ------------------------------------------------------------------


def _where(visit: Visit) -> tuple[str, str, str]:
    kind, ref = visit.place("kind"), visit.place("ref")
    return kind, ref, f"/records/{safe(kind)}/{safe(ref)}"


async def _snooze(visit: Visit) -> web.Response:
    kind, ref, here = _where(visit)
    until, reason = visit.instant("until"), visit.reason(needed=True)
    await by_hand.snooze(visit.app, ref, kind, until, visit.by, reason)
    visit.console.foreseen.forget()
    return visit.to(here, "snoozed")


async def _close(visit: Visit) -> web.Response:
    kind, ref, here = _where(visit)
    await by_hand.close(visit.app, ref, kind, visit.by, visit.reason(needed=True))
    visit.console.foreseen.forget()
    return visit.to(here, "closed")


async def _reopen(visit: Visit) -> web.Response:
    kind, ref, here = _where(visit)
    await by_hand.reopen(visit.app, ref, kind, visit.by, visit.reason())
    visit.console.foreseen.forget()
    return visit.to(here, "reopened")


ROUTES = (
    Route("GET", "/records", _list, Scope.RECORDS_READ),
    Route("GET", "/records/{kind}/{ref}", _one, Scope.RECORDS_READ),
    Route("POST", "/records/{kind}/{ref}/snooze", _snooze, Scope.RECORDS_WRITE),
    Route("POST", "/records/{kind}/{ref}/close", _close, Scope.RECORDS_WRITE),
    Route("POST", "/records/{kind}/{ref}/reopen", _reopen, Scope.RECORDS_WRITE),
)
NAV = Nav("watch", 40, "/records", N_("Records"), Scope.RECORDS_READ)
