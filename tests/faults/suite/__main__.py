"""python -m tests.faults.suite: runs faults, prints a line each, and writes the page.

Exit code 0 when all passed (with --mutants: when all were caught), else 1; 2 for a wrong call,
130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tests.faults.suite.fault import BROKE_OFF, Fault, Result, Trial, attempt, chosen, find_faults
from tests.faults.suite.mutants import Mutant, copied, find_mutants, grown
from tests.faults.suite.page import write_page
from tests.faults.suite.servers import ROOT


def read_words(words: Sequence[str]) -> argparse.Namespace:
    """The call's options."""
    parser = argparse.ArgumentParser("python -m tests.faults.suite")
    parser.add_argument("--only", default="", help="faults or mutants, by commas: F1a,F6")
    parser.add_argument("--seed", type=int, default=1, help="of what happens by chance")
    parser.add_argument("--n", type=int, help="messages; without it each fault's own number")
    parser.add_argument("--short", action="store_true", help="each fault's short form")
    parser.add_argument("--mutants", action="store_true", help="run mutants in place of faults")
    parser.add_argument("--tree", type=Path, default=ROOT, help="where the product's code is")
    parser.add_argument("--write", type=Path, help="the page to be written, docs/reliability.md")
    parser.add_argument("--keep", action="store_true", help="keep the folders of what passed too")
    return parser.parse_args(words)


async def _one(
    fault: Fault, words: argparse.Namespace, home: Path, tree: Path, n: int | None = None
) -> Result:
    n = n or words.n or (fault.short if words.short else fault.full)
    folder = Path(tempfile.mkdtemp(prefix=f"{fault.id}-", dir=home))
    trial = Trial(
        fault, n, words.seed, folder, home / "stock", short=words.short or n < 1000, tree=tree
    )
    result = await attempt(trial)
    if result.passed and not words.keep:
        shutil.rmtree(folder)
    return result


async def run_faults(words: argparse.Namespace, faults: Sequence[Fault], home: Path) -> int:
    """Runs them one after the other; returns how many failed."""
    results: list[Result] = []
    with copied(words.tree) as tree:
        for fault in faults:
            if (words.short and not fault.short) or (
                fault.apart and not words.short and not words.only
            ):
                continue
            result = await _one(fault, words, home, tree)
            results.append(result)
            print(result.line(), flush=True)
            for broken in result.broken:
                print(f"    {broken}", flush=True)
            if words.write:
                write_page(words.write, find_faults(), [result])
    return sum(not result.passed for result in results)


async def run_mutants(words: argparse.Namespace, mutants: Sequence[Mutant], home: Path) -> int:
    """Runs each mutant's fault on it; returns how many weren't caught."""
    said: dict[str, tuple[str, str, bool]] = {}
    faults = find_faults()
    for mutant in mutants:
        (fault,) = (one for one in faults if one.id == mutant.caught_by)
        with grown(mutant) as tree:
            result = await _one(fault, words, home, tree, words.n or mutant.n)
        figures = [one for one in result.broken if not one.startswith(BROKE_OFF)]
        why = " ".join((figures or result.broken or ["nothing was noticed"])[0].split())[:100]
        said[mutant.name] = (mutant.defect, fault.id, bool(figures))
        verdict = "CAUGHT" if figures else "MISSED"
        print(f"{mutant.name} by {fault.id}: {why}: {verdict}", flush=True)
    if words.write:
        write_page(words.write, faults, [], said)
    return sum(not caught for _, _, caught in said.values())


async def _until_asked_to_end(work: Coroutine[Any, Any, int]) -> int:
    """Does the work. A signal ends it in order, with all the servers and processes it started."""
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _named(mutants: Sequence[Mutant], only: Sequence[str]) -> list[Mutant]:
    known = {one.name: one for one in mutants}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"there is no mutant {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in only or known]


def main() -> int:
    """Runs what the call names; what failed leaves its folder, with all logs and accounts."""
    words = read_words(sys.argv[1:])
    only = [one for one in words.only.split(",") if one]
    home = Path(tempfile.mkdtemp(prefix="duewatch-faults-"))
    try:
        if words.mutants:
            mutants = _named(find_mutants(), only)
            work = run_mutants(words, mutants, home)
        else:
            faults = chosen(find_faults(), only)
            work = run_faults(words, faults, home)
        failed = asyncio.run(_until_asked_to_end(work))
    except asyncio.CancelledError:
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(home / "stock", ignore_errors=True)
        if home.exists() and not any(home.iterdir()):
            home.rmdir()
    if home.exists():
        print(f"what happened is kept in {home}")
    return int(failed > 0)


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("DUEWATCH_")]:
        del os.environ[name]
    sys.exit(main())
