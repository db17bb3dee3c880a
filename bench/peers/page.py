"""The results as a page for people, and as JSON for a page that shows them beside our own."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import which
from subprocess import run
from typing import Any

from bench.peers.cell import FIRST_RETRY_S, LAST_RETRY_S, MAX_RETRIES, Cell
from bench.peers.faults import FAULTS
from bench.peers.fleet import INSTANCES
from bench.peers.settings import SETTINGS
from bench.peers.sink import TAKES_S
from bench.peers.trial import EMPTY_QUIET_S, LONGEST_S, QUIET_S, Result

Report = dict[str, Any]

HEAD = (
    "| Fault | Peer | Broker | Settings | n | lost | dup | stranded | recovered, s "
    "| repeat due | refused | restarts | abort ran |\n"
    "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def row(result: Result) -> str:
    """A row of the table."""
    recovered = "not" if result.recovered_s is None else f"{result.recovered_s:g}"
    runs = "" if result.poison_runs is None else str(result.poison_runs)
    cells = (
        *(result.fault, result.peer, result.broker, result.settings, result.n),
        *(result.lost, result.dup, result.stranded, recovered),
        *(result.repeat_due, result.refused, result.restarts, runs),
    )
    return f"| {' | '.join(map(str, cells))} |"


def report(results: Sequence[Result], jobs: int, load: float, took_s: float) -> Report:
    """All that is told of a run; its `results` are objects with the fields of Result.

    `load` is the machine's average load before the run, other people's work included.
    """
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "load": round(load, 1),
        "versions": versions(),
        "jobs": jobs,
        "took_s": round(took_s),
        "waiting_s": QUIET_S,
        "faults": {fault_id: fault.said for fault_id, fault in FAULTS.items()},
        "settings": {one.name: one.said for one in SETTINGS},
        "results": [asdict(result) for result in results],
    }


def written(said: Report) -> str:
    """results.json."""
    return json.dumps(said, indent=1, ensure_ascii=False) + "\n"


def machine() -> str:
    """Cores, memory and processor of this machine, as far as it tells."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    info = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(":")[2].strip() for line in info if line.startswith("model name")}
    return f"{os.cpu_count()} cores ({', '.join(sorted(names))}), {memory:.0f} GiB"


def versions() -> dict[str, str]:
    """Of all that takes part."""
    found = {"Python": platform.python_version()}
    for name in ("dramatiq", "celery", "kombu", "redis", "pika", "amqp"):
        found[name] = version(name)
    for server, words in {
        "Redis server": ("redis-server", "--version"),
        "RabbitMQ server": ("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"),
    }.items():
        if which(words[0]):
            told = run(words, capture_output=True, text=True, check=False).stdout.strip()
            found[server] = told.partition("v=")[2].split(" ")[0] or told or "not found"
    return found


def page(said: Report) -> str:
    """RESULTS.md, from what results.json holds."""
    results = [Result(**one) for one in said["results"]]
    rows = "\n".join(row(result) for result in results)
    faults = "\n".join(f"* **{fault_id}**: {told}." for fault_id, told in said["faults"].items())
    settings = "\n".join(f"* {name}: {told}." for name, told in said["settings"].items())
    parts = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    seeds = ", ".join(sorted({str(result.seed) for result in results}))
    share, spread = (
        Cell.__dataclass_fields__[name].default for name in ("refused_share", "spread_s")
    )
    return f"""\
# The same faults against plain Dramatiq and Celery

Written by `make peers` on {said["date"]} in {said["took_s"] / 60:.0f} minutes; seed {seeds}.
Machine: {said["machine"]}, all parts on it, {said["jobs"]} rows measured at a time; load average
before the run {said["load"]:.1f}. Other programs' work makes the moment between two steps longer.
Versions: {parts}.

{HEAD}
{rows}

* **n**: messages that the peer's client took without an error. Where it raised one, the producer
  went on to the next message (**refused** times), which counts nowhere.
* **lost**: never arrived, and the broker has no copy: nothing can bring it back.
* **dup**: copies that arrived beyond one of each.
* **stranded**: hadn't arrived after the waiting time, and the broker still had a copy.
* **recovered**: from the later of last fault and last enqueueing to the last message's arrival;
  "not" where messages are lost or stranded. It includes working off what was waiting.
* **repeat due**: had arrived, and the broker still had a copy that counts as not done: sent again
  if it is ever recovered.
* **restarts**: of a worker's main process. **abort ran**: how often the tasks that end their
  process were started until the row was over.

## How it was measured

A task sends one mail by smtplib to an SMTP server which answers {TAKES_S * 1000:.0f} ms after the
final dot, with a line on disk before it answers; the key of the message is the recipient's local
part. For {share:.0%} of the messages it refuses the first attempt with 451, so that there are
always tasks which fail and are tried again: up to {MAX_RETRIES} times, with a back-off from
{FIRST_RETRY_S} to {LAST_RETRY_S} s and the library's own jitter, in every row.
Half of the messages are enqueued at once, the others over {spread:.0f} s, while the faults go on;
{INSTANCES} worker programs of 4 (Dramatiq: one process of four threads; Celery: prefork of four)
take them and are started again when they end.

Waiting time: a row is over when nothing has arrived for {QUIET_S:.0f} s after the last fault and
the last enqueueing, at most {LONGEST_S:.0f} s after them; {EMPTY_QUIET_S:.0f} s are enough where
Redis holds no good message any more. With its defaults Dramatiq on Redis looks for what dead
workers left from 60 s after their death, by chance at one command of a thousand, and Celery on
Redis after an hour: what is *stranded* in those rows may come later, and what is *lost* can't.

The faults:

{faults}

The settings, beside those retries:

{settings}

## What stands behind the figures

Read in the workers' logs and in the source of the pinned versions:

* **F6, Dramatiq on Redis, lost**: a task fails while Redis is away; the middleware that should
  enqueue its retry gets the connection error, which is logged ("Unexpected failure in
  after_process_message of … Retries") and dropped; the message isn't marked as failed, so it is
  acknowledged when Redis is back.
* **F6, Dramatiq on Redis, stranded**: retries that wait for their time are held by the consumer; a
  connection error replaces it by a new one that doesn't know them, while their ids stay in the set
  of a worker that lives on.
* **F6, Celery, lost**: `Task.retry` that can't publish the retry rejects its message without
  requeueing it (`Reject(…, requeue=False)`).
* **F6-shipped**: Redis comes back as its last snapshot has it, with little or nothing in it.
* **F7**: the broker has the only copy. Not lost is what was enqueued after the last wipe or sent
  before the first, and what workers had in hand, which a wipe doesn't reach.
* **F21**: where a message is acknowledged after the work, a task that kills its process is given
  out again without an end, as fast as the broker notices; Celery's defaults acknowledge first and
  run it once. In Dramatiq the process that dies has all threads and prefetched neighbours in it,
  in Celery one task. A delivery limit, which quorum queues can have, isn't set. Celery's main
  process ends at each message that isn't JSON in Redis ("Unrecoverable error"), which costs its
  neighbours a restart and nothing more.

A seed fixes the moments of the faults and which messages are refused, not how the processes meet
them: figures differ from run to run. Neither library promises "exactly once", and the copies that
a kill between a server's answer and the acknowledgement makes can't be avoided by anybody.
"""
