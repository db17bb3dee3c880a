"""Partners, contacts, records and the lines of their lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    distinct,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from schedules.planner import Told
from workers.store.engine import Database, insert
from workers.store.tables import (
    contacts,
    customers,
    notifications,
    occurrences,
    partners,
    preferences,
    record_lines,
    records,
    spends,
)

T = TypeVar("T")

CHUNK = 400
"""Values in one IN list; SQLite allows 32,766 variables in a statement."""


def chunks(values: Collection[T], size: int = CHUNK) -> Iterable[Sequence[T]]:
    """Slices of at most `size`."""
    listed = list(values)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


PEOPLE = {"partner": partners, "contact": contacts, "customer": customers, "spend": spends}
"""The tables of who and what isn't watched, by what comes in: each has ref, data and hash."""


class RecordStore:
    """Statements on what is watched. Methods that take a connection join its transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- intake ---------------------------------------------------------------------------

    async def hashes(
        self, connection: AsyncConnection, which: str, refs: Collection[str]
    ) -> dict[str, Row[Any]]:
        """Those that are there already, of a table of PEOPLE: ref -> its row."""
        table = PEOPLE[which]
        found: dict[str, Row[Any]] = {}
        for part in chunks(refs):
            rows = await connection.execute(select(table).where(table.c.ref.in_(part)))
            found.update({row.ref: row for row in rows})
        return found

    async def save_people(
        self, connection: AsyncConnection, which: str, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Inserts or replaces partners, contacts, customers or what they spent."""
        if not rows:
            return
        table = PEOPLE[which]
        statement = insert(connection, table)
        statement = statement.on_conflict_do_update(
            index_elements=["ref"],
            set_={
                column.name: statement.excluded[column.name]
                for column in table.columns
                if column.name != "ref"
            },
        )
        await connection.execute(statement, sorted(rows, key=lambda row: str(row["ref"])))

    async def look_again(
        self, connection: AsyncConnection, partner_refs: Collection[str], now: datetime
    ) -> int:
        """Has the planner look again at what these partners' people are told of.

        Called when a partner or contact changed: records that nobody could be told of open again,
        those of its resellers too. Returns how many records.
        """
        touched = 0
        for part in chunks(partner_refs):
            resellers = select(partners.c.ref).where(partners.c.parent.in_(part))
            mine = and_(
                or_(records.c.partner.in_(part), records.c.partner.in_(resellers)),
                or_(
                    records.c.state == "open",
                    and_(records.c.state == "held", records.c.unheard.is_(True)),
                ),
            )
            done = await connection.execute(
                update(records)
                .where(mine)
                .values(
                    state="open",
                    why=case((records.c.state == "open", records.c.why), else_=""),
                    unheard=False,
                    next_due_at=now,
                    revision=records.c.revision + 1,
                )
            )
            touched += done.rowcount
        return touched

    async def present(
        self, connection: AsyncConnection, kind: str, refs: Collection[str]
    ) -> dict[str, Row[Any]]:
        """The records of a kind that are there already, by ref, locked until the end."""
        found: dict[str, Row[Any]] = {}
        for part in chunks(sorted(refs)):  # in one order, so that two batches never wait in a ring
            rows = await connection.execute(
                select(records)
                .where(records.c.kind == kind, records.c.ref.in_(part))
                .order_by(records.c.ref)
                .with_for_update()
            )
            found.update({row.ref: row for row in rows})
        return found

    async def add_records(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        """Inserts new records; returns the refs of those that another transaction added first."""
        if not rows:
            return set()
        done = await connection.execute(
            insert(connection, records)
            .on_conflict_do_nothing(index_elements=["kind", "ref"])
            .returning(records.c.ref),
            sorted(rows, key=lambda row: str(row["ref"])),
        )
        added = set(done.scalars())
        return {str(row["ref"]) for row in rows} - added

    async def change_records(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Updates records by `id`; every row has the same keys."""
        if not rows:
            return
        columns = [key for key in rows[0] if key != "id"]
        statement = (
            update(records)
            .where(records.c.id == bindparam("b_id"))
            .values(
                {key: bindparam(f"b_{key}") for key in columns}
                | {"revision": records.c.revision + 1}
            )
        )
        await connection.execute(
            statement, [{f"b_{key}": value for key, value in row.items()} for row in rows]
        )

    async def save_lines(
        self, connection: AsyncConnection, kind: str, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Inserts or replaces lines (ref, line, data, hash)."""
        if not rows:
            return
        statement = insert(connection, record_lines)
        statement = statement.on_conflict_do_update(
            index_elements=["kind", "ref", "line"],
            set_={"data": statement.excluded["data"], "hash": statement.excluded["hash"]},
        )
        ordered = sorted(rows, key=lambda row: (str(row["ref"]), int(row["line"])))
        for part in chunks(ordered, 2000):
            await connection.execute(statement, [{"kind": kind, **row} for row in part])

    async def drop_lines(
        self, connection: AsyncConnection, kind: str, keys: Collection[tuple[str, int]]
    ) -> None:
        """Deletes lines of lists by (ref, line)."""
        if not keys:
            return
        statement = delete(record_lines).where(
            record_lines.c.kind == kind,
            record_lines.c.ref == bindparam("b_ref"),
            record_lines.c.line == bindparam("b_line"),
        )
        rows = [{"b_ref": ref, "b_line": line} for ref, line in sorted(keys)]
        await connection.execute(statement, rows)

    async def lines(
        self, connection: AsyncConnection, kind: str, refs: Collection[str]
    ) -> dict[str, list[Row[Any]]]:
        """The lists of these records, each in the order of its lines."""
        found: dict[str, list[Row[Any]]] = {}
        for part in chunks(refs):
            rows = await connection.execute(
                select(record_lines)
                .where(record_lines.c.kind == kind, record_lines.c.ref.in_(part))
                .order_by(record_lines.c.ref, record_lines.c.line)
            )
            for row in rows:
                found.setdefault(row.ref, []).append(row)
        return found

    # --- planning -------------------------------------------------------------------------

    async def due_partners(
        self, kind: str, now: datetime, *, anyway: bool = False
    ) -> list[tuple[str, int]]:
        """The partners that have records due at `now`, with how many, in a steady order.

        `anyway`: with any open records, whenever they would be looked at.
        """
        async with self.database.read() as connection:
            rows = await connection.execute(
                select(records.c.partner, func.count())
                .where(_open(kind) if anyway else _due(kind, now))
                .group_by(records.c.partner)
                .order_by(records.c.partner)
            )
            return [(row[0], row[1]) for row in rows]

    async def due(
        self,
        connection: AsyncConnection,
        kind: str,
        of: Collection[str],
        now: datetime,
        *,
        anyway: bool = False,
    ) -> list[Row[Any]]:
        """The due records of these partners, locked; those another scan holds are left to it."""
        rows = await connection.execute(
            select(records)
            .where(_open(kind) if anyway else _due(kind, now), records.c.partner.in_(list(of)))
            .order_by(records.c.partner, records.c.id)
            .with_for_update(skip_locked=True)
        )
        return list(rows)

    async def open_records(
        self, kind: str, after: int, limit: int, *, until: datetime | None = None
    ) -> list[Row[Any]]:
        """Open records of a kind by id after `after`: for forecasts and replanning."""
        statement = select(records).where(
            records.c.kind == kind, records.c.state == "open", records.c.id > after
        )
        if until is not None:
            statement = statement.where(records.c.next_due_at < until)
        async with self.database.read() as connection:
            return list(await connection.execute(statement.order_by(records.c.id).limit(limit)))

    async def people(
        self, connection: AsyncConnection, partner_refs: Collection[str]
    ) -> tuple[dict[str, Row[Any]], dict[str, list[Row[Any]]]]:
        """(partners by ref, contacts by partner ref, those of their parents too).

        A contact's row has `chosen`: how the person chose to be told, or None.
        """
        known: dict[str, Row[Any]] = {}
        theirs: dict[str, list[Row[Any]]] = {}
        for part in chunks(partner_refs):
            for row in await connection.execute(select(partners).where(partners.c.ref.in_(part))):
                known[row.ref] = row
        parents = {row.parent for row in known.values() if row.parent}
        for part in chunks({*partner_refs, *parents}):
            for row in await connection.execute(
                select(contacts, preferences.c.digest.label("chosen"))
                .outerjoin(preferences, preferences.c.contact == contacts.c.ref)
                .where(contacts.c.partner.in_(part))
                .order_by(contacts.c.ref)
            ):
                theirs.setdefault(row.partner, []).append(row)
        return known, theirs

    async def told(
        self, connection: AsyncConnection, record_ids: Collection[int]
    ) -> dict[int, list[tuple[str, Told, str]]]:
        """What each record has told: record id -> (ladder, what, the address)."""
        found: dict[int, list[tuple[str, Told, str]]] = {}
        for part in chunks(record_ids):
            rows = await connection.execute(
                select(
                    occurrences.c.record_id,
                    occurrences.c.ladder,
                    occurrences.c.stage,
                    occurrences.c.channel,
                    occurrences.c.contact,
                    notifications.c.address,
                )
                .join(notifications, notifications.c.id == occurrences.c.notification_id)
                .where(occurrences.c.record_id.in_(part), occurrences.c.dropped.is_(None))
            )
            for row in rows:
                told = Told(row.stage, row.channel, row.contact)
                found.setdefault(row.record_id, []).append((row.ladder, told, row.address))
        return found

    # --- one record -----------------------------------------------------------------------

    async def find(self, ref: str, kind: str | None = None) -> list[Row[Any]]:
        """The records with this ref, of one kind or of all."""
        statement = select(records).where(records.c.ref == ref)
        if kind is not None:
            statement = statement.where(records.c.kind == kind)
        async with self.database.read() as connection:
            return list(await connection.execute(statement.order_by(records.c.kind)))

    async def by_ids(self, connection: AsyncConnection, ids: Collection[int]) -> list[Row[Any]]:
        """Records by id."""
        found: list[Row[Any]] = []
        for part in chunks(ids):
            found.extend(await connection.execute(select(records).where(records.c.id.in_(part))))
        return found

    async def unclosed(
        self, connection: AsyncConnection, kind: str, after: int, limit: int
    ) -> list[Row[Any]]:
        """The records of a kind that aren't closed, by id above `after`, locked until the end."""
        rows = await connection.execute(
            select(records)
            .where(records.c.kind == kind, records.c.state != "closed", records.c.id > after)
            .order_by(records.c.id)
            .limit(limit)
            .with_for_update()
        )
        return list(rows)

    async def search(
        self,
        *,
        kind: str | None = None,
        state: str | None = None,
        partner: str | None = None,
        ref: str | None = None,
        text: str | None = None,
        people: bool = False,
        after: int = 0,
        limit: int = 100,
    ) -> list[Row[Any]]:
        """Records by kind, state and partner, oldest first; `after` is the last id seen.

        `text` is part of a ref, of the reason of a state, or of a partner's ref or name, in
        whatever case; with `people` it may also be a mail address or number: of the record's
        customer, or of one of its partner's contacts.
        """
        statement: Select[Any] = select(records).where(records.c.id > after)
        for column, value in (
            (records.c.kind, kind),
            (records.c.state, state),
            (records.c.partner, partner),
            (records.c.ref, ref),
        ):
            if value is not None:
                statement = statement.where(column == value)
        if text is not None:
            name = partners.c.data["name"].as_string()
            named = select(partners.c.ref).where(name.icontains(text, autoescape=True))
            fits = [
                *(
                    column.icontains(text, autoescape=True)
                    for column in (records.c.ref, records.c.partner, records.c.why)
                ),
                records.c.partner.in_(named),
            ]
            if people and _may_be_address(text):
                fits.extend(_of_person(text.replace(" ", "")))
            statement = statement.where(or_(*fits))
        async with self.database.read() as connection:
            return list(await connection.execute(statement.order_by(records.c.id).limit(limit)))

    async def contacts_of(self, partner: str | None, limit: int = 1000) -> list[Row[Any]]:
        """Contacts of one partner or of all, by ref."""
        statement = select(contacts).order_by(contacts.c.partner, contacts.c.ref).limit(limit)
        if partner is not None:
            statement = statement.where(contacts.c.partner == partner)
        async with self.database.read() as connection:
            return list(await connection.execute(statement))

    async def all_hashes(self, kind: str, keys: Collection[tuple[str, int]]) -> dict[Any, str]:
        """Hashes of lines that are there already: (ref, line) -> hash."""
        found: dict[Any, str] = {}
        async with self.database.read() as connection:
            for part in chunks(keys):
                rows = await connection.execute(
                    select(record_lines.c.ref, record_lines.c.line, record_lines.c.hash).where(
                        record_lines.c.kind == kind,
                        tuple_(record_lines.c.ref, record_lines.c.line).in_(list(part)),
                    )
                )
                found.update({(row.ref, row.line): row.hash for row in rows})
        return found

    async def count(self, kind: str | None = None) -> dict[tuple[str, str], int]:
        """How many records by (kind, state)."""
        statement = select(records.c.kind, records.c.state, func.count()).group_by(
            records.c.kind, records.c.state
        )
        if kind is not None:
            statement = statement.where(records.c.kind == kind)
        async with self.database.read() as connection:
            return {(row[0], row[1]): row[2] for row in await connection.execute(statement)}

    async def next_due(self, kind: str) -> datetime | None:
        """When the next of a kind's open records falls due, or did."""
        async with self.database.read() as connection:
            found = await connection.execute(
                select(records.c.next_due_at)
                .where(_open(kind), records.c.next_due_at.is_not(None))
                .order_by(records.c.next_due_at)
                .limit(1)
            )
            value: datetime | None = found.scalar()
            return value

    async def partner_count(self) -> int:
        """How many partners have records."""
        async with self.database.read() as connection:
            found = await connection.execute(select(func.count(distinct(records.c.partner))))
            return int(found.scalar_one())


def _may_be_address(text: str) -> bool:
    return "@" in text or sum(c.isdigit() for c in text) >= 7


def _of_person(text: str) -> list[Any]:
    """Conditions: the customer's address or number, or that of a contact of the partner."""

    def says(data: Any, *names: str) -> list[Any]:
        return [data[name].as_string().icontains(text, autoescape=True) for name in names]

    theirs = select(contacts.c.partner).where(or_(*says(contacts.c.data, "mail", "mobile")))
    return [
        *says(records.c.data, "customer_mail", "customer_mobile"),
        records.c.partner.in_(theirs),
    ]


def _open(kind: str) -> Any:
    return and_(records.c.kind == kind, records.c.state == "open")


def _due(kind: str, now: datetime) -> Any:
    return and_(
        records.c.kind == kind,
        records.c.state == "open",
        records.c.next_due_at.is_not(None),
        records.c.next_due_at <= now,
    )
