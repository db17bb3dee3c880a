"""Which records have to do with each other, and what stands open at a partner."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.store.engine import insert
from workers.store.records import chunks
from workers.store.tables import record_links, records

Key = tuple[str, str]
"""(kind, ref) of a record."""


LOCKS = 740212
"""The class of our advisory locks on PostgreSQL."""
BUCKETS = 1024
"""Locks that keys share; a transaction may hold all of them at once."""


class RelationStore:
    """Statements on links between records. All join the caller's transaction."""

    async def hold(self, connection: AsyncConnection, keys: Collection[Key]) -> None:
        """Lets one transaction at a time write what has to do with these keys, until its end.

        Without it two that write the two ends of a link would each not see the other's. SQLite has
        one writer anyway.
        """
        if connection.dialect.name == "sqlite" or not keys:
            return
        buckets = sorted({zlib.crc32(f"{kind}|{ref}".encode()) % BUCKETS for kind, ref in keys})
        ordered = "SELECT unnest(CAST(:buckets AS integer[])) AS bucket ORDER BY 1"
        await connection.execute(
            text(f"SELECT pg_advisory_xact_lock({LOCKS}, bucket) FROM ({ordered}) held"),  # noqa: S608
            {"buckets": buckets},
        )

    async def save_links(
        self, connection: AsyncConnection, links: Mapping[int, Collection[Key]]
    ) -> None:
        """Makes these the links of the records (id -> the keys it names)."""
        for part in chunks(list(links)):
            await connection.execute(delete(record_links).where(record_links.c.record_id.in_(part)))
        rows = [
            {"record_id": record_id, "kind": kind, "ref": ref}
            for record_id, keys in sorted(links.items())
            for kind, ref in sorted(set(keys))
        ]
        for rows_part in chunks(rows, 2000):
            await connection.execute(insert(connection, record_links), list(rows_part))

    async def neighbours(
        self, connection: AsyncConnection, rows: Sequence[Row[Any]]
    ) -> dict[int, list[Row[Any]]]:
        """The records linked with each of these, in either direction: id -> rows, by kind, ref."""
        found: dict[int, dict[int, Row[Any]]] = {}
        by_key = {(row.kind, row.ref): row.id for row in rows}
        for part in chunks([row.id for row in rows]):
            named = await connection.execute(
                select(record_links.c.record_id.label("of"), records)
                .join(
                    records,
                    and_(
                        records.c.kind == record_links.c.kind, records.c.ref == record_links.c.ref
                    ),
                )
                .where(record_links.c.record_id.in_(part))
            )
            for row in named:
                found.setdefault(row.of, {})[row.id] = row
        for kind in {kind for kind, _ in by_key}:
            for part_refs in chunks([ref for k, ref in by_key if k == kind]):
                naming = await connection.execute(
                    select(record_links.c.ref.label("named"), records)
                    .join(records, records.c.id == record_links.c.record_id)
                    .where(record_links.c.kind == kind, record_links.c.ref.in_(part_refs))
                )
                for row in naming:
                    found.setdefault(by_key[kind, row.named], {})[row.id] = row
        return {
            record_id: sorted(theirs.values(), key=lambda row: (row.kind, row.ref))
            for record_id, theirs in found.items()
        }

    async def standing(
        self, connection: AsyncConnection, kinds: Collection[str], partners: Collection[str]
    ) -> dict[str, list[Row[Any]]]:
        """The records of these kinds that aren't closed, by partner."""
        found: dict[str, list[Row[Any]]] = {}
        for part in chunks(sorted(partners)):
            rows = await connection.execute(
                select(records)
                .where(
                    records.c.partner.in_(part),
                    records.c.kind.in_(list(kinds)),
                    records.c.state != "closed",
                )
                .order_by(records.c.id)
            )
            for row in rows:
                found.setdefault(row.partner, []).append(row)
        return found

    async def locked(self, connection: AsyncConnection, ids: Collection[int]) -> list[Row[Any]]:
        """Records by id, locked until the end, in one order."""
        found: list[Row[Any]] = []
        for part in chunks(sorted(ids)):
            found.extend(
                await connection.execute(
                    select(records)
                    .where(records.c.id.in_(part))
                    .order_by(records.c.kind, records.c.ref)
                    .with_for_update()
                )
            )
        return found

    async def save_links_of(
        self, connection: AsyncConnection, kind: str, links: Mapping[str, Collection[Key]]
    ) -> None:
        """Makes these the links of a kind's records (ref -> the keys it names)."""
        ids: dict[int, Collection[Key]] = {}
        for part in chunks(sorted(links)):
            rows = await connection.execute(
                select(records.c.id, records.c.ref).where(
                    records.c.kind == kind, records.c.ref.in_(part)
                )
            )
            ids.update({row.id: links[row.ref] for row in rows})
        await self.save_links(connection, ids)

    async def linked_ids(
        self, connection: AsyncConnection, kind: str, refs: Collection[str]
    ) -> set[int]:
        """The ids of the records linked with these of a kind, and of those of these that are."""
        found: set[int] = set()
        other = records.alias("other")
        for part in chunks(sorted(refs)):
            ours = and_(records.c.kind == kind, records.c.ref.in_(part))
            named = (
                select(records.c.id, other.c.id)
                .join(record_links, record_links.c.record_id == records.c.id)
                .join(
                    other,
                    and_(other.c.kind == record_links.c.kind, other.c.ref == record_links.c.ref),
                )
                .where(ours)
            )
            naming = (
                select(records.c.id, record_links.c.record_id)
                .join(
                    record_links,
                    and_(
                        record_links.c.kind == records.c.kind, record_links.c.ref == records.c.ref
                    ),
                )
                .where(ours)
            )
            for statement in (named, naming):
                for one, another in await connection.execute(statement):
                    found |= {one, another}
        return found

    async def of_partners(
        self, connection: AsyncConnection, kind: str, partners: Collection[str]
    ) -> dict[str, Row[Any]]:
        """A derived kind's record of each of these partners, where there is one, locked."""
        found: dict[str, Row[Any]] = {}
        for part in chunks(sorted(partners)):
            rows = await connection.execute(
                select(records)
                .where(records.c.kind == kind, records.c.partner.in_(part))
                .order_by(records.c.ref)
                .with_for_update()
            )
            found.update({row.partner: row for row in rows})
        return found
