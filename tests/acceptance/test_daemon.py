"""The real daemon: whole and by role, against a real SMTP server, stopped kindly and unkindly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.acceptance.shell import COMMAND, ROOT
from tests.fakes.smtp_server import HANG, SmtpServer

pytestmark = pytest.mark.acceptance

PEOPLE = "partner,ref,role,name,mail,channels\nP1,C1,finance,Ann,{},mail\n"
STATEMENTS = "ref,partner,statement_kind,generated_at,confirm_by,amount_incl_tax\n"
WAIT_S = 30


def _statement(ref: str, partner: str = "P1") -> str:
    now = datetime.now(UTC)
    soon = (now + timedelta(days=3)).date()
    return f"{ref},{partner},INCENTIVE,{now - timedelta(days=20):%Y-%m-%d},{soon},100.00\n"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class House:
    """A folder with settings, and the processes that run in it."""

    def __init__(self, folder: Path, smtp_port: int, database_url: str) -> None:
        self.folder, self.port = folder, _free_port()
        (folder / "duewatch.toml").write_text(
            f'database_url = "{database_url}"\n'
            f"[web]\nport = {self.port}\n"
            '[mail]\nproviders = ["smtp"]\nsender = "Desk <desk@example.com>"\n'
            f'[providers.smtp]\nhost = "127.0.0.1"\nport = {smtp_port}\ntls = "none"\n'
            "[delivery]\npoll_s = 0.2\nlease_s = 2.0\nfirst_retry_s = 0.2\n"
            "[rules.statement]\nscan_every_s = 10\n",
            "utf-8",
        )
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def do(self, *words: str) -> str:
        """Runs a command to its end and returns what it printed."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def bring(self, name: str, text: str) -> None:
        """Imports a file."""
        (self.folder / name).write_text(text, "utf-8")
        self.do("import", name)

    @contextmanager
    def running(self, role: str) -> Iterator[subprocess.Popen[bytes]]:
        """A role's process; killed at the end if it is still there."""
        with (self.folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                [*COMMAND, role], cwd=self.folder, env=self.environ, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def answer(self, path: str) -> tuple[int, str]:
        """What the web server says; 0 while it isn't there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as got:
                return got.status, got.read().decode()
        except OSError as error:
            return getattr(error, "code", 0), ""

    def counts(self) -> dict[str, int]:
        """Notifications by state; the ledger must add up."""
        told = json.loads(self.do("verify", "--json"))
        assert told["adds_up"] is True
        states: dict[str, int] = told["states"]
        return states


async def _until(true: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    for _ in iter(lambda: loop.time() < end, False):
        if await asyncio.to_thread(true):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"waited {WAIT_S} s for {what}")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/duewatch.db"
    url: str = request.getfixturevalue("postgres_url")
    return url.replace("+asyncpg", "")


async def test_three_roles_in_three_processes_tell_what_is_due(
    tmp_path: Path, database_url: str
) -> None:
    async with SmtpServer() as server:
        house = House(tmp_path, server.port, database_url)
        await asyncio.to_thread(house.bring, "people.csv", PEOPLE.format("ann@example.com"))
        await asyncio.to_thread(house.bring, "statements.csv", STATEMENTS + _statement("S1"))
        with (
            house.running("web") as web,
            house.running("scheduler") as clock,
            house.running("worker") as worker,
        ):
            await _until(lambda: house.answer("/readyz")[0] == 200, "the web server")
            await _until(lambda: bool(server.messages), "the mail")
            assert (
                'duewatch_records{kind="statement",state="open"} 1.0' in house.answer("/metrics")[1]
            )
            for process in (web, clock, worker):
                process.send_signal(signal.SIGTERM)
            codes = [await asyncio.to_thread(one.wait, WAIT_S) for one in (web, clock, worker)]

        assert codes == [0, 0, 0]
        assert [one.recipients for one in server.messages] == [["ann@example.com"]]
        assert await asyncio.to_thread(house.counts) == {"accepted": 1}


async def test_a_stop_finishes_what_is_in_flight_and_a_new_start_repeats_nothing(
    tmp_path: Path,
) -> None:
    async with SmtpServer() as server:
        house = House(tmp_path, server.port, f"sqlite:///{tmp_path}/duewatch.db")
        people = "".join(f"P{n},C{n},finance,Person {n},p{n}@example.com,mail\n" for n in range(40))
        header = PEOPLE.splitlines()[0] + "\n"
        await asyncio.to_thread(house.bring, "people.csv", header + people)
        rows = "".join(_statement(f"S{n}", f"P{n}") for n in range(40))
        await asyncio.to_thread(house.bring, "statements.csv", STATEMENTS + rows)
        with house.running("run") as daemon:
            await _until(lambda: len(server.messages) >= 3, "the first mails")
            daemon.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(daemon.wait, WAIT_S) == 0
        with house.running("run") as daemon:
            await _until(lambda: len(server.messages) >= 40, "the rest")
            await asyncio.sleep(1)
            daemon.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(daemon.wait, WAIT_S) == 0

        told = sorted(address for one in server.messages for address in one.recipients)
        assert told == sorted(f"p{n}@example.com" for n in range(40))
        assert await asyncio.to_thread(house.counts) == {"accepted": 40}


async def test_a_killed_daemon_loses_nothing(tmp_path: Path) -> None:
    # The first message is kept, but the server never says so: the worker dies waiting.
    async with SmtpServer(replies={".": [HANG]}) as server:
        house = House(tmp_path, server.port, f"sqlite:///{tmp_path}/duewatch.db")
        await asyncio.to_thread(house.bring, "people.csv", PEOPLE.format("ann@example.com"))
        await asyncio.to_thread(house.bring, "statements.csv", STATEMENTS + _statement("S1"))
        with house.running("run") as daemon:
            await _until(lambda: bool(server.messages), "the message")
            daemon.kill()
            daemon.wait()
        server.replies.clear()
        with house.running("run") as daemon:
            await _until(lambda: len(server.messages) == 2, "the message again")
            await _until(lambda: house.counts() == {"accepted": 1}, "its record")

        ids = {message_from_bytes(one.content)["Message-ID"] for one in server.messages}
        assert len(ids) == 1, "the copy must have the same Message-ID"


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        house = House(tmp_path, 1, f"sqlite:///{tmp_path}/duewatch.db")
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "run"],
            cwd=tmp_path,
            env=house.environ | {"DUEWATCH_WEB__PORT": str(port)},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    assert done.returncode == 2
    assert "web.port" in done.stderr
    assert "choose another port" in done.stderr
