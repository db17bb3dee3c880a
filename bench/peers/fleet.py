"""A cell's processes: two worker programs that are started again when they end, and the others."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.peers.cell import Library

ROOT = Path(__file__).parents[2]
COMMANDS: Mapping[Library, Sequence[str]] = {
    "dramatiq": ("dramatiq", "bench.peers.dramatiq_app", "--processes", "1", "--threads", "4"),
    "celery": (
        *("celery", "-A", "bench.peers.celery_app", "worker", "--concurrency", "4"),
        *("--loglevel", "WARNING"),
    ),
}
INSTANCES = 2
RESTART_S = 0.5
LOOK_S = 0.1


def launch(words: Sequence[str], environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Starts `python -m words` in a process group of its own."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills it with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def members(group: int) -> list[int]:
    """The living processes of a process group, but for Python's own trackers of resources."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, its_group = place.joinpath("stat").read_text().rpartition(")")[2].split()[:3]
            tracker = b"resource_tracker" in place.joinpath("cmdline").read_bytes()
            if int(its_group) == group and state != "Z" and not tracker:
                found.append(int(place.name))
    return sorted(found)


class Fleet:
    """Keeps the worker programs running, as systemd does with Restart=always: one whose main
    process ended is killed as a group and started again."""

    def __init__(self, library: Library, environ: Mapping[str, str], home: Path) -> None:
        self._library, self._environ, self._home = library, environ, home
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.restarts = 0

    def start(self) -> None:
        """Starts them all."""
        for number in range(INSTANCES):
            self._start(number)
        self._thread.start()

    def kill_one(self, rng: random.Random) -> None:
        """SIGKILL of one process: as often a main one, which leads its group, as a child."""
        with self._lock:
            group = rng.choice([process.pid for process in self._running.values()])
        children = [pid for pid in members(group) if pid != group]
        victim = rng.choice(children) if children and rng.random() < 0.5 else group
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        with (self._home / "kills.log").open("a") as log:
            what = "main" if victim == group else "child"
            log.write(f"{time.monotonic():.3f} {what} {victim}\n")

    def stop(self) -> None:
        """SIGKILL of all of them."""
        self._over.set()
        self._thread.join()
        for process in self._running.values():
            end(process)

    def _start(self, number: int) -> None:
        words = list(COMMANDS[self._library])
        if self._library == "celery":
            words += ["--hostname", f"worker{number}@%h"]
        log = self._home / f"worker{number}.log"
        process = launch(words, self._environ, log)
        with self._lock:
            self._running[number] = process

    def _keep(self) -> None:
        while not self._over.wait(LOOK_S):
            for number, process in list(self._running.items()):
                if process.poll() is not None:
                    end(process)
                    self.restarts += 1
                    time.sleep(RESTART_S)
                    self._start(number)
