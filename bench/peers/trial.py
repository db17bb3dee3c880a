"""Runs one cell of the table: its own broker, SMTP server, producer and workers."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers import sink
from bench.peers.brokers import Broker, RabbitmqBroker, RedisBroker
from bench.peers.cell import Cell
from bench.peers.counting import Count, count
from bench.peers.faults import FAULTS
from bench.peers.fleet import Fleet, end, launch
from bench.peers.settings import Settings
from tests.redis import free_port

QUIET_S = 45.0
"""A cell is over when nothing has arrived for so long, the faults and the producer being done."""
EMPTY_QUIET_S = 6.0
"""The same where Redis has no good message left, so that nothing more can come."""
START_S, PRODUCER_S, LONGEST_S = 90.0, 240.0, 240.0
LOOK_S = 0.5


class TrialFailed(Exception):
    """A cell couldn't be run; the text says what was missing and where its logs are."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table: what was run and what was counted; times in seconds.

    refused      times that the producer got an error and went on to the next message
    restarts     of a worker's main process
    poison_runs  starts of the task that ends its process; None where there was none
    """

    peer: str
    settings: str
    broker: str
    fault: str
    seed: int
    n: int
    lost: int
    dup: int
    stranded: int
    recovered_s: float | None
    repeat_due: int
    refused: int
    restarts: int
    poison_runs: int | None
    waited_s: float
    took_s: float


def run(chosen: Settings, fault_id: str, number: int, seed: int, keep: Path | None) -> Result:
    """Runs a cell and counts. `keep` is a folder for its logs. Raises TrialFailed."""
    fault, began = FAULTS[fault_id], time.monotonic()
    home = Path(tempfile.mkdtemp(prefix=f"peers-{chosen.name}-{fault_id}-"))
    broker: Broker = (
        RedisBroker(shipped=fault.shipped) if chosen.broker == "redis" else RabbitmqBroker()
    )
    cell = Cell(
        library=chosen.library,
        broker=chosen.broker,
        best=chosen.best,
        url=broker.url,
        smtp_port=free_port(),
        home=str(home),
        seed=seed,
        number=number,
        poison=fault.poison,
    )
    with ExitStack() as stack:
        if keep is None:
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        else:
            stack.callback(shutil.move, home, keep / home.name)
        stack.callback(broker.remove)
        broker.start()
        environ = cell.environ()
        stack.callback(end, _started_sink(environ, home))
        fleet = Fleet(chosen.library, environ, home)
        fleet.start()
        stack.callback(fleet.stop)
        producer = launch(["bench.peers.producer"], environ, home / "producer.log")
        stack.callback(end, producer)
        _wait(lambda: bool(_arrivals(cell)), START_S, f"nothing arrived: {home}")
        fault.inject(fleet, broker, random.Random(f"{seed} {fault_id}"))
        calm_since = time.monotonic()
        if producer.wait(PRODUCER_S) != 0:
            raise TrialFailed(f"the producer gave up: {_tail(home / 'producer.log')}")
        calm_since = max(calm_since, _accounts(cell)[-1][1])
        waited = _wait_for_the_end(cell, broker, calm_since)
        restarts = fleet.restarts
        fleet.stop()
        left = broker.left_at_the_end()
        counted = _count(cell, left, calm_since)
        accounts = _accounts(cell)
        runs = len(cell.aborts.read_text().splitlines()) if cell.aborts.exists() else 0
    said = asdict(counted)
    return Result(
        peer=chosen.library,
        settings=chosen.title,
        broker=chosen.broker,
        fault=fault_id,
        seed=seed,
        refused=sum(not ok for _, _, ok in accounts),
        restarts=restarts,
        poison_runs=runs if fault.poison else None,
        waited_s=round(waited, 1),
        took_s=round(time.monotonic() - began, 1),
        **said,
    )


def _started_sink(environ: dict[str, str], home: Path) -> subprocess.Popen[bytes]:
    log = home / "sink.log"
    process = launch(["bench.peers.sink"], environ, log)
    _wait(lambda: sink.READY in log.read_text(), START_S, f"no SMTP server: {log}")
    return process


def _wait(ready: Callable[[], bool], patience_s: float, sorry: str) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            raise TrialFailed(sorry)
        time.sleep(LOOK_S)


def _wait_for_the_end(cell: Cell, broker: Broker, calm_since: float) -> float:
    """Waits as long as something may still come; returns how long, from `calm_since`."""
    # Poison that keeps killing may hurt good ones late: that is always waited for.
    may_be_short = not cell.poison
    while True:
        time.sleep(LOOK_S)
        now = time.monotonic()
        quiet = now - max([calm_since, *(when for _, when in _arrivals(cell))])
        if quiet > QUIET_S or now - calm_since > LONGEST_S:
            return now - calm_since
        if may_be_short and quiet > EMPTY_QUIET_S and broker.left() == set():
            return now - calm_since


def _count(cell: Cell, left: set[str], calm_since: float) -> Count:
    acknowledged = [key for key, _, ok in _accounts(cell) if ok]
    return count(acknowledged, _arrivals(cell), left, calm_since)


def _arrivals(cell: Cell) -> list[tuple[str, float]]:
    """What the SMTP server has taken by now."""
    if not cell.arrivals.exists():
        return []
    lines = cell.arrivals.read_text().split("\n")[:-1]  # the last may be half written
    return [(said["key"], said["t"]) for said in map(json.loads, lines)]


def _accounts(cell: Cell) -> list[tuple[str, float, bool]]:
    lines = cell.accounts.read_text().splitlines()
    return [(said["key"], said["t"], said["ok"]) for said in map(json.loads, lines)]


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-3:])
