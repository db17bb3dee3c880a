"""Each role alone, as the real command: it answers those who watch it, and ends when it is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.acceptance.shell import COMMAND, ROOT

pytestmark = pytest.mark.acceptance

WAIT_S = 40


def _answer(url: str) -> tuple[int, str]:
    """Status and body; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.parametrize("role", ["worker", "scheduler"])
def test_a_role_without_the_web_answers_those_who_watch_it_and_nobody_else(
    role: str, tmp_path: Path
) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    environ = os.environ | {"PYTHONPATH": str(ROOT), "DUEWATCH_WEB__HEALTH_PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, role], cwd=tmp_path, env=environ, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + WAIT_S
        while _answer(f"{base}/healthz")[0] != 200 and time.monotonic() < end:
            time.sleep(0.2)
        ready, said = _answer(f"{base}/readyz")
        metrics = _answer(f"{base}/metrics")
        others = [_answer(f"{base}{path}")[0] for path in ("/", "/inbox", "/v1/events")]
        process.send_signal(signal.SIGTERM)
        ended = process.wait(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()

    assert ready == 200, (tmp_path / "log").read_text("utf-8")
    assert json.loads(said)["checks"]["database"] == "ok"
    assert metrics[0] == 200
    assert "duewatch_build_info" in metrics[1]
    assert others == [404, 404, 404]
    assert ended == 0
