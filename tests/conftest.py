"""What every test may ask for: a clock, a real PostgreSQL, a real browser.

A machine without PostgreSQL or a browser skips those tests and says why; a build machine (CI=true)
fails them, because a test that is always skipped promises nothing.
"""

from __future__ import annotations

import os

# Before anything of the product is imported: a developer's own settings must not reach a test.
for _name in [name for name in os.environ if name.startswith("DUEWATCH_")]:
    del os.environ[_name]
for _name in ("DATABASE_URL", "BROKER_URL"):
    os.environ.pop(_name, None)

import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from tests import postgres
from tests.fakes.clock import FakeClock

NEEDS = {"postgres_url": "postgres", "browser_path": "browser"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs, so that `-m "not postgres"` leaves none out."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in NEEDS:
                item.add_marker(NEEDS[name])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop PostgreSQL once all of xdist's workers have ended."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        paths: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        postgres.stop(paths.getbasetemp())


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands at 2026-11-24 09:00 in Beijing, a Tuesday and a working day."""
    return FakeClock(datetime(2026, 11, 24, 1, 0, tzinfo=UTC))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> postgres.Server:
    """The session's PostgreSQL server, for tests that stop it or count its databases."""
    base = tmp_path_factory.getbasetemp()
    try:
        return postgres.running(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    except postgres.PostgresMissing as error:
        _missing(f"no PostgreSQL: {error}")


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """An empty database of the test's own, as `postgresql+asyncpg://…`; removed afterwards."""
    database = f"test_{secrets.token_hex(6)}"
    postgres_server.create(database)
    yield postgres_server.url(database)
    postgres_server.drop(database)


@pytest.fixture(scope="session")
def browser_path() -> Path:
    """The program of a Chromium or Chrome that is installed here."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    _missing(f"no browser: install one of {', '.join(BROWSERS)}")
