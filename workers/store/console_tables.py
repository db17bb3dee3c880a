"""The tables of the console: who signs in, who is signed in, and long work begun from a page."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    false,
)

from workers.store.tables import Id, Instant, Json, metadata

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    # What is typed at sign-in, in small letters.
    Column("name", String(80), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    # argon2id in its own notation; empty for who has no password.
    Column("password_hash", Text, nullable=False),
    Column("by", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("signed_in_at", Instant),
    Column("disabled_at", Instant),
    # Whom an OpenID Connect provider means by this user: its issuer, | and the subject there.
    Column("subject", String(600)),
    Index("ix_users_subject", "subject", unique=True),
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

# Long work begun from a page: each process does its own and says how far it is; all may see it.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),
    # scan, sync, import, move, export
    Column("kind", String(20), nullable=False),
    # What it is about: the words of its title are filled in with it.
    Column("about", Json, nullable=False),
    Column("by", String(80), nullable=False),
    # running, done, failed or ended (by a person); one that says nothing any more is lost
    Column("state", String(10), nullable=False),
    Column("done", Integer, nullable=False, default=0),
    # Empty until it is known how much there is.
    Column("total", Integer),
    Column("detail", Text, nullable=False, default=""),
    Column("counts", Json, nullable=False),
    # What it changed and from which state, as far as it can be undone.
    Column("changed", Json, nullable=False),
    Column("wished_end", Boolean, nullable=False, default=False, server_default=false()),
    Column("file_name", String(200)),
    Column("file", LargeBinary),
    Column("began_at", Instant, nullable=False),
    # When it last said how far it is.
    Column("said_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("ix_jobs_began_at", "began_at"),
)
