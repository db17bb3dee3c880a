"""The store: all SQL, each statement named, in two dialects.

engine      connections, transactions, schema versions
tables      what a row means
records     partners, contacts, records and their lists
relations   which records have to do with each other
breakers    which providers are left alone for a while
limits      how much may go out now, and for how much money
lanes       what is claimed next: urgent first, then each rule its share
outbox      runs, notifications, occurrences, attempts: planned, claimed, begun, finished
inbox       what the local inbox kept, as it is read
faults      a database that is away, told from a wrong statement
aftermath   the sweep of what dead workers left, and receipts
operations  what ops people list, pause, suppress and repair
ledger      what stands where, and the proof that it adds up
effects     what came of reminders
preferences what people chose to get, and how
webhooks    whom to tell of states, what is still to be told
tokens      who may ask by HTTP
answers     what was answered to requests that may repeat
lists       what is read page by page
users       who signs in to the console, and who is signed in
sources     how far each source was read, what it brought, its runs
jobs        long work begun from a page
pulse       what went out lately, and why some failed
"""

from __future__ import annotations

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.store.answers import Answers
from workers.store.breakers import Breakers
from workers.store.effects import Effects
from workers.store.engine import Database
from workers.store.faults import is_away, is_deadlock
from workers.store.inbox import InboxPages
from workers.store.jobs import JobStore
from workers.store.limits import Limits
from workers.store.lists import Lists
from workers.store.operations import Operations
from workers.store.outbox import Outbox
from workers.store.preferences import PreferenceStore
from workers.store.pulse import Pulse
from workers.store.records import RecordStore
from workers.store.relations import RelationStore
from workers.store.sources import SourceStore
from workers.store.tokens import TokenStore
from workers.store.users import UserStore
from workers.store.webhooks import WebhookStore


class Store:
    """Everything that is kept, by concern. Each method is one transaction unless it takes one."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.records = RecordStore(database)
        self.relations = RelationStore()
        self.outbox = Outbox(database)
        self.breakers = Breakers(database)
        self.limits = Limits(database)
        self.operations = Operations(database)
        self.inbox = InboxPages(database)
        self.effects = Effects(database)
        self.preferences = PreferenceStore(database, self.records)
        self.webhooks = WebhookStore(database)
        self.sources = SourceStore(database)
        self.tokens = TokenStore(database)
        self.answers = Answers(database)
        self.lists = Lists(database)
        self.users = UserStore(database)
        self.jobs = JobStore(database)
        self.pulse = Pulse(database)

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True) -> Store:
        """Opens the database (see Database.open)."""
        return cls(await Database.open(url, migrate=migrate))

    async def close(self) -> None:
        """Gives back all connections."""
        await self.database.close()


__all__ = ["AsyncConnection", "Row", "Store", "is_away", "is_deadlock"]
