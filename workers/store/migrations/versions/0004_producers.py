"""Producers and sources: tokens, what each source has brought, outgoing webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from workers.store.tables import Id, Instant, Json

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None
compatible_from = "0002"


def upgrade() -> None:
    """Adds tables and columns; what is there stays as it is."""
    _tokens()
    _sources()
    _webhooks()
    _quarantine()


def _tokens() -> None:
    """Who may ask by HTTP, which producers may send, and answers kept for repeated requests."""
    op.create_table(
        "tokens",
        sa.Column("id", Id, nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("kinds", Json, nullable=True),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("used_at", Instant(), nullable=True),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("prefix", name=op.f("uq_tokens_prefix")),
    )
    op.create_index(
        "uq_tokens_name",
        "tokens",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "answers",
        sa.Column("who", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("began_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("who", "key", name=op.f("pk_answers")),
    )
    op.create_index("ix_answers_began_at", "answers", ["began_at"], unique=False)
    op.add_column("events", sa.Column("ref", sa.String(length=64), nullable=True))


def _sources() -> None:
    """How far each source has been read, and what it brought."""
    op.create_table(
        "sources",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("state", Json, nullable=False),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("holder", sa.String(length=32), nullable=True),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sources")),
    )
    op.create_table(
        "source_runs",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("fire_at", Instant(), nullable=False),
        sa.Column("trigger", sa.String(length=10), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("counts", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_runs")),
    )
    op.create_index("ix_source_runs_source", "source_runs", ["source", "id"], unique=False)
    op.create_index(
        "uq_source_runs_firing",
        "source_runs",
        ["source", "fire_at"],
        unique=True,
        sqlite_where=sa.text("trigger = 'clock'"),
        postgresql_where=sa.text("trigger = 'clock'"),
    )
    op.create_table(
        "source_totals",
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "outcome", name=op.f("pk_source_totals")),
    )
    op.create_table(
        "source_records",
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("gone_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("source", "kind", "ref", name=op.f("pk_source_records")),
    )


def _webhooks() -> None:
    """Who is told of states, and what is still to be told."""
    op.create_table(
        "webhook_endpoints",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", Instant(), nullable=True),
        sa.Column("answered_at", Instant(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("disabled_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhook_endpoints")),
    )
    op.create_table(
        "webhook_subscriptions",
        sa.Column("word", sa.String(length=12), nullable=False),
        sa.Column("endpoint", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("word", "endpoint", "kind", name=op.f("pk_webhook_subscriptions")),
    )
    op.create_table(
        "webhook_tellings",
        sa.Column("id", Id, nullable=False),
        sa.Column("notification_id", Id, nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("word", sa.String(length=12), nullable=False),
        sa.Column("endpoint", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["notifications.id"],
            name=op.f("fk_webhook_tellings_notification_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_tellings")),
        sa.UniqueConstraint(
            "notification_id",
            "fence",
            "word",
            "endpoint",
            name=op.f("uq_webhook_tellings_notification_id_fence_word_endpoint"),
        ),
    )
    op.create_index(
        "ix_webhook_tellings_waiting",
        "webhook_tellings",
        ["endpoint", "due_at"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "ix_webhook_tellings_failed",
        "webhook_tellings",
        ["endpoint"],
        unique=False,
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index("ix_webhook_tellings_at", "webhook_tellings", ["at"], unique=False)
    _webhook_trigger()


def _quarantine() -> None:
    """What tells a long message from others, and how many came by a door."""
    op.add_column(
        "dead_letters",
        sa.Column("hash", sa.String(length=64), nullable=False, server_default=""),
    )
    op.create_index("ix_dead_letters_door", "dead_letters", ["door", "id"], unique=False)


def _webhook_trigger() -> None:
    """Writes down, within the change of a state itself, whom to tell of it.

    So no statement that changes one can forget it, nor a worker of an older version; and the send
    path asks the database nothing more.
    """
    # Frozen here as it was made; what the words mean is in workers/endpoints.py.
    word = """CASE NEW.state
        WHEN 'failed' THEN CASE
            WHEN OLD.state = 'pending' THEN 'rejected'
            WHEN OLD.state = 'sending' AND OLD.fence = NEW.fence THEN 'rejected'
            ELSE 'bounced' END
        WHEN 'parked' THEN CASE OLD.state WHEN 'sending' THEN 'unknown' ELSE 'parked' END
        WHEN 'pending' THEN CASE OLD.state WHEN 'sending' THEN 'deferred' ELSE 'requeued' END
        ELSE NEW.state END"""
    tell = """INSERT INTO webhook_tellings (notification_id, fence, word, endpoint, attempt, at,
            state, due_at, tries, held, answer)
        SELECT DISTINCT NEW.id, NEW.fence, s.word, s.endpoint, NEW.attempt_count, NEW.changed_at,
            'waiting', NEW.changed_at, 0, 0, ''
        FROM webhook_subscriptions s
        WHERE s.word = @word AND (
            s.kind IN ('*', NEW.kind)
            OR NEW.kind = 'digest' AND EXISTS (
                SELECT 1 FROM occurrences o JOIN records r ON r.id = o.record_id
                WHERE o.notification_id = NEW.id AND r.kind = s.kind
            )
        )
        ON CONFLICT DO NOTHING""".replace("@word", word)
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            """CREATE TRIGGER webhook_tell AFTER UPDATE OF state ON notifications
            WHEN OLD.state <> NEW.state AND EXISTS (SELECT 1 FROM webhook_subscriptions)
            BEGIN @tell; END""".replace("@tell", tell)
        )
        return
    op.execute(
        """CREATE FUNCTION webhook_tell() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT 1 FROM webhook_subscriptions) THEN
                @tell;
            END IF;
            RETURN NULL;
        END $$""".replace("@tell", tell)
    )
    op.execute(
        """CREATE TRIGGER webhook_tell AFTER UPDATE OF state ON notifications FOR EACH ROW
        WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION webhook_tell()"""
    )
