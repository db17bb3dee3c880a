"""Messages to look at before any is sent: a rule's sample, or what a record's people would get."""

from __future__ import annotations

import uuid
from typing import Any

from workers.app import App
from workers.errors import InputError, UnknownThingError
from workers.model import DIGEST, Notice, NoticeItem, Recipient
from workers.records import Watched
from workers.render.samples import sample_digest, sample_notices


async def notice_of(
    app: App, what: str, message: str | None, channel: str, language: str
) -> Notice:
    """A message of `what`: a rule's kind (its sample), a record's ref, or `digest` (a day's).

    Raises InputError where it has no such message, UnknownThingError where there is no such thing.
    """
    if what == DIGEST and (
        digest := sample_digest(app.rules, language, app.clock(), app.registry.calendar)
    ):
        return digest
    if what in app.rules:
        found = [
            one
            for one in sample_notices(app.rules[what], language, app.clock(), app.registry.calendar)
            if one.channel == channel and message in {None, one.message}
        ]
        if not found:
            known = sorted({t.message for s in app.rules[what].cadence.stages for t in s.tell})
            raise InputError(
                f"{what} has no {channel} message {message}; there are {', '.join(known)}"
            )
        return found[0]
    try:
        watched = await app.records.one(what)
    except UnknownThingError as error:
        raise UnknownThingError(f"{error}; rules: {', '.join(app.rules)}") from None
    return _real_notice(app, watched, message, channel, language)


def _real_notice(
    app: App, watched: Watched, message: str | None, channel: str, language: str
) -> Notice:
    record = watched.record
    rule, cadence = app.rules[record.kind], app.registry.cadences[record.kind]
    for stage in cadence.stages:
        for tell in stage.tell:
            if rule.applies(stage, record) or message not in {None, rule.message(tell, record)}:
                continue
            people = rule.recipients(tell.role, record, watched.contacts)
            if channel not in tell.by or not people:
                continue
            person = people[0]
            by: Any = channel
            return Notice(
                uid=uuid.uuid4().hex,
                kind=record.kind,
                message=rule.message(tell, record),
                channel=by,
                recipient=Recipient(
                    ref=person.ref,
                    name=person.name,
                    role=person.role or tell.role,
                    address=person.address(by) or _nowhere(channel),
                    language=language,
                    time_zone=person.time_zone,
                ),
                items=(NoticeItem(record, stage.name),),
                now=app.clock(),
                list_url=f"{app.settings.base_url}/l/preview",
                list_token="",
                unsubscribe_url=f"{app.settings.base_url}/u/preview",
            )
    raise InputError(f"{record.ref} tells nobody by {channel}: see duewatch explain {record.ref}")


def _nowhere(channel: str) -> str:
    return "preview@example.com" if channel == "mail" else "+8613800138000"
