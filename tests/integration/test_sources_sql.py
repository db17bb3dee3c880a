"""The operator's own database: PostgreSQL, MariaDB and SQLite, read and never written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests import mariadb
from tests.fakes.clock import FakeClock
from tests.product import NOW, RULES, opened
from workers.app import App
from workers.errors import SettingsError
from workers.sources import build_sources
from workers.syncing import Synced, Syncing

QUERY = """
SELECT id AS ref, owner AS partner, 'INCENTIVE' AS statement_kind, generated_at, confirm_by,
       amount AS amount_incl_tax, sent AS opened_by, status, changed_at
FROM statements WHERE note <> 'a:b' OR note IS NULL
"""
TYPES = {
    "postgresql": ("timestamptz", "numeric(12, 2)"),
    "mysql": ("datetime(6)", "decimal(12, 2)"),
    "sqlite": ("text", "numeric"),
}


@pytest.fixture(scope="module")
def mariadb_server() -> Iterator[mariadb.Server]:
    """This module's MariaDB; a machine without one skips, a build machine fails."""
    try:
        server = mariadb.start()
    except mariadb.MariadbMissing as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no MariaDB: {error}", pytrace=False)
        pytest.skip(f"no MariaDB: {error}")
    yield server
    server.stop()


@dataclass(frozen=True, slots=True)
class Host:
    """The host business's database: `url` is what the source is given."""

    url: str
    engine: str

    async def run(self, *statements: str) -> None:
        """Writes to it, as its owner."""
        if self.engine.startswith("postgresql"):
            asynchronous = create_async_engine(self.engine)
            async with asynchronous.begin() as connection:
                for one in statements:
                    await connection.exec_driver_sql(one)
            await asynchronous.dispose()
            return
        engine = sa.create_engine(self.engine)
        with engine.begin() as connection:
            for one in statements:
                connection.exec_driver_sql(one)
        engine.dispose()

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0]

    def at(self, moment: datetime) -> str:
        """An instant as its columns hold it: Beijing's clock where they have no zone."""
        if self.kind == "postgresql":
            return f"'{moment.isoformat()}'"
        return f"'{moment.astimezone(UTC) + timedelta(hours=8):%Y-%m-%d %H:%M:%S}'"

    async def fill(self, *rows: tuple[str, str, datetime]) -> None:
        """(ref, amount, changed at) of statements."""
        when, amount = TYPES[self.kind]
        await self.run(
            "DROP TABLE IF EXISTS statements",
            f"CREATE TABLE statements (id varchar(40) PRIMARY KEY, owner varchar(40), "
            f"generated_at {when}, confirm_by date, amount {amount}, sent integer, "
            f"status varchar(40), note varchar(40), changed_at {when})",
        )
        await self.add(*rows)

    async def add(self, *rows: tuple[str, str, datetime]) -> None:
        """More of them."""
        await self.run(
            *(
                "INSERT INTO statements VALUES "
                f"('{ref}', 'P1', {self.at(NOW - timedelta(days=5))}, '2026-11-26', {amount}, 1, "
                f"NULL, NULL, {self.at(changed)})"
                for ref, amount, changed in rows
            )
        )


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "mysql"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """A database of the host business, of each kind that can be read."""
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgres_url"))
        return Host(url.replace("+asyncpg", "", 1), url)
    if request.param == "mysql":
        server: mariadb.Server = request.getfixturevalue("mariadb_server")
        return Host(server.url("reader"), server.url().replace("mysql:", "mysql+pymysql:"))
    return Host(f"sqlite:///{tmp_path / 'host.db'}", f"sqlite:///{tmp_path / 'host.db'}")


@pytest.fixture
def product(tmp_path: Path, clock: FakeClock) -> Callable[..., Any]:
    """The product with a source `crm` on a host's database."""

    def made(host: Host, **more: Any) -> Any:
        table = {
            "type": "sql",
            "database_url": host.url,
            "kind": "statement",
            "query": QUERY,
            "columns": {"opened_by": ""},
            **more,
        }
        url = f"sqlite:///{tmp_path / 'duewatch.db'}"
        return opened(url, clock, sources={"crm": table})

    return made


async def synced(app: App, **how: Any) -> Synced:
    done = await Syncing(app).run("crm", **how)
    assert done is not None
    return done


async def data(app: App, ref: str) -> dict[str, Any]:
    return (await app.records.one(ref)).record.data.model_dump()


