"""The command that lives a made-up year and says whether all was as it should be."""

from __future__ import annotations

import asyncio
import os
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from workers.cli.frame import console, dump, json_option, local, table

if TYPE_CHECKING:
    from workers.simulation.report import Difference, Report

SHOWN = 20
"""So many differences are named; the counts are of all."""


@click.command("simulate")
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True)
@click.option("--partners", type=click.IntRange(1, 5000), default=200, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another life.")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2026-01-01",
    show_default="2026-01-01",
    help="The first day (Beijing).",
)
@click.option(
    "--busy",
    type=click.FloatRange(0.1, 20),
    default=1.0,
    show_default=True,
    help="How much happens: 2 is twice as much.",
)
@click.option(
    "--render/--no-render", default=True, help="Write every message (default), or leave them blank."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=None,
    help="Processes that share the partners (default: one a processor).",
)
@json_option
def simulate_command(
    days: int,
    partners: int,
    seed: int,
    start: datetime,
    busy: float,
    render: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Live a made-up year of the partner centre and check it against an independent oracle.

    The clock is virtual, the product is real: records come in, are scanned and told of, on a
    throw-away database and into a local inbox. The settings file isn't used, and nothing leaves
    this machine. Exit code 1 when anything was missing, double, moot or at the wrong time, or when
    the ledger doesn't add up.
    """
    from workers.simulation.life import life
    from workers.simulation.run import simulate

    out = console(err=True)
    made = life(seed, partners, start.date(), days, busy)
    share = jobs or min(os.cpu_count() or 1, -(-partners // 10))
    with out.status(f"Living {days} days of {partners} partners …") as status:
        report = asyncio.run(
            simulate(
                made,
                render=render,
                jobs=share,
                progress=lambda part: status.update(f"Living {days} days … {part:.0%}"),
            )
        )
    if as_json:
        dump(_plain(report))
    else:
        _show(report, start.date())
    return int(not report.well)


def _show(report: Report, start: date) -> None:
    kinds = sorted(set(report.records) | set(report.lines))
    sent = report.messages
    table(
        f"{report.days} days from {start}, {report.partners} partners, seed {report.seed}",
        ["kind", "records #", "told #", "mails #", "SMS #"],
        [
            (k, report.records[k], report.lines[k], sent[k, "mail"], sent[k, "sms"])
            for k in (*kinds, "digest")
        ],
    )
    states = " + ".join(f"{count} {state}" for state, count in sorted(report.states.items()))
    out = console()
    out.print(f"\nexpected {report.expected}, found {report.found}, by the oracle and the product")
    out.print(f"in digests {report.in_digests}; dropped as moot {report.moot_dropped}")
    out.print(f"planned {sum(report.states.values())} = {states or '0'}")
    out.print(
        f"{report.events} events, {report.instants} instants, {report.scans} scans in "
        f"{report.seconds:.1f} s: {report.days_a_second:.1f} virtual days a second"
    )
    _show_differences(report)
    for what, count in report.broken:
        out.print(f"[red]ledger:[/] {what}: {count} exceptions")
    out.print("[green]All is well.[/]" if report.well else "[red]Not all is well.[/]")


def _show_differences(report: Report) -> None:
    if not report.differences:
        console().print("0 missing, 0 double, 0 moot, 0 outside their time")
        return
    counts = ", ".join(f"{count} {what}" for what, count in report.by_difference.most_common())
    table(
        counts,
        ["what", "kind", "record", "stage", "channel", "contact", "expected", "found", "detail"],
        [_row(one) for one in report.differences[:SHOWN]],
    )


def _row(one: Difference) -> tuple[Any, ...]:
    told = one.message
    return (
        one.what,
        told.kind,
        told.ref,
        told.stage,
        told.channel,
        told.contact,
        local(one.expected_at),
        local(one.found_at),
        one.detail,
    )


def _plain(report: Report) -> dict[str, Any]:
    left_out = {"differences", "messages", "broken"}
    plain = {name: getattr(report, name) for name in report.__slots__ if name not in left_out}
    return plain | {
        "well": report.well,
        "messages": [
            {"kind": kind, "channel": channel, "count": count}
            for (kind, channel), count in sorted(report.messages.items())
        ],
        "differences": dict(report.by_difference),
        "first_differences": [
            {**one.message._asdict(), **{k: v for k, v in one._asdict().items() if k != "message"}}
            for one in report.differences[:SHOWN]
        ],
        "ledger": [{"what": what, "exceptions": count} for what, count in report.broken],
        "days_a_second": round(report.days_a_second, 1),
    }
