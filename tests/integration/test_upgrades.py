"""Old and new versions side by side: a newer schema that only adds is worked on, another refused.

The newer version is a copy of this one with one migration more.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path

import pytest
from sqlalchemy import ColumnElement, func, select, text, update
from structlog.testing import capture_logs

from tests.acceptance.shell import ROOT
from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import SmtpServer
from tests.product import another, contact, opened, planned, reasons, statement, states
from workers.errors import SettingsError
from workers.render import Renderer
from workers.store import Store
from workers.store.engine import compatible_from, newest_version
from workers.store.tables import attempts, notifications, occurrences, records

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from workers.cli import main; main()"]
WAIT_S = 45
NEXT = f"{int(newest_version()) + 1:04}"
MIGRATION = '''
import sqlalchemy as sa
from alembic import op

revision = "{next}"
down_revision = "{newest}"
branch_labels = None
depends_on = None
compatible_from = "{since}"


def upgrade() -> None:
    """Adds a column and a table."""
    op.add_column("notifications", sa.Column("mood", sa.Text(), nullable=True))
    op.add_column("records", sa.Column("mood", sa.Text(), server_default="calm", nullable=False))
    op.create_table("moods", sa.Column("id", sa.Integer(), primary_key=True))
'''


def newer(folder: Path, since: str) -> Path:
    """A copy of the program with one migration more, that works with programs of `since` on."""
    place = folder / "newer"
    for name in ("schedules", "workers", "templates"):
        shutil.copytree(
            ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    versions = place / "workers" / "store" / "migrations" / "versions"
    content = MIGRATION.format(next=NEXT, newest=newest_version(), since=since)
    (versions / f"{NEXT}_moods.py").write_text(content)
    return place


class House:
    """A folder with settings and a database, and programs of either version in it."""

    def __init__(self, folder: Path, database_url: str, smtp_port: int = 1) -> None:
        self.folder = folder
        (folder / "duewatch.toml").write_text(
            f'database_url = "{database_url}"\n'
            '[mail]\nproviders = ["smtp"]\nsender = "Desk <desk@example.com>"\n'
            f'[providers.smtp]\nhost = "127.0.0.1"\nport = {smtp_port}\ntls = "none"\n'
            "[delivery]\npoll_s = 0.2\nlease_s = 5.0\nconcurrency = 2\n",
            "utf-8",
        )

    def environ(self, program: Path) -> dict[str, str]:
        """The environment in which a version is found."""
        return {**os.environ, "PYTHONPATH": str(program)}

    def do(self, program: Path, *words: str) -> str:
        """Runs a command of a version to its end and returns what it printed."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environ(program),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def worker(self, program: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of a version; killed at the end."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*COMMAND, "worker"],
                cwd=self.folder,
                env=self.environ(program),
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def bring(self, program: Path, first: int, count: int) -> None:
        """Imports statements of people of their own, and plans them, with a version."""
        now = datetime.now(UTC)
        people = "partner,ref,role,name,mail,channels\n"
        rows = "ref,partner,statement_kind,generated_at,confirm_by,amount_incl_tax\n"
        for n in range(first, first + count):
            people += f"P{n},C{n},finance,Ann,c{n}@example.com,mail\n"
            rows += f"S{n},P{n},INCENTIVE,{now - timedelta(days=20):%Y-%m-%d},"
            rows += f"{(now + timedelta(days=3)).date()},1.00\n"
        (self.folder / "people.csv").write_text(people)
        (self.folder / "statements.csv").write_text(rows)
        self.do(program, "import", "people.csv", "statements.csv")
        self.do(program, "scan", "statement")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the programs run."""
    place = tmp_path / "house"
    place.mkdir()
    return place


async def test_a_newer_schema_that_only_adds_is_worked_on(
    tmp_path: Path, folder: Path, database_url: str
) -> None:
    program = newer(tmp_path, since=compatible_from())
    await asyncio.to_thread(House(folder, database_url).do, program, "migrate")
    store = await Store.open(database_url, migrate=False)
    try:
        assert await store.database.schema_version() == NEXT
        assert await store.database.misfit() == ""
    finally:
        await store.close()


async def test_a_newer_schema_that_ends_this_program_is_refused_with_the_remedy(
    tmp_path: Path, folder: Path, database_url: str
) -> None:
    program = newer(tmp_path, since=NEXT)
    await asyncio.to_thread(House(folder, database_url).do, program, "migrate")
    with pytest.raises(SettingsError, match=f"works with programs of {NEXT} and later: install"):
        await Store.open(database_url)


async def test_what_a_database_that_says_nothing_works_with_is_refused(database_url: str) -> None:
    store = await Store.open(database_url)
    async with store.database.write() as connection:
        await connection.execute(text("DELETE FROM meta WHERE key = 'compatible_from'"))
        await connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEXT}'"))
    await store.close()
    with pytest.raises(SettingsError, match=f"works with programs of {NEXT} and later"):
        await Store.open(database_url)


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_an_old_and_a_new_version_send_side_by_side_and_one_migrates_while_the_other_works(
    tmp_path: Path, folder: Path, database_url: str
) -> None:
    program = newer(tmp_path, since=newest_version())
    count = 25
    async with SmtpServer() as server:
        house = House(folder, database_url, server.port)

        async def sent(number: int) -> None:
            loop = asyncio.get_running_loop()
            end = loop.time() + WAIT_S
            while len(server.messages) < number:
                assert loop.time() < end, f"{len(server.messages)} of {number} were sent"
                await asyncio.sleep(0.05)

        await asyncio.to_thread(house.bring, ROOT, 0, count)
        with house.worker(ROOT) as old:
            await sent(1)
            await asyncio.to_thread(house.do, program, "migrate")
            await asyncio.to_thread(house.bring, program, count, count)
            with house.worker(program) as new:
                # Planned by the old version on the newer schema, sent by either.
                await asyncio.to_thread(house.bring, ROOT, 2 * count, count)
                await sent(3 * count)
                await asyncio.sleep(0.5)
                assert (old.poll(), new.poll()) == (None, None)

    told = sorted(address for one in server.messages for address in one.recipients)
    assert told == sorted(f"c{n}@example.com" for n in range(3 * count))
    ids = {message_from_bytes(one.content)["Message-ID"] for one in server.messages}
    assert len(ids) == 3 * count
    for version in (ROOT, program):
        proved = await asyncio.to_thread(house.do, version, "verify")
        assert "The ledger adds up." in proved


async def test_a_newer_versions_kind_is_left_to_workers_that_know_it(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        async with app.store.database.write() as connection:
            await connection.execute(update(notifications).values(kind="subscription"))
            await connection.execute(update(records).values(kind="subscription"))
        await planned(app, contact("C2", partner="P2"), statement("S2", partner="P2"))
        await app.delivery.drain()
        found = await states(app)
        async with app.store.database.read() as connection:
            begun = await connection.execute(select(func.count()).select_from(attempts))
            assert begun.scalar_one() == 1

    assert found == {"c1@example.com": "pending", "c2@example.com": "accepted"}


def in_other_words(program: Path) -> Path:
    """Has a version tell what its bills' reminders say in a message of its own."""
    rules = program / "schedules" / "rules" / "_bills.py"
    text = rules.read_text("utf-8")
    told = text.replace('_FINANCE = Tell("finance")', '_FINANCE = Tell("finance", message="nudge")')
    told = told.replace('"sms"))', '"sms"), "nudge")')
    assert told.count("nudge") == 2
    rules.write_text(told, "utf-8")
    for kind in ("statement", "incentive"):
        for folder in (program / "templates" / "messages").glob(f"*/{kind}"):
            shutil.copy(folder / "reminder.words.txt", folder / "nudge.words.txt")
    return program