async def test_rows_come_with_exact_amounts_and_aware_instants(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1234.10", NOW), ("S2", "0.07", NOW))
    async with product(host) as app:
        done = await synced(app)

        assert (done.outcome, done.counts) == ("done", {"statement": {"new": 2}}), done.detail
        found = await data(app, "S1")
        assert found["amount_incl_tax"] == Decimal("1234.10")
        assert isinstance(found["amount_incl_tax"], Decimal)
        assert found["generated_at"] == NOW - timedelta(days=5)
        assert found["confirm_by"] == date(2026, 11, 26)
        assert (await synced(app)).counts == {"statement": {"unchanged": 2}}


async def test_with_a_watermark_only_what_changed_is_read(
    host: Host, product: Callable[..., Any], clock: FakeClock
) -> None:
    day = timedelta(days=1)
    await host.fill(("S1", "1.00", NOW - day), ("S2", "2.00", NOW))
    async with product(host, watermark="changed_at", overlap_s=0, full_every_s=7200) as app:
        assert (await synced(app)).counts == {"statement": {"new": 2}}
        await host.add(("S3", "3.00", NOW + timedelta(hours=1)))
        # A row of the same instant may have come later: it is read again.
        assert (await synced(app)).counts == {"statement": {"new": 1, "unchanged": 1}}
        await host.run(
            f"UPDATE statements SET amount = 9, changed_at = {host.at(NOW + day)} WHERE id = 'S1'"
        )
        assert (await synced(app)).counts == {"statement": {"changed": 1, "unchanged": 1}}
        assert (await data(app, "S1"))["amount_incl_tax"] == Decimal("9.00")

        assert (await synced(app)).counts == {"statement": {"unchanged": 1}}
        assert (await synced(app, full=True)).counts == {"statement": {"unchanged": 3}}
        clock.advance(timedelta(hours=3))
        assert (await synced(app)).counts == {"statement": {"unchanged": 3}}


async def test_a_transaction_that_committed_late_is_not_missed(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW))
    async with product(host, watermark="changed_at") as app:
        await synced(app)
        # Begun before S1 was changed, and committed after it was read.
        await host.add(("S2", "2.00", NOW - timedelta(minutes=4)))

        assert (await synced(app)).counts == {"statement": {"new": 1, "unchanged": 1}}


async def test_other_settings_read_everything_anew(host: Host, product: Callable[..., Any]) -> None:
    await host.fill(("S1", "1.00", NOW), ("S2", "2.00", NOW + timedelta(days=1)))
    async with product(host, watermark="changed_at") as app:
        await synced(app)
        assert (await synced(app)).counts == {"statement": {"unchanged": 1}}
    async with product(host, watermark="changed_at", values={"currency": "USD"}) as app:
        assert (await synced(app)).counts == {"statement": {"changed": 2}}


@pytest.mark.parametrize(
    ("gone", "state", "listed"),
    [("close", "closed", ["S2"]), ("report", "open", ["S2"]), ("ignore", "open", None)],
)
async def test_what_the_query_no_longer_holds_is_treated_as_settings_say(
    gone: str, state: str, listed: list[str] | None, host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW), ("S2", "2.00", NOW))
    async with product(host, gone=gone) as app:
        await synced(app)
        await host.run("DELETE FROM statements WHERE id = 'S2'")
        trial = await Syncing(app).trial("crm")
        assert trial.gone.get("statement") == listed
        assert (await app.store.records.find("S2"))[0].state == "open"
        done = await synced(app)

        assert done.gone.get("statement") == listed
        assert (await app.store.records.find("S2"))[0].state == state
        assert (await synced(app)).gone == {}, "it is told once"


async def test_an_incremental_reading_takes_nothing_for_gone(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW - timedelta(days=1)), ("S2", "2.00", NOW))
    async with product(host, watermark="changed_at", gone="close") as app:
        await synced(app)
        await host.run("DELETE FROM statements WHERE id = 'S1'")

        assert (await synced(app)).gone == {}
        assert (await synced(app, full=True)).gone == {"statement": ["S1"]}


async def test_a_refused_row_is_named_and_is_not_taken_for_gone(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW), ("S2", "2.00", NOW))
    async with product(host, gone="close") as app:
        await synced(app)
        await host.run("UPDATE statements SET status = 'nonsense' WHERE id = 'S2'")
        done = await synced(app)

        assert done.counts == {"statement": {"unchanged": 1, "refused": 1}}
        (problem,) = done.parts[0].problems
        assert str(problem).startswith("crm, row 2, column status: 'nonsense' must be one of")
        assert done.gone == {}


