"""The tables of outgoing webhooks; store/__init__ imports them, so that `metadata` has them too."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from workers.store.tables import Id, Instant, metadata

# Endpoints of [webhooks.*] as the workers know them; address and secrets are in the settings alone.
webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("name", String(40), primary_key=True),
    # SHA-256 of its address.
    Column("mark", String(64), nullable=False),
    Column("failures", Integer, nullable=False),
    # Since when there was nothing but failures.
    Column("failing_since", Instant),
    Column("answered_at", Instant),
    Column("answer", Text, nullable=False),
    # Left alone since then, until a person enables it.
    Column("disabled_at", Instant),
)

# What is written down for whom; a trigger of `notifications` reads it. Empty: it costs nothing.
webhook_subscriptions = Table(
    "webhook_subscriptions",
    metadata,
    Column("word", String(12), primary_key=True),
    Column("endpoint", String(40), primary_key=True),
    # A rule's, or '*' for all.
    Column("kind", String(40), primary_key=True),
)

# A change of a notification's state that an endpoint is told of; written by that trigger.
webhook_tellings = Table(
    "webhook_tellings",
    metadata,
    Column("id", Id, primary_key=True),
    Column("notification_id", Id, ForeignKey("notifications.id"), nullable=False),
    # The notification's then; with the word it names the change.
    Column("fence", Integer, nullable=False),
    Column("word", String(12), nullable=False),
    Column("endpoint", String(40), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    # waiting, told, failed
    Column("state", String(8), nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("lease_until", Instant),
    # How often it was claimed: refuses a stale holder's word.
    Column("held", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    UniqueConstraint("notification_id", "fence", "word", "endpoint"),
    Index(
        "ix_webhook_tellings_waiting",
        "endpoint",
        "due_at",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    Index(
        "ix_webhook_tellings_failed",
        "endpoint",
        sqlite_where=text("state = 'failed'"),
        postgresql_where=text("state = 'failed'"),
    ),
    Index("ix_webhook_tellings_at", "at"),
)
