"""Who may ask by HTTP: tokens, of which only the SHA-256 is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select, update

from workers.errors import StateError, UnknownThingError
from workers.store.engine import Database, insert
from workers.store.http_tables import tokens
from workers.store.tables import audit


class TokenStore:
    """Statements on tokens; whatever a person changes is in the audit."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(
        self,
        *,
        prefix: str,
        name: str,
        digest: str,
        scopes: Sequence[str],
        kinds: Sequence[str] | None,
        expires_at: datetime | None,
        by: str,
        now: datetime,
    ) -> Row[Any]:
        """Keeps a new token. Raises StateError when one that isn't revoked has its name."""
        async with self.database.write() as connection:
            statement = (
                insert(connection, tokens)
                .values(
                    prefix=prefix,
                    name=name,
                    hash=digest,
                    scopes=list(scopes),
                    kinds=list(kinds) if kinds is not None else None,
                    by=by,
                    created_at=now,
                    expires_at=expires_at,
                )
                .on_conflict_do_nothing()
            )
            made = await connection.execute(statement.returning(tokens))
            row: Row[Any] | None = made.first()
            if row is None:
                raise StateError(f"there is a token named {name!r}: revoke it, or use another name")
            reason = " ".join((*scopes, *(kinds or ())))
            await connection.execute(
                insert(connection, audit).values(
                    at=now, by=by, action="token create", target=_target(row), reason=reason
                )
            )
            return row

    async def find(self, prefix: str) -> Row[Any] | None:
        """The token of a prefix, revoked or not."""
        async with self.database.read() as connection:
            found = await connection.execute(select(tokens).where(tokens.c.prefix == prefix))
            return found.first()

    async def all(self, limit: int = 1000, before: int | None = None) -> list[Row[Any]]:
        """Tokens, newest first; `before` is the last id seen."""
        statement = select(tokens).order_by(tokens.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(tokens.c.id < before)
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def used(self, token_id: int, now: datetime, not_since: datetime) -> None:
        """Notes that a token is in use, unless it was noted after `not_since`."""
        async with self.database.write() as connection:
            await connection.execute(
                update(tokens)
                .where(
                    tokens.c.id == token_id,
                    or_(tokens.c.used_at.is_(None), tokens.c.used_at <= not_since),
                )
                .values(used_at=now)
            )

    async def revoke(self, which: str, by: str, reason: str, now: datetime) -> Row[Any]:
        """Ends a token by its prefix or name.

        Raises UnknownThingError, and StateError when the token of that prefix is revoked already.
        """
        live = tokens.c.revoked_at.is_(None)
        async with self.database.write() as connection:
            done = await connection.execute(
                update(tokens)
                .where(live, or_(tokens.c.prefix == which, tokens.c.name == which))
                .values(revoked_at=now)
                .returning(tokens)
            )
            row: Row[Any] | None = done.first()
            if row is None:
                found = await connection.execute(
                    select(tokens.c.revoked_at).where(tokens.c.prefix == which)
                )
                if found.first() is not None:
                    raise StateError(f"token {which} is revoked already")
                raise UnknownThingError(f"there is no token {which}: see duewatch tokens list")
            await connection.execute(
                insert(connection, audit).values(
                    at=now, by=by, action="token revoke", target=_target(row), reason=reason
                )
            )
            return row


def _target(row: Row[Any]) -> str:
    return f"token {row.prefix} ({row.name})"
