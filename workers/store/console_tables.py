"""The tables of the console: who signs in, and who is signed in."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text

from workers.store.tables import Id, Instant, metadata

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    # What is typed at sign-in, in small letters.
    Column("name", String(80), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    # argon2id in its own notation.
    Column("password_hash", Text, nullable=False),
    Column("by", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("signed_in_at", Instant),
    Column("disabled_at", Instant),
)

sessions = Table(
    "sessions",
    metadata,
    # SHA-256 of what the browser has: who reads the table can't sign in with it.
    Column("mark", String(64), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False, index=True),
    Column("origin", String(64), nullable=False),
    Column("began_at", Instant, nullable=False),
    # At most a minute late: it is written once a minute.
    Column("seen_at", Instant, nullable=False),
    Column("until", Instant, nullable=False, index=True),
)

# Sign-ins that failed, by whom (`name|…`) and from where (`from|…`).
sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", String(120), nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_sign_in_failures_key", "key", "at"),
)
