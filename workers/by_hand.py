"""What an operator changes, by the command line or the API: one way for both, all in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from schedules.fields import BEIJING
from schedules.rule import Record, State
from workers.addresses import address_of
from workers.app import App
from workers.core import Core
from workers.envelope import Sender
from workers.errors import InputError, StateError, UnknownThingError
from workers.events import EventResult, read_json
from workers.intake import Intake
from workers.model import NotificationState
from workers.restore import Gate
from workers.store import Row, operations
from workers.store.quarantine import BY_HTTP, MAX_KEPT_BYTES, Quarantine
from workers.tasks import read_event

Move = Literal["retry", "release", "cancel"]
_S = NotificationState
MOVES: Final[Mapping[Move, tuple[NotificationState, frozenset[NotificationState]]]] = {
    "retry": (_S.PENDING, frozenset({_S.FAILED, _S.SUPPRESSED})),
    "release": (_S.PENDING, frozenset({_S.PARKED})),
    "cancel": (_S.CANCELLED, frozenset({_S.PENDING, _S.PARKED})),
}
"""What becomes of a notification, and from which states."""
DIVERTED_FROM: Final = operations.DIVERTED_FROM


# --- records ------------------------------------------------------------------------------------


async def snooze(
    core: Core, ref: str, kind: str | None, until: datetime, by: str, reason: str
) -> Record:
    """Has a record's people reminded no earlier than `until` (aware UTC).

    Raises InputError when that is past, UnknownThingError for the record.
    """
    now = core.clock()
    shown = f"{until.astimezone(BEIJING):%Y-%m-%d %H:%M}"
    if until <= now:
        raise InputError(f"until {shown} Beijing: is past: give a time to come")
    watched = await core.records.one(ref, kind, with_lines=False)
    await core.store.operations.change_record(
        watched.id,
        by,
        "snooze",
        reason or f"until {shown}",
        now,
        snoozed_until=until,
        next_due_at=now if watched.row.state == State.OPEN else None,
    )
    return watched.record


async def close(core: Core, ref: str, kind: str | None, by: str, reason: str) -> Record:
    """Closes a record until it is reopened or a new ladder begins. Raises StateError."""
    watched = await core.records.one(ref, kind, with_lines=False)
    if watched.row.state == State.CLOSED:
        raise StateError(f"{ref} is closed already: {watched.row.why}")
    why = f"closed by {by}: {reason}"
    await core.store.operations.change_record(
        watched.id,
        by,
        "close",
        reason,
        core.clock(),
        state=State.CLOSED.value,
        why=why,
        closed_by_hand=why,
        closed_at=core.clock(),
        next_due_at=None,
    )
    await _go_on(core, watched.record)
    return watched.record


async def reopen(
    core: Core, ref: str, kind: str | None, by: str, reason: str
) -> tuple[Record, State]:
    """Undoes a close by hand: the rule judges the record again. Raises StateError."""
    watched = await core.records.one(ref, kind)
    if not watched.row.closed_by_hand:
        raise StateError(f"{ref} wasn't closed by hand: only its own data opens it")
    one = watched.record
    judged, _ = core.registry.judge(core.rules[one.kind], one.data, one.lines, one.related)
    now = core.clock()
    await core.store.operations.change_record(
        watched.id,
        by,
        "reopen",
        reason,
        now,
        state=judged.state.value,
        why=judged.why,
        closed_by_hand=None,
        closed_at=now if judged.state is State.CLOSED else None,
        next_due_at=now if judged.state is State.OPEN else None,
    )
    await _go_on(core, one)
    return one, judged.state


async def _go_on(core: Core, record: Record) -> None:
    """What an operator's change means for linked records and derived kinds."""
    intake = Intake(core.store, core.registry, core.clock)
    async with core.store.database.write() as connection:
        at = {record.kind: {record.partner.ref}}
        await intake.go_on(connection, {record.kind: {record.ref}}, at)


# --- notifications and providers ----------------------------------------------------------------


async def move(
    app: App, uid: str, action: Move, by: str, reason: str, *, after: timedelta = timedelta(0)
) -> Row[Any]:
    """Retries, releases or cancels a notification. Ring the bell once all are moved.

    What is sent is sent `after` that time at the earliest, so that it may be undone until then.
    Raises UnknownThingError, InputError when `uid` is the beginning of several, StateError when
    the action doesn't fit its state.
    """
    to, only = MOVES[action]
    whole = await app.store.operations.whole(uid)
    if whole.row.state not in only:
        raise StateError(
            f"notification {whole.row.uid[:8]} is {whole.row.state}: "
            f"{action} takes what is {' or '.join(sorted(only))}"
        )
    now = app.clock()
    return await app.store.operations.move(
        whole.row.uid, to, by, action, reason, now, not_before=now + after
    )


