"""A real MariaDB for the tests, where it is installed: a private server on a free port.

It serves one test module and is killed with its data at the end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.redis import free_port

PROGRAMS = ("mariadbd", "mysqld")
PLACES = "/usr/sbin:/usr/libexec:/usr/local/sbin"
START_S = 60.0


class MariadbMissing(Exception):
    """There is no MariaDB to be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with the databases `host` and an account that may do all in it."""

    home: str
    port: int
    password: str
    process: subprocess.Popen[bytes]

    def url(self, user: str = "writer", password: str | None = None) -> str:
        """How SQLAlchemy reaches it; `reader` may only read."""
        return f"mysql://{user}:{password or self.password}@127.0.0.1:{self.port}/host"

    def stop(self) -> None:
        """Kills it and removes its data."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def start() -> Server:
    """Starts a server. Raises MariadbMissing."""
    path = f"{os.environ.get('PATH', '')}:{PLACES}"
    program = next((found for name in PROGRAMS if (found := shutil.which(name, path=path))), None)
    installer = shutil.which("mariadb-install-db", path=path)
    if program is None or installer is None:
        raise MariadbMissing("mariadbd isn't installed: apt-get install mariadb-server")
    if find_spec("pymysql") is None:
        raise MariadbMissing("PyMySQL isn't installed: pip install duewatch[mysql]")
    home = Path(tempfile.mkdtemp(prefix="duewatch-mariadb-"))
    account = ["--user=root"] if os.geteuid() == 0 else []
    data, port, password = home / "data", free_port(), secrets.token_hex(12)
    subprocess.run(
        [installer, "--no-defaults", f"--datadir={data}", "--skip-test-db", *account],
        check=True,
        capture_output=True,
        timeout=120,
    )
    first = home / "first.sql"
    first.write_text(
        "CREATE DATABASE host CHARACTER SET utf8mb4;\n"
        f"CREATE USER writer@'%' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON host.* TO writer@'%';\n"
        f"CREATE USER reader@'%' IDENTIFIED BY '{password}';\n"
        "GRANT SELECT ON host.* TO reader@'%';\n"
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={home / 'socket'}",
                f"--pid-file={home / 'pid'}",
                f"--port={port}",
                f"--init-file={first}",
                "--bind-address=127.0.0.1",
                "--innodb-flush-log-at-trx-commit=0",
                "--default-time-zone=+08:00",
                *account,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    server = Server(str(home), port, password, process)
    try:
        _wait(server)
    except BaseException:
        server.stop()
        raise
    return server


def _wait(server: Server) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(server.url().replace("mysql:", "mysql+pymysql:"))
    end = time.monotonic() + START_S
    while True:
        try:
            with engine.connect():
                break
        except sa.exc.OperationalError:
            if time.monotonic() > end or server.process.poll() is not None:
                raise
        time.sleep(0.2)
    engine.dispose()