async def test_a_message_that_only_a_newer_version_can_write_waits_for_it(
    tmp_path: Path, database_url: str, clock: FakeClock
) -> None:
    program = in_other_words(newer(tmp_path, since=compatible_from()))
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement())
        async with app.store.database.write() as connection:
            await connection.execute(update(notifications).values(message="nudge"))
        await planned(app, contact("C2", partner="P2"), statement("S2", partner="P2"))
        with capture_logs() as logs:
            for _ in range(3):
                await app.delivery.drain()
                clock.advance(timedelta(seconds=61))
        rows = await app.store.operations.notifications(limit=10)
        (left,) = (row for row in rows if row.message == "nudge")
        knows = Renderer(program / "templates", app.rules, app.renderer._brand)
        before = await states(app)
        await another(app, knows).drain()

        assert before == {"c1@example.com": "pending", "c2@example.com": "accepted"}
        assert (left.lease_until, left.attempt_count) == (None, 0)
        assert left.not_before == clock() - timedelta(seconds=1)
        assert left.reason == "put off: left to a worker of the version that knows its words"
        said = [one for one in logs if one["event"] == "left to a newer version"]
        assert [(one["kind"], one["message"]) for one in said] == [("statement", "nudge")]
        assert await states(app) == dict.fromkeys(before, "accepted")


