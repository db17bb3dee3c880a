"""The tables of the HTTP door: who may ask, and what was answered to requests that may repeat."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table, Text, text

from workers.store.tables import Id, Instant, Json, metadata

# Who may ask by HTTP; what is given to them is dw_<prefix>_<secret>, of which nothing is kept but
# the SHA-256.
tokens = Table(
    "tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("prefix", String(16), nullable=False, unique=True),
    Column("name", String(80), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("scopes", Json, nullable=False),
    # The kinds of events that it may send; empty (null) for every kind.
    Column("kinds", Json),
    Column("by", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    # At most a minute late: it is written once a minute.
    Column("used_at", Instant),
    Column("revoked_at", Instant),
    # Of those that aren't revoked each has a name of its own.
    Index(
        "uq_tokens_name",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

# What was answered to a request with an Idempotency-Key: the same is answered to its repetition.
answers = Table(
    "answers",
    metadata,
    # Who asked (a token's prefix), and SHA-256 of the key and of the request.
    Column("who", String(40), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("mark", String(64), nullable=False),
    # Empty while the request is being worked on.
    Column("status", Integer),
    Column("body", Text, nullable=False, default=""),
    Column("headers", Json, nullable=False),
    Column("began_at", Instant, nullable=False),
    Index("ix_answers_began_at", "began_at"),
)
