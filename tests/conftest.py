"""What every test may ask for: a clock, a real PostgreSQL, Redis, RabbitMQ, a real browser.

A machine without one of them skips those tests and says why; a build machine (CI=true)
fails them, because a test that is always skipped promises nothing.
"""

from __future__ import annotations

import os

# Before anything of the product is imported: a developer's own settings must not reach a test.
for _name in [name for name in os.environ if name.startswith("DUEWATCH_")]:
    del os.environ[_name]
for _name in ("DATABASE_URL", "BROKER_URL"):
    os.environ.pop(_name, None)

# How soon Dramatiq looks for a broker that was away, in ms; its own 3,000 make tests wait.
os.environ.setdefault("dramatiq_restart_delay", "500")

import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from tests import postgres, rabbitmq, redis
from tests.fakes.clock import FakeClock

NEEDS = {
    "postgres_url": "postgres",
    "redis_url": "redis",
    "rabbitmq_url": "rabbitmq",
    "browser_path": "browser",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_configure(config: pytest.Config) -> None:
    """The marks of what tests need that aren't in pyproject.toml."""
    for name, what in (("redis", "a Redis server"), ("rabbitmq", "a RabbitMQ server")):
        config.addinivalue_line(
            "markers", f"{name}: needs {what} (set by itself on tests that use {name}_url)"
        )
    config.addinivalue_line("markers", "slow: takes minutes; runs only when -m names it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by what it needs, so that `-m "not postgres"` leaves none out."""
    if "slow" not in str(config.getoption("markexpr")):
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in NEEDS:
                item.add_marker(NEEDS[name])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the servers once all of xdist's workers have ended."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        paths: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        for server in (postgres, redis, rabbitmq):
            server.stop(paths.getbasetemp())


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands at 2026-11-24 09:00 in Beijing, a Tuesday and a working day."""
    return FakeClock(datetime(2026, 11, 24, 1, 0, tzinfo=UTC))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of the session's processes share: where servers leave their notes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def postgres_server(shared_folder: Path) -> postgres.Server:
    """The session's PostgreSQL server, for tests that stop it or count its databases."""
    try:
        return postgres.running(shared_folder)
    except postgres.PostgresMissing as error:
        _missing(f"no PostgreSQL: {error}")


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """An empty database of the test's own, as `postgresql+asyncpg://…`; removed afterwards."""
    database = postgres.new_name()
    postgres_server.create(database)
    yield postgres_server.url(database)
    postgres_server.drop(database)


@pytest.fixture(scope="session")
def redis_server(shared_folder: Path) -> redis.Server:
    """The session's Redis server."""
    try:
        return redis.running(shared_folder)
    except redis.RedisMissing as error:
        _missing(f"no Redis: {error}")


@pytest.fixture
def redis_url(redis_server: redis.Server, shared_folder: Path) -> Iterator[str]:
    """An empty database of the test's own, as `redis://…/N`; emptied afterwards."""
    url = redis_server.url(redis.next_database(shared_folder, redis_server))
    redis.empty(url)
    yield url
    redis.empty(url)


@pytest.fixture
def own_redis() -> Iterator[redis.OwnServer]:
    """A Redis that the test may kill and start; it runs already."""
    server = redis.OwnServer()
    try:
        server.start()
        yield server
    except redis.RedisMissing as error:
        _missing(f"no Redis: {error}")
    finally:
        server.remove()


@pytest.fixture(scope="session")
def rabbitmq_server(shared_folder: Path) -> rabbitmq.Server:
    """The session's RabbitMQ server, for tests that cut its connections or look into its queues."""
    try:
        return rabbitmq.running(shared_folder)
    except rabbitmq.RabbitmqMissing as error:
        _missing(f"no RabbitMQ: {error}")


@pytest.fixture
def rabbitmq_url(rabbitmq_server: rabbitmq.Server) -> Iterator[str]:
    """A virtual host of the test's own, as `amqp://…`; removed afterwards."""
    host = f"test-{secrets.token_hex(6)}"
    rabbitmq_server.create(host)
    yield rabbitmq_server.url(host)
    rabbitmq_server.drop(host)


@pytest.fixture(
    params=[
        pytest.param("redis_url", marks=pytest.mark.redis),
        pytest.param("rabbitmq_url", marks=pytest.mark.rabbitmq),
    ]
)
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker of the test's own: Redis, then RabbitMQ."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(scope="session")
def browser_path() -> Path:
    """The program of a Chromium or Chrome that is installed here."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    _missing(f"no browser: install one of {', '.join(BROWSERS)}")
