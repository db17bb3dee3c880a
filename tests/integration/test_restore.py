"""A restored backup sends nothing before somebody has seen what would be sent again."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.acceptance.shell import COMMAND, ROOT, Shell, load, told
from tests.fakes.clock import FakeClock
from tests.product import NOW, contact, inbox, opened, planned, statement, states
from workers.app import App
from workers.restore import Gate, resume, send_behind, what_would_be_sent
from workers.settings import Scheduler, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

UNTIED = {"scheduler": Scheduler(clock_tolerance_s=0)}
"""The tests' clock stands still, the database's doesn't."""
HOUR = timedelta(hours=1)
WAIT_S = 30


def gate_of(app: App) -> Gate:
    """A worker's gate, as when its process has just begun."""
    return Gate(app.store, app.settings, app.clock)


def settings_of(tmp_path: Path) -> dict[str, Any]:
    """Settings under which marks are kept in a file of the test's own."""
    return UNTIED | {"state": State(file=tmp_path / "outside" / "marks")}


def begun(shell: Shell, role: str, log: Path) -> subprocess.Popen[bytes]:
    """A role's process in a shell's folder."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **shell.environ}
    with log.open("ab") as written:
        return subprocess.Popen(
            [*COMMAND, role], cwd=shell.folder, env=environ, stdout=written, stderr=written
        )


@contextmanager
def rewound(file: Path, backup: Path) -> Iterator[None]:
    """What comes in between is lost: the file is put back as it was, as an operator restores it."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    yield
    for end in ("", "-wal", "-shm"):
        Path(f"{file}{end}").unlink(missing_ok=True)
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)


@asynccontextmanager
async def restored(tmp_path: Path, clock: FakeClock) -> AsyncIterator[App]:
    """A product whose last hour is lost: S1 was sent before the backup, S2 and S3 after it.

    S2 was planned in the backup; S3 came and was sent in the hour that is lost, and comes again.
    """
    file = tmp_path / "duewatch.db"
    url = f"sqlite:///{file}"
    (tmp_path / "outside").mkdir()
    settings = settings_of(tmp_path)
    people = [contact(f"C{n}", partner=f"P{n}") for n in (1, 2, 3)]
    async with opened(url, clock, **settings) as app:
        gate = gate_of(app)
        assert await gate.look() == ""
        await planned(app, *people, statement("S1"))
        await app.delivery.drain()
        await planned(app, statement("S2", partner="P2"))
        assert await gate.look() == ""
    with rewound(file, tmp_path / "old"):
        async with opened(url, clock, **settings) as app:
            gate = gate_of(app)
            assert await gate.look() == ""
            clock.advance(HOUR)
            await planned(app, statement("S3", partner="P3"))
            await app.delivery.drain()
            assert sorted((await states(app)).values()) == ["accepted"] * 3
            assert await gate.look() == ""
    clock.advance(HOUR)
    async with opened(url, clock, **settings) as app:
        yield app


