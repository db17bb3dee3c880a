"""A real Redis for the tests: a private server on a free port, or the one TEST_REDIS_URL names.

One server serves a whole test session, xdist's workers included, as with PostgreSQL; each test gets
an empty database of it. A test that stops and starts its broker has a server of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

NOTE = "redis.json"
PROGRAM = os.environ.get("TEST_REDIS_PROGRAM", "")
"""Chooses one, such as valkey-server; empty: the first that is there."""
PROGRAMS = (PROGRAM,) if PROGRAM else ("redis-server", "valkey-server")
DATABASES = 1024
START_S = 20.0
PORTS = range(20_000, 32_000)


class RedisMissing(Exception):
    """There is no Redis to be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `pid` and `home` are empty for one that others run."""

    base_url: str
    pid: int = 0
    home: str = ""

    def url(self, database: int) -> str:
        """How to reach one of its databases."""
        return f"{self.base_url}/{database}"

    def stop(self) -> None:
        """Kills it and removes its data, if it is ours."""
        if self.pid:
            _end(self.pid)
            shutil.rmtree(self.home, ignore_errors=True)


class OwnServer:
    """A server that a test stops and starts; what isn't written to disk is gone then."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.home = tempfile.mkdtemp(prefix="duewatch-redis-")
        self.options = options
        self._pid = 0

    def start(self) -> None:
        """Starts it, on the same port each time. Raises RedisMissing."""
        self._pid = _launch(self.home, self.port, *self.options)

    def kill(self) -> None:
        """Kills it at once, if it runs."""
        if self._pid:
            _end(self._pid)
            self._pid = 0

    def remove(self) -> None:
        """Kills it and removes its data."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def running(shared: Path) -> Server:
    """The session's server, started by the first who asks. Raises RedisMissing."""
    with _locked(shared):
        note = shared / NOTE
        if note.exists():
            return Server(**json.loads(note.read_text()))
        server = _given() or _start()
        note.write_text(json.dumps(asdict(server)))
        return server


def stop(shared: Path) -> None:
    """Stop the session's server, if anybody started it."""
    with _locked(shared):
        note = shared / NOTE
        if note.exists():
            Server(**json.loads(note.read_text())).stop()
            note.unlink()


def next_database(shared: Path, server: Server) -> int:
    """The number of a database that no other test of this session has had."""
    with _locked(shared):
        counter = shared / "redis.count"
        number = int(counter.read_text()) + 1 if counter.exists() else 0
        counter.write_text(str(number))
    # Of somebody else's server only the numbers that every server has.
    return number % (DATABASES if server.pid else 16)


def empty(url: str) -> None:
    """Empties a database."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def free_port() -> int:
    """A port that nobody listens on just now, and that the system gives to no connection.

    Of those that it gives (from 32768 on, on Linux), one would be taken while its server is down.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", secrets.choice(PORTS)))
            return int(probe.getsockname()[1])


@contextmanager
def _locked(shared: Path) -> Iterator[None]:
    with (shared / "redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _given() -> Server | None:
    url = os.environ.get("TEST_REDIS_URL", "")
    return Server(url.rstrip("/")) if url else None


def _start() -> Server:
    home, port = tempfile.mkdtemp(prefix="duewatch-redis-"), free_port()
    try:
        return Server(f"redis://127.0.0.1:{port}", _launch(home, port), home)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _launch(home: str, port: int, *options: str) -> int:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise RedisMissing(f"install {' or '.join(PROGRAMS)}, or set TEST_REDIS_URL")
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", home, "--save", ""]
    settings += ["--databases", str(DATABASES), *options]
    with Path(home, "log").open("ab") as log:
        process = subprocess.Popen(
            [program, *settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    # Ended by its number, perhaps by another process: nobody waits for it here.
    process.returncode = 0
    deadline = time.monotonic() + START_S
    with redis.Redis(port=port, host="127.0.0.1") as client:
        while True:
            try:
                client.ping()
                return process.pid
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise RedisMissing(f"it didn't start: see {home}/log") from None
                time.sleep(0.05)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # another worker's child: it goes by itself
        time.sleep(0.1)
