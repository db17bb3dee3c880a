"""Commands about tokens: who may ask by HTTP, and what."""

from __future__ import annotations

import click

from workers.cli.frame import Call, dump, few, json_option, moment, row_dict, table, with_core
from workers.core import Core
from workers.tokens import MEANING, Scope, make, standing

SCOPES = [scope.value for scope in Scope]


@click.group("tokens")
def tokens_command() -> None:
    """Who may ask by HTTP, and what.

    \b
    duewatch tokens create billing --scope events:write --kind payment --kind statement
    duewatch tokens list
    duewatch tokens revoke billing --reason "its machine was stolen"
    """


@tokens_command.command(
    "create", epilog="Scopes: " + "; ".join(f"{scope}: {words}" for scope, words in MEANING.items())
)
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Repeatable."
)
@click.option(
    "--kind", "kinds", multiple=True, help="Only events of this kind (repeatable); default all."
)
@click.option("--expires", metavar="TIME", help="Beijing unless it has an offset; default never.")
@json_option
def create_command(
    name: str, scopes: tuple[str, ...], kinds: tuple[str, ...], expires: str | None, as_json: bool
) -> None:
    """Make a token called NAME and show it, once: nothing of its secret is kept."""

    async def work(core: Core, called: Call) -> None:
        made = await make(core, name, scopes, kinds or None, moment(expires), called.by)
        if as_json:
            dump(row_dict(made.row, "hash", "id") | {"token": made.text})
        else:
            click.echo(made.text)
            click.echo("It isn't shown again. Send it as Authorization: Bearer …", err=True)

    with_core(work)


@tokens_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """All tokens, newest first."""

    async def work(core: Core, _: Call) -> None:
        rows = await core.store.tokens.all()
        now = core.clock()
        if as_json:
            dump([row_dict(row, "hash", "id") | {"state": standing(row, now)} for row in rows])
            return
        table(
            "",
            ["prefix", "name", "state", "scopes", "kinds", "expires", "last used", "made by"],
            [
                (
                    row.prefix,
                    row.name,
                    standing(row, now),
                    few(row.scopes),
                    "all" if row.kinds is None else few(row.kinds),
                    row.expires_at,
                    row.used_at,
                    row.by,
                )
                for row in rows
            ],
        )

    with_core(work)


@tokens_command.command("revoke")
@click.argument("token")
@click.option("--reason", default="", help="Why, for the audit.")
def revoke_command(token: str, reason: str) -> None:
    """End TOKEN, by its prefix or name, at once."""

    async def work(core: Core, called: Call) -> None:
        row = await core.store.tokens.revoke(token, called.by, reason, core.clock())
        click.echo(f"{row.name} ({row.prefix}) is revoked.")

    with_core(work)
