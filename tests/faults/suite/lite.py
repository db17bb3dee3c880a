"""A world on SQLite: one file, one process of the product, no broker."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from tests.faults.suite.fault import Trial
from tests.faults.suite.population import Expected
from tests.faults.suite.world import ACCOUNTS, World, _toml

EPOCH_S = "(julianday(a.{}) - 2440587.5) * 86400"
HERE = (
    ("coalesce(jsonb_agg(jsonb_build_object(", "json_group_array(json_object("),
    ("extract(epoch FROM a.began_at)", EPOCH_S.format("began_at")),
    ("extract(epoch FROM a.ended_at)", EPOCH_S.format("ended_at")),
    (" ORDER BY a.number)", ")"),
    ("FILTER (WHERE a.id IS NOT NULL), '[]')", "FILTER (WHERE a.id IS NOT NULL)"),
)
"""What SQLite calls otherwise than PostgreSQL, in the accounts."""
NOW = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')"
"""An instant as the product keeps it there."""


class LiteWorld(World):
    """Entered, it has the far side and an empty database; `file` is put where `place` says."""

    def __init__(self, trial: Trial, place: Path | None = None, **settings: Any) -> None:
        folder = trial.folder / "lite"
        super().__init__(folder, broker="", settings=settings, tree=trial.tree)
        self.file = (place or folder) / "duewatch.db"

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.far_side.start()
        try:
            (self.folder / "duewatch.toml").write_text(_toml(self.settings))
            await self.command("migrate")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    @property
    def database_url(self) -> str:
        """The file's."""
        return f"sqlite:///{self.file}"

    async def load(
        self,
        count: int,
        rng: random.Random | None = None,
        *,
        sms_share: float = 0.0,
        plan: bool = True,
        fresh: bool = False,
    ) -> list[Expected]:
        """As on PostgreSQL; nothing is taken from the stock."""
        return await super().load(count, rng, sms_share=sms_share, plan=plan, fresh=True)

    async def query(self, sql: str, *values: Any) -> list[Any]:
        """Rows, by a connection of its own that only reads."""
        if sql == ACCOUNTS:
            for theirs, ours in HERE:
                sql = sql.replace(theirs, ours)
        return await asyncio.to_thread(self._rows, sql.replace("now()", NOW), values)

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        uri = f"file:{self.file}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            return list(connection.execute(sql, values))

    async def is_whole(self) -> bool:
        """Whether the file is sound, by SQLite's own check."""
        (said,) = await self.query("PRAGMA integrity_check")
        return bool(said[0] == "ok")
