"""Commands about notifications: list, show, retry, release, cancel, preview, send-test."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from workers import by_hand
from workers.cli.due import kinds_of
from workers.cli.frame import (
    Call,
    address_of,
    cell,
    console,
    dump,
    json_option,
    local,
    row_dict,
    table,
    with_app,
    with_core,
)
from workers.core import Core
from workers.errors import InputError, ProviderError
from workers.model import Notice, NotificationState
from workers.providers import Mail

if TYPE_CHECKING:
    from workers.app import App

STATES = [*(state.value for state in NotificationState), "unknown"]
FORMS = (".eml", ".html", ".txt", ".pdf", ".xlsx", ".sms")


@click.command("list")
@click.option("--state", type=click.Choice(STATES), help="unknown: the last outcome isn't known.")
@click.option("--rule", help="Only this rule.")
@click.option("--channel", type=click.Choice(["mail", "sms"]))
@click.option("--to", "address", help="Only to this address.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--before", type=int, help="Only ids below this: the next page.")
@json_option
def list_command(
    state: str | None,
    rule: str | None,
    channel: str | None,
    address: str | None,
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """Notifications, newest first.

    \b
    duewatch list --state failed
    duewatch list --to finance@partner.example --json
    """

    async def work(app: Core, _: Call) -> None:
        rows = await app.store.operations.notifications(
            state=state,
            kind=kinds_of(app, rule)[0] if rule else None,
            channel=channel,
            address=address_of(address)[1] if address else None,
            before=before,
            limit=limit,
        )
        if as_json:
            dump([row_dict(row, "fence", "lease_until") for row in rows])
            return
        table(
            "",
            ["id #", "what", "to", "lines #", "state", "when", "reason"],
            [
                (
                    row.id,
                    f"{row.kind} {row.message} by {row.channel}",
                    row.address,
                    row.line_count,
                    row.state,
                    local(row.accepted_at or row.not_before),
                    row.reason,
                )
                for row in rows
            ],
        )
        if len(rows) == limit:
            console().print(f"More: --before {rows[-1].id}")

    with_core(work)


@click.command("show")
@click.argument("notification")
@json_option
def show_command(notification: str, as_json: bool) -> None:
    """One NOTIFICATION (its id, or the beginning of its uid): lines, attempts, receipts."""

    async def work(app: Core, _: Call) -> None:
        whole = await app.store.operations.whole(notification)
        if as_json:
            dump(
                row_dict(whole.row, "fence", "lease_until")
                | {
                    "lines": [row_dict(row) for row in whole.lines],
                    "attempts": [row_dict(row) for row in whole.attempts],
                    "receipts": [row_dict(row) for row in whole.receipts],
                }
            )
            return
        row, out = whole.row, console()
        out.print(Text(f"{row.uid[:8]} {row.kind} {row.message} by {row.channel}", style="bold"))
        out.print(cell(row.state), Text(row.reason))
        out.print(Text(f"to       {row.name} <{row.address}>, {row.role}, {row.language}"))
        out.print(
            Text(f"planned  {local(row.created_at)} Beijing; not before {local(row.not_before)}")
        )
        out.print()
        table(
            "Lines",
            ["record", "stage", "record is", "dropped"],
            [(f"{r.kind} {r.ref}", r.stage, r.record_state, r.dropped) for r in whole.lines],
        )
        table(
            "Attempts",
            ["#", "by", "began", "outcome", "reply"],
            [
                (r.number, r.provider, r.began_at, r.outcome or "open", r.reply)
                for r in whole.attempts
            ],
        )
        table(
            "Receipts",
            ["when", "status", "part", "detail"],
            [(r.at, r.status, f"{r.part}/{r.parts}", r.detail) for r in whole.receipts],
        )

    with_core(work)


def _mover(action: by_hand.Move, text: str, done: str) -> click.Command:
    @click.command(action, help=text)
    @click.argument("notifications", nargs=-1, required=True)
    @click.option("--reason", default="", help="Why, for the audit.")
    def move(notifications: tuple[str, ...], reason: str) -> None:
        async def work(app: App, called: Call) -> None:
            for uid in notifications:
                row = await by_hand.move(app, uid, action, called.by, reason)
                click.echo(f"{row.uid[:8]}: {done}")
            app.bell.ring()

        with_app(work)

    return move


retry_command: Any = _mover(
    "retry",
    "Send failed or suppressed NOTIFICATIONS again, if what they say is still due.",
    "pending again",
)
release_command: Any = _mover(
    "release",
    "Send parked NOTIFICATIONS after all. One of unknown outcome may then arrive twice.",
    "pending again",
)
cancel_command: Any = _mover(
    "cancel",
    "Stop pending or parked NOTIFICATIONS for good; their stages count as told.",
    "cancelled",
)


@click.command("preview")
@click.argument("what")
@click.option("--message", help="Which text of the rule, such as expired.")
@click.option("--channel", type=click.Choice(["mail", "sms"]))
@click.option("--language", default="zh-CN", show_default=True)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write to this file; its ending says what: {' '.join(FORMS)}.",
)
def preview_command(
    what: str, message: str | None, channel: str | None, language: str, target: Path | None
) -> None:
    """Write a message of WHAT: a rule (from its sample) or a record. Nothing is sent.

    \b
    duewatch preview payment --language zh-CN --to payment.html
    duewatch preview SFD20261100017 --language en --to mail.eml
    """
    ending = target.suffix.lower() if target else ".txt"
    if ending not in FORMS:
        raise InputError(f"--to {target}: ends in none of {' '.join(FORMS)}")
    wanted = "sms" if ending == ".sms" else channel or "mail"

    async def work(app: App, _: Call) -> None:
        from workers.previews import notice_of  # with all that renders: only here

        notice = await notice_of(app, what, message, wanted, language)
        content = _content(app, notice, "sms" if wanted == "sms" else ending)
        if target is None:
            click.echo(content.decode())
        else:
            _write(target, content)
            click.echo(f"Wrote {target} ({notice.kind} {notice.message}, {language}).")

    with_app(work)


def _write(target: Path, content: bytes) -> None:
    try:
        target.write_bytes(content)
    except OSError as error:
        raise InputError(f"--to {target}: can't be written: {error.strerror}") from None


def _content(app: App, notice: Notice, ending: str) -> bytes:
    if ending in {".pdf", ".xlsx"}:
        files = [file for file in app.renderer.documents(notice) if file[0].endswith(ending)]
        if not files:
            raise InputError(f"a {notice.kind} has no {ending} that goes along")
        return files[0][2]
    message = app.renderer.render(notice)
    if isinstance(message, Mail):
        if ending == ".eml":
            return message.source
        if ending == ".html":
            return app.renderer.whole_page(notice).encode()
        parts = app.renderer.parts(notice)
        return f"{parts['subject.txt'].strip()}\n\n{parts['txt']}".encode()
    return f"{message.text}\n({message.parts} part{'s' * (message.parts > 1)})\n".encode()


@click.command("send-test")
@click.argument("rule", default="statement")
@click.option("--to", "address", required=True, help="A mail address or an E.164 number.")
@click.option("--language", default="zh-CN", show_default=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
def send_test_command(rule: str, address: str, language: str, yes: bool) -> None:
    """Send RULE's sample (default statement) to one address by the provider in use.

    The name of the recipient says TEST. It isn't in the ledger, only in the audit.
    """
    channel, clean = address_of(address)

    async def work(app: App, called: Call) -> None:
        provider = next(iter(app.providers[channel].values()))
        if not yes:
            click.confirm(f"Send one {channel} to {clean} by {provider.name}?", abort=True)
        from workers.previews import notice_of

        notice = await notice_of(app, kinds_of(app, rule)[0], None, channel, language)
        recipient = replace(notice.recipient, address=clean, name=f"TEST {notice.recipient.name}")
        message = app.renderer.render(
            replace(notice, uid=uuid.uuid4().hex, recipient=recipient, now=app.clock())
        )
        try:
            accepted = await provider.send(message)
        except ProviderError as error:
            raise type(error)(f"{provider.name} didn't take it: {error}") from None
        async with app.store.database.write() as connection:
            await app.store.operations.note(
                connection, called.by, "send-test", f"{channel} by {provider.name}", "", app.clock()
            )
        click.echo(f"{provider.name} took it: {accepted.reply}")

    with_app(work)
