"""The real command in a process of its own, and files to bring in.

Times are counted from now, because the command reads the machine's clock.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from tests.acceptance import warm

ROOT = warm.ROOT
COMMAND = [sys.executable, "-c", "from workers.cli import main; main()"]
LIMIT_S = 280.0
NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for scripts."""
        return json.loads(self.out)


@dataclass(slots=True)
class Shell:
    """Runs commands in a folder."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "", **more: str) -> Done:
        with ExitStack() as stack:
            given, out, err = files = [stack.enter_context(TemporaryFile()) for _ in range(3)]
            given.write(stdin.encode())
            given.seek(0)
            process = _idle.pop() if _idle else warm.WarmProcess()
            numbers = [file.fileno() for file in files]
            code = process.run(words, self.folder, self._environ(more), numbers, LIMIT_S)
            _idle.append(process)
            done = Done(code, *(_text(file) for file in (out, err)))
        assert "Traceback" not in done.err, done.err
        return done

    def from_nothing(self, *words: str) -> int:
        """Runs a command with an interpreter of its own, as people do; returns its exit code."""
        return subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self._environ({}),
            capture_output=True,
            timeout=LIMIT_S,
        ).returncode

    def on_a_terminal(self, *words: str, **more: str) -> str:
        """What a terminal of 80 columns is sent."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self._environ({"TERM": "xterm-256color", "COLUMNS": "80", **more}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ):
            os.close(theirs)
            read = b""
            try:
                while part := os.read(ours, 65536):
                    read += part
            except OSError:  # the other end was closed (EIO on Linux)
                pass
            os.close(ours)
        return read.decode()

    def write(self, name: str, text: str) -> str:
        """A file in the folder."""
        (self.folder / name).write_text(text, "utf-8")
        return name

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.environ, **more}


_idle: list[warm.WarmProcess] = []
"""As many as commands were ever run at the same time."""


@atexit.register
def _end() -> None:
    for one in _idle:
        one.end()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return io.StringIO(file.read().decode(), newline=None).read()


CONTACTS = """\
伙伴ID,联系人ID,角色,姓名,邮箱,手机号,语言,免打扰时段,备注
P1,C1,finance,王芳,fang@example.com,13800138000,zh-CN,none,x
P1,C2,sales,Sam,sam@example.com,138****1234,en,none,y
"""


def invitations(*refs: str) -> str:
    """Mailed 108 hours ago: 60 hours before the links die, T-72h is due."""
    sent = (NOW - timedelta(hours=108)).isoformat()
    head = "ref,partner,customer_name,customer_mail,customer_language,origin,sent_at\n"
    rows = [f"{ref},P1,Northwind,{ref}@customer.example,en,ONLINE,{sent}\n" for ref in refs]
    return head + "".join(rows)


def load(shell: Shell, *refs: str) -> None:
    """Contacts, and invitations that are due now: a mail to the customer, one to the inviter."""
    contacts = shell.write("contacts.csv", CONTACTS)
    due = shell.write("invitations.csv", invitations(*(refs or ("I1",))))
    assert shell("import", contacts, due).code == 0


def told(shell: Shell) -> list[dict[str, Any]]:
    """All notifications, newest first."""
    found: list[dict[str, Any]] = shell("list", "--json").json
    return found
