"""Notices made from the rules' own samples: for previews, the check of templates, and tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from schedules.calendar import WorkingCalendar
from schedules.rule import Channel, Partner, PartnerData, Record, Rule, Sample, Stage, Tell
from workers.model import DAILY, DIGEST, Notice, NoticeItem, Recipient

_NAMES = {"zh": "王晓明"}


def sample_record(rule: Rule, sample: Sample, calendar: WorkingCalendar) -> Record:
    """The record a sample describes. Raises ValueError where the sample breaks its own model."""
    data = rule.Data.model_validate(dict(sample.data))
    lines: tuple[Any, ...] = ()
    if rule.Line is not None:
        lines = tuple(rule.Line.model_validate(dict(line)) for line in sample.lines)
    partner = PartnerData.model_validate({"ref": data.partner, **sample.partner})
    told_of = Partner(
        partner.ref,
        partner.name or partner.ref,
        partner.type or "",
        partner.parent,
        partner.account_authenticated,
    )
    return rule.record(data, told_of, calendar, lines)


def sample_notices(
    rule: Rule, language: str, now: datetime, calendar: WorkingCalendar
) -> Iterator[Notice]:
    """For every message and channel of the cadence: each sample by itself, then all as a digest.

    `now` is aware UTC. What is said after a deadline is said an hour after the sample's.
    """
    records = [sample_record(rule, sample, calendar) for sample in rule.samples(now)]
    texts: dict[tuple[str, Channel], list[tuple[Stage, Tell, Record]]] = {}
    for stage in rule.cadence.stages:
        fitting = [record for record in records if rule.applies(stage, record) is None]
        for tell in stage.tell:
            for channel in tell.by:
                told = texts.setdefault((tell.message, channel), [])
                known = {record.ref for _, _, record in told}
                told += [(stage, tell, record) for record in fitting if record.ref not in known]
    for (_, channel), told in texts.items():
        for one in told:
            yield _notice(rule, language, now, channel, [one])
        if len(told) > 1:
            yield _notice(rule, language, now, channel, told)


def sample_digest(
    rules: Mapping[str, Rule], language: str, now: datetime, calendar: WorkingCalendar
) -> Notice | None:
    """A day's digest with one sample of each rule, or None without rules that send mail."""
    items: list[NoticeItem] = []
    for rule in rules.values():
        if type(rule).figures is not Rule.figures:
            continue  # what has charts comes by itself
        alone = [
            notice
            for notice in sample_notices(rule, language, now, calendar)
            if notice.channel == "mail" and notice.recipient.role not in {"customer", "member"}
        ]
        if alone:
            items.append(alone[0].items[0])
    if not items:
        return None
    name = _NAMES.get(language.partition("-")[0], "Alex Chen")
    token = hashlib.sha256(f"digest {language}".encode()).hexdigest()[:12]
    return Notice(
        uid=f"sample-{token}",
        kind=DIGEST,
        message=DAILY,
        channel="mail",
        recipient=Recipient(
            ref="sample-person",
            name=name,
            role="administrator",
            address="sample@example.com",
            language=language,
            time_zone="Asia/Shanghai",
        ),
        items=tuple(items),
        now=now,
        list_url=f"https://due.example.com/l/{token}",
        list_token=token,
        unsubscribe_url=f"https://due.example.com/u/{token}",
    )


def _notice(
    rule: Rule,
    language: str,
    now: datetime,
    channel: Channel,
    told: Sequence[tuple[Stage, Tell, Record]],
) -> Notice:
    tell = told[0][1]
    records = [record for _, _, record in told]
    at = now
    if told[0][0].after_deadline:
        ends = [record.deadline.at for record in records if record.deadline.at is not None]
        at = max([now, *ends]) + timedelta(hours=1)
    name = _NAMES.get(language.partition("-")[0], "Alex Chen")
    refs = " ".join(record.ref for record in records)
    seed = f"{rule.kind} {tell.message} {channel} {language} {refs}"
    token = hashlib.sha256(seed.encode()).hexdigest()[:12]
    return Notice(
        uid=f"sample-{token}",
        kind=rule.kind,
        message=tell.message,
        channel=channel,
        recipient=Recipient(
            ref=f"sample-{tell.role}",
            name=name,
            role=tell.role,
            address="sample@example.com" if channel == "mail" else "+8613812345678",
            language=language,
            time_zone="Asia/Shanghai",
        ),
        items=tuple(NoticeItem(record, stage.name, tell.message) for stage, _, record in told),
        now=at,
        list_url=f"https://due.example.com/l/{token}",
        list_token=token,
        unsubscribe_url=f"https://due.example.com/u/{token}",
    )
