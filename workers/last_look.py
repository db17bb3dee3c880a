"""The last look before a send: what the planner says now of each line, and the message rendered.

The planner that chose to tell is asked again, as if the line hadn't been told yet: what has become
moot is dropped, what quiet hours put off waits, and what can't be rendered waits for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeGuard

import phonenumbers
import structlog

from schedules.planner import Circumstances, Step, Told, Verdict, plan
from schedules.rule import State
from workers import traces
from workers.errors import TemplateError
from workers.links import Links
from workers.model import DIGEST, Notice, NoticeItem, NotificationState, Recipient
from workers.numbers import Numbers, Sent
from workers.providers import Mail, Sms
from workers.records import Records, Registry, Watched
from workers.render import Renderer
from workers.render.limit import limited
from workers.settings import Settings
from workers.store import Row, Store
from workers.store.attempts import Claimed

log = structlog.get_logger("deliver")

S = NotificationState
PUT_OFF_AT_MOST = timedelta(days=1)
LEFT_FOR, LOOK_AGAIN = timedelta(days=1), timedelta(seconds=60)
"""So long after it was planned a message that this version has no words for is left to the version
that planned it, and looked at again so often. An upgrade is over by then, and somebody must know.
"""


@dataclass(frozen=True, slots=True)
class Ready:
    """A notification that passed the last look, rendered."""

    claimed: Claimed
    message: Mail | Sms
    revisions: Mapping[int, int]
    dropped: Mapping[int, str]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """A notification that isn't sent now: moved to an end, or put off until a time."""

    claimed: Claimed
    reason: str
    state: NotificationState | None = None
    until: datetime | None = None
    dropped: Mapping[int, str] = field(default_factory=dict)


