"""Commands out of a process that has what most commands import, so that each costs its own work.

A command is a process of its own with its own folder, environment, input and output: a child that
the warm process forks. That a command starts from nothing is tested where that is the question.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]
MESSAGE_BYTES = 2**17


class WarmProcess:
    """A process that starts commands, one at a time; it ends when whoever made it does."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        files: Sequence[int],
        seconds: float,
    ) -> int:
        """A command's exit code, with these files as its input, output and errors.

        Raises TimeoutError; the command and this process are killed then.
        """
        self._ours.settimeout(seconds)
        wanted = {"words": list(words), "folder": str(folder), "environ": dict(environ)}
        try:
            socket.send_fds(self._ours, [json.dumps(wanted).encode()], files)
            return int(self._ours.recv(MESSAGE_BYTES) or b"-1")
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Kills it, and the command that it runs."""
        self._ours.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_PROGRAM = "import sys; from tests.acceptance.warm import serve; serve(int(sys.argv[1]))"


def serve(number: int) -> None:
    """What the warm process does: forks for each message from this socket, until it is closed.

    Returns in the first process only.
    """
    import aiosqlite  # noqa: F401
    import asyncpg  # noqa: F401

    import workers.app
    import workers.cli.frame  # noqa: F401
    from schedules.rules import load_rules

    load_rules()
    gc.freeze()
    with socket.socket(fileno=number) as ours:
        while True:
            message, files, _, _ = socket.recv_fds(ours, MESSAGE_BYTES, 3)
            if not message:
                return
            child = os.fork()
            if child == 0:
                break
            for one in files:
                os.close(one)
            _, status = os.waitpid(child, 0)
            ours.send(str(os.waitstatus_to_exitcode(status)).encode())
    _run(files, **json.loads(message))


def _run(files: list[int], words: list[str], folder: str, environ: dict[str, str]) -> NoReturn:
    for number, one in enumerate(files):
        os.dup2(one, number)
        os.close(one)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["-c", *words]
    from workers.cli import main

    code: object = 1
    try:
        main()
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
    finally:
        # Taking everything apart, as the interpreter does at its end, costs as much as a command.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)
