"""`duewatch demo`: the whole product on made-up data, as whoever just cloned it sees it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.request import urlopen

import pytest

from schedules.rules import load_rules

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from workers.cli import main; main()", "demo"]
EVERY_MESSAGE = {
    (rule.kind, tell.message, channel)
    for rule in load_rules().values()
    for stage in rule.cadence.stages
    for tell in stage.tell
    for channel in tell.by
} | {("digest", "daily", "mail")}

SUMMARY = (
    "1,234.5O",
    "the difference is -0.01",
    "isn't a status of programme",
    "nobody to tell",
    "moot: the record is closed",
    "suppressed: asked not to be written to",
    "numbers of AU aren't allowed",
    "3 taken, 1 repeat, 2 refused",
    "The ledger adds up",
)
"""What was refused, held and not sent."""


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a folder of its own; killed when the test ends before it does."""
    process = subprocess.Popen(
        [*COMMAND, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "140"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def output_until(process: subprocess.Popen[str], pattern: str) -> tuple[str, str]:
    """(what was printed up to a match, the match); all that was printed if none ever comes."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if found := re.search(pattern, line):
            return text, found.group()
    pytest.fail(f"it ended without {pattern}:\n{text}")


def sent(database: Path) -> set[tuple[str, str, str, str]]:
    """(rule, message, channel, language) of everything in the inbox."""
    with closing(sqlite3.connect(database)) as connection:
        return set(
            connection.execute(
                "SELECT n.kind, n.message, n.channel, n.language FROM inbox i "
                "JOIN notifications n ON n.uid = i.uid"
            )
        )


def mails(database: Path, kind: str, language: str) -> list[EmailMessage]:
    with closing(sqlite3.connect(database)) as connection:
        sources = connection.execute(
            "SELECT i.source FROM inbox i JOIN notifications n ON n.uid = i.uid "
            "WHERE n.channel = 'mail' AND n.kind = ? AND n.language = ?",
            (kind, language),
        ).fetchall()
    return [message_from_bytes(source, policy=policy.default) for (source,) in sources]


def longest_list(database: Path) -> int:
    """How many lines the longest list has that was sent."""
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute(
            "SELECT max((SELECT count(*) FROM record_lines l WHERE l.kind = r.kind "
            "AND l.ref = r.ref)) FROM inbox i JOIN notifications n ON n.uid = i.uid "
            "JOIN occurrences o ON o.notification_id = n.id JOIN records r ON r.id = o.record_id"
        ).fetchone()
    return int(count)


def test_once_ends_by_itself_with_every_message_in_both_languages_and_a_summary(
    tmp_path: Path,
) -> None:
    with demo(tmp_path, "--once", "--port", "0") as process:
        text, _ = process.communicate(timeout=100)

    assert process.returncode == 0, text
    for part in SUMMARY:
        assert part in text, f"{part!r} isn't in:\n{text}"
    database = tmp_path / "demo-data" / "demo.db"
    wanted = {(*message, language) for message in EVERY_MESSAGE for language in ("zh-CN", "en")}
    assert sent(database) >= wanted
    assert longest_list(database) == 500
    for language, name in (("zh-CN", "开票清单"), ("en", "invoice-list")):
        with_lists = mails(database, "payment", language)
        files = [part for mail in with_lists for part in mail.iter_attachments()]
        names = [part.get_filename() or "" for part in files]
        assert all(found.startswith(name) for found in names)
        starts = {
            found[-4:]: part.get_content()[:4] for found, part in zip(names, files, strict=True)
        }
        assert starts == {"xlsx": b"PK\x03\x04", ".pdf": b"%PDF"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_the_inbox_until_a_signal_and_refuses_a_second_in_its_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    with demo(tmp_path, "--port", "0") as process:
        text, address = output_until(process, r"http://127\.0\.0\.1:\d+/inbox")
        with demo(tmp_path, "--once", "--port", "0") as second:
            said, _ = second.communicate(timeout=60)
        with urlopen(address, timeout=10) as answer:
            page = answer.read().decode()
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30)

    assert second.returncode == 2
    assert "a demo is running in demo-data: stop it first" in said
    assert answer.status == 200
    assert "SMS" in page
    assert "@" in page
    assert process.returncode == 0, text + rest


def test_a_signal_while_it_loads_ends_it_too(tmp_path: Path) -> None:
    with demo(tmp_path, "--port", "0") as process:
        end = time.monotonic() + 60
        while not (tmp_path / "demo-data" / "demo.db").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=30)

    assert process.returncode == 0, text
    assert "Look at the messages" not in text


def test_every_message_is_there_after_a_long_holiday_too(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from datetime import datetime; from pathlib import Path; "
        "from workers.demo import run_demo; "
        "start = datetime.fromisoformat('2026-02-24T10:00+08:00'); "
        "sys.exit(asyncio.run(run_demo(True, 0, Path('here'), start=start)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tuesday 24 February 2026, 10:00" in done.stdout.replace("\n", " ")
    assert {found[:3] for found in sent(tmp_path / "here" / "demo.db")} >= EVERY_MESSAGE
