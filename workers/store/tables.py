"""The tables, for SQLite and PostgreSQL. What a row means; the statements are beside this file.

Instants are aware UTC: `timestamptz` on PostgreSQL, fixed-width ISO 8601 text on SQLite, which
sorts as it should and can be read by a person with the sqlite3 shell.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from workers.store.origin import present_origin


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant, to the microsecond. Refuses naive ones with ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text of 27 characters on SQLite."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(27))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive instant {value}: give it a time zone")
        moment = value if value.tzinfo is UTC else value.astimezone(UTC)
        if dialect.name == "sqlite":
            return f"{moment.isoformat(timespec='microseconds')[:26]}Z"
        return moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None or isinstance(value, datetime):
            return value.astimezone(UTC) if value is not None else None
        return datetime.fromisoformat(value)


Json = JSON().with_variant(JSONB(), "postgresql")
Id = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

partners = Table(
    "partners",
    metadata,
    Column("ref", String(64), primary_key=True),
    # The distributor, whose people may be told of a reseller's records.
    Column("parent", String(64), index=True),
    Column("data", Json, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

contacts = Table(
    "contacts",
    metadata,
    Column("ref", String(200), primary_key=True),
    Column("partner", String(64), nullable=False, index=True),
    Column("data", Json, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

# What a person chose by the link in a message; it goes before what files say of the contact.
preferences = Table(
    "preferences",
    metadata,
    Column("contact", String(200), primary_key=True),
    Column("digest", String(10), nullable=False),
    Column("by", String(80), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

customers = Table(
    "customers",
    metadata,
    Column("ref", String(64), primary_key=True),
    Column("partner", String(64), nullable=False, index=True),
    Column("data", Json, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

# A customer's month: the ref is `<customer>|<month>|<currency>`.
spends = Table(
    "spends",
    metadata,
    Column("ref", String(80), primary_key=True),
    Column("partner", String(64), nullable=False, index=True),
    Column("data", Json, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

records = Table(
    "records",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("ref", String(64), nullable=False),
    Column("partner", String(64), nullable=False),
    Column("data", Json, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("version", BigInteger),
    Column("updated_at", Instant),
    Column("state", String(10), nullable=False),
    Column("why", Text, nullable=False, default=""),
    # Open only to be told once more: closed with that.
    Column("last_word", Boolean, nullable=False, default=False, server_default=false()),
    Column("unheard", Boolean, nullable=False, default=False),
    Column("opened_at", Instant, nullable=False),
    Column("due_at", Instant),
    Column("effect", String(24), nullable=False),
    Column("ladder", String(40), nullable=False),
    Column("next_due_at", Instant),
    Column("snoozed_until", Instant),
    Column("closed_by_hand", Text),
    # When what was to be done was done; empty where it only ended, unacted on.
    Column("closed_at", Instant),
    # Counts every change of the row: a send that began from an older one looks again.
    Column("revision", Integer, nullable=False, default=1),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    UniqueConstraint("kind", "ref"),
    # A scan costs what is due, not what is stored.
    Index(
        "ix_records_due",
        "kind",
        "next_due_at",
        sqlite_where=text("state = 'open' AND next_due_at IS NOT NULL"),
        postgresql_where=text("state = 'open' AND next_due_at IS NOT NULL"),
    ),
    Index("ix_records_partner", "partner", "kind", "state"),
)

# Which records a record names; the other end needn't be there yet.
record_links = Table(
    "record_links",
    metadata,
    Column("record_id", Id, ForeignKey("records.id"), primary_key=True),
    Column("kind", String(40), primary_key=True),
    Column("ref", String(64), primary_key=True),
    Index("ix_record_links_target", "kind", "ref"),
)

record_lines = Table(
    "record_lines",
    metadata,
    Column("kind", String(40), primary_key=True),
    Column("ref", String(64), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("data", Json, nullable=False),
    Column("hash", String(64), nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("fire_at", Instant, nullable=False),
    # clock, hand or event; only a clock's firing is unique, so that N schedulers fire once
    Column("trigger", String(10), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("missed", Integer, nullable=False, default=0),
    Column("looked_at", Integer, nullable=False, default=0),
    Column("planned", Integer, nullable=False, default=0),
    Column("held", Integer, nullable=False, default=0),
    # How many of the planned were removed since, their time being over.
    Column("pruned", Integer, nullable=False, default=0, server_default="0"),
    Index(
        "uq_runs_firing",
        "kind",
        "fire_at",
        unique=True,
        sqlite_where=text("trigger = 'clock'"),
        postgresql_where=text("trigger = 'clock'"),
    ),
)

PENDING = "lower(notifications.state) = 'pending'"
"""What the index of lanes holds, in its own words: only so it is used for a claim, and for nothing
else."""

notifications = Table(
    "notifications",
    metadata,
    Column("id", Id, primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("message", String(40), nullable=False),
    Column("channel", String(10), nullable=False),
    Column("contact", String(200), nullable=False),
    Column("name", String(200), nullable=False),
    Column("role", String(40), nullable=False),
    Column("address", String(254), nullable=False),
    Column("language", String(20), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("quiet", String(20)),
    Column("urgent", Boolean, nullable=False),
    Column("state", String(10), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("run_id", Id, ForeignKey("runs.id")),
    Column("not_before", Instant, nullable=False),
    Column("attempt_count", Integer, nullable=False, default=0),
    # Leases are compared by the database's clock only; the fence refuses a stale holder's writes.
    Column("lease_until", Instant),
    Column("fence", Integer, nullable=False, default=0),
    Column("provider", String(40)),
    # The provider that was in trouble with it last: another takes it where there is one.
    Column("avoid", String(64)),
    Column("reference", String(200)),
    Column("link_until", Instant, nullable=False),
    # A day's digest of one person: `<contact>|<address>|<instant>`; scans of all rules add to it.
    Column("digest_key", String(500)),
    # Sent to another address by hand: that isn't the contact's, and needn't be.
    Column("diverted", Boolean, nullable=False, default=False, server_default=false()),
    # The trace it belongs to (W3C Trace Context), where traces are on.
    Column("traceparent", String(55)),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("accepted_at", Instant),
    # A lane is a channel, its urgency and a kind: a claim takes each lane's oldest.
    Index(
        "ix_notifications_lanes",
        "channel",
        "urgent",
        "kind",
        "not_before",
        sqlite_where=text("lower(state) = 'pending'"),
        postgresql_where=text("lower(state) = 'pending'"),
    ),
    Index(
        "ix_notifications_sending",
        "lease_until",
        sqlite_where=text("state = 'sending'"),
        postgresql_where=text("state = 'sending'"),
    ),
    Index("uq_notifications_digest_key", "digest_key", unique=True),
    # With the channel, so that counting all of them reads the index alone.
    Index("ix_notifications_state", "state", "kind", "channel"),
    Index("ix_notifications_reference", "provider", "reference"),
    Index("ix_notifications_address", "channel", "address", "accepted_at"),
)

occurrences = Table(
    "occurrences",
    metadata,
    Column("id", Id, primary_key=True),
    Column("record_id", Id, ForeignKey("records.id"), nullable=False),
    Column("notification_id", Id, ForeignKey("notifications.id"), nullable=False, index=True),
    Column("ladder", String(40), nullable=False),
    Column("stage", String(60), nullable=False),
    Column("channel", String(10), nullable=False),
    Column("contact", String(200), nullable=False),
    Column("until", Instant),
    # Which text it would be alone; a digest of several rules carries several.
    Column("message", String(40)),
    # Set when the line was dropped before a send because it was moot; the stage may be told again.
    Column("dropped", Text),
    # Each stage once per record, contact and channel: a key in SQL, not a habit.
    Index(
        "uq_occurrences_stage",
        "record_id",
        "ladder",
        "stage",
        "channel",
        "contact",
        unique=True,
        sqlite_where=text("dropped IS NULL"),
        postgresql_where=text("dropped IS NULL"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("notification_id", Id, ForeignKey("notifications.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("provider", String(40), nullable=False),
    Column("began_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("outcome", String(10)),
    Column("reply", Text, nullable=False, default=""),
    UniqueConstraint("notification_id", "number"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("notification_id", Id, ForeignKey("notifications.id"), nullable=False, index=True),
    Column("status", String(12), nullable=False),
    Column("detail", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    # A repeated report changes nothing.
    UniqueConstraint("notification_id", "part", "status", "detail"),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("channel", String(10), nullable=False),
    Column("address", String(254), nullable=False),
    # One kind (an unsubscription), or '*' for all (a bounce, an operator's word).
    Column("kind", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("channel", "address", "kind"),
)

pauses = Table(
    "pauses",
    metadata,
    Column("kind", String(40), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
)

# Circuit breakers, by the provider's name in the settings; all instants are the database's own.
provider_states = Table(
    "provider_states",
    metadata,
    Column("name", String(64), primary_key=True),
    # closed: in use; open: left alone; half_open: one message tries it
    Column("state", String(10), nullable=False),
    Column("why", Text, nullable=False),
    Column("by", String(80), nullable=False),
    Column("since", Instant, nullable=False),
    # Empty while it is open by hand: then only a person closes it.
    Column("open_until", Instant),
    Column("probe_until", Instant),
    # How often it was opened without having worked in between.
    Column("openings", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failed_at", Instant),
    Column("failed_id", Id),
    Column("counted_from", Instant),
    Column("counted", Integer, nullable=False),
    Column("counted_failures", Integer, nullable=False),
)

# Pace, by what it is kept for: `provider|<name>|second`, `domain|<domain>` …; the database's clock.
paces = Table(
    "paces",
    metadata,
    Column("name", String(300), primary_key=True),
    # When all that was taken has been paid back: what lies ahead of now is in use.
    Column("free_at", Instant, nullable=False),
    # A domain that asked for less: so many a minute until then.
    Column("slowed_to", Integer),
    Column("slow_until", Instant),
)

# Money spent on a day of Beijing, in millionths of its currency.
expenses = Table(
    "expenses",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("spent", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", String(200), nullable=False),
    Column("event_id", String(200), nullable=False),
    Column("type", String(100), nullable=False),
    Column("hash", String(64), nullable=False),
    # new, changed, unchanged, stale: what became of it
    Column("outcome", String(12), nullable=False),
    # Of the record that it brought, of the kind in its type; empty for people.
    Column("ref", String(64)),
    Column("received_at", Instant, nullable=False),
    UniqueConstraint("source", "event_id"),
)

# The quarantine, under the name that workers of older versions know.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Id, primary_key=True),
    # Where it came in: a queue of the broker, or by HTTP and from whom.
    Column("door", String(80), nullable=False),
    # SHA-256 of door, reason and message: the same again is one row.
    Column("mark", String(64), nullable=False, unique=True),
    # SHA-256 of the whole message; empty where it wasn't read, or an older version kept it.
    Column("hash", String(64), nullable=False, default="", server_default=""),
    Column("received_at", Instant, nullable=False),
    Column("times", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    # The first MAX_KEPT_BYTES; `size` is that of the whole, in bytes.
    Column("body", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("ix_dead_letters_door", "door", "id"),
)

redeliveries = Table(
    "redeliveries",
    metadata,
    # SHA-256 of a message that the broker gave out again: how often it was begun since.
    Column("mark", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Id, primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),
    Column("channel", String(10), nullable=False),
    Column("recipient", String(254), nullable=False),
    Column("subject", Text, nullable=False),
    Column("source", LargeBinary, nullable=False),
    Column("kept_at", Instant, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("by", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("target", String(300), nullable=False),
    Column("reason", Text, nullable=False),
    # The address it was asked from by HTTP; empty at the command line.
    Column("origin", String(64), nullable=False, default=present_origin, server_default=""),
)
