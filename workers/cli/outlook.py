"""The command forecast: what will be told, and what another cadence would tell instead."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from workers.cadences import with_cadence
from workers.cli.due import kinds_of
from workers.cli.frame import console, dump, few, json_option, moment, table, with_core
from workers.core import Core
from workers.outlook import Foretold, foretell
from workers.records import Registry

SATURDAY = 5
_CHANNELS = {"mail": "mails", "sms": "SMS"}


@click.command("forecast")
@click.option("--days", default=30, type=click.IntRange(1, 366), show_default=True)
@click.option("--rule", help="Only this rule.")
@click.option("--from", "start", metavar="TIME", help="From TIME (Beijing) instead of now.")
@click.option(
    "--with",
    "cadence",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Beside today's, what the [rules.*] tables of FILE would send.",
)
@click.option("--csv", "as_csv", is_flag=True, help="One line a message (a count), as CSV.")
@json_option
def forecast_command(
    days: int,
    rule: str | None,
    start: str | None,
    cadence: Path | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Who will get what in the coming days, if nothing changes until then.

    It is the planner that the scan uses, in virtual time over all open records.

    \b
    duewatch forecast --days 7
    duewatch forecast --with cadence.toml      counts by day, rule and channel: now, then, +/-
    """

    async def work(app: Core, _: object) -> None:
        kind = kinds_of(app, rule)[0] if rule else None
        begin = moment(start) or app.clock()
        if cadence is not None:
            counted = await _compared(app, cadence, begin, days, kind)
            _show_compared(app, cadence, counted, as_csv=as_csv, as_json=as_json)
            return
        told = await foretell(app.store, app.registry, begin, days, kind)
        if as_json:
            dump([{slot: getattr(one, slot) for slot in one.__slots__} for one in told])
        elif as_csv:
            _write_csv(told)
        else:
            _show_forecast(app, told)

    with_core(work)


def _write_csv(told: list[Foretold]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(
        [
            "day",
            "at",
            "rule",
            "stages",
            "channel",
            "message",
            "contact",
            "name",
            "address",
            "records",
        ]
    )
    for one in told:
        at = one.at.isoformat().replace("+00:00", "Z")
        writer.writerow(
            [
                one.day,
                at,
                one.kind,
                " ".join(sorted(one.stages)),
                one.channel,
                one.message,
                one.contact,
                one.name,
                one.address,
                " ".join(one.refs),
            ]
        )


def _day_off(app: Core, day: date) -> str:
    working = app.registry.calendar.is_working(day)
    if day.weekday() >= SATURDAY:
        return "make-up" if working else "off"
    return "" if working else "holiday"


def _show_forecast(app: Core, told: list[Foretold]) -> None:
    days: dict[tuple[Any, str], list[Foretold]] = {}
    for one in told:
        days.setdefault((one.day, one.kind), []).append(one)
    rows = []
    for (day, kind), messages in days.items():
        by = Counter(one.channel for one in messages)
        names = list(dict.fromkeys(one.name or one.contact for one in messages))
        rows.append(
            (
                f"{day:%Y-%m-%d %a}",
                _day_off(app, day),
                kind,
                by["mail"] or "",
                by["sms"] or "",
                sum(len(one.refs) for one in messages),
                few(names, 4),
            )
        )
    table("", ["day", "", "rule", "mail #", "SMS #", "records #", "who"], rows)
    by = Counter(one.channel for one in told)
    console().print(f"{by['mail']} mails and {by['sms']} SMS, if nothing changes until then.")


# --- beside another cadence -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """Messages of one rule by one channel: by today's cadence, and by the other.

    `day` is the date in the rule's zone (Beijing), None for all days together.
    """

    day: date | None
    kind: str
    channel: str
    now: int
    then: int

    @property
    def difference(self) -> int:
        """How many more the other cadence sends; negative where it sends fewer."""
        return self.then - self.now


async def _compared(
    app: Core, file: Path, begin: datetime, days: int, kind: str | None
) -> list[Compared]:
    """Both cadences over the same records from the same instant, by day, rule and channel."""
    other = with_cadence(app.settings, file, app.rules)
    told = []
    for registry in (app.registry, Registry(app.rules, other, app.registry.calendar)):
        on = registry.enabled() if kind is None else {kind} & set(registry.enabled())
        found = await foretell(app.store, registry, begin, days, kind, anew=True) if on else []
        told.append(Counter((one.day, one.kind, one.channel) for one in found))
    now, then = told
    return [Compared(*key, now[key], then[key]) for key in sorted(now | then)]


def _summed(counted: Iterable[Compared]) -> list[Compared]:
    now: Counter[tuple[str, str]] = Counter()
    then: Counter[tuple[str, str]] = Counter()
    for one in counted:
        now[one.kind, one.channel] += one.now
        then[one.kind, one.channel] += one.then
    return [Compared(None, *key, now[key], then[key]) for key in sorted(now | then)]


def _show_compared(
    app: Core, file: Path, counted: list[Compared], *, as_csv: bool, as_json: bool
) -> None:
    rules = _summed(counted)
    total = {
        channel: (
            sum(one.now for one in rules if one.channel == channel),
            sum(one.then for one in rules if one.channel == channel),
        )
        for channel in _CHANNELS
    }
    if as_json:
        dump(
            {
                "days": [_counts(one) for one in counted],
                "rules": [_counts(one) for one in rules],
                "total": {
                    channel: {"now": now, "then": then, "difference": then - now}
                    for channel, (now, then) in total.items()
                },
            }
        )
        return
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(["day", "rule", "channel", "now", "then", "difference"])
        writer.writerows(_counts(one).values() for one in counted)
        return
    columns = ["rule", "by", "now #", "then #", "+/- #"]
    table(
        "",
        ["day", "", *columns],
        [
            (f"{one.day:%Y-%m-%d %a}", _day_off(app, one.day), *_cells(one))
            for one in counted
            if one.day
        ],
    )
    if rules:
        console().print()
        table("All days", columns, [_cells(one) for one in rules])
    said = " and ".join(
        f"{then} {_CHANNELS[channel]} instead of {now} ({_signed(then - now)})"
        for channel, (now, then) in total.items()
    )
    console().print(Text(f"{said} with {file}, if nothing changes until then."))


def _counts(one: Compared) -> dict[str, Any]:
    day = {} if one.day is None else {"day": one.day}
    counts = {"now": one.now, "then": one.then, "difference": one.difference}
    return day | {"kind": one.kind, "channel": one.channel} | counts


def _cells(one: Compared) -> tuple[Any, ...]:
    by = one.channel.upper() if one.channel == "sms" else one.channel
    change = _signed(one.difference) if one.difference else ""
    return one.kind, by, one.now or "", one.then or "", change


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "no change"
