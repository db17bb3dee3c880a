"""The results as a page of the documentation. Rows that weren't run anew stay as they are."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.suite.fault import Fault, Result

INTRO = """# Reliability

What was measured when things broke, made by `make faults`; run it to measure it anew (an hour, two
cores). `python -m tests.faults.suite --only F1a --seed 7` runs one fault by another chance.

Real processes of the product work on a real PostgreSQL (every commit flushed), Redis or RabbitMQ
under a supervisor that starts them again. An SMTP server and an SMS gateway of the suite's own log
what they take, before they answer. Who is to be written to is decided by an oracle before anything
runs, and afterwards three accounts are compared: the oracle's, the database's and the far side's.

| | |
|---|---|
| LOSS | must be sent, was never taken, and stands in no state that names it |
| DUP | copies beyond one that no attempt of unknown outcome accounts for; of SMS every copy |
| WRONG | taken though it was not to be sent |
| PHANTOM | the database says accepted, the far side never took it |
| GHOST | the far side took it, the database knows of no attempt |
| unknown | attempts of which nobody knows whether they were taken: each is listed |
| p99 | from due to taken, all being due at once |
| recovery | from the kill that cut an attempt off to its message being given back (p99) |

What is unknown is settled by its nature: a mail goes again under the same Message-ID, an SMS is
parked until a status report or a person says. Of all else there must be none, and `duewatch verify`
must say that the ledger adds up; what more is asked of a fault stands beside it.
"""
PEERS = """## Peers in the same faults

`make peers` does the same to plain Dramatiq and Celery, with their defaults and with the best
settings that were found for them; [how, and all its rows](../bench/peers/RESULTS.md). Here beside
ours, of another run: how often something was killed stands there and above. *Lost*: never arrived,
and nobody has it any more. *Stranded*: hadn't arrived when the row was over, and still lay
somewhere. *Doubled*: copies beyond one of each. Of ours each doubled one is a mail whose outcome
was known to be unknown, and that went again under the same Message-ID.
"""
PEER_HEAD = ("fault", "who", "broker", "settings", "of", "lost", "stranded", "doubled")
PEER_RESULTS = Path(__file__).parents[3] / "bench/peers/results.json"
SAME = {"F1": ("F1a",), "F6": ("F6-redis", "F6-rabbitmq"), "F7": ("F7-redis", "F7-rabbitmq")}
SAME["F21"] = ("F21-redis", "F21-rabbitmq")
"""Which of our faults are the peers'."""
FAULT_HEAD = (
    "fault",
    "N",
    "seed",
    *("LOSS", "DUP", "WRONG", "PHANTOM", "GHOST", "unknown"),
    "p99 s",
    "recovery s",
    "also seen",
    "verdict",
)
MUTANT_HEAD = ("defect", "what it does", "fault", "caught")
WHAT_HEAD = ("fault", "injected", "expected", "must hold")


def write_page(
    path: Path,
    faults: Sequence[Fault],
    results: Iterable[Result],
    mutants: Mapping[str, tuple[str, str, bool]] | None = None,
) -> None:
    """Writes the page. `mutants`: name -> (defect, fault, whether it was caught)."""
    before = _rows(path)
    order = [one.id for one in faults]
    measured = {name: row for name, row in before.items() if name in order and len(row) > 5}
    measured |= {one.fault.id: _measured(one) for one in results}
    caught = {name: row for name, row in before.items() if name.startswith("`")}
    for name, (defect, fault, was) in (mutants or {}).items():
        caught[f"`{name}`"] = (f"`{name}`", defect, fault, "yes" if was else "NO")
    parts = [INTRO, "## Seen", _machine()]
    parts.append(_table(FAULT_HEAD, [measured[name] for name in order if name in measured]))
    parts.append("## The faults")
    said = [(one.id, one.injected, one.expected, one.passes) for one in faults]
    parts.append(_table(WHAT_HEAD, said))
    if caught:
        parts.append("## Defects made on purpose\n\nThe suite has to fail on each.")
        parts.append(_table(MUTANT_HEAD, [caught[name] for name in sorted(caught)]))
    parts += [PEERS, _table(PEER_HEAD, _peers(measured))]
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n", "utf-8")


def _peers(measured: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Ours and theirs, fault by fault."""
    theirs = json.loads(PEER_RESULTS.read_text("utf-8"))["results"]
    rows: list[tuple[str, ...]] = []
    for fault, ours in SAME.items():
        for name in (one for one in ours if one in measured):
            row, broker = measured[name], name.partition("-")[2] or "redis"
            again = re.search(r"copies (\d+)", row[FAULT_HEAD.index("also seen")])
            lost = row[FAULT_HEAD.index("LOSS")]
            doubled = again[1] if again else "0"
            rows.append((fault, "**Duewatch**", broker, "defaults", row[1], lost, "0", doubled))
        rows += [
            (
                fault,
                one["peer"].capitalize(),
                one["broker"],
                one["settings"],
                *(str(one[what]) for what in ("n", "lost", "stranded", "dup")),
            )
            for one in theirs
            if one["fault"] == fault
        ]
    return rows


def _machine() -> str:
    day = datetime.now(UTC).date().isoformat()
    system = f"{platform.system()} {platform.machine()}"
    return (
        f"On {os.cpu_count()} cores ({system}, Python {platform.python_version()}), servers, "
        f"product and suite on the same machine; last run {day}."
    )


def _measured(one: Result) -> tuple[str, ...]:
    counted = ("LOSS", "DUP", "WRONG", "PHANTOM", "GHOST", "UNKNOWN")
    return (
        one.fault.id,
        str(one.n),
        str(one.seed),
        *(str(one.counts[what]) for what in counted),
        f"{one.late_s:.1f}",
        f"{one.recovery_s:.1f}",
        ", ".join(f"{name} {value}" for name, value in one.notes.items()),
        "pass" if one.passed else "**fail**",
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _rows(path: Path) -> dict[str, tuple[str, ...]]:
    """The rows of the page's measured tables, by their first cell."""
    found: dict[str, tuple[str, ...]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        defect = len(cells) == len(MUTANT_HEAD) and cells[0].startswith("`")
        if line.startswith("| ") and (defect or len(cells) == len(FAULT_HEAD)):
            found[cells[0]] = cells
    return found
