"""What the demo prints: what came in, what became of it, and what was sent to whom."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from schedules.fields import BEIJING
from workers.demo.data import SEED
from workers.events import EventResult
from workers.importing import REFUSED, Imported
from workers.intake import Taken
from workers.model import NotificationState

SHOWN = 4
"""So many refused rows of a file and so many held records are spelt out; the rest is counted."""
SENT = frozenset({NotificationState.ACCEPTED, NotificationState.DELIVERED})


@dataclass(slots=True)
class Outcome:
    """All that is printed. `notifications` and `held` are rows of the store."""

    started: datetime
    database: Path
    imported: Sequence[Imported]
    events: Sequence[EventResult]
    partners: int
    contacts: int
    records: Mapping[tuple[str, str], int]
    notifications: Sequence[Any]
    held: Sequence[Any]
    ledger: Sequence[tuple[str, int, str]]
    seconds: float

    @property
    def sent(self) -> int:
        """How many messages were handed over."""
        return sum(row.state in SENT for row in self.notifications)

    @property
    def adds_up(self) -> bool:
        """Whether every equation of the ledger holds."""
        return not any(broken for _, broken, _ in self.ledger)


def show(console: Console, outcome: Outcome) -> None:
    """Prints the summary, from what came in to what was sent."""
    console.print()
    _show_imports(console, outcome)
    _show_events(console, outcome.events)
    _show_records(console, outcome)
    _show_held(console, outcome.held)
    _show_messages(console, outcome.notifications)
    _show_unsent(console, outcome.notifications)
    _show_ledger(console, outcome)


def _table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in (*columns, *numbers):
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def _show_imports(console: Console, outcome: Outcome) -> None:
    files = [(one, sum(one.counts.values(), Counter())) for one in outcome.imported]
    outcomes = [taken.value for taken in Taken if any(counts[taken] for _, counts in files)]
    table = _table("Files imported", "File", "Rows of", numbers=(*outcomes, REFUSED))
    for one, counts in files:
        numbers = [str(counts[name] or "·") for name in outcomes]
        refused = f"[red]{one.refused}[/]" if one.refused else "·"
        table.add_row(escape(one.file), " + ".join(one.counts), *numbers, refused)
    console.print(table)
    for one in outcome.imported:
        _lines(console, [str(problem) for problem in one.problems], "red")
        left_out = [f"left out: {sheet.note}" for sheet in one.sheets if sheet.shape is None]
        _lines(console, left_out, "dim")


def _lines(console: Console, sentences: Sequence[str], style: str) -> None:
    for sentence in sentences[:SHOWN]:
        console.print(Padding(f"[{style}]•[/] {escape(sentence)}", (0, 0, 0, 2)))
    if len(sentences) > SHOWN:
        console.print(Padding(f"[{style}]•[/] and {len(sentences) - SHOWN} more", (0, 0, 0, 2)))


def _show_events(console: Console, events: Sequence[EventResult]) -> None:
    counts = Counter(one.status for one in events)
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"\n[bold]Events taken[/] (CloudEvents): {said}")
    refused = [
        f"{one.id} {one.type}: {fault.field or 'the event'} {fault.detail}"
        for one in events
        for fault in one.faults
    ]
    _lines(console, refused, "red")


def _show_records(console: Console, outcome: Outcome) -> None:
    states = ("open", "waiting", "paused", "held", "closed")
    total = sum(outcome.records.values())
    title = f"\n{total} records of {outcome.partners} partners with {outcome.contacts} contacts"
    table = _table(title, "Kind", numbers=states)
    for kind in sorted({kind for kind, _ in outcome.records}):
        table.add_row(kind, *(str(outcome.records.get((kind, s), 0) or "·") for s in states))
    console.print(table)


def _show_held(console: Console, held: Sequence[Any]) -> None:
    if not held:
        return
    console.print(f"[bold]{len(held)} records are held[/]: nobody is told of them until mended")
    # One of each kind of fault says more than four of the same.
    first: dict[str, str] = {}
    for row in held:
        first.setdefault(row.why.partition(":")[0][:16], f"{row.kind} {row.ref}: {row.why}")
    shown = [*first.values()]
    for sentence in shown[: 2 * SHOWN]:
        console.print(Padding(f"[yellow]•[/] {escape(sentence)}", (0, 0, 0, 2)))
    if rest := len(held) - len(shown[: 2 * SHOWN]):
        console.print(Padding(f"[yellow]•[/] and {rest} more", (0, 0, 0, 2)))


def _show_messages(console: Console, notifications: Sequence[Any]) -> None:
    states = [s.value for s in NotificationState if any(r.state == s for r in notifications)]
    counts: defaultdict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    for row in notifications:
        counts[row.kind, row.message, row.channel, row.language][row.state] += 1
    table = _table(
        f"\n{len(notifications)} messages planned", "Rule", "Message", "By", "In", numbers=states
    )
    before = ""
    for (kind, message, channel, language), of in sorted(counts.items()):
        if before and kind != before:
            table.add_section()
        before = kind
        numbers = [str(of[state] or "·") for state in states]
        table.add_row(kind, message, channel, language, *numbers)
    table.add_section()
    totals = Counter(row.state for row in notifications)
    table.add_row("[bold]all[/]", "", "", "", *(f"[bold]{totals[s]}[/]" for s in states))
    console.print(table)


def _show_unsent(console: Console, notifications: Sequence[Any]) -> None:
    reasons = Counter(
        f"{row.state}: {row.reason}" for row in notifications if row.state not in SENT
    )
    if reasons:
        console.print("[bold]Not sent, and why[/]")
        _lines(
            console, [f"{count} × {reason}" for reason, count in reasons.most_common()], "yellow"
        )


def _show_ledger(console: Console, outcome: Outcome) -> None:
    broken = [(what, count, where) for what, count, where in outcome.ledger if count]
    if broken:
        console.print("\n[bold red]The ledger doesn't add up[/]")
        _lines(
            console, [f"{count} break “{what}”: {where}" for what, count, where in broken], "red"
        )
    else:
        console.print(f"\n[bold green]The ledger adds up[/]: {len(outcome.ledger)} checks")
    console.print(
        f"[bold]{outcome.sent} messages sent[/] in {outcome.seconds:.1f} s, none over a network."
    )
    started, database = outcome.started.astimezone(BEIJING), outcome.database
    console.print(
        f"The demo's clock began at {started:%A %d %B %Y, %H:%M} in Beijing and runs on from "
        "there, so that no quiet hours hold the SMS back. "
        f"The files and {database.name} are in {escape(str(database.parent))}. Seed {SEED}.",
        style="dim",
    )
