"""What is done to a cell's workers and broker while its messages are sent."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.peers.brokers import Broker
from bench.peers.fleet import Fleet

KILLS, KILL_EVERY_S = 8, 2.5
OUTAGES, DOWN_S, UP_S = 4, 3.0, 4.0
WIPES, WIPE_EVERY_S = 5, 3.0
POISON_OF_EACH_KIND = 5


def kill_workers(fleet: Fleet, broker: Broker, rng: random.Random) -> None:
    """SIGKILL of one process at a time, at random moments."""
    for _ in range(KILLS):
        time.sleep(min(3 * KILL_EVERY_S, rng.expovariate(1 / KILL_EVERY_S)))
        fleet.kill_one(rng)


def kill_broker(fleet: Fleet, broker: Broker, rng: random.Random) -> None:
    """kill -9 of the broker, some seconds without one, several times."""
    for _ in range(OUTAGES):
        time.sleep(UP_S * rng.uniform(0.5, 1.5))
        broker.kill()
        time.sleep(DOWN_S)
        broker.start()


def wipe_broker(fleet: Fleet, broker: Broker, rng: random.Random) -> None:
    """Everything in the broker is removed, several times, at random moments."""
    for _ in range(WIPES):
        time.sleep(min(3 * WIPE_EVERY_S, rng.expovariate(1 / WIPE_EVERY_S)))
        broker.wipe()


def nothing(fleet: Fleet, broker: Broker, rng: random.Random) -> None:
    """The messages themselves are the fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One of the catalogue's faults, with how it is done and what it is called.

    `shipped` runs it on Redis as shipped, which writes to disk now and then only.
    """

    inject: Callable[[Fleet, Broker, random.Random], None]
    said: str
    poison: int = 0
    shipped: bool = False


FAULTS: Mapping[str, Fault] = {
    "F1": Fault(
        kill_workers,
        f"SIGKILL of a worker process, a main one as often as a child, {KILLS} times, every "
        f"{KILL_EVERY_S:g} s on average; a main process is started again after half a second",
    ),
    "F6": Fault(
        kill_broker,
        f"kill -9 of the broker, {OUTAGES} times for {DOWN_S:g} s and its start; Redis has written "
        "every command to disk before it answered (appendfsync always), so what it took it has",
    ),
    "F6-shipped": Fault(
        kill_broker,
        "the same with Redis as shipped: snapshots now and then, no append-only file",
        shipped=True,
    ),
    "F7": Fault(
        wipe_broker,
        f"FLUSHALL (RabbitMQ: every queue purged), {WIPES} times, every {WIPE_EVERY_S:g} s on "
        "average",
    ),
    "F21": Fault(
        nothing,
        f"{POISON_OF_EACH_KIND} messages each of: not JSON, unknown task, wrong arguments, a task "
        "that ends its process by os.abort(); counted are the good messages between them",
        poison=POISON_OF_EACH_KIND,
    ),
}
