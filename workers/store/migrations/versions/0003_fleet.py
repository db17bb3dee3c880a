"""Many machines: dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from workers.store.tables import Id, Instant

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None
compatible_from = "0002"


def upgrade() -> None:
    """Adds tables and columns; what is there stays as it is."""
    _dead_letters()
    _providers_and_lanes()
    _pruned()
    _traceparent()
    _counts()


def _dead_letters() -> None:
    """What came by the broker and couldn't be taken, and how often what came again was begun."""
    op.create_table(
        "dead_letters",
        sa.Column("id", Id, nullable=False),
        sa.Column("door", sa.String(length=80), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("mark", name=op.f("uq_dead_letters_mark")),
    )
    op.create_table(
        "redeliveries",
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_redeliveries")),
    )


def _pruned() -> None:
    """How many of a run's notifications were pruned since, so that the ledger still adds up."""
    op.add_column("runs", sa.Column("pruned", sa.Integer(), nullable=False, server_default="0"))


def _providers_and_lanes() -> None:
    """Circuit breakers, paces and expenses that all workers share; claims by lanes."""
    op.create_table(
        "provider_states",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("open_until", Instant(), nullable=True),
        sa.Column("probe_until", Instant(), nullable=True),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", Instant(), nullable=True),
        sa.Column("failed_id", Id, nullable=True),
        sa.Column("counted_from", Instant(), nullable=True),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.Column("counted_failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_provider_states")),
    )
    op.create_table(
        "paces",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("free_at", Instant(), nullable=False),
        sa.Column("slowed_to", sa.Integer(), nullable=True),
        sa.Column("slow_until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_paces")),
    )
    op.create_table(
        "expenses",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "currency", name=op.f("pk_expenses")),
    )
    op.create_index(
        "ix_notifications_lanes",
        "notifications",
        ["channel", "urgent", "kind", "not_before"],
        unique=False,
        sqlite_where=sa.text("lower(state) = 'pending'"),
        postgresql_where=sa.text("lower(state) = 'pending'"),
    )
    op.drop_index("ix_notifications_pending", table_name="notifications")
    op.add_column("notifications", sa.Column("avoid", sa.String(length=64), nullable=True))


def _traceparent() -> None:
    """The trace that a message belongs to, so that its sending and receipts join it."""
    op.add_column("notifications", sa.Column("traceparent", sa.String(length=55), nullable=True))


def _counts() -> None:
    """Messages are counted by kind, channel and state from an index alone."""
    op.drop_index("ix_notifications_state", table_name="notifications")
    op.create_index(
        "ix_notifications_state", "notifications", ["state", "kind", "channel"], unique=False
    )
