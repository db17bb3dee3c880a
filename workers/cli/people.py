"""Commands about records, contacts, suppressed addresses and the audit."""

from __future__ import annotations

from typing import Any

import click

from schedules.people import Digest
from schedules.rule import State
from workers import by_hand
from workers.cli.due import kinds_of
from workers.cli.frame import (
    Call,
    address_of,
    dump,
    json_option,
    local,
    moment,
    row_dict,
    table,
    with_core,
)
from workers.core import Core
from workers.errors import UnknownThingError


@click.command("records")
@click.option("--rule", help="Only of this kind.")
@click.option("--state", type=click.Choice([state.value for state in State]))
@click.option("--partner", help="Only of this partner.")
@click.option("--after", default=0, help="Only ids above this: the next page.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
def records_command(
    rule: str | None, state: str | None, partner: str | None, after: int, limit: int, as_json: bool
) -> None:
    """Records by kind and state, oldest first.

    \b
    duewatch records --state held        what waits until somebody mends it, and why
    """

    async def work(app: Core, _: Call) -> None:
        kind = kinds_of(app, rule)[0] if rule else None
        rows = await app.store.records.search(
            kind=kind, state=state, partner=partner, after=after, limit=limit
        )
        if as_json:
            dump([row_dict(row, "hash", "revision") for row in rows])
            return
        table(
            "",
            ["kind", "ref", "partner", "state", "deadline", "next look", "why"],
            [
                (r.kind, r.ref, r.partner, r.state, local(r.due_at), local(r.next_due_at), r.why)
                for r in rows
            ],
        )
        if len(rows) == limit:
            click.echo(f"More: --after {rows[-1].id}")

    with_core(work)


@click.command("snooze")
@click.argument("record")
@click.option("--until", required=True, metavar="TIME", help="Beijing unless it has an offset.")
@click.option("--kind", help="Where the reference names records of several kinds.")
@click.option("--reason", default="", help="Why, for the audit.")
def snooze_command(record: str, until: str, kind: str | None, reason: str) -> None:
    """Remind of RECORD no earlier than TIME; then the stage that stands is told."""

    async def work(app: Core, called: Call) -> None:
        at = moment(until)
        assert at is not None
        found = await by_hand.snooze(app, record, kind, at, called.by, reason)
        click.echo(f"{found.kind} {record} is snoozed until {local(at)} Beijing.")

    with_core(work)


@click.command("close")
@click.argument("record")
@click.option("--kind", help="Where the reference names records of several kinds.")
@click.option("--reason", required=True, help="Why; kept with the record.")
def close_command(record: str, kind: str | None, reason: str) -> None:
    """Close RECORD by hand: nobody is reminded until it is reopened or a new ladder begins."""

    async def work(app: Core, called: Call) -> None:
        found = await by_hand.close(app, record, kind, called.by, reason)
        click.echo(f"{found.kind} {record} is closed.")

    with_core(work)


@click.command("reopen")
@click.argument("record")
@click.option("--kind", help="Where the reference names records of several kinds.")
@click.option("--reason", default="", help="Why, for the audit.")
def reopen_command(record: str, kind: str | None, reason: str) -> None:
    """Undo a close by hand: the rule judges RECORD again."""

    async def work(app: Core, called: Call) -> None:
        found, state = await by_hand.reopen(app, record, kind, called.by, reason)
        click.echo(f"{found.kind} {record} is {state}.")

    with_core(work)


@click.command("contacts")
@click.argument("partner", required=False)
@json_option
def contacts_command(partner: str | None, as_json: bool) -> None:
    """Contacts of PARTNER, or of all partners. Digest: how reminders come (duewatch prefer)."""

    async def work(app: Core, _: Call) -> None:
        found = await app.store.records.contacts_of(partner)
        chosen = await app.store.preferences.digests([row.ref for row in found])
        rows = [
            row.data
            | {
                "ref": row.ref,
                "digest": chosen.get(row.ref) or row.data.get("digest", Digest.EACH),
                "chosen": row.ref in chosen,
            }
            for row in found
        ]
        if as_json:
            dump(rows)
            return
        columns = ["partner", "ref", "role", "name", "mail", "mobile", "language", "time_zone"]
        columns.append("digest")
        table("", [*columns, "wishes"], [_contact(row, columns) for row in rows])

    with_core(work)


def _contact(row: dict[str, Any], columns: list[str]) -> tuple[Any, ...]:
    wishes = ", ".join(row.get("channels") or ()) if row.get("active", True) else "not active"
    return (*(row.get(name) for name in columns), wishes)


@click.command("suppress")
@click.argument("address")
@click.option("--reason", required=True, help="Why; shown with everything that isn't sent.")
@click.option("--rule", help="Only what this rule says; default everything.")
def suppress_command(address: str, reason: str, rule: str | None) -> None:
    """Stop writing to ADDRESS (a mail address or an E.164 number)."""

    channel, full = address_of(address)

    async def work(app: Core, called: Call) -> None:
        kind = kinds_of(app, rule)[0] if rule else "*"
        made = await app.store.operations.suppress(
            channel, full, kind, reason, called.by, app.clock()
        )
        click.echo(f"{full} isn't written to any more." if made else f"{full} was already.")

    with_core(work)


@click.command("unsuppress")
@click.argument("address")
@click.option("--reason", default="", help="Why, for the audit.")
def unsuppress_command(address: str, reason: str) -> None:
    """Write to ADDRESS again. What was suppressed isn't sent by itself: duewatch retry."""

    channel, full = address_of(address)

    async def work(app: Core, called: Call) -> None:
        ended = await app.store.operations.lift(channel, full, called.by, reason, app.clock())
        if not ended:
            raise UnknownThingError(f"{full} isn't suppressed: see duewatch suppressions")
        click.echo(f"{full} is written to again.")

    with_core(work)


@click.command("suppressions")
@json_option
def suppressions_command(as_json: bool) -> None:
    """Who isn't written to, and why."""

    async def work(app: Core, _: Call) -> None:
        rows = await app.store.operations.suppressions()
        if as_json:
            dump([row_dict(row) for row in rows])
            return
        table(
            "",
            ["by", "address", "rule", "since", "who", "reason"],
            [(r.channel, r.address, r.kind, r.created_at, r.by, r.reason) for r in rows],
        )

    with_core(work)


@click.command("audit")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
def audit_command(limit: int, as_json: bool) -> None:
    """What was done by hand, newest first."""

    async def work(app: Core, _: Call) -> None:
        rows = await app.store.operations.audit(limit)
        if as_json:
            dump([row_dict(row) for row in rows])
            return
        table(
            "",
            ["when", "who", "from", "did", "to", "reason"],
            [(r.at, r.by, r.origin, r.action, r.target, r.reason) for r in rows],
        )

    with_core(work)
