"""Circuit breakers: which providers are left alone, shared by all workers; the database's clock.

A provider that is well costs nothing: its row is written only once something failed, and until it
has worked again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from workers.store.aftermath import database_now, plain
from workers.store.engine import Database, insert
from workers.store.tables import provider_states

RATE_OVER = timedelta(minutes=1)
RATE_LEAST = 20
"""So many outcomes within that time before their rate says anything."""
FORGOTTEN_AFTER = timedelta(minutes=5)
"""Failures further apart than this aren't failures in a row."""


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a provider is left alone, and for how long (seconds)."""

    failures: int
    rate: float
    open_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One outcome as the provider's own: `failure` is "" where the provider did its work.

    `access`: it refused the login. `probe`: this was the one message that tries an open provider.
    `rest`: it asked to be left alone for so long.
    """

    provider: str
    notification_id: int
    failure: str = ""
    access: bool = False
    probe: bool = False
    rest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ProviderState:
    """One provider as it stands. Without `until` an open one stays open until a person closes it.

    `may_probe`: it is time for one message to try it. `restless`: failures are being counted, so
    what works must be written down too. Instants are the database's.
    """

    name: str
    state: str = "closed"
    why: str = ""
    by: str = ""
    since: datetime | None = None
    until: datetime | None = None
    failures: int = 0
    may_probe: bool = False
    restless: bool = False


@dataclass(frozen=True, slots=True)
class _Tally:
    state: str
    why: str
    since: datetime
    open_until: datetime | None
    openings: int
    failures: int
    failed_at: datetime | None
    failed_id: int | None
    counted_from: datetime | None
    counted: int
    counted_failures: int


class Breakers:
    """Statements on provider_states."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def states(self) -> dict[str, ProviderState]:
        """All providers that ever failed or were opened by hand, by name."""
        now = database_now(self.database)
        async with self.database.read() as connection:
            rows = await connection.execute(select(provider_states, now.label("now")))
            return {row.name: _shown(row) for row in rows}

    async def take_probe(self, name: str, lease: timedelta) -> bool:
        """Takes the one message that may try an open provider; false when another worker did.

        Who dies of it leaves it to others when the lease ends.
        """
        now = database_now(self.database)
        async with self.database.write() as connection:
            done = await connection.execute(
                update(provider_states)
                .where(
                    provider_states.c.name == name,
                    or_(
                        and_(
                            provider_states.c.state == "open",
                            provider_states.c.open_until <= now,
                        ),
                        and_(
                            provider_states.c.state == "half_open",
                            provider_states.c.probe_until <= now,
                        ),
                    ),
                )
                .values(
                    state="half_open",
                    probe_until=database_now(self.database, lease),
                )
            )
            return done.rowcount == 1

    async def renew_probes(self, names: Collection[str], lease: timedelta) -> None:
        """Keeps the probes that a worker has under way from being taken by others."""
        if not names:
            return
        async with self.database.write() as connection:
            await connection.execute(
                update(provider_states)
                .where(
                    provider_states.c.name.in_(sorted(names)),
                    provider_states.c.state == "half_open",
                )
                .values(probe_until=database_now(self.database, lease))
            )

    async def give_back_probe(self, name: str) -> None:
        """Says that the probe wasn't used, so that another message may try."""
        async with self.database.write() as connection:
            await connection.execute(
                update(provider_states)
                .where(provider_states.c.name == name, provider_states.c.state == "half_open")
                .values(state="open", open_until=database_now(self.database), probe_until=None)
            )

    async def by_hand(
        self, connection: AsyncConnection, name: str, state: str, why: str, by: str
    ) -> None:
        """Opens a provider until it is closed by hand, or closes it. `state`: open or closed."""
        values: dict[str, Any] = {
            **_FRESH,
            "state": state,
            "why": plain(why),
            "by": by,
            "since": database_now(self.database),
        }
        statement = insert(connection, provider_states).values(name=name, **values)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["name"], set_=values)
        )

    async def note(
        self, connection: AsyncConnection, turns: Sequence[Turn], rules: BreakerRules
    ) -> list[ProviderState]:
        """Counts outcomes in the transaction that records them; returns whose state changed."""
        changed = []
        for name in sorted({turn.provider for turn in turns}):
            row = await self._locked(connection, name)
            before = _Tally(*(getattr(row, one) for one in _Tally.__slots__))
            after = before
            for turn in turns:
                if turn.provider == name:
                    after = _counted(after, turn, rules, row.now)
            if after == before:
                continue
            values = {one: getattr(after, one) for one in _Tally.__slots__}
            if after.state != before.state:
                values |= {"probe_until": None, "by": ""}
            await connection.execute(
                update(provider_states).where(provider_states.c.name == name).values(**values)
            )
            if after.state != before.state:
                changed.append(
                    ProviderState(
                        name,
                        after.state,
                        after.why,
                        since=after.since,
                        until=after.open_until,
                        restless=True,
                    )
                )
        return changed

    async def _locked(self, connection: AsyncConnection, name: str) -> Row[Any]:
        now = database_now(self.database)
        await connection.execute(
            insert(connection, provider_states)
            .values(name=name, state="closed", why="", by="", since=now, **_FRESH)
            .on_conflict_do_nothing()
        )
        found = await connection.execute(
            select(provider_states, now.label("now"))
            .where(provider_states.c.name == name)
            .with_for_update()
        )
        return found.one()


