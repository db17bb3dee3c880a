"""Users who sign in at an OpenID Connect provider: whom that means by them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None
compatible_from = "0002"


def upgrade() -> None:
    """Adds a column; what is there stays as it is."""
    op.add_column("users", sa.Column("subject", sa.String(length=600), nullable=True))
    op.create_index("ix_users_subject", "users", ["subject"], unique=True)
