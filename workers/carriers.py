"""Carriers: which provider carries a message now, and how many may go at what pace.

What holds for all workers (which providers are left alone, paces, money) is kept in the store; here
is what this process makes of it. A provider that is left alone is passed over for the next, and
tried by one message when its time has come.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog

from workers.errors import ProviderError
from workers.model import Outcome
from workers.outcomes import is_providers
from workers.places import INSIDE, Places
from workers.providers import Channel, Provider
from workers.settings import Settings
from workers.store import AsyncConnection, Row, Store
from workers.store.attempts import Claimed, Finished
from workers.store.breakers import BreakerRules, ProviderState, Turn, worth_noting
from workers.store.limits import MINUTE, SECOND, Pace

log = structlog.get_logger("carriers")

LOOK_EVERY_S = 0.5
SLOW_WAIT = timedelta(seconds=5)
LONGEST_TAIL = timedelta(hours=1)
FORGET_EVERY_S = 3600.0
DOMAIN = "domain|"


@dataclass(frozen=True, slots=True)
class Offer:
    """`limit` messages of a channel may be claimed; by `probe` one, which tries that provider."""

    limit: int
    probe: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """One provider for people and for metrics; `used` is (in use, of how many) by limit."""

    name: str
    channels: tuple[str, ...]
    state: str
    why: str = ""
    by: str = ""
    since: datetime | None = None
    until: datetime | None = None
    in_flight: int = 0
    used: Mapping[str, tuple[int, int]] | None = None


class Carriers:
    """The providers of each channel in the order of the settings. One per process."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[Channel, Mapping[str, Provider]],
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self.providers = providers
        self.settings = settings
        self.clock = clock
        self.by_name = {name: one for named in providers.values() for name, one in named.items()}
        total = settings.delivery.concurrency
        self.waits: Counter[tuple[str, str]] = Counter()
        """Messages that waited, by (limit, whose): provider, domain, slow."""
        self.in_flight: Counter[str] = Counter()
        """What this process is handing over just now, by provider."""
        self.next_in_s: float | None = None
        """When a pace that was used up gives again (seconds); None where none was."""
        self.states: dict[str, ProviderState] = {}
        self._looked_at = self._forgot_at = float("-inf")
        self._probes: dict[int, str] = {}
        self._worked_at: dict[str, float] = {}
        self._tails: dict[str, datetime] = {}
        self._several = sum(not one.stays_here for one in self.by_name.values()) > 1
        share = settings.delivery.share
        mine = max(1, int(total * share))
        inside = max(1, int(total * share * share)) if self._several else mine
        self.places = Places(total, mine, inside=inside)
        self._lease = timedelta(seconds=settings.delivery.lease_s)
        self._rules = BreakerRules(
            settings.delivery.breaker_failures,
            settings.delivery.breaker_rate,
            settings.delivery.breaker_open_s,
            settings.delivery.breaker_longest_s,
        )

    # --- which provider -------------------------------------------------------------------

    async def look(self, *, anew: bool = False) -> None:
        """Reads what stands in the store, unless that was done a moment ago."""
        now = asyncio.get_running_loop().time()
        if anew or now - self._looked_at > LOOK_EVERY_S:
            self.states = await self.store.breakers.states()
            self._looked_at = now

    def open_ones(self, channel: str) -> list[str]:
        """The channel's providers that are in use now, in order."""
        named = self.providers[_channel(channel)]
        return [name for name in named if self._state(name) == "closed"]

    def _state(self, name: str) -> str:
        return self.states[name].state if name in self.states else "closed"

    def choose(
        self, row: Row[Any], first: Callable[[str, str | None], str | None] | None = None
    ) -> str | None:
        """Who carries this message; None when no provider may now.

        `first` is `self.first`, or what remembers its answers for many messages.
        """
        if probe := self._probes.get(row.id):
            return probe
        return (first or self.first)(row.channel, row.avoid)

    def first(self, channel: str, avoid: str | None) -> str | None:
        """The first of a channel's providers that is in use now; one that was in trouble with the
        message goes last.
        """
        usable = self.open_ones(channel)
        others = [name for name in usable if name != avoid]
        return next(iter(others or usable), None)

    async def unsafe(
        self, connection: AsyncConnection, chosen: Mapping[int, tuple[Row[Any], str]]
    ) -> set[int]:
        """Which of these messages mustn't go to the provider chosen for them.

        What may have been accepted by one provider, where a repeat was safe, isn't handed to one
        where it isn't.
        """
        doubtful = [
            one
            for one, (row, name) in chosen.items()
            if row.attempt_count
            and not self.by_name[name].repeat_is_safe
            and row.provider in self.by_name
            and self.by_name[row.provider].repeat_is_safe
        ]
        return await self.store.outbox.unknown_last(connection, doubtful) if doubtful else set()

    def handed_on(self, finished: Finished, name: str, error: ProviderError) -> Finished:
        """What failed by a provider's own trouble is taken over by the next at once.

        If that one fails too, the message waits as it would have.
        """
        if finished.outcome is not Outcome.DEFERRED or not is_providers(error):
            return finished
        row = finished.claimed.row
        others = any(one != name for one in self.open_ones(row.channel))
        at_once = others and not row.avoid and finished.again_at is not None
        again_at = self.clock() if at_once else finished.again_at
        return replace(finished, again_at=again_at, avoid=name)

    # --- how many -------------------------------------------------------------------------

    async def offers(self, channel: str, limit: int, in_hand: Counter[str]) -> list[Offer]:
        """How much may be claimed of a channel now; `in_hand` counts what waits by provider."""
        named = list(self.providers[_channel(channel)])
        usable = self.open_ones(channel)
        found: list[Offer] = []
        for name in named[: named.index(usable[0])] if usable else named:
            state = self.states.get(name)
            if state is None or not state.may_probe:
                continue
            if await self.store.breakers.take_probe(name, self._lease):
                found.append(Offer(1, probe=name))
                self._looked_at = float("-inf")
                break
        if usable:
            room = await self._room(usable[0], limit, in_hand[usable[0]])
            if room > 0:
                found.append(Offer(room))
        return found

    async def _room(self, name: str, limit: int, in_hand: int) -> int:
        if self.places.is_stuffed(name):
            limit = min(limit, self.places.share - in_hand)
        paces = self._paces(name)
        if not paces:
            return limit
        for pace in paces:
            # What waits in hand mustn't become a burst of its own.
            limit = min(limit, pace.count - in_hand)
        if limit <= 0:
            self._wait_at_most(timedelta(seconds=0.1))
            return 0
        for given in (await self.store.limits.free(paces)).values():
            limit = min(limit, given.granted)
            if not given.granted:
                self._wait_at_most(given.wait)
        return limit

    def _wait_at_most(self, wait: timedelta) -> None:
        seconds = max(wait.total_seconds(), 0.01)
        self.next_in_s = seconds if self.next_in_s is None else min(self.next_in_s, seconds)

    def _paces(self, name: str) -> list[Pace]:
        settings = self.by_name[name].settings
        return [
            Pace(f"provider|{name}|{word}", count, span)
            for word, count, span in (
                ("second", settings.per_second, SECOND),
                ("minute", settings.per_minute, MINUTE),
            )
            if count
        ]

    async def sift(
        self, connection: AsyncConnection, claimed: Sequence[Claimed], waiting: Counter[str]
    ) -> dict[int, tuple[datetime, str]]:
        """Which of the claimed must wait, until when and why; the others have their tokens."""
        now, waits = self.clock(), dict[int, tuple[datetime, str]]()
        groups: dict[Pace, list[Claimed]] = {}
        for one in claimed:
            name, domain = self.choose(one.row), domain_of(one.row)
            if name is None or self.by_name[name].stays_here:
                continue
            if domain and self._is_crowded(domain, waiting):
                wait = self.slow_wait(one.row) or SLOW_WAIT
                waits[one.id] = now + wait, f"put off: {domain} answers slowly"
                continue
            for pace in self._paces(name):
                groups.setdefault(pace, []).append(one)
            if domain:
                most = self.settings.mail.per_domain_per_minute
                groups.setdefault(Pace(DOMAIN + domain, most, MINUTE), []).append(one)
        taken = await self.store.limits.take(
            connection, {pace: len(theirs) for pace, theirs in groups.items()}
        )
        for pace, theirs in groups.items():
            given = taken[pace.name]
            for one in theirs[given.granted :]:
                if one.id in waits:
                    continue
                if pace.name.startswith(DOMAIN):
                    self.waits["domain", ""] += 1
                    until = self._tail(pace.name, given.wait, given.interval, now, one.row.urgent)
                    why = f"put off: {pace.name.removeprefix(DOMAIN)} takes no more just now"
                else:
                    self.waits["provider", pace.name.split("|")[1]] += 1
                    self._wait_at_most(given.wait)
                    until, why = now + given.wait, "put off: the provider's pace"
                waits[one.id] = until, why
        return waits

    def _is_crowded(self, domain: str, waiting: Counter[str]) -> bool:
        """Whether a domain holds all that it may, slowly, and has as much in hand that waits."""
        key = INSIDE + domain
        return waiting[domain] >= self.places.share_of(key) and self.places.is_stuffed(key)

    def _tail(
        self, name: str, wait: timedelta, interval: timedelta, now: datetime, urgent: bool
    ) -> datetime:
        """When it may be this message's turn: each one behind the last, unless it is urgent."""
        soonest = now + wait
        if urgent:
            return soonest
        behind = max(self._tails.get(name, soonest) + interval, soonest)
        self._tails[name] = min(behind, now + LONGEST_TAIL)
        return self._tails[name]

    def slow_wait(self, row: Row[Any]) -> timedelta | None:
        """How long a message waits whose server answers so slowly that it has no place left.

        None where there is none such; nothing, where it is the provider: less is claimed then.
        """
        name = self.choose(row)
        if name is None or not any(self.places.is_stuffed(key) for key in self.keys(name, row)):
            return None
        self.waits["slow", ""] += 1
        if self.places.is_stuffed(name):
            return timedelta(0)
        return SLOW_WAIT + timedelta(seconds=int(row.id) % 10)

    def keys(self, name: str, row: Row[Any]) -> list[str]:
        """What a message shares places with: its provider, where there are several; its domain."""
        if self.by_name[name].stays_here:
            return []
        domain = domain_of(row)
        return [*((name,) if self._several else ()), *((INSIDE + domain,) if domain else ())]

    # --- the one message that tries -------------------------------------------------------

    async def probes_by(self, claimed: Sequence[Claimed], name: str) -> None:
        """Has the one message that was claimed for it try a provider; without one, another may."""
        self._probes.update({one.id: name for one in claimed})
        if not claimed:
            await self.store.breakers.give_back_probe(name)

    async def renew_probes(self) -> None:
        """Keeps the probes in hand, as long as this process lives."""
        await self.store.breakers.renew_probes(set(self._probes.values()), self._lease)

    async def probe_ended(self, one_id: int, *, unused: bool) -> bool:
        """Whether the message tried a provider; where it wasn't sent, another may try."""
        name = self._probes.pop(one_id, None)
        if name is not None and unused:
            try:
                await self.store.breakers.give_back_probe(name)
            except Exception as error:
                # Then its time runs out by itself.
                log.error("probe", error=type(error).__name__, detail=str(error)[:200])
        return name is not None

    # --- what came of it ------------------------------------------------------------------

    def heard(self, turn: Turn, since: float) -> Turn | None:
        """Leaves a provider alone in this process at once that asked for it, or refused the login.

        For the others it holds as soon as it is written down. Returns what is to be counted of an
        attempt that began at `since` (the loop's clock, in seconds): nothing of a failure during
        which others got through, for that was the fault of where it went to.
        """
        if not turn.failure:
            self._worked_at[turn.provider] = asyncio.get_running_loop().time()
        asked = turn.access or turn.rest is not None or turn.probe
        if turn.failure and not asked and self._worked_at.get(turn.provider, 0.0) > since:
            return None
        if (turn.rest or turn.access) and self._state(turn.provider) == "closed":
            self.states[turn.provider] = ProviderState(turn.provider, "open", restless=True)
        return turn

    async def note(
        self, connection: AsyncConnection, turns: Sequence[Turn], slower: Sequence[str]
    ) -> None:
        """Counts outcomes for all workers, and slows domains down that asked for it."""
        restless = {name for name, state in self.states.items() if state.restless}
        worth = worth_noting(turns, restless)
        if worth:
            for state in await self.store.breakers.note(connection, worth, self._rules):
                level = log.info if state.state == "closed" else log.error
                level("provider", provider=state.name, state=state.state, why=state.why)
                self.states[state.name] = state
            self._looked_at = float("-inf")
        if slower:
            names = {DOMAIN + domain for domain in slower}
            slowed = await self.store.limits.slow_down(connection, names)
            if slowed:
                log.warning("slower", domains=len(slowed))

    async def forget_old(self) -> None:
        """Now and then removes the paces of domains that aren't written to any more."""
        now = asyncio.get_running_loop().time()
        if now - self._forgot_at > FORGET_EVERY_S:
            self._forgot_at = now
            try:
                await self.store.limits.forget_old()
            except Exception as error:
                log.error("paces", error=type(error).__name__, detail=str(error)[:200])

    # --- to be seen -----------------------------------------------------------------------

    async def shown(self) -> list[Shown]:
        """Each provider in order, as all workers see it; `in_flight` is this process' own."""
        states = await self.store.breakers.states()
        paces = [pace for name in self.by_name for pace in self._paces(name)]
        free = await self.store.limits.free(paces)
        found = []
        for name in self.by_name:
            channels = tuple(one for one, named in self.providers.items() if name in named)
            state = states.get(name, ProviderState(name))
            used = {
                pace.name.split("|")[2]: (pace.count - free[pace.name].granted, pace.count)
                for pace in self._paces(name)
            }
            found.append(
                Shown(
                    name,
                    channels,
                    state.state,
                    state.why,
                    state.by,
                    state.since,
                    state.until,
                    self.in_flight[name],
                    used,
                )
            )
        return found


def domain_of(row: Row[Any]) -> str:
    """The recipient's domain in lower case; "" for SMS."""
    return _domain(row.address) if row.channel == "mail" else ""


@lru_cache(maxsize=10_000)
def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _channel(word: str) -> Channel:
    return "sms" if word == "sms" else "mail"
