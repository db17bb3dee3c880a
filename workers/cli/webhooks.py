"""Commands about webhooks: how endpoints stand, a test message, what couldn't be told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from workers.cli.frame import (
    Call,
    call,
    dump,
    json_option,
    local,
    row_dict,
    table,
    with_core,
)
from workers.core import Core
from workers.endpoints import Endpoint, new_secret
from workers.errors import InputError, UnknownThingError

if TYPE_CHECKING:
    from workers.store.webhooks import Standing


@click.group("webhooks")
def webhooks_command() -> None:
    """Endpoints that are told what became of notifications: [webhooks.<name>] in the settings.

    \b
    duewatch webhooks list               how each of them stands
    duewatch webhooks test erp           post a signed test message now
    duewatch webhooks failed             what couldn't be told
    duewatch webhooks retry --all erp    tell it again
    duewatch webhooks enable erp         go on with one that was disabled
    duewatch webhooks secret             make a secret for the settings
    """


@webhooks_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """How each endpoint stands."""

    async def work(core: Core, _: Call) -> None:
        standing = await core.store.webhooks.standing()
        rows = [
            _shown(name, one, standing.get(name)) for name, one in core.settings.webhooks.items()
        ]
        if as_json:
            dump(rows)
            return
        table(
            "",
            ["endpoint", "state", "since", "waiting #", "failed #", "told", "what", "url"],
            [
                (
                    row["name"],
                    row["state"],
                    local(row["since"]),
                    row["waiting"],
                    row["failed"],
                    local(row["answered_at"]),
                    row["answer"],
                    row["url"],
                )
                for row in rows
            ],
        )

    with_core(work)


def _shown(name: str, endpoint: Endpoint, one: Standing | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name, "url": endpoint.url, "states": list(endpoint.states)}
    shown["kinds"] = list(endpoint.kinds) or ["*"]
    if one is None:
        none = dict.fromkeys(("since", "oldest_waiting", "answered_at"))
        return shown | none | {"state": "unknown", "answer": "", "waiting": 0, "failed": 0}
    row = one.row
    state = "disabled" if row.disabled_at else "failing" if row.failing_since else "well"
    return shown | {
        "state": state,
        "since": row.disabled_at or row.failing_since,
        "answered_at": row.answered_at,
        "answer": row.answer,
        "oldest_waiting": one.oldest,
        "waiting": one.counts.get("waiting", 0),
        "failed": one.counts.get("failed", 0),
    }


@webhooks_command.command("test")
@click.argument("name")
def test_command(name: str) -> int:
    """Post a signed test message to NAME now, and show what it answered.

    Exit code 1 when it wasn't taken. A disabled endpoint is tried too, and stays so.
    """
    from workers.webhooks.letter import TEST, envelope
    from workers.webhooks.post import Poster

    async def work(core: Core, _: Call) -> int:
        poster = Poster(_named(core.settings.webhooks, name))
        uid = f"test-{uuid.uuid4().hex}"
        source = core.settings.public_url or "duewatch"
        now = core.clock()
        try:
            answer = await poster.post(uid, envelope(uid, TEST, source, now, {}), now)
        finally:
            await poster.close()
        click.echo(f"{name}: {answer.words}", err=not answer.well)
        return 0 if answer.well else 1

    return with_core(work)


@webhooks_command.command("failed")
@click.argument("name", required=False)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@json_option
def failed_command(name: str | None, limit: int, as_json: bool) -> None:
    """What endpoints (or NAME alone) couldn't be told, newest first."""

    async def work(core: Core, _: Call) -> None:
        rows = await core.store.webhooks.tellings(name=name, state="failed", limit=limit)
        if as_json:
            dump([row_dict(row, "lease_until", "held", "notification_id") for row in rows])
            return
        table(
            "",
            ["id #", "endpoint", "notification", "kind", "what", "at", "tries #", "reply"],
            [(r.id, r.endpoint, r.uid[:8], r.kind, r.word, r.at, r.tries, r.answer) for r in rows],
        )

    with_core(work)


@webhooks_command.command("retry")
@click.argument("ids", nargs=-1, type=click.IntRange(1))
@click.option("--all", "name", metavar="NAME", help="Everything that NAME couldn't be told.")
def retry_command(ids: tuple[int, ...], name: str | None) -> int:
    """Tell what failed again: IDS as shown by failed, or all of one endpoint."""
    if bool(ids) == bool(name):
        raise InputError("webhooks retry: give either ids or --all NAME")

    async def work(core: Core, called: Call) -> int:
        if name is not None:
            _named(core.settings.webhooks, name)
        count = await core.store.webhooks.retry(called.by, core.clock(), ids=ids, name=name)
        click.echo(f"{count} to be told again.")
        return 0 if count and (name or count == len(ids)) else 1

    return with_core(work)


@webhooks_command.command("enable")
@click.argument("name")
def enable_command(name: str) -> None:
    """Go on with NAME, which was disabled: what waits is told first.

    What happened while it was disabled isn't told: ask by duewatch list or the API.
    """
    from workers.webhooks.teller import subscriber

    async def work(core: Core, called: Call) -> None:
        one = subscriber(name, _named(core.settings.webhooks, name))
        waiting = await core.store.webhooks.enable(one, called.by, core.clock())
        click.echo(f"{name} is enabled; {waiting} waited.")

    with_core(work)


@webhooks_command.command("secret")
def secret_command() -> None:
    """Make a secret: it goes into the settings here and into the receiver's."""
    call()
    click.echo(new_secret())


def _named(endpoints: Mapping[str, Endpoint], name: str) -> Endpoint:
    if name not in endpoints:
        known = ", ".join(endpoints) or "none"
        raise UnknownThingError(f"there is no [webhooks.{name}] in the settings; there are {known}")
    return endpoints[name]
