"""The local inbox as it is read: by page, by message and by conversation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import LargeBinary, Row, Select, case, func, null, select, type_coerce

from workers.store.engine import Database
from workers.store.tables import inbox, notifications


class InboxPages:
    """Statements on kept messages; each row carries what is known of its notification, or None."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(
        self,
        *,
        channel: str | None = None,
        kind: str | None = None,
        recipient: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Row[Any]]:
        """Kept messages, newest first; `before` is the last id seen.

        `recipient` is part of an address or a name. Mails come without their source.
        """
        text = case((inbox.c.channel == "sms", inbox.c.source), else_=null())
        columns = [column for column in inbox.c if column.name != "source"]
        statement = _joined(*columns, type_coerce(text, LargeBinary).label("text"))
        if channel is not None:
            statement = statement.where(inbox.c.channel == channel)
        if kind is not None:
            statement = statement.where(notifications.c.kind == kind)
        if recipient is not None:
            statement = statement.where(
                inbox.c.recipient.icontains(recipient, autoescape=True)
                | func.coalesce(notifications.c.name, "").icontains(recipient, autoescape=True)
            )
        if before is not None:
            statement = statement.where(inbox.c.id < before)
        async with self.database.read() as connection:
            return list(
                await connection.execute(statement.order_by(inbox.c.id.desc()).limit(limit))
            )

    async def one(self, uid: str) -> Row[Any] | None:
        """One message with its source."""
        async with self.database.read() as connection:
            found: Row[Any] | None = (
                await connection.execute(_joined(*inbox.c).where(inbox.c.uid == uid))
            ).first()
            return found

    async def conversation(self, number: str, limit: int = 100) -> list[Row[Any]]:
        """The latest SMS to one number, oldest first."""
        statement = (
            _joined(*inbox.c)
            .where(inbox.c.channel == "sms", inbox.c.recipient == number)
            .order_by(inbox.c.id.desc())
            .limit(limit)
        )
        async with self.database.read() as connection:
            return list(await connection.execute(statement))[::-1]


def _joined(*columns: Any) -> Select[Any]:
    about = (notifications.c.kind, notifications.c.message, notifications.c.name)
    return select(*columns, *about).outerjoin(notifications, notifications.c.uid == inbox.c.uid)
