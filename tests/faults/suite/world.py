"""One world: real servers, real processes of the product, and the means to break them.

Processes are started by the product's own command line with a settings file and the environment,
each under a supervisor that starts it again when it ends, as systemd or Kubernetes would.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg

from tests import rabbitmq, redis
from tests.faults.suite.checker import Findings, check, read_lines
from tests.faults.suite.population import CADENCE, Expected, key_of_mobile, populate
from tests.faults.suite.servers import ROOT, Broker, FarSide, Postgres
from tests.faults.suite.sink import ACCOUNT, TOKEN
from tests.redis import free_port

T = TypeVar("T")

RESTART_S = 0.2
"""How long a supervisor waits before it starts a process again."""
COMMAND = "from workers.cli import main; main()"
STILL_S = 90.0
"""After so long without any change a world is taken for settled, or for stuck."""
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
"""What looking into a database raises that is away just now, or was since the last look."""
ACCOUNTS = """
    SELECT n.address, n.channel, n.kind, n.state, n.reason, n.uid, n.created_at, n.accepted_at,
           coalesce(jsonb_agg(jsonb_build_object(
               'number', a.number, 'outcome', a.outcome, 'reply', a.reply,
               'began', extract(epoch FROM a.began_at), 'ended', extract(epoch FROM a.ended_at)
           ) ORDER BY a.number) FILTER (WHERE a.id IS NOT NULL), '[]') AS attempts
    FROM notifications n LEFT JOIN attempts a ON a.notification_id = n.id
    GROUP BY n.id ORDER BY n.id
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command went."""

    code: int
    out: str
    err: str


@dataclass(slots=True, eq=False)
class Process:
    """A process of the product under a supervisor. `exits` has (epoch seconds, exit code) each."""

    name: str
    role: str
    env: Mapping[str, str]
    supervised: bool = True
    exits: list[tuple[float, int]] = field(default_factory=list)
    running: asyncio.subprocess.Process | None = None
    starts: int = 0
    log_from: int = 0
    _watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, if one does."""
        return self.running.pid if self.running and self.running.returncode is None else None

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal; false when nothing runs just now."""
        if self.pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False

    async def ended(self, timeout_s: float = 60.0) -> int:
        """Waits for the process that runs now and returns its exit code. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            assert self.running is not None
            return await self.running.wait()


