"""Runs Alembic on a connection that is already in a transaction: all versions or none."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from workers.store.tables import metadata


def upgrade(connection: Connection, to: str = "head") -> None:
    """Brings the schema of `connection` to a version, by default the newest."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: object, context: MigrationContext) -> object:
        return script._upgrade_revs(to, revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, script) as environment:
        environment.configure(connection=connection, target_metadata=metadata, fn=steps)
        with Operations.context(environment.get_context()):
            environment.run_migrations()
