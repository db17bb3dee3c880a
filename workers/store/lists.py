"""What is listed page by page: each list goes on after the last one seen, so that what comes in
meanwhile neither repeats nor hides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Table, and_, or_, select

from workers.errors import UnknownThingError
from workers.store.engine import Database
from workers.store.tables import (
    audit,
    contacts,
    dead_letters,
    events,
    partners,
    preferences,
    records,
    runs,
    suppressions,
)

_NUMBERED = {"suppressions": suppressions, "runs": runs, "audit": audit, "letters": dead_letters}


class Lists:
    """Statements that list. `limit` is how many at most."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def newest(
        self,
        of: str,
        *,
        before: int | None,
        limit: int,
        holds: Mapping[str, str | None] | None = None,
        **equal: Any,
    ) -> list[Row[Any]]:
        """Suppressions, runs, the audit or (dead) letters, newest first; `before` an id.

        `equal` has columns and what they must be, `holds` columns and what must be part of them;
        None leaves a column open.
        """
        table = _NUMBERED[of]
        statement = select(table).order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(table.c.id < before)
        for name, value in equal.items():
            if value is not None:
                statement = statement.where(table.c[name] == value)
        for name, part in (holds or {}).items():
            if part is not None:
                statement = statement.where(table.c[name].icontains(part, autoescape=True))
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def contacts(
        self, *, partner: str | None, after: str | None, limit: int, text: str | None = None
    ) -> list[Row[Any]]:
        """Contacts by ref, each with `chosen`: how the person chose to be told, or None.

        `text` is part of a ref, name, mail address or number.
        """
        statement = select(contacts, preferences.c.digest.label("chosen")).outerjoin(
            preferences, preferences.c.contact == contacts.c.ref
        )
        if partner is not None:
            statement = statement.where(contacts.c.partner == partner)
        if text is not None:
            said = [contacts.c.data[name].as_string() for name in ("name", "mail", "mobile")]
            fits = (one.icontains(text, autoescape=True) for one in (contacts.c.ref, *said))
            statement = statement.where(or_(*fits))
        return await self._by_ref(contacts, statement, after, limit)

    async def partners(self, *, text: str | None, after: str | None, limit: int) -> list[Row[Any]]:
        """Partners by ref; `text` is part of a ref or name."""
        statement = select(partners)
        if text is not None:
            name = partners.c.data["name"].as_string()
            statement = statement.where(
                or_(*(one.icontains(text, autoescape=True) for one in (partners.c.ref, name)))
            )
        return await self._by_ref(partners, statement, after, limit)

    async def _by_ref(
        self, table: Table, statement: Any, after: str | None, limit: int
    ) -> list[Row[Any]]:
        if after is not None:
            statement = statement.where(table.c.ref > after)
        async with self.database.read() as connection:
            return list(await connection.execute(statement.order_by(table.c.ref).limit(limit)))

    async def partner(self, ref: str) -> Row[Any]:
        """One partner. Raises UnknownThingError."""
        async with self.database.read() as connection:
            row = (await connection.execute(select(partners).where(partners.c.ref == ref))).first()
        if row is None:
            raise UnknownThingError(f"there is no partner {ref}: import or send it first")
        return row

    async def event(self, source: str, event_id: str) -> Row[Any] | None:
        """An event that was taken."""
        wanted = and_(events.c.source == source, events.c.event_id == event_id)
        async with self.database.read() as connection:
            return (await connection.execute(select(events).where(wanted))).first()

    async def record(self, kind: str, ref: str) -> Row[Any] | None:
        """A record's row as it stands."""
        wanted = and_(records.c.kind == kind, records.c.ref == ref)
        async with self.database.read() as connection:
            return (await connection.execute(select(records).where(wanted))).first()
