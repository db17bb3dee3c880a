"""Logs are one event a line, without anybody's address."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from workers.logs import configure_logs, mask
from workers.settings import Logs


@pytest.fixture(autouse=True)
def _as_before() -> object:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to ann.lee+x@example.com, later", "to <address>, later"),
        ("call +8613800138000 now", "call <number> now"),
        ("13800138000", "<number>"),
        ("2026-11-24T09:00:00.123456Z run 42", "2026-11-24T09:00:00.123456Z run 42"),
        ("97e4eda5df144f52996dc5f9a5067421", "97e4eda5df144f52996dc5f9a5067421"),
    ],
)
def test_addresses_and_numbers_are_masked_and_nothing_else_is(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_an_event_is_one_line_of_json_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Logs(format="json"))
    structlog.get_logger("x").warning("refused\nnext", detail="<ann@example.com> 王芳", count=2)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)

    assert (said["event"], said["detail"], said["count"]) == (
        "refused\nnext",
        "<<address>> 王芳",
        2,
    )
    assert said["timestamp"].endswith("Z")


def test_a_library_that_logs_an_address_is_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Logs(format="json"))
    logging.getLogger("some.library").error("550 for %s", "ann@example.com")

    assert "ann@example.com" not in capsys.readouterr().err


def test_a_traceback_shows_no_local_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Logs(format="json"))
    secret = "hunter" + "2-in-a-variable"
    try:
        raise ValueError(f"nothing of the {len(secret)} characters")
    except ValueError:
        structlog.get_logger("x").exception("broken")

    assert secret not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_log_on_a_full_disk_stops_nobody() -> None:
    program = (
        "import structlog, logging, workers.logs, workers.settings\n"
        "workers.logs.configure_logs(workers.settings.Logs(format='json'))\n"
        "for _ in range(300):\n"
        "    structlog.get_logger('x').info('sent', detail='a' * 100)\n"
        "    logging.getLogger('y').warning('slow')\n"
        "print('went on')\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, text=True
        )

    assert (done.returncode, done.stdout) == (0, "went on\n")