class World:
    """Entered, it has PostgreSQL, a broker and the far side; nothing of the product runs yet.

    `broker` is "redis", "rabbitmq" or "" for none; `settings` are laid over those of `_settings`;
    `tree` is where the product's code is taken from, a mutant's copy perhaps.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stock: Path | None = None,
        broker: str = "redis",
        settings: Mapping[str, Any] | None = None,
        postgres_options: tuple[str, ...] = (),
        tree: Path = ROOT,
    ) -> None:
        self.folder = folder
        self.tree = tree
        self._stock = stock
        self.far_side = FarSide(folder / "sink.jsonl")
        self.web_ports: list[int] = []
        self.processes: list[Process] = []
        self.kills: list[float] = []
        self.settings = _merged(_settings(self.far_side), settings or {})
        self._options = postgres_options
        self._broker = broker
        self._conn: asyncpg.Connection[Any] | None = None
        self.postgres: Postgres
        self.broker: Broker | None = None
        self._ending = asyncio.Event()
        self._meanwhile: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.far_side.start()
        try:
            self.postgres = await asyncio.to_thread(Postgres, *self._options)
            if self._broker:
                made = {"redis": redis.OwnServer, "rabbitmq": rabbitmq.OwnServer}[self._broker]()
                self.broker = made
                await asyncio.to_thread(made.start)
            (self.folder / "duewatch.toml").write_text(_toml(self.settings))
            await self.command("migrate")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._meanwhile:
            task.cancel()
        await asyncio.gather(*self._meanwhile, return_exceptions=True)
        await self.stop(graceful=False)
        if self._conn is not None:
            self._conn.terminate()
        if self.broker is not None:
            await asyncio.to_thread(self.broker.remove)
        if hasattr(self, "postgres"):
            await asyncio.to_thread(self.postgres.remove)
        self.far_side.kill()

    # --- the product ----------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """What the product is told unless a process is told otherwise."""
        return self.postgres.url()

    def environ(self, **more: str) -> dict[str, str]:
        """What a process of the product is given; nothing of ours is inherited but the PATH."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker.url if self.broker else "",
            **more,
        }

    async def command(self, *words: str, timeout_s: float = 300, **env: str) -> Ended:
        """Runs `duewatch words…` to its end. Raises RuntimeError for exit codes above 1."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COMMAND, *words),
            cwd=self.folder,
            env=self.environ(**env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        ended = Ended(process.returncode, out.decode(), err.decode())
        if ended.code > 1:
            raise RuntimeError(f"duewatch {' '.join(words)}: {ended.code}: {ended.err[-2000:]}")
        return ended

    async def start(
        self, role: str, count: int = 1, *, supervised: bool = True, **env: str
    ) -> list[Process]:
        """Starts processes of a role, `web`, `worker`, `scheduler` or `run`.

        A web server has the port of `web_ports` at its place. `env` is added to their environment.
        """
        made = []
        for _ in range(count):
            name = f"{role}-{sum(one.role == role for one in self.processes) + 1}"
            mine = {"DUEWATCH_STATE__FILE": str(self.folder / f"{name}.state"), **env}
            if role in {"web", "run"} and "DUEWATCH_WEB__PORT" not in env:
                self.web_ports.append(free_port())
                mine["DUEWATCH_WEB__PORT"] = str(self.web_ports[-1])
            process = Process(name, role, mine, supervised)
            self.processes.append(process)
            await self._launch(process)
            process._watch = asyncio.create_task(self._supervise(process))
            made.append(process)
        return made

    async def _launch(self, process: Process) -> None:
        with (self.folder / f"{process.name}.log").open("ab") as log:
            process.log_from = log.tell()
            process.running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", COMMAND, process.role),
                cwd=self.folder,
                env=self.environ(**process.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process.starts += 1

    async def _supervise(self, process: Process) -> None:
        while True:
            assert process.running is not None
            code = await process.running.wait()
            process.exits.append((time.time(), code))
            if not process.supervised or self._ending.is_set():
                return
            await asyncio.sleep(RESTART_S)
            if self._ending.is_set():
                return
            await self._launch(process)

    def kill(self, process: Process) -> bool:
        """SIGKILL; its supervisor starts it again. False when it isn't up just now."""
        done = process.signal(signal.SIGKILL)
        if done:
            self.kills.append(time.time())
        return done

    async def stop(self, *, graceful: bool = True) -> None:
        """Ends all processes of the product, and their supervisors."""
        self._ending.set()
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM if graceful else signal.SIGKILL)
        for process in self.processes:
            if process.running is not None:
                try:
                    await process.ended(45)
                except TimeoutError:
                    process.signal(signal.SIGKILL)
            if process._watch is not None:
                await asyncio.gather(process._watch, return_exceptions=True)
        self.processes.clear()
        self._ending.clear()

    async def ready(self, process: Process, timeout_s: float = 60.0) -> None:
        """Waits until a process has said "ready" since its last start. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while process.pid is None or not self._says_ready(process):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def _says_ready(self, process: Process) -> bool:
        with (self.folder / f"{process.name}.log").open("rb") as log:
            log.seek(process.log_from)
            return b'"event": "ready"' in log.read()

    def meanwhile(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Does it beside what follows; given up at the latest when the world ends."""
        task = asyncio.create_task(work)
        self._meanwhile.add(task)
        return task

    def logs(self, name: str) -> list[dict[str, Any]]:
        """What a process has logged, over all its starts."""
        return read_lines(self.folder / f"{name}.log")

    # --- messages -------------------------------------------------------------------------

    async def load(
        self,
        count: int,
        rng: random.Random | None = None,
        *,
        sms_share: float = 0.0,
        plan: bool = True,
        fresh: bool = False,
    ) -> list[Expected]:
        """Writes the truth down, imports the people and statements, and plans what is due.

        `count` messages must be sent; a few more must not. Without `plan` a scheduler does that.
        The first load of a kind is kept in the stock, and other worlds of this tree begin with it;
        `fresh`, or a second load of one world, does it all anew.
        """
        first = len(read_lines(self.folder / "expected.jsonl"))
        saved = self._stock and self._stock / f"{self.tree.name}-{count}-{sms_share}-{plan}"
        if fresh or first or saved is None:
            return await self._import(count, rng or random.Random(first), sms_share, plan, first)
        if not saved.exists():
            await self._import(count, random.Random(0), sms_share, plan, 0)
            saved.mkdir(parents=True)
            await asyncio.to_thread(self.postgres.save, saved)
            shutil.copy(self.folder / "expected.jsonl", saved)
        else:
            await asyncio.to_thread(self.postgres.begin_with, saved)
        now = round(time.time(), 3)
        lines = [{**line, "due": now} for line in read_lines(saved / "expected.jsonl")]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / "expected.jsonl").write_text(text, "utf-8")
        return [Expected(**line) for line in lines]

    async def _import(
        self, count: int, rng: random.Random, sms_share: float, plan: bool, first: int
    ) -> list[Expected]:
        expected = populate(self.folder, count, rng, sms_share=sms_share, first=first)
        done = await self.command("import", "contacts.csv", "statements.csv")
        if done.code:
            raise RuntimeError(f"not all was imported: {done.out[-1000:]}")
        if plan:
            await self.command("scan", "statement")
        return expected

    async def query(self, sql: str, *values: Any) -> list[Any]:
        """Rows of the world's own look into the database, on a connection that no proxy is in."""
        if self._conn is not None:
            with suppress(*AWAY):
                return list(await self._conn.fetch(sql, *values, timeout=30))
            self._conn.terminate()
        self._conn = await asyncpg.connect(self.postgres.url(), timeout=10)
        return list(await self._conn.fetch(sql, *values, timeout=30))

    async def open_messages(self) -> int:
        """How many are pending or in flight."""
        sql = "SELECT count(*) FROM notifications WHERE state IN ('pending', 'sending')"
        return int((await self.query(sql))[0][0])

    async def settled(self, timeout_s: float = 600, still_s: float = STILL_S) -> bool:
        """Waits until nothing is pending or in flight; false when that doesn't come about.

        Given up after `timeout_s`, or when nothing has changed for `still_s`.
        """
        end = time.monotonic() + timeout_s
        before, since = -1, time.monotonic()
        while time.monotonic() < end:
            try:
                left = await self.open_messages()
            except AWAY:
                left = before
            if left == 0:
                return True
            if left != before:
                before, since = left, time.monotonic()
            if time.monotonic() - since > still_s:
                return False
            await asyncio.sleep(0.25)
        return False

    async def accounts(self) -> Findings:
        """Copies the database's account out and compares the three."""
        rows = await self.query(ACCOUNTS)
        with (self.folder / "database.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                mobile = row["channel"] == "sms"
                address = row["address"]
                key = key_of_mobile(address) if mobile else address.partition("@")[0]
                said = {name: row[name] for name in ("channel", "kind", "state", "reason", "uid")}
                attempts = json.loads(row["attempts"])
                file.write(json.dumps({"key": key, **said, "attempts": attempts}) + "\n")
        return check(
            read_lines(self.folder / "expected.jsonl"),
            read_lines(self.folder / "database.jsonl"),
            read_lines(self.folder / "sink.jsonl"),
            self.kills,
        )


def _settings(far_side: FarSide) -> dict[str, Any]:
    """The product's defaults, but for where it sends to and what is due.

    No limit of one mail domain or of quiet hours stands between a message and its way.
    """
    return {
        "logs": {"format": "json"},
        "mail": {
            "providers": ["smtp"],
            "sender": "desk@example.com",
            "per_domain_per_minute": 0,
        },
        "sms": {"providers": ["twilio"], "quiet_hours": "none"},
        "providers": {
            "smtp": {"host": "127.0.0.1", "port": far_side.smtp_port, "tls": "none"},
            "twilio": {
                "base_url": far_side.url,
                "account_sid": ACCOUNT,
                "auth_token": TOKEN,
                "sender": "+15005550006",
            },
        },
        "rules": {"statement": dict(CADENCE)},
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        under = found.get(key)
        both = isinstance(value, dict) and isinstance(under, dict)
        found[key] = _merged(under, value) if both and under is not None else value
    return found


def _toml(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A TOML file of tables, numbers, texts, truth values and lists."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"[{'.'.join(json.dumps(part) for part in path)}]"] if path and plain else []
    lines += [f"{json.dumps(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines.append(_toml(value, (*path, key)))
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
