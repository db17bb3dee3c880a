"""A real RabbitMQ for the tests: a private server, or the one that TEST_RABBITMQ_URL names.

It takes ten seconds to start, so it is started by the first test that asks for it and serves the
whole session, xdist's workers included; each test gets a virtual host of it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.redis import free_port

NOTE = "rabbitmq.json"
# Debian's own command of that name insists on an account and a home of its own.
PROGRAMS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
START_S = 90.0


class RabbitmqMissing(Exception):
    """There is no RabbitMQ to be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `pids` and `home` are empty for one that others run.

    `api_url` is its management plugin's address.
    """

    base_url: str
    api_url: str
    pids: tuple[int, ...] = ()
    home: str = ""

    def url(self, host: str) -> str:
        """How to reach one of its virtual hosts."""
        return f"{self.base_url}/{quote(host, safe='')}"

    def create(self, host: str) -> None:
        """Makes an empty virtual host that our account may use."""
        user = quote(urlsplit(self.base_url).username or "guest", safe="")
        self.ask("PUT", f"vhosts/{host}", {})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self.ask("PUT", f"permissions/{host}/{user}", rights)

    def drop(self, host: str) -> None:
        """Removes a virtual host, and with it every connection that a test left open."""
        with suppress(urllib.error.URLError):
            self.ask("DELETE", f"vhosts/{host}")

    def ask(self, method: str, path: str, body: object = None) -> object:
        """Asks the management plugin."""
        parts = urlsplit(self.base_url)
        key = base64.b64encode(f"{parts.username or 'guest'}:{parts.password or 'guest'}".encode())
        request = urllib.request.Request(
            f"{self.api_url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {key.decode()}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        """Kills it and removes its data, if it is ours."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self.home:
            time.sleep(0.2)
            shutil.rmtree(self.home, ignore_errors=True)


class OwnServer:
    """A server that a test kills and starts again; durable queues are still there then."""

    def __init__(self) -> None:
        self.home = tempfile.mkdtemp(prefix="duewatch-rabbitmq-")
        self._ports = [free_port() for _ in range(4)]
        self.url = f"amqp://guest:guest@127.0.0.1:{self._ports[0]}/%2F"
        self._server: Server | None = None

    def start(self) -> None:
        """Starts it, on the same port each time. Raises RabbitmqMissing."""
        self._server = _launch(self.home, self._ports)

    def kill(self) -> None:
        """Kills it at once, if it runs; its data stay."""
        if self._server is not None:
            Server("", "", self._server.pids).stop()
            self._server = None

    def remove(self) -> None:
        """Kills it and removes its data."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def running(shared: Path) -> Server:
    """The session's server, started by the first who asks. Raises RabbitmqMissing."""
    with _locked(shared):
        note = shared / NOTE
        if note.exists():
            said = json.loads(note.read_text())
            return Server(**{**said, "pids": tuple(said["pids"])})
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


@contextmanager
def _locked(shared: Path) -> Iterator[None]:
    with (shared / "rabbitmq.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _given() -> Server | None:
    url = os.environ.get("TEST_RABBITMQ_URL", "").rstrip("/")
    if not url:
        return None
    api = os.environ.get("TEST_RABBITMQ_API", f"http://{urlsplit(url).hostname}:15672")
    return Server(url, api.rstrip("/"))


def _start() -> Server:
    home = tempfile.mkdtemp(prefix="duewatch-rabbitmq-")
    try:
        return _launch(home, [free_port() for _ in range(4)])
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _launch(home: str, ports: list[int]) -> Server:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise RabbitmqMissing("install rabbitmq-server, or set TEST_RABBITMQ_URL")
    port, api, between, mapper = ports
    place = Path(home)
    (place / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {api}\n"
        "vm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 10MB\n"
        "log.console = false\n"
    )
    (place / "plugins").write_text("[rabbitmq_management].\n")
    cookie = place / ".erlang.cookie"
    if not cookie.exists():
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o400)
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": home,
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_MNESIA_BASE": f"{home}/data",
        "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
        "RABBITMQ_PID_FILE": f"{home}/pid",
    }
    # In groups of their own, so that what they start ends with them.
    with (place / "out").open("ab") as out:
        pids = tuple(
            _detached(words, environ, out.fileno())
            for words in (["epmd", "-port", str(mapper), "-address", "127.0.0.1"], [program])
        )
    server = Server(f"amqp://guest:guest@127.0.0.1:{port}", f"http://127.0.0.1:{api}", pids, home)
    deadline = time.monotonic() + START_S
    while True:
        try:
            server.ask("GET", "overview")
            return server
        except OSError:
            if time.monotonic() > deadline:
                Server("", "", pids).stop()
                raise RabbitmqMissing(f"it didn't start: see {home}/log") from None
            time.sleep(0.25)


def _detached(words: list[str], environ: dict[str, str], out: int) -> int:
    process = subprocess.Popen(
        words,
        env=environ,
        cwd=environ["HOME"],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,
    )
    # Ended by its number, perhaps by another process: nobody waits for it here.
    process.returncode = 0
    return process.pid
