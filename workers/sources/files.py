"""Files: a watched folder whose CSV and XLSX files are taken in, each once it is whole.

Reads:    every file of the folder that fits `pattern`, oldest first; what a sheet holds is told by
          its headings (docs/files.md), to which settings add more
Whole:    a file is taken when its size and time stand still for `settle_s`; names of unfinished
          uploads (.part, .tmp, .filepart, .crdownload, a leading dot or ~) are left alone. Surest
          is to write under such a name and to rename
After:    done/ when all was taken, else failed/, with a report beside it that names each refused
          row and its remedy. What could be taken was: bring the mended file in under any name
Repeats:  the same content changes nothing, so a crash between taking and moving harms nothing
Limits:   as in duewatch import; links are not followed
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from schedules.rule import Rule
from workers.errors import UnavailableError
from workers.sources import (
    Part,
    PartDone,
    Reading,
    Source,
    SourceSettings,
    check_fields,
    shape_of,
)
from workers.sources._cells import Limits, Place
from workers.sources._rows import Problem, Row, RowError, Shape, row_model, shapes
from workers.sources._tables import Sheet, read_file

__all__ = [
    "Files",
    "Limits",
    "Place",
    "Problem",
    "Row",
    "RowError",
    "Shape",
    "Sheet",
    "read_file",
    "row_model",
    "shapes",
]

AT_A_TIME = 500
"""Rows read in one go, off the event loop."""
UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload")


class FilesSettings(SourceSettings):
    """A folder that is watched."""

    folder: Path = Field(description="The folder; done/ and failed/ are made in it.")
    pattern: tuple[str, ...] = Field(
        ("*.csv", "*.xlsx"), min_length=1, description="Names of the files to take, in any case."
    )
    kind: str = Field("", description="What the files hold; empty: their headings tell.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='Further headings and their fields, "客户全称" = "customer_name"; an empty '
        "field leaves the column out.",
    )
    values: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Fields that the files lack, partner = P1."
    )
    settle_s: float = Field(
        5.0, ge=0, le=3600, description="Seconds that a file must stand still to be whole."
    )
    whole: bool = Field(
        False, description="true: each file holds all records of its kinds, so others are gone."
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    path: Path
    size: int
    changed: int


class Files(Source):
    """Takes files from a folder and puts them into done/ or failed/."""

    kind_of_source: ClassVar[str] = "files"
    Settings: ClassVar[type[SourceSettings]] = FilesSettings

    settings: FilesSettings

    def __init__(self, name: str, settings: SourceSettings, rules: Mapping[str, Rule]) -> None:
        super().__init__(name, settings, rules)
        if self.settings.kind:
            shape_of(rules, self.settings.kind, self.settings.columns, self.settings.values)
        else:
            check_fields(shapes(rules), self.settings.columns, self.settings.values)

    @property
    def place(self) -> str:
        """The folder and the names looked for."""
        return f"{self.settings.folder}/{', '.join(self.settings.pattern)}"

    async def parts(self, reading: Reading) -> AsyncGenerator[Part, None]:
        """A part a file."""
        for path in await self._whole_files():
            part = Part(path.name)
            part.rows = self._rows(path, part)
            if not reading.trial:
                part.settle = _Settling(path, reading.now)
            yield part

    async def look(self, reading: Reading) -> None:
        """Whether the folder can be read and written; a file that can't be read is put aside."""
        await asyncio.to_thread(self._look)
        if not os.access(self.settings.folder, os.W_OK | os.X_OK):
            raise UnavailableError(
                f"{self.name}: what was read can't be moved out of {self.settings.folder}: let "
                "Duewatch write there"
            )

    async def _whole_files(self) -> list[Path]:
        """The files that stand still, oldest first."""
        before = await asyncio.to_thread(self._look)
        if before and self.settings.settle_s:
            await asyncio.sleep(self.settings.settle_s)
            after = set(await asyncio.to_thread(self._look))
            before = [one for one in before if one in after]
        return [one.path for one in before]

    def _look(self) -> list[_Seen]:
        found = []
        try:
            with os.scandir(self.settings.folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False) and self._wanted(entry.name):
                        about = entry.stat(follow_symlinks=False)
                        found.append(_Seen(Path(entry.path), about.st_size, about.st_mtime_ns))
        except OSError as error:
            raise UnavailableError(
                f"{self.name}: the folder {self.settings.folder} can't be read "
                f"({error.strerror}): make it, or correct `folder`"
            ) from None
        return sorted(found, key=lambda one: (one.changed, one.path.name))

    def _wanted(self, name: str) -> bool:
        low = name.lower()
        if low.startswith((".", "~")) or low.endswith(UNFINISHED):
            return False
        return any(Path(low).match(pattern.lower()) for pattern in self.settings.pattern)

    async def _rows(self, path: Path, part: Part) -> AsyncGenerator[Row, None]:
        kinds: set[str] = set()

        def saw(sheet: Sheet) -> None:
            if sheet.shape is not None:
                kinds.add(sheet.shape.name)

        rows = read_file(
            path,
            self.rules,
            only=self.settings.kind or None,
            more=self.settings.columns,
            given=self.settings.values,
            on_sheet=saw,
        )
        while some := await asyncio.to_thread(_some, rows):
            for row in some:
                yield row
        if self.settings.whole:
            part.whole |= kinds


def _some(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, AT_A_TIME))


@dataclass(frozen=True, slots=True)
class _Settling:
    """Moves a file that was read, and writes its report."""

    path: Path
    at: datetime

    async def __call__(self, done: PartDone) -> None:
        try:
            await asyncio.to_thread(self._move, done)
        except OSError as error:
            raise UnavailableError(
                f"{self.path.name} was read and can't be moved ({error.strerror}): let Duewatch "
                f"write to {self.path.parent}; it is read again until then, which changes nothing"
            ) from None

    def _move(self, done: PartDone) -> None:
        well = not done.fault and not done.refused
        folder = self.path.parent / ("done" if well else "failed")
        folder.mkdir(exist_ok=True)
        stamp = f"{self.at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        target, number = folder / f"{stamp}_{self.path.name}", 1
        while target.exists():
            number += 1
            target = folder / f"{stamp}-{number}_{self.path.name}"
        report = target.with_name(f"{target.name}.report.txt")
        report.write_text(_report(self.path.name, stamp, done), "utf-8")
        self.path.replace(target)


def _report(name: str, stamp: str, done: PartDone) -> str:
    lines = [f"{name}, taken {stamp}"]
    for shape, counts in sorted(done.counts.items()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lines.append(f"{shape}: {said}")
    if done.fault:
        lines.append(f"not read to its end: {done.fault}")
    lines += [str(problem) for problem in done.problems]
    if done.refused > len({problem.place for problem in done.problems}):
        lines.append("… and more rows were refused: mend these first")
    return "\n".join(lines) + "\n"
