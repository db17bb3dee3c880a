"""The examples for producers, run as they stand against the daemon, Redis and RabbitMQ."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.shell import COMMAND, ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

EXAMPLES = ROOT / "docs/examples/producers"
SECRET = "the-secret-of-the-example-2026"
WAIT_S = 60
PEOPLE = "partner,ref,role,name,mail\nP-1001,C-1,finance,Ann,ann@harbour.example\n"


class House:
    """A daemon in a folder, and the examples run against it."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"sqlite:///{folder / 'duewatch.db'}",
            "BROKER_URL": broker_url,
            "DUEWATCH_WEB__PORT": str(self.port),
            "DUEWATCH_PRODUCERS__BILLING__KEYS": f'{{ 2026a = "{SECRET}" }}',
            "EVENTS_URL": f"http://127.0.0.1:{self.port}",
            "PRODUCER_SECRET": SECRET,
        }
        self.folder = folder

    def do(self, *words: str) -> str:
        """Runs a command to its end and returns what it printed."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def example(self, *words: str) -> None:
        """Runs an example as its page says."""
        done = subprocess.run(
            words, cwd=EXAMPLES, env=self.environ, capture_output=True, text=True, timeout=WAIT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def refs(self) -> set[str]:
        """Of all records."""
        return {one["ref"] for one in json.loads(self.do("records", "--json"))}


@contextmanager
def daemon(folder: Path, broker_url: str) -> Iterator[House]:
    house = House(folder, broker_url)
    (folder / "people.csv").write_text(PEOPLE, "utf-8")
    house.do("import", "people.csv")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "run"],
            cwd=folder,
            env=house.environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _ready(house), folder)
        yield house
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def until(happened: Callable[[], bool], folder: Path) -> None:
    ends = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < ends, (folder / "log").read_text()[-3000:]
        time.sleep(0.3)


def _ready(house: House) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{house.port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"no {name}: install it", pytrace=False)
    if found is None:
        pytest.skip(f"no {name}")
    return found


def test_curl_and_node_send_over_http(tmp_path: Path) -> None:
    with daemon(tmp_path, "") as house:
        house.example(program("sh"), "curl.sh")
        house.example(program("node"), "node.mjs")

        assert {"CURL-1", "NODE-1"} <= house.refs()


@pytest.mark.rabbitmq
def test_python_sends_over_rabbitmq_with_and_without_dramatiq(
    tmp_path: Path, rabbitmq_url: str
) -> None:
    with daemon(tmp_path, rabbitmq_url) as house:
        for name in ("amqp.py", "with_dramatiq.py", "sealed.py"):
            house.example(sys.executable, name)

        until(lambda: "AMQP-1" in house.refs(), tmp_path)
        until(lambda: "DRAMATIQ-1" in house.do("contacts", "P-1001", "--json"), tmp_path)
        assert json.loads(house.do("quarantine", "list", "--json")) == []


@pytest.mark.redis
def test_python_sends_over_redis_with_and_without_dramatiq(tmp_path: Path, redis_url: str) -> None:
    with daemon(tmp_path, redis_url) as house:
        for name in ("raw_redis.py", "with_dramatiq.py"):
            house.example(sys.executable, name)

        until(lambda: "REDIS-1" in house.refs(), tmp_path)
        until(lambda: "DRAMATIQ-1" in house.do("contacts", "P-1001", "--json"), tmp_path)
        until(lambda: "request" in house.do("list", "--json"), tmp_path)
        assert json.loads(house.do("quarantine", "list", "--json")) == []