async def test_a_worker_on_a_restored_database_sends_nothing_and_scans_go_on_planning(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with restored(tmp_path, clock) as app:
        stopping = asyncio.Event()
        gate = gate_of(app)
        worker = asyncio.create_task(send_behind(gate, app.delivery, stopping))
        await asyncio.sleep(0.5)
        await planned(app, statement("S3", partner="P3"))
        app.delivery.ring()
        await asyncio.sleep(1)

        assert "an old state of the database was restored: 2 attempts are missing" in gate.closed
        assert "duewatch resume-after-restore" in gate.closed
        assert await inbox(app) == ["c1@example.com"]
        assert await states(app) == {
            "c1@example.com": "accepted",
            "c2@example.com": "pending",
            "c3@example.com": "pending",
        }
        stopping.set()
        await worker


async def test_once_it_is_noticed_no_claim_succeeds_whoever_makes_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with restored(tmp_path, clock) as app:
        await gate_of(app).look()
        # As duewatch deliver does, and a worker that hasn't looked yet.
        await app.delivery.drain()

        assert await inbox(app) == ["c1@example.com"]


async def test_what_was_sent_in_the_lost_time_is_told_from_what_was_not(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with restored(tmp_path, clock) as app:
        assert await gate_of(app).look() != ""
        clock.advance(timedelta(minutes=1))
        # S3 comes again; S4 is new, and nothing of it was due while sends went on.
        fresh = statement("S4", partner="P4", generated_at=clock(), confirm_by="2026-11-27")
        await planned(app, contact("C4", partner="P4"), statement("S3", partner="P3"), fresh)
        again = await what_would_be_sent(app, None)

        assert again is not None
        assert again.refusal.sends == 2
        assert again.lost_at == NOW + HOUR
        assert again.last_known == NOW
        assert [(one.kind, one.state, one.before, one.since) for one in again.waiting] == [
            ("statement", "pending", 1, 2)
        ]
        rows = await app.store.operations.notifications(state="pending", limit=10)
        assert {row.address for row in rows if row.id in again.repeats} == {
            "c2@example.com",
            "c3@example.com",
        }


async def test_cancelled_repeats_are_not_sent_and_what_comes_later_is(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with restored(tmp_path, clock) as app:
        gate = gate_of(app)
        await gate.look()
        await planned(app, statement("S3", partner="P3"))
        again = await what_would_be_sent(app, None)
        assert again is not None
        await resume(app, again, cancel=True, by="ann", reason="seen")
        assert await gate.look() == ""
        clock.advance(timedelta(hours=46))
        await app.scan.run("statement")
        await app.delivery.drain()

        rows = await app.store.operations.notifications(state="cancelled", limit=10)
        assert {row.address for row in rows} == {"c2@example.com", "c3@example.com"}
        assert all("probably sent before" in row.reason for row in rows)
        # On the last day, of all three: the next stage goes its way.
        assert sorted((await inbox(app))[1:]) == [f"c{n}@example.com" for n in (1, 2, 3)]
        (entry,) = [row for row in await app.store.operations.audit() if row.by == "ann"]
        assert (entry.action, entry.reason) == ("resume-after-restore", "seen")


async def test_an_operator_may_send_everything_again_and_no_worker_refuses_after_that(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with restored(tmp_path, clock) as app:
        gate, elsewhere = gate_of(app), gate_of(app)
        await gate.look()
        await elsewhere.look()
        again = await what_would_be_sent(app, None)
        assert again is not None
        await resume(app, again, cancel=False, by="ann", reason="")
        await app.delivery.drain()

        assert (await gate.look(), await elsewhere.look(), await gate_of(app).look()) == ("",) * 3
        assert await inbox(app) == ["c1@example.com", "c2@example.com"]


async def test_a_machine_that_knows_nothing_hears_it_from_the_database(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with restored(tmp_path, clock) as app:
        await gate_of(app).look()
        state = State(file=tmp_path / "another" / "marks")
        stranger = Gate(app.store, app.settings.model_copy(update={"state": state}), clock)

        assert "an old state of the database was restored" in await stranger.look()


async def test_a_running_worker_notices_without_a_file(tmp_path: Path, clock: FakeClock) -> None:
    file, backup = tmp_path / "duewatch.db", tmp_path / "old"
    state = State(file=tmp_path / "no" / "such" / "folder")
    async with opened(f"sqlite:///{file}", clock, **UNTIED, state=state) as app:
        gate = gate_of(app)
        await planned(app, contact(), statement())
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        await app.delivery.drain()
        assert await gate.look() == ""
        # Restored online, under the running process.
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)

        assert "1 attempts are missing" in await gate.look()


async def test_what_is_restored_between_two_looks_of_the_gate_is_not_sent_either(
    tmp_path: Path, clock: FakeClock
) -> None:
    file = tmp_path / "duewatch.db"
    people = [contact(f"C{n}", partner=f"P{n}") for n in (1, 2)]
    async with opened(f"sqlite:///{file}", clock, **settings_of(tmp_path)) as app:
        await planned(app, *people, statement("S1"))
        with rewound(file, tmp_path / "old"):
            await app.delivery.drain()
            assert sorted((await states(app)).values()) == ["accepted"]
            assert await gate_of(app).look() == ""
            await app.store.database.close()
        await app.delivery.drain()

        assert list((await states(app)).values()) == ["pending"]


async def test_a_machine_without_its_file_asks_where_the_settings_say_so(
    tmp_path: Path, clock: FakeClock
) -> None:
    state = State(file=tmp_path / "marks", required=True)
    async with opened(f"sqlite:///{tmp_path}/d.db", clock, **UNTIED, state=state) as app:
        assert await gate_of(app).look() == ""
        await planned(app, contact(), statement())
        await app.delivery.drain()
        assert await gate_of(app).look() == ""
        (tmp_path / "marks").unlink()

        assert "no state.file" in await gate_of(app).look()


async def test_a_damaged_file_stops_nobody_and_is_written_anew(
    tmp_path: Path, clock: FakeClock
) -> None:
    state = State(file=tmp_path / "marks")
    async with opened(f"sqlite:///{tmp_path}/d.db", clock, **UNTIED, state=state) as app:
        for content in ("", "[]", '{"epochs": {"x": 1}}', '{"epochs": {"x": {"sends": "?"}}}'):
            (tmp_path / "marks").write_text(content)
            assert await gate_of(app).look() == ""
        assert '"sends": 0' in (tmp_path / "marks").read_text()


async def test_a_gate_that_shuts_while_sends_go_on_lets_them_finish_and_opens_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    state = State(file=tmp_path / "marks")
    async with opened(f"sqlite:///{tmp_path}/d.db", clock, **UNTIED, state=state) as app:
        gate, stopping = gate_of(app), asyncio.Event()
        worker = asyncio.create_task(send_behind(gate, app.delivery, stopping))
        await planned(app, contact(), statement())
        app.delivery.ring()
        await _until(lambda: inbox(app), ["c1@example.com"])
        await app.store.database.remember("copy", "2026-11-24 01:00:00 UTC")
        await _until(lambda: _now(bool(gate.closed)), True)
        await _until(lambda: _now(app.delivery.running), None)
        await planned(app, contact("C2", partner="P2"), statement("S2", partner="P2"))
        app.delivery.ring()
        await asyncio.sleep(1)
        assert await inbox(app) == ["c1@example.com"]
        again = await what_would_be_sent(app, None)
        assert again is not None
        await resume(app, again, cancel=False, by="ann", reason="")
        await _until(lambda: inbox(app), ["c1@example.com", "c2@example.com"])
        stopping.set()
        await worker


async def test_a_worker_with_a_wrong_clock_sends_nothing_and_says_by_how_much(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url, FakeClock(NOW), state=State(file=tmp_path / "marks")) as app:
        theirs = await app.store.database.clock()
        for off, said in ((70, "ahead of"), (-70, "behind")):
            wrong = FakeClock(theirs + timedelta(seconds=off))
            why = await Gate(app.store, app.settings, wrong).look()
            assert said in why
            assert "scheduler.clock_tolerance_s = 60" in why
        right = FakeClock(theirs + timedelta(seconds=20))
        assert await Gate(app.store, app.settings, right).look() == ""


@pytest.mark.postgres
async def test_a_dump_that_was_read_in_is_noticed_wherever_it_is(
    postgres_server: postgres.Server, postgres_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [Path(postgres_server.programs, program), *arguments],
            env=os.environ | {"PGPASSWORD": postgres_server.password},
            check=True,
            capture_output=True,
            timeout=60,
        )

    place = (
        "--host=127.0.0.1",
        f"--port={postgres_server.port}",
        "--username=postgres",
    )
    database = postgres_url.rpartition("/")[2]
    url = postgres_url.replace("+asyncpg", "")
    files = {"state": State(file=tmp_path / "marks")}
    async with opened(url, clock, **UNTIED, **files) as app:
        assert await gate_of(app).look() == ""
        await planned(app, contact(), statement())
        run("pg_dump", *place, "--format=custom", f"--file={tmp_path}/dump", database)
        assert await gate_of(app).look() == ""
    # Into the same database, and from there: no file, no other process knows of anything.
    run("pg_restore", *place, "--clean", f"--dbname={database}", f"{tmp_path}/dump")
    async with opened(url, clock, **UNTIED, state=State(file=tmp_path / "new")) as app:
        assert "dump of another place" in await gate_of(app).look()
        again = await what_would_be_sent(app, None)
        assert again is not None
        assert len(again.repeats) == 1
        await resume(app, again, cancel=True, by="ann", reason="")
        assert await gate_of(app).look() == ""
        assert await states(app) == {"c1@example.com": "cancelled"}


@pytest.mark.acceptance
async def test_the_daemon_on_a_restored_backup_waits_for_the_operators_word(
    tmp_path: Path,
) -> None:
    shell = Shell(tmp_path, {"DUEWATCH_WEB__PORT": "0", "DUEWATCH_DELIVERY__POLL_S": "0.2"})
    load(shell, "I1")
    assert shell("backup", "copy").code == 0
    assert "is there already" in shell("backup", "copy").err
    (tmp_path / "duewatch.db").unlink()
    for end in ("-wal", "-shm"):
        (tmp_path / f"duewatch.db{end}").unlink(missing_ok=True)
    (tmp_path / "copy").rename(tmp_path / "duewatch.db")
    log = tmp_path / "log"
    daemon = begun(shell, "run", log)
    try:
        await _until(lambda: _now("nothing is sent" in log.read_text()), True)
        await _until(lambda: _now(len(told(shell))), 2)
        await asyncio.sleep(1)
        assert {one["state"] for one in told(shell)} == {"pending"}

        shown = shell("resume-after-restore")
        assert shown.code == 1
        assert "a copy that duewatch backup made" in shown.out
        assert "Nothing was changed" in shown.out
        assert shell("resume-after-restore", "--send", "--cancel").code == 2
        assert {one["state"] for one in told(shell)} == {"pending"}

        done = shell("resume-after-restore", "--send", "--reason", "seen")
        assert "Sends go on, 2 probable repeats" in done.out
        await _until(lambda: _now({one["state"] for one in told(shell)}), {"accepted"})
        assert "Nothing is refused" in shell("resume-after-restore").out
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.wait, WAIT_S) == 0


async def _now(value: Any) -> Any:
    return value


async def _until(asked: Any, wanted: Any) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    found = await asked()
    while found != wanted:
        assert loop.time() < end, f"waited {WAIT_S} s for {wanted}, found {found}"
        await asyncio.sleep(0.1)
        found = await asked()
