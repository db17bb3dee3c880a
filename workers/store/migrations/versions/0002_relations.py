"""Relations, digests across rules, customers, and when a record was done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from workers.store.tables import Id, Instant, Json

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None
compatible_from = "0002"


def upgrade() -> None:
    """Adds tables and columns; what is there stays as it is."""
    op.create_table(
        "preferences",
        sa.Column("contact", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=10), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("contact", name=op.f("pk_preferences")),
    )
    for name, length in (("customers", 64), ("spends", 80)):
        op.create_table(
            name,
            sa.Column("ref", sa.String(length=length), nullable=False),
            sa.Column("partner", sa.String(length=64), nullable=False),
            sa.Column("data", Json, nullable=False),
            sa.Column("hash", sa.String(length=64), nullable=False),
            sa.Column("changed_at", Instant(), nullable=False),
            sa.PrimaryKeyConstraint("ref", name=op.f(f"pk_{name}")),
        )
        op.create_index(op.f(f"ix_{name}_partner"), name, ["partner"], unique=False)
    op.create_table(
        "record_links",
        sa.Column("record_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_record_links_record_id")
        ),
        sa.PrimaryKeyConstraint("record_id", "kind", "ref", name=op.f("pk_record_links")),
    )
    op.create_index("ix_record_links_target", "record_links", ["kind", "ref"], unique=False)
    op.add_column("partners", sa.Column("parent", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_partners_parent"), "partners", ["parent"], unique=False)
    op.add_column("records", sa.Column("closed_at", Instant(), nullable=True))
    op.add_column(
        "records",
        sa.Column("last_word", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )
    op.add_column("occurrences", sa.Column("message", sa.String(length=40), nullable=True))
    op.add_column("notifications", sa.Column("digest_key", sa.String(length=500), nullable=True))
    op.create_index(
        op.f("uq_notifications_digest_key"), "notifications", ["digest_key"], unique=True
    )
    _fill()


def _fill() -> None:
    """Partners' parents out of their data, and when closed records changed last."""
    connection = op.get_bind()
    parent = "data ->> 'parent'"
    if connection.dialect.name == "sqlite":
        parent = "json_extract(data, '$.parent')"
    connection.execute(sa.text(f"UPDATE partners SET parent = {parent}"))  # noqa: S608
    connection.execute(
        sa.text(
            "UPDATE records SET closed_at = coalesce(updated_at, changed_at) WHERE state = 'closed'"
        )
    )