async def test_the_database_is_never_written(host: Host, product: Callable[..., Any]) -> None:
    await host.fill(("S1", "1.00", NOW))
    for query in (
        "DELETE FROM statements",
        "SELECT 1 AS ref; DROP TABLE statements",
        "WITH gone AS (DELETE FROM statements RETURNING id) SELECT id AS ref FROM gone",
    ):
        async with product(host, query=query) as app:
            done = await synced(app)
            assert done.outcome in {"refused", "failed"}, query
    async with product(host) as app:
        assert (await synced(app)).counts == {"statement": {"new": 1}}


async def test_a_column_that_is_missing_is_named_with_the_remedy(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW))
    async with product(host, query="", view="statements", columns={}) as app:
        done = await synced(app)

        assert "no column is amount_incl_tax, partner, ref, statement_kind" in done.parts[0].fault
        assert "name it in `columns`, or give it in `values`" in done.parts[0].fault


async def test_a_view_is_read_by_columns_and_values_of_the_settings(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW))
    columns = {"id": "ref", "owner": "partner", "amount": "amount_incl_tax"}
    values = {"statement_kind": "INCENTIVE"}
    async with product(host, query="", view="statements", columns=columns, values=values) as app:
        assert (await synced(app)).counts == {"statement": {"new": 1}}


async def test_an_empty_cell_clears_what_may_be_empty_and_nothing_else(
    host: Host, product: Callable[..., Any]
) -> None:
    await host.fill(("S1", "1.00", NOW))
    columns = {"id": "ref", "owner": "partner", "amount": "amount_incl_tax", "note": "url"}
    how = {"query": "", "view": "statements", "columns": columns}
    async with product(host, **how, values={"statement_kind": "INCENTIVE"}) as app:
        await host.run("UPDATE statements SET note = 'https://a.example/1'")
        await synced(app)
        assert (await data(app, "S1"))["url"] == "https://a.example/1"
        await host.run("UPDATE statements SET note = NULL")
        assert (await synced(app)).counts == {"statement": {"changed": 1}}
        found = await data(app, "S1")
        assert (found["url"], found["currency"]) == (None, "CNY")


async def test_a_database_that_is_away_fails_the_sync_without_its_password(
    host: Host, product: Callable[..., Any], tmp_path: Path
) -> None:
    urls = {
        "postgresql": "postgresql://duty:hunter22@127.0.0.1:1/host",
        "mysql": "mysql://duty:hunter22@127.0.0.1:1/host",
        "sqlite": f"sqlite:///{tmp_path / 'none' / 'host.db'}",
    }
    async with product(host, database_url=urls[host.kind]) as app:
        done = await synced(app)

        assert done.outcome == "failed"
        assert "can't be read" in done.faults[0]
        assert "hunter22" not in done.faults[0] + Syncing(app).one("crm").place
        (run,) = await app.store.sources.runs("crm", 5)
        assert "hunter22" not in run.detail
    assert not (tmp_path / "none").exists()


async def test_a_file_that_is_not_there_is_not_made(
    product: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "missing.db"
    async with product(Host(f"sqlite:///{path}", "")) as app:
        assert (await synced(app)).outcome == "failed"
    assert not path.exists()


async def test_thousands_of_rows_come_in_batches(host: Host, product: Callable[..., Any]) -> None:
    await host.fill()
    values = ", ".join(
        f"('S{number}', 'P{number % 50}', {host.at(NOW)}, '2026-11-26', {number}.25, 1, NULL, "
        f"NULL, {host.at(NOW)})"
        for number in range(3_000)
    )
    await host.run(f"INSERT INTO statements VALUES {values}")
    async with product(host, watermark="changed_at") as app:
        assert (await synced(app)).counts == {"statement": {"new": 3_000}}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"database_url": "oracle://x"}, "must begin with postgresql://"),
        ({"database_url": "mysql://h/x?password=hunter22"}, "write the password before the @"),
        ({"query": ""}, "needs query or view"),
        ({"query": "", "view": "a; DROP TABLE b"}, "write its name, like sales.open_payments"),
        ({"watermark": "a, b"}, "write the column's name alone"),
        ({"kind": "pre_registration_limit"}, "there is no 'pre_registration_limit'"),
        ({"columns": {"a": "amont"}}, "there is no field 'amont'"),
    ],
)
def test_a_wrong_setting_is_refused_without_showing_a_password(
    table: dict[str, Any], said: str
) -> None:
    good = {"type": "sql", "database_url": "sqlite:///x.db", "kind": "statement", "query": "x"}
    with pytest.raises(SettingsError) as refused:
        build_sources({"crm": {**good, **table}}, RULES)
    assert said in str(refused.value)
    assert "hunter22" not in str(refused.value)
