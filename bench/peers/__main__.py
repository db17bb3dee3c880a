"""Runs the table of the peers and writes bench/peers/RESULTS.md and results.json.

    make peers                 everything, about a quarter of an hour
    python -m bench.peers [--n 1000] [--seed N] [--only dramatiq-redis,F6] [--jobs 4] [--keep DIR]

`--only` takes beginnings of peers' names and faults' ids, and then writes nothing unless `--write`
is given. `--keep` leaves the cells' logs in a folder. It ends with 1 where a cell couldn't be run.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.peers.faults import FAULTS, Fault
from bench.peers.page import page, report, row, written
from bench.peers.settings import SETTINGS, Settings
from bench.peers.trial import Result, run

HERE = Path(__file__).parent


def chosen(only: str) -> list[tuple[Settings, str]]:
    """The cells that `only` names; all where it is empty. Raises SystemExit for a word that
    begins neither a peer nor a fault."""
    words = [word for word in only.split(",") if word]
    peers = [word for word in words if any(one.name.startswith(word) for one in SETTINGS)]
    faults = [word for word in words if word in FAULTS]
    if wrong := set(words) - set(peers) - set(faults):
        raise SystemExit(f"--only: neither a peer nor a fault: {', '.join(sorted(wrong))}")
    return [
        (one, fault_id)
        for fault_id, fault in FAULTS.items()
        for one in SETTINGS
        if (not peers or one.name.startswith(tuple(peers)))
        and (not faults or fault_id in faults)
        and _applies(one, fault)
    ]


def _applies(one: Settings, fault: Fault) -> bool:
    return not fault.shipped or (one.broker == "redis" and not one.best)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers")
    parser.add_argument("--n", type=int, default=1000, help="messages a cell")
    parser.add_argument("--seed", type=int, help="of the faults' moments; made up where not given")
    parser.add_argument("--only", default="", help="peers and faults, such as dramatiq-redis,F6")
    parser.add_argument("--jobs", type=int, default=4, help="cells at a time")
    parser.add_argument("--keep", type=Path, help="a folder for the cells' logs")
    parser.add_argument("--write", action="store_true", help="write the page with --only, too")
    said = parser.parse_args(arguments)
    seed = random.randrange(10**6) if said.seed is None else said.seed
    cells, began, load = chosen(said.only), time.monotonic(), os.getloadavg()[0]
    print(
        f"{len(cells)} cells of {said.n} messages, {said.jobs} at a time, seed {seed}", flush=True
    )
    if said.keep is not None:
        said.keep.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(said.jobs) as pool:
        futures = [pool.submit(_told, one, fault, said.n, seed, said.keep) for one, fault in cells]
    results = [result for future in futures if (result := _result(future)) is not None]
    if not said.only or said.write:
        told = report(results, said.jobs, load, time.monotonic() - began)
        (HERE / "results.json").write_text(written(told))
        (HERE / "RESULTS.md").write_text(page(told))
    return 0 if len(results) == len(cells) else 1


def _told(one: Settings, fault: str, number: int, seed: int, keep: Path | None) -> Result:
    try:
        result = run(one, fault, number, seed, keep)
    except Exception as error:
        print(f"{one.name} {fault}: {error!r}", file=sys.stderr, flush=True)
        raise
    print(row(result), flush=True)
    return result


def _result(future: Future[Result]) -> Result | None:
    return None if future.exception() else future.result()


if __name__ == "__main__":
    sys.exit(main())