async def test_a_digest_with_a_line_in_a_newer_versions_words_waits_as_a_whole(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(digest="daily"), statement())
        async with app.store.database.write() as connection:
            await connection.execute(update(occurrences).values(message="nudge"))
        clock.advance(timedelta(hours=1))
        await app.delivery.drain()
        (left,) = await app.store.operations.notifications(limit=10)
        async with app.store.database.write() as connection:
            await connection.execute(update(occurrences).values(message="reminder"))
        clock.advance(timedelta(minutes=2))
        await app.delivery.drain()

        assert (left.kind, left.state) == ("digest", "pending")
        assert await states(app) == {"c1@example.com": "accepted"}


async def test_words_that_no_version_brings_within_a_day_are_a_persons_matter(
    database_url: str, clock: FakeClock
) -> None:
    async with opened(database_url, clock) as app:
        await planned(app, contact(), statement(confirm_by="2026-11-30"))
        async with app.store.database.write() as connection:
            await connection.execute(update(notifications).values(message="nudge"))
        await app.delivery.drain()
        found = await states(app)
        clock.advance(timedelta(days=1, minutes=1))
        await app.delivery.drain()

        assert found == {"c1@example.com": "pending"}
        assert await states(app) == {"c1@example.com": "parked"}
        assert "nudge.words.txt isn't there" in (await reasons(app))["c1@example.com"]


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_an_old_worker_leaves_what_the_new_version_says_in_other_words_to_new_workers(
    tmp_path: Path, folder: Path, database_url: str
) -> None:
    program = in_other_words(newer(tmp_path, since=compatible_from()))
    count = 5
    async with SmtpServer() as server:
        house = House(folder, database_url, server.port)
        await asyncio.to_thread(house.do, program, "migrate")
        await asyncio.to_thread(house.bring, program, 0, count)
        store = await Store.open(database_url, migrate=False)
        left = notifications.c.reason.startswith("put off: left")
        try:
            with house.worker(ROOT):
                await reached(store, left, count)
                assert server.messages == []
                with house.worker(program):
                    # A minute goes by, as often as the old worker is the first.
                    async with asyncio.timeout(WAIT_S):
                        while len(server.messages) < count:
                            async with store.database.write() as connection:
                                await connection.execute(
                                    update(notifications)
                                    .where(left)
                                    .values(not_before=notifications.c.created_at)
                                )
                            await asyncio.sleep(0.3)
                    await asyncio.sleep(0.5)
            assert await count_of(store, notifications.c.state == "accepted") == count
        finally:
            await store.close()

    told = sorted(address for one in server.messages for address in one.recipients)
    assert told == [f"c{n}@example.com" for n in range(count)]
    assert (folder / "log").read_text("utf-8").count("left to a newer version") == 1


async def reached(store: Store, wanted: ColumnElement[bool], count: int) -> None:
    """Waits until this holds of so many notifications."""
    end = asyncio.get_running_loop().time() + WAIT_S
    while await count_of(store, wanted) < count:
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.1)


async def count_of(store: Store, wanted: ColumnElement[bool]) -> int:
    """How many notifications there are of which this holds."""
    async with store.database.read() as connection:
        found = await connection.execute(
            select(func.count()).select_from(notifications).where(wanted)
        )
        return int(found.scalar_one())


@pytest.mark.slow
@pytest.mark.postgres
async def test_a_migration_steps_aside_for_who_holds_a_table_and_comes_back(
    tmp_path: Path, folder: Path, postgres_url: str
) -> None:
    url = postgres_url.replace("+asyncpg", "")
    program = newer(tmp_path, since=newest_version())
    store = await Store.open(url)
    try:
        async with store.database.write() as connection:
            await connection.execute(text("LOCK TABLE notifications IN ROW EXCLUSIVE MODE"))
            migrating = asyncio.create_task(
                asyncio.to_thread(House(folder, url).do, program, "migrate")
            )
            await asyncio.sleep(9)
            assert not migrating.done()
            # Others get through meanwhile: nobody waits behind a waiting migration for long.
            async with asyncio.timeout(10):
                await store.operations.counts()
        assert NEXT in await migrating
    finally:
        await store.close()
