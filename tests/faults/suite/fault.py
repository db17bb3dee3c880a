"""What a fault is, where faults are found, and one trial of one."""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.suite.checker import Findings, percentile
from tests.faults.suite.servers import ROOT
from tests.faults.suite.world import World

NEVER = ("LOSS", "DUP", "WRONG", "PHANTOM", "GHOST", "DRIFT", "LEFT")
"""What no fault may bring about."""

BROKE_OFF = "the trial broke off"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break things. A file of `faults/` has them in its list `FAULTS`.

    `injected`, `expected` and `passes` are a line each, for the page. `full` and `short` are how
    many messages a trial is of; with `short` 0 there is no short form. One that stands `apart` runs
    in full only when it is named, so that the whole takes an hour.
    """

    id: str
    injected: str
    expected: str
    passes: str
    full: int
    short: int
    run: Callable[[Trial], Awaitable[None]]
    apart: bool = False


@dataclass(slots=True)
class Result:
    """What a trial came to. `broken` says which figures weren't met; seconds are measured ones."""

    fault: Fault
    seed: int
    n: int
    counts: Counter[str] = field(default_factory=Counter)
    late_s: float = 0.0
    recovery_s: float = 0.0
    notes: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether all figures were met."""
        return not self.broken

    def line(self) -> str:
        """One line for the terminal."""
        counted = " ".join(f"{what} {self.counts[what]}" for what in NEVER[:5])
        notes = "".join(f" {name} {value}" for name, value in self.notes.items())
        return (
            f"{self.fault.id} seed {self.seed} N {self.n} {counted} unknown "
            f"{self.counts['UNKNOWN']} p99 {self.late_s:.1f} s recovery {self.recovery_s:.1f} s"
            f"{notes} took {self.took_s:.0f} s {'PASS' if self.passed else 'FAIL'}"
        )


class Trial:
    """One run of one fault: how many messages, by which chance, and what came of it."""

    def __init__(
        self, fault: Fault, n: int, seed: int, folder: Path, stock: Path, *, short: bool, tree: Path
    ) -> None:
        self.fault, self.n, self.seed, self.short = fault, n, seed, short
        self.folder, self.stock, self.tree = folder, stock, tree
        self.rng = random.Random(seed)
        self.result = Result(fault, seed, n)
        self._worlds = 0

    def world(
        self,
        *,
        broker: str = "redis",
        settings: Mapping[str, Any] | None = None,
        postgres_options: tuple[str, ...] = (),
    ) -> World:
        """A world of this trial's own, to be entered."""
        self._worlds += 1
        return World(
            self.folder / f"world-{self._worlds}",
            stock=self.stock,
            broker=broker,
            settings=settings,
            postgres_options=postgres_options,
            tree=self.tree,
        )

    def note(self, name: str, value: object) -> None:
        """Puts a figure of this fault's own beside the counts."""
        self.result.notes[name] = str(value)

    def require(self, what: str, holds: bool, seen: object) -> None:
        """A figure that must be met for the trial to pass."""
        if not holds:
            self.result.broken.append(f"{what} (seen: {seen})")

    async def judge(self, world: World, *, stopped_at_most: int | None = None) -> Findings:
        """Compares the three accounts of a world at its end and proves the ledger.

        `stopped_at_most` says how many may end in a named state without having been taken; without
        it only those that are parked because nobody knows.
        """
        found = await world.accounts()
        result = self.result
        result.counts += found.counts
        result.late_s = max(result.late_s, percentile(found.late, 0.99))
        result.recovery_s = max(result.recovery_s, percentile(found.recovery, 0.99))
        for what in NEVER:
            self.require(f"{what} 0", found[what] == 0, f"{found[what]}, {found.examples[what]}")
        most = found["UNKNOWN"] if stopped_at_most is None else stopped_at_most
        seen = f"{found['STOPPED']}, {found.examples['STOPPED']}"
        self.require(f"STOPPED at most {most}", found["STOPPED"] <= most, seen)
        proof = await world.command("verify")
        self.require("the ledger adds up", proof.code == 0, proof.out[-1500:])
        return found


async def attempt(trial: Trial) -> Result:
    """Runs a trial to its end; a fault that breaks the suite itself has failed too."""
    begun = time.monotonic()
    try:
        await trial.fault.run(trial)
    except Exception as error:
        said = "".join(traceback.format_exception(error, limit=-4))
        trial.result.broken.append(f"{BROKE_OFF}: {said}")
    trial.result.took_s = time.monotonic() - begun
    return trial.result


def find_faults(folder: Path = Path(__file__).parent / "faults") -> list[Fault]:
    """All faults, in the order of their numbers. Raises ValueError where two have one id."""
    found: list[Fault] = []
    for module in pkgutil.iter_modules([str(folder)]):
        package = ".".join(folder.relative_to(ROOT).parts)
        found += importlib.import_module(f"{package}.{module.name}").FAULTS
    twice = [name for name, count in Counter(one.id for one in found).items() if count > 1]
    if twice:
        raise ValueError(f"there are two faults called {twice}")
    return sorted(found, key=lambda one: _order(one.id))


def chosen(faults: Sequence[Fault], only: Sequence[str]) -> list[Fault]:
    """Those named: `F6` is F6-redis and F6-rabbitmq too. Raises ValueError for an unknown one."""
    picked: list[Fault] = []
    for name in only:
        mine = [one for one in faults if one.id == name or one.id.startswith(f"{name}-")]
        if not mine:
            known = ", ".join(one.id for one in faults)
            raise ValueError(f"there is no fault {name}; there are {known}")
        picked += [one for one in mine if one not in picked]
    return picked or list(faults)


def _order(name: str) -> tuple[int, str]:
    number = re.match(r"\D*(\d+)", name)
    return int(number[1]) if number else 0, name
