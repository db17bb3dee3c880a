"""The servers of one world: PostgreSQL, a broker, the far side; each can be killed and started."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from tests import postgres
from tests.redis import free_port

ROOT = Path(__file__).parents[3]
START_S = 20.0


class Broker(Protocol):
    """A broker that can be killed and started; `tests.redis` and `tests.rabbitmq` have one each."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


class Postgres:
    """A server as an operator runs one, with PostgreSQL's own defaults: every commit is flushed.

    `options` are further `name=value` settings.
    """

    def __init__(self, *options: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="duewatch-faults-pg-"))
        self.port, self.password = free_port(), secrets.token_hex(16)
        self._options = ("max_connections=200", *options)
        try:
            self._make()
        except BaseException:
            shutil.rmtree(self.home, ignore_errors=True)
            raise

    def url(self, database: str = "duewatch", port: int | None = None) -> str:
        """As operators write it; `port` is another that leads here, a proxy's."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Starts it, on the same port each time, after a crash too."""
        said = " ".join(f"-c {one}" for one in self._options)
        said += f" -c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories="
        self._run("pg_ctl", "start", "-w", "-t", "60", "-l", str(self.home / "log"), "-o", said)

    def crash(self) -> None:
        """Ends it at once, without a checkpoint: what is committed is in the log only."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-w")

    def save(self, to: Path) -> None:
        """Keeps its data, as they are now, for other servers to begin with."""
        self._run("pg_ctl", "stop", "-m", "fast", "-w")
        shutil.copytree(self.home / "data", to / "data")
        (to / "password").write_text(self.password)
        self.start()

    def begin_with(self, saved: Path) -> None:
        """Goes on with what another has saved."""
        self.crash()
        shutil.rmtree(self.home / "data")
        shutil.copytree(saved / "data", self.home / "data")
        postgres._own(self.home / "data", *(self.home / "data").rglob("*"))
        self.password = (saved / "password").read_text()
        self.start()

    def remove(self) -> None:
        """Ends it, if it runs, and removes its data."""
        with suppress(subprocess.CalledProcessError):
            self.crash()
        shutil.rmtree(self.home, ignore_errors=True)

    def _make(self) -> None:
        self._programs = postgres._programs(self.home)
        (self.home / "password").write_text(self.password)
        postgres._own(self.home, self.home / "password")
        self._run(
            *("initdb", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={self.home / 'password'}"),
        )
        self.start()
        where = ("--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "duewatch")
        postgres._run(self._programs, "createdb", *where, PGPASSWORD=self.password)

    def _run(self, program: str, *arguments: str) -> None:
        postgres._run(self._programs, program, "-D", str(self.home / "data"), *arguments)


class FarSide:
    """The SMTP server and the SMS gateway of `sink.py`, and its script from here."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.smtp_port, self.http_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        words = (str(self.log), str(self.smtp_port), str(self.http_port))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.suite.sink", *words], cwd=ROOT
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._ask("/stats")
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """Kills it; its log stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def script(self, *rules: dict[str, Any], seed: int = 1) -> None:
        """From now on it follows these rules (see `sink.py`); none: it takes everything."""
        await asyncio.to_thread(self._ask, "/script", {"rules": rules, "seed": seed})

    async def kept(self) -> int:
        """How many messages it has taken so far."""
        return int((await asyncio.to_thread(self._ask, "/stats"))["kept"])

    async def has_kept(self, count: float, timeout_s: float = 600.0) -> None:
        """Waits until it has taken so many. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while await self.kept() < count:  # noqa: ASYNC110 - of a process one can only ask
                await asyncio.sleep(0.05)

    async def used(self) -> list[int]:
        """How often each rule of the script was followed."""
        return list((await asyncio.to_thread(self._ask, "/stats"))["used"])

    def _ask(self, path: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
