"""Importing files: rows -> intake, in batches, with every refused row named.

The whole file is read; a row that is refused harms no other. The same file twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schedules.rule import Rule
from workers.errors import InputError
from workers.intake import Batch, Incoming, Intake
from workers.sources.files import Problem, Row, RowError, Sheet, read_file, row_model

BATCH_ROWS = 500
"""Rows taken in one transaction."""
REFUSED = "refused"


@dataclass(slots=True)
class Imported:
    """What became of a file: outcomes by shape, what was refused and why, what was left out."""

    file: str
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def count(self, shape: str, outcome: str) -> None:
        """Adds one row."""
        self.counts.setdefault(shape, Counter())[outcome] += 1

    @property
    def refused(self) -> int:
        """How many rows were refused."""
        return sum(counts[REFUSED] for counts in self.counts.values())


class _Undone(Exception):
    """Rolls a trial back."""


async def import_file(
    intake: Intake,
    rules: Mapping[str, Rule],
    path: Path,
    *,
    only: str | None = None,
    trial: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Imports one file. `only` forces a shape; a `trial` says what would happen, changing nothing.

    `progress` is told (bytes read, bytes in all). Raises InputError for the file as a whole.
    """
    imported = Imported(path.name)
    waiting: list[tuple[Row, Incoming]] = []
    rows = read_file(path, rules, only=only, progress=progress, on_sheet=imported.sheets.append)
    try:
        for row in rows:
            try:
                model = row_model(row)
            except RowError as error:
                imported.problems.extend(error.problems)
                imported.count(row.shape.name, REFUSED)
                continue
            kind = row.shape.name.removesuffix(".line")
            waiting.append((row, Incoming(model, kind if kind in rules else None)))
            if len(waiting) >= BATCH_ROWS:
                await _take(intake, waiting, imported, trial)
                waiting = []
    except InputError:
        # The file can't be read any further; the rows before that place stand.
        await _take(intake, waiting, imported, trial)
        raise
    await _take(intake, waiting, imported, trial)
    return imported


async def _take(
    intake: Intake, waiting: list[tuple[Row, Incoming]], imported: Imported, trial: bool
) -> None:
    if not waiting:
        return
    things = [thing for _, thing in waiting]
    batch = await (_tried(intake, things) if trial else intake.take(things))
    imported.kinds |= batch.kinds
    for (row, _), outcome in zip(waiting, batch.outcomes, strict=True):
        imported.count(row.shape.name, outcome.value)


async def _tried(intake: Intake, things: list[Incoming]) -> Batch:
    batch = Batch()
    try:
        async with intake.store.database.write() as connection:
            batch = await intake.take_in(connection, things)
            raise _Undone
    except _Undone:
        return batch