async def undo(app: App, uid: str, state: str, by: str, reason: str) -> bool:
    """Puts a notification that was retried or released back into its `state`, if it still waits.

    Returns whether it did. Raises UnknownThingError.
    """
    whole = await app.store.operations.whole(uid)
    if whole.row.state != _S.PENDING:
        return False
    try:
        await app.store.operations.move(
            uid, NotificationState(state), by, "undo", reason, app.clock()
        )
    except StateError:
        return False  # a worker was quicker
    return True


async def resend(app: App, uid: str, address: str, by: str, reason: str) -> Row[Any]:
    """Has a notification sent, or sent again, to another address while its records are open.

    Raises UnknownThingError, InputError for an address of another channel, StateError while it may
    still go to the first one, and for an address that isn't to be written to.
    """
    whole = await app.store.operations.whole(uid)
    channel, clean = address_of(address)
    if channel != whole.row.channel:
        raise InputError(
            f"address {address!r}: a notification by {whole.row.channel} needs another"
        )
    if reason_not := await app.store.operations.suppressed(channel, clean, whole.row.kind):
        raise StateError(f"{clean} isn't written to: {reason_not}: lift the suppression first")
    return await app.store.operations.divert(whole.row.uid, clean, by, reason, app.clock())


async def refuse_while_shut(app: App) -> None:
    """Raises StateError when nothing may be sent: a restored database, a clock that is wrong."""
    if closed := await Gate(app.store, app.settings, app.clock).look():
        raise StateError(f"nothing is sent: {closed}")


async def set_provider(
    app: App, name: str, action: Literal["open", "close"], by: str, reason: str
) -> list[str]:
    """Leaves a provider alone (`open`, as a circuit is) or uses it again; returns who else carries.

    Raises UnknownThingError naming the providers in use.
    """
    if name not in app.by_name:
        known = ", ".join(app.by_name)
        raise UnknownThingError(f"there is no provider {name!r} in use; there are {known}")
    state = "open" if action == "open" else "closed"
    async with app.store.database.write() as connection:
        await app.store.breakers.by_hand(connection, name, state, reason, by)
        await app.store.operations.note(
            connection, by, f"provider {action}", name, reason, app.clock()
        )
    app.bell.ring()
    others = [one for named in app.providers.values() if name in named for one in named]
    return [one for one in others if one != name]


# --- what couldn't be taken ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of taking a message in after all. `refused` says why not, or is empty."""

    outcome: str = ""
    scanned: tuple[str, ...] = ()
    refused: str = ""


async def replay(app: App, letter: int, by: str, why: str = "") -> Replayed:
    """Takes a message of the quarantine in; what is refused again stays, with its new reason.

    The audit says what came of it, and `why` it was tried.

    Raises UnknownThingError, StateError when only its beginning is kept.
    """
    letters = Quarantine(app.store.database)
    row = await letters.one(letter)
    if row.size > MAX_KEPT_BYTES or (row.size and not row.body):
        raise StateError(
            f"message {letter} was {row.size} bytes long, and only the beginning is kept: "
            "have it sent again in parts, then drop it"
        )
    event, reason = read_event(row.body.encode(), read_json)
    if not reason:
        # Who came by HTTP needed no seal; what they may send of, whoever replays it decides.
        by_http = row.door.startswith(BY_HTTP)
        sender = Sender(row.door.removeprefix(BY_HTTP)) if by_http else None
        (result,) = await app.events.take([event], sender)
        if result.well:
            said = f"{result.status}: {why}" if why else result.status
            await letters.remove(letter, by, "replay", said, app.clock())
            return Replayed(result.outcome, await _scan(app, result))
        reason = result.why
    await letters.refused_again(letter, reason)
    return Replayed(refused=reason)


async def _scan(app: App, result: EventResult) -> tuple[str, ...]:
    kinds = sorted(set(result.kinds) & set(app.registry.enabled()))
    for kind in kinds:
        if kind not in await app.store.operations.paused():
            await app.scan.run(kind, trigger="event")
    return tuple(kinds)