class LastLook:
    """Judges claimed notifications and renders those that are still to be sent."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        renderer: Renderer,
        links: Links,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.registry = registry
        self.records = Records(store, registry)
        self.numbers = Numbers(store, settings)
        self.renderer = renderer
        self.links = links
        self.settings = settings
        self.clock = clock
        # What our own cadences tell we must be able to say: where its words lack, that is a fault.
        self._ours = {
            (kind, tell.message)
            for kind, cadence in registry.cadences.items()
            for stage in cadence.stages
            for tell in stage.tell
        }
        self._strange: set[tuple[str, str]] = set()

    async def at(
        self, claimed: Sequence[Claimed], most_s: float | None = None
    ) -> list[Ready | Settled]:
        """What the planner says now of each line; moot lines are dropped, and the rest rendered.

        After `most_s` seconds it ends, and those that are left aren't in the result.
        """
        now, clock = self.clock(), asyncio.get_running_loop().time
        began = clock()
        store = self.store
        async with store.database.read() as connection:
            lines = await store.outbox.lines_of(connection, [one.id for one in claimed])
            ids = {line.record_id for theirs in lines.values() for line in theirs}
            # What a newer version watches is left to it: its lines give their places back.
            every = await store.records.by_ids(connection, ids)
            rows = [row for row in every if row.kind in self.registry.rules]
            watched, broken = await self.records.revive(connection, rows, with_lines=True)
            recent = await self.numbers.sent(connection, [one.row for one in claimed], now)
        around = {
            kind: self.registry.around(kind, await store.operations.unsubscribed(kind))
            for kind in {row.kind for row in rows}
        }
        paused: Collection[str] = ()
        if any(one.row.kind == DIGEST for one in claimed):
            paused = await store.operations.paused()
        kinds = {row.id: row.kind for row in rows}
        looked: list[Ready | Settled] = []
        for one in claimed:
            if most_s is not None and looked and clock() - began > most_s:
                break
            try:
                if self._is_strange(one.row, lines.get(one.id, []), kinds, now):
                    why = "put off: left to a worker of the version that knows its words"
                    looked.append(Settled(one, why, until=now + LOOK_AGAIN))
                    continue
                verdicts = [
                    (
                        line,
                        _last_word(line, one.row, watched, broken, now, around, paused),
                    )
                    for line in lines.get(one.id, [])
                ]
                looked.append(await self._decide(one, verdicts, watched, recent, now))
            except Exception as error:
                # One that can't be judged waits for a person; its neighbours go on.
                log.exception("look", kind=one.row.kind, notification=one.row.uid)
                why = f"can't be judged: {type(error).__name__}: {error}"
                looked.append(Settled(one, why, S.PARKED))
        return looked

    def _is_strange(
        self, row: Row[Any], lines: Sequence[Row[Any]], kinds: Mapping[int, str], now: datetime
    ) -> bool:
        """Whether a newer version must have planned it: of a kind that we know, in words that we
        don't. Each such message is logged once.
        """
        if now - row.created_at > LEFT_FOR:
            return False
        wanted = {(row.kind, row.message)}
        if row.kind == DIGEST:
            wanted |= {
                (kinds[line.record_id], line.message or row.message)
                for line in lines
                if line.record_id in kinds
            }
        strange = {
            one for one in wanted - self._ours if not self.renderer.has(*one, channel=row.channel)
        }
        for kind, message in sorted(strange - self._strange):
            log.warning("left to a newer version", kind=kind, message=message)
        self._strange |= strange
        return bool(strange)

    async def _decide(
        self,
        one: Claimed,
        verdicts: Sequence[tuple[Row[Any], Step | str]],
        watched: Mapping[int, Watched],
        recent: Sent,
        now: datetime,
    ) -> Ready | Settled:
        keep = [line for line, said in verdicts if _is_due(said)]
        later = [at for _, said in verdicts if (at := _coming_at(said)) is not None]
        # What a moved deadline makes due another day is dropped, and planned anew with its ladder.
        soon = bool(later) and max(later) <= now + PUT_OFF_AT_MOST
        if not keep and soon and len(later) == len(verdicts):
            return Settled(one, "put off: quiet hours or snoozed", until=min(later))
        dropped = {
            line.id: said if isinstance(said, str) else said.why or f"it is {said.verdict} now"
            for line, said in verdicts
            if not _is_due(said)
        }
        if not keep:
            reasons = "; ".join(dict.fromkeys(dropped.values()))
            # What went to the first address was told: its places stay taken.
            places = {} if one.row.diverted else dropped
            return Settled(one, f"moot: {reasons}", S.CANCELLED, dropped=places)
        if one.row.channel == "sms" and (limit := self._sms_limit(one.row, recent, now)):
            return limit if isinstance(limit, Settled) else Settled(one, limit[0], until=limit[1])
        items = [watched[line.record_id] for line in keep]
        required = any(_is_due(said) and said.required for _, said in verdicts)
        notice = self.notice(one.row, list(zip(items, keep, strict=True)), now, required)
        try:
            with traces.span("render", parent=one.row.traceparent, notification=one.row.uid):
                if self.renderer.is_quick(notice):
                    # A thread would cost more, and hold up this one's hand-overs meanwhile.
                    with limited():
                        message = self.renderer.render(notice)
                    await asyncio.sleep(0)
                else:
                    message = await asyncio.to_thread(self.renderer.render, notice)
        except TemplateError as error:
            log.error("template", kind=one.row.kind, notification=one.row.uid, detail=str(error))
            return Settled(one, str(error), S.PARKED, dropped=dropped)
        except Exception as error:
            log.error("render", kind=one.row.kind, notification=one.row.uid, error=repr(error))
            why = f"can't be rendered: {type(error).__name__}: {error}"
            return Settled(one, why, S.PARKED, dropped=dropped)
        revisions = {item.id: item.revision for item in items}
        return Ready(one, message, revisions, dropped, required)

    def _sms_limit(
        self, row: Row[Any], recent: Sent, now: datetime
    ) -> Settled | tuple[str, datetime] | None:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(row.address))
        if region not in self.settings.sms.countries:
            return Settled(
                Claimed(row, row.fence),
                f"numbers of {region or 'no country'} aren't allowed: add it to sms.countries",
                S.FAILED,
            )
        if wait := self.numbers.must_wait(row, recent, now):
            return wait
        self.numbers.count(row, recent)
        return None

    def notice(
        self,
        row: Row[Any],
        items: Sequence[tuple[Watched, Row[Any]]],
        now: datetime,
        required: bool = False,
    ) -> Notice:
        """What the renderer needs of a notification, its most pressing records first."""
        list_token = self.links.token("list", row.id, row.link_until)
        ordered = sorted(
            items, key=lambda item: item[0].record.deadline.at or item[0].record.opened_at
        )
        return Notice(
            uid=row.uid,
            kind=row.kind,
            message=row.message,
            channel=row.channel,
            recipient=Recipient(
                ref=row.contact,
                name=row.name,
                role=row.role,
                address=row.address,
                language=row.language,
                time_zone=row.time_zone,
            ),
            items=tuple(
                NoticeItem(one.record, line.stage, line.message or row.message)
                for one, line in ordered
            ),
            now=now,
            attempt=row.attempt_count + 1,
            list_url=self.links.at("list", list_token),
            list_token=list_token,
            unsubscribe_url=self.links.url("unsubscribe", row.id, row.link_until),
            required=required,
        )


def _last_word(
    line: Row[Any],
    row: Row[Any],
    watched: Mapping[int, Watched],
    broken: Mapping[int, str],
    now: datetime,
    circumstances: Mapping[str, Circumstances],
    paused: Collection[str],
) -> Step | str:
    """The planner's word on one line as if it hadn't been told yet, or why it can't be told."""
    one = watched.get(line.record_id)
    if one is None:
        return broken.get(line.record_id, "the record is gone")
    if one.record.ladder != line.ladder:
        return "a new ladder has begun"
    if one.record.kind in paused:
        return f"rule {one.record.kind} is paused"
    around = circumstances[one.record.kind]
    this = Told(line.stage, line.channel, line.contact)
    others = {what: to for what, to in one.told.items() if what != this}
    planned = plan(one.record, one.contacts, others, now, around, whole=False)
    for step in planned.steps:
        if step.contact is None or Told(step.stage, step.channel, step.contact.ref) != this:
            continue
        if row.diverted:
            # A person wished it, to an address of their own: it holds while the record is open.
            return step._replace(verdict=Verdict.DUE) if _is_open(one) else step
        if step.verdict is Verdict.DUE and step.contact.address(step.channel) != row.address:
            return "the contact's address has changed"
        return step
    state = one.record.assessment
    if state.state != "open":
        return f"the record is {state.state}: {state.why}"
    return "the stage isn't told to this contact any more"


def _is_open(one: Watched) -> bool:
    return bool(one.record.assessment.state == State.OPEN)


def _is_due(said: Step | str) -> TypeGuard[Step]:
    return isinstance(said, Step) and said.verdict is Verdict.DUE


def _coming_at(said: Step | str) -> datetime | None:
    coming = isinstance(said, Step) and said.verdict is Verdict.COMING
    return said.at if coming and isinstance(said, Step) else None
