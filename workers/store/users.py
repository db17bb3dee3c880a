"""Who signs in to the console, and who is signed in. Instants are aware UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.errors import StateError, UnknownThingError
from workers.store.console_tables import sessions, sign_in_failures, users
from workers.store.engine import Database, insert
from workers.store.tables import audit


class UserStore:
    """Statements on users and sessions; whatever a person changes is in the audit."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def any(self) -> bool:
        """Whether there is anybody, disabled or not: who disables the last one opens nothing."""
        async with self.database.read() as connection:
            found = await connection.execute(select(users.c.id).limit(1))
            return found.first() is not None

    async def all(self) -> list[Row[Any]]:
        """All users by name, with how many sessions each has (`session_count`)."""
        counted = (
            select(func.count())
            .select_from(sessions)
            .where(sessions.c.user_id == users.c.id)
            .scalar_subquery()
        )
        async with self.database.read() as connection:
            return list(
                await connection.execute(
                    select(users, counted.label("session_count")).order_by(users.c.name)
                )
            )

    async def find(self, name: str) -> Row[Any] | None:
        """A user by name, disabled or not."""
        async with self.database.read() as connection:
            found = await connection.execute(select(users).where(users.c.name == name.lower()))
            return found.first()

    async def add(
        self, name: str, role: str, password_hash: str, by: str, now: datetime
    ) -> Row[Any]:
        """Lets somebody sign in. Raises StateError when there is somebody of that name."""
        async with self.database.write() as connection:
            made = await connection.execute(
                insert(connection, users)
                .values(
                    name=name.lower(),
                    role=role,
                    password_hash=password_hash,
                    by=by,
                    created_at=now,
                )
                .on_conflict_do_nothing()
                .returning(users)
            )
            row: Row[Any] | None = made.first()
            if row is None:
                raise StateError(f"there is a user named {name.lower()!r} already")
            await _note(connection, by, "user add", row.name, role, now)
            return row

    async def change(
        self, name: str, by: str, action: str, reason: str, now: datetime, **values: Any
    ) -> Row[Any]:
        """Changes a user and ends all sessions that stand: who has less may do no more.

        Raises UnknownThingError, and StateError where no administrator would be left.
        """
        async with self.database.write() as connection:
            # Who administers is counted one change after the other.
            everybody = list(await connection.execute(select(users).with_for_update()))
            found = next((one for one in everybody if one.name == name.lower()), None)
            if found is None:
                known = ", ".join(one.name for one in everybody) or "none yet"
                raise UnknownThingError(f"there is no user {name!r}; there are {known}")
            others = [
                one
                for one in everybody
                if one.role == "administrator" and one.disabled_at is None and one.id != found.id
            ]
            after = {**found._mapping, **values}
            stays = after["role"] == "administrator" and after["disabled_at"] is None
            if found.role == "administrator" and not found.disabled_at and not (stays or others):
                raise StateError(f"{name} is the only administrator: make another one first")
            done = await connection.execute(
                update(users).where(users.c.id == found.id).values(**values).returning(users)
            )
            await connection.execute(delete(sessions).where(sessions.c.user_id == found.id))
            row: Row[Any] = done.one()
            await _note(connection, by, action, found.name, reason, now)
            return row

    # --- who signs in at a provider ---------------------------------------------------------

    async def known(self, subject: str) -> Row[Any] | None:
        """The user whom a provider means by a subject, disabled or not."""
        async with self.database.read() as connection:
            found = await connection.execute(select(users).where(users.c.subject == subject))
            return found.first()

    async def arrive(
        self, subject: str, name: str, role: str, by: str, now: datetime
    ) -> Row[Any] | None:
        """The user of a subject, with the role the provider gives; made where there is none.

        None when the name is another user's. A disabled one stays so. The last administrator may
        lose the role here: the provider says who administers.
        """
        async with self.database.write() as connection:
            made = await connection.execute(
                insert(connection, users)
                .values(
                    name=name,
                    role=role,
                    password_hash="",
                    by=by,
                    created_at=now,
                    subject=subject,
                )
                .on_conflict_do_nothing()
                .returning(users)
            )
            row: Row[Any] | None = made.first()
            if row is not None:
                await _note(connection, by, "user add", row.name, role, now)
                return row
            found = await connection.execute(
                select(users).where(users.c.subject == subject).with_for_update()
            )
            row = found.first()
            if row is None or row.disabled_at is not None or row.role == role:
                return row
            done = await connection.execute(
                update(users).where(users.c.id == row.id).values(role=role).returning(users)
            )
            changed: Row[Any] = done.one()
            await connection.execute(delete(sessions).where(sessions.c.user_id == row.id))
            await _note(connection, by, "user role", row.name, role, now)
            return changed

    async def refuse(self, subject: str, name: str, by: str, reason: str, now: datetime) -> None:
        """Notes that somebody whom a provider knows isn't let in, and ends what sessions stand."""
        async with self.database.write() as connection:
            found = await connection.execute(select(users).where(users.c.subject == subject))
            row = found.first()
            if row is not None:
                await connection.execute(delete(sessions).where(sessions.c.user_id == row.id))
            await _note(connection, by, "sign in refused", row.name if row else name, reason, now)

    # --- sessions ---------------------------------------------------------------------------

    async def begin(
        self,
        mark: str,
        user: Row[Any],
        origin: str,
        now: datetime,
        until: datetime,
        by_what: str,
    ) -> None:
        """Signs somebody in, until `until` at the longest; the audit says by what."""
        async with self.database.write() as connection:
            await connection.execute(delete(sessions).where(sessions.c.until < now))
            await connection.execute(
                insert(connection, sessions).values(
                    mark=mark,
                    user_id=user.id,
                    origin=origin,
                    began_at=now,
                    seen_at=now,
                    until=until,
                )
            )
            await connection.execute(
                update(users).where(users.c.id == user.id).values(signed_in_at=now)
            )
            await _note(connection, user.name, "sign in", user.name, by_what, now)

    async def session(self, mark: str) -> Row[Any] | None:
        """A session with its user's name and role, if that one may still sign in."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(sessions, users.c.name, users.c.role)
                .join(users, users.c.id == sessions.c.user_id)
                .where(sessions.c.mark == mark, users.c.disabled_at.is_(None))
            )
            return found.first()

    async def seen(self, mark: str, now: datetime, not_since: datetime) -> None:
        """Notes that a session is in use, unless it was noted after `not_since`."""
        async with self.database.write() as connection:
            await connection.execute(
                update(sessions)
                .where(sessions.c.mark == mark, sessions.c.seen_at <= not_since)
                .values(seen_at=now)
            )

    async def end(self, mark: str, name: str, now: datetime) -> None:
        """Signs out."""
        async with self.database.write() as connection:
            done = await connection.execute(delete(sessions).where(sessions.c.mark == mark))
            if done.rowcount:
                await _note(connection, name, "sign out", name, "", now)

    # --- sign-ins that failed -----------------------------------------------------------------

    async def failures(self, key: str, since: datetime) -> int:
        """How many sign-ins with this key failed since then."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(func.count())
                .select_from(sign_in_failures)
                .where(sign_in_failures.c.key == key, sign_in_failures.c.at > since)
            )
            return int(found.scalar_one())

    async def failed(self, keys: list[str], now: datetime, forget: datetime) -> None:
        """Notes a sign-in that failed, and forgets those before `forget`."""
        async with self.database.write() as connection:
            await connection.execute(delete(sign_in_failures).where(sign_in_failures.c.at < forget))
            await connection.execute(
                insert(connection, sign_in_failures),
                [{"key": key[:120], "at": now} for key in keys],
            )

    async def forgive(self, key: str) -> None:
        """Forgets the failures of a key: who signs in proves that it was a slip."""
        async with self.database.write() as connection:
            await connection.execute(delete(sign_in_failures).where(sign_in_failures.c.key == key))


async def _note(
    connection: AsyncConnection, by: str, action: str, target: str, reason: str, now: datetime
) -> None:
    await connection.execute(
        insert(connection, audit).values(
            at=now, by=by, action=action, target=f"user {target}", reason=reason
        )
    )
