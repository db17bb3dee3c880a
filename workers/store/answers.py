"""Answers to requests with an Idempotency-Key, kept so that a repetition gets the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, or_, select, update

from workers.store.engine import Database, insert
from workers.store.http_tables import answers

KEPT = timedelta(hours=24)
"""How long an answer is kept, and its key known."""
GIVEN_UP = timedelta(minutes=5)
"""After so long without an answer a request's process is taken for dead: the next begins anew."""


class Answers:
    """Statements on kept answers. `who` is a token's prefix, `key` and `mark` are SHA-256.

    Who comes back from a provider (workers.web.elsewhere) is known here too: each comes once.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def begin(self, who: str, key: str, mark: str, now: datetime) -> Row[Any] | None:
        """None when the request is the first with its key; else the row of the first.

        A row without `status` is still being worked on.
        """
        stuck = and_(answers.c.status.is_(None), answers.c.began_at < now - GIVEN_UP)
        async with self.database.write() as connection:
            await connection.execute(
                delete(answers).where(
                    or_(
                        answers.c.began_at < now - KEPT,
                        and_(stuck, answers.c.who == who, answers.c.key == key),
                    )
                )
            )
            made = await connection.execute(
                insert(connection, answers)
                .values(who=who, key=key, mark=mark, body="", headers={}, began_at=now)
                .on_conflict_do_nothing()
                .returning(answers.c.key)
            )
            if made.first() is not None:
                return None
            return (
                await connection.execute(
                    select(answers).where(answers.c.who == who, answers.c.key == key)
                )
            ).one()

    async def end(
        self, who: str, key: str, status: int, body: str, headers: Mapping[str, str]
    ) -> None:
        """Keeps the answer of a request."""
        async with self.database.write() as connection:
            await connection.execute(
                update(answers)
                .where(answers.c.who == who, answers.c.key == key)
                .values(status=status, body=body, headers=dict(headers))
            )

    async def forget(self, who: str, key: str) -> None:
        """Frees the key of a request that came to nothing: it may be sent again."""
        async with self.database.write() as connection:
            await connection.execute(
                delete(answers).where(
                    answers.c.who == who, answers.c.key == key, answers.c.status.is_(None)
                )
            )
