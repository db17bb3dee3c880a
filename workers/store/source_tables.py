"""The tables of sources; part of the same schema as `tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from workers.store.tables import Id, Instant, Json, metadata

# What a source remembers: how far it was read. One process syncs it at a time, by a lease on the
# database's clock.
sources = Table(
    "sources",
    metadata,
    Column("name", String(40), primary_key=True),
    # Of the settings that it was read by: with others all is read anew.
    Column("fingerprint", String(64), nullable=False),
    Column("state", Json, nullable=False),
    Column("lease_until", Instant),
    Column("holder", String(32)),
    Column("changed_at", Instant, nullable=False),
)

source_runs = Table(
    "source_runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", String(40), nullable=False),
    Column("fire_at", Instant, nullable=False),
    # clock or hand; only a clock's firing is unique, so that N schedulers sync once
    Column("trigger", String(10), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("missed", Integer, nullable=False),
    # done, refused (some rows were), failed, skipped (another was at it), lost (its process died)
    Column("outcome", String(10)),
    Column("detail", Text, nullable=False),
    # How many of each outcome, by what the rows were.
    Column("counts", Json, nullable=False),
    Index("ix_source_runs_source", "source", "id"),
    Index(
        "uq_source_runs_firing",
        "source",
        "fire_at",
        unique=True,
        sqlite_where=text("trigger = 'clock'"),
        postgresql_where=text("trigger = 'clock'"),
    ),
)

# How many syncs of a source ended how, ever: runs are forgotten, and a counter must not fall.
source_totals = Table(
    "source_totals",
    metadata,
    Column("source", String(40), primary_key=True),
    Column("outcome", String(10), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

# Which records a source has brought, so that it is noticed when it no longer does.
source_records = Table(
    "source_records",
    metadata,
    Column("source", String(40), primary_key=True),
    Column("kind", String(40), primary_key=True),
    Column("ref", String(64), primary_key=True),
    # Since when a whole listing no longer holds it.
    Column("gone_at", Instant),
)
