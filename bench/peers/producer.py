"""Enqueues a cell's messages and writes down what it was told of each.

A message that couldn't be enqueued is given up and the next one tried, until as many as wanted were
acknowledged: nothing is counted that the producer wasn't promised.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from typing import TextIO

from bench.peers.cell import Cell, key

POISONS = ("not_json", "unknown_task", "wrong_arguments", "abort")
MAX_TRIES = 3
"""Times the wanted number: then the broker is given up."""
PAUSE_S = 0.1


def main() -> None:
    """Raises RuntimeError if the broker refuses nearly everything."""
    cell = Cell.load()
    app = importlib.import_module(f"bench.peers.{cell.library}_app")
    # Between the good ones, evenly; each is tried once.
    every = cell.number // (cell.poison + 1)
    acknowledged, began = 0, time.monotonic()
    with cell.accounts.open("w") as log:
        for number in range(cell.number * MAX_TRIES):
            if acknowledged == cell.number:
                return
            _wait_for_turn(cell, acknowledged, began)
            ok = _tried(app.post, key(number))
            _tell(log, key(number), ok)
            if not ok:
                time.sleep(PAUSE_S)
                continue
            acknowledged += 1
            if cell.poison and acknowledged % every == 0 and acknowledged // every <= cell.poison:
                for kind in POISONS:
                    _tried(getattr(app, f"post_{kind}"), f"p{number:07d}")
    raise RuntimeError(f"only {acknowledged} of {cell.number} messages could be enqueued")


def _wait_for_turn(cell: Cell, acknowledged: int, began: float) -> None:
    half = cell.number // 2
    if acknowledged >= half:
        due = began + cell.spread_s * (acknowledged - half) / max(1, cell.number - half)
        time.sleep(max(0.0, due - time.monotonic()))


def _tried(post: Callable[[str], None], name: str) -> bool:
    try:
        post(name)
    except Exception as error:  # each library has its own
        print(f"refused: {error!r}", flush=True)
        return False
    return True


def _tell(log: TextIO, name: str, ok: bool) -> None:
    log.write(json.dumps({"t": time.monotonic(), "key": name, "ok": ok}) + "\n")
    log.flush()


if __name__ == "__main__":
    main()
