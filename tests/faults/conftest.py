"""What the tests of faults share: one database of their own, of both kinds."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: a file of SQLite, then a database of PostgreSQL."""
    if request.param == "postgres":
        # Operators write the URL without a driver; the product chooses one.
        return str(request.getfixturevalue("postgres_url")).replace("+asyncpg", "", 1)
    return f"sqlite:///{tmp_path / 'duewatch.db'}"