_FRESH: dict[str, Any] = {
    "open_until": None,
    "probe_until": None,
    "openings": 0,
    "failures": 0,
    "failed_at": None,
    "failed_id": None,
    "counted_from": None,
    "counted": 0,
    "counted_failures": 0,
}


def _shown(row: Row[Any]) -> ProviderState:
    due = row.open_until if row.state == "open" else row.probe_until
    counting = row.counted_failures > 0 and row.now - row.counted_from <= RATE_OVER
    return ProviderState(
        row.name,
        row.state,
        row.why,
        row.by,
        row.since,
        row.open_until if row.state == "open" else None,
        row.failures,
        row.state != "closed" and due is not None and due <= row.now,
        row.state != "closed" or row.failures > 0 or counting,
    )


def _counted(before: _Tally, turn: Turn, rules: BreakerRules, now: datetime) -> _Tally:
    """The tally after one more outcome."""
    if before.state != "closed":
        if turn.probe and before.state == "half_open":
            return _opened(before, turn, rules, now) if turn.failure else _closed(before, now)
        # What was in flight then says no more than how long to rest: the probe decides.
        if turn.rest and before.open_until is not None and before.open_until < now + turn.rest:
            return replace(before, open_until=now + turn.rest)
        return before
    tally = before
    if tally.failed_at is not None and now - tally.failed_at > FORGOTTEN_AFTER:
        tally = replace(tally, failures=0, failed_id=None, failed_at=None, openings=0)
    if tally.counted_from is None or now - tally.counted_from > RATE_OVER:
        tally = replace(tally, counted_from=now, counted=0, counted_failures=0)
    tally = replace(tally, counted=tally.counted + 1)
    if not turn.failure:
        return replace(tally, failures=0, failed_id=None)
    # One message that fails again and again is one failure.
    again = tally.failed_id == turn.notification_id and tally.failures > 0
    tally = replace(
        tally,
        failures=tally.failures + (not again),
        counted_failures=tally.counted_failures + (not again),
        failed_at=now,
        failed_id=turn.notification_id,
        why=plain(turn.failure)[:300],
    )
    often = tally.counted >= RATE_LEAST and tally.counted_failures / tally.counted >= rules.rate
    if turn.access or turn.rest or tally.failures >= rules.failures or often:
        return _opened(tally, turn, rules, now)
    return tally


def _opened(tally: _Tally, turn: Turn, rules: BreakerRules, now: datetime) -> _Tally:
    span = timedelta(seconds=min(rules.open_s * 2.0 ** min(tally.openings, 30), rules.longest_s))
    if turn.rest:
        span = turn.rest if tally.state == "closed" else max(span, turn.rest)
    return replace(
        tally,
        state="open",
        why=plain(turn.failure)[:300],
        since=now if tally.state == "closed" else tally.since,
        open_until=now + span,
        openings=tally.openings + 1,
        failures=0,
        failed_id=None,
        failed_at=now,
        counted_from=None,
        counted=0,
        counted_failures=0,
    )


def _closed(tally: _Tally, now: datetime) -> _Tally:
    """It worked. That it was open so often counts on for a while, so that a wavering one rests."""
    return replace(
        tally, state="closed", why="", since=now, open_until=None, failures=0, failed_at=now
    )


def worth_noting(turns: Sequence[Turn], restless: Collection[str]) -> list[Turn]:
    """The turns that must be counted: all of a provider's, once one failed or some did before."""
    names = {turn.provider for turn in turns if turn.failure or turn.probe} | set(restless)
    return [turn for turn in turns if turn.provider in names]
