"""The command effect: what reminders led to, so that a cadence is tuned by facts."""

from __future__ import annotations

import csv
import sys
from typing import Any

import click
from rich.text import Text

from workers.cli.due import kinds_of
from workers.cli.frame import console, dump, json_option, local, moment, table, with_core
from workers.core import Core
from workers.effect import WITHIN_DAYS, RuleEffect, StageEffect, rule_effects

_COUNTS = ("before", "told", "after", "within", "elsewhere", "never", "median_days")
_LEGEND = (
    "before: done while the stage was still to come. told: each was done after it (the last stage "
    "told has the credit), elsewhere (another stage has it) or never, so far. in {days}: of those "
    "after it, done so soon after the reminder. median: days from the stage until done."
)


@click.command("effect")
@click.argument("rule", required=False)
@click.option("--since", metavar="DATE", help="Only what was told or done since DATE (Beijing).")
@click.option(
    "--days",
    default=WITHIN_DAYS,
    type=click.IntRange(1, 366),
    show_default=True,
    help="N of: done within N days of the reminder.",
)
@click.option("--csv", "as_csv", is_flag=True, help="One line a stage, as CSV.")
@json_option
def effect_command(
    rule: str | None, since: str | None, days: int, as_csv: bool, as_json: bool
) -> None:
    """What the reminders of RULE, or of all rules, led to: by stage, who acted when.

    \b
    duewatch effect                                   all rules, since ever
    duewatch effect statement --since 2026-10-01
    """

    async def work(app: Core, _: object) -> None:
        begin = moment(since)
        kinds = {kind: app.registry.cadences[kind] for kind in kinds_of(app, rule)}
        found = await rule_effects(app.store, kinds, begin, None, days)
        if as_json:
            dump([_rule(one) for one in found])
        elif as_csv:
            _write_csv(found)
        else:
            _show(found, days, local(begin))

    with_core(work)


def _stage(one: StageEffect) -> dict[str, Any]:
    return {"stage": one.stage} | {name: getattr(one, name) for name in _COUNTS}


def _rule(one: RuleEffect) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "closed": one.closed,
        "untold": one.untold,
        "stages": [_stage(stage) for stage in one.stages],
    }


def _write_csv(found: list[RuleEffect]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["rule", "rule_closed", "rule_untold", "stage", *_COUNTS])
    for rule in found:
        for stage in rule.stages:
            writer.writerow([rule.kind, rule.closed, rule.untold, *_stage(stage).values()])


def _show(found: list[RuleEffect], days: int, since: str) -> None:
    out = console()
    span = f"{days} day{'s' if days != 1 else ''}"
    columns = ["stage", "before #", "told #", "after #", f"in {span} #"]
    columns += ["elsewhere #", "never #", "median #"]
    silent = [one for one in found if not one.closed and not any(s.told for s in one.stages)]
    for rule in found:
        if rule in silent:
            continue
        out.print(Text(rule.kind, style="bold"), Text(_untold(rule)))
        table("", columns, [tuple(_stage(stage).values()) for stage in rule.stages])
        out.print()
    if len(silent) < len(found):
        out.print(Text(_LEGEND.format(days=span), style="dim"))
    if silent:
        names = ", ".join(one.kind for one in silent)
        out.print(Text(f"Nothing told or done {f'since {since}' if since else 'yet'}: {names}"))


def _untold(rule: RuleEffect) -> str:
    records = "record" if rule.closed == 1 else "records"
    return f" {rule.closed} {records} done, {rule.untold} of them without any reminder"
