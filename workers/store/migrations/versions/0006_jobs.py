"""Long work begun from a page, and notifications sent to another address by hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from workers.store.tables import Id, Instant, Json

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None
compatible_from = "0002"


def upgrade() -> None:
    """Adds a table and a column; what is there stays as it is."""
    op.add_column(
        "notifications",
        sa.Column("diverted", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", Id, nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("about", Json, nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("counts", Json, nullable=False),
        sa.Column("changed", Json, nullable=False),
        sa.Column("wished_end", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=True),
        sa.Column("file", sa.LargeBinary(), nullable=True),
        sa.Column("began_at", Instant(), nullable=False),
        sa.Column("said_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("uid", name=op.f("uq_jobs_uid")),
    )
    op.create_index("ix_jobs_began_at", "jobs", ["began_at"])
