"""Commands about users: who signs in to the console, and what each may do there."""

from __future__ import annotations

import sys
from typing import Any

import click

from workers import users
from workers.cli.frame import Call, dump, json_option, row_dict, table, with_core
from workers.core import Core
from workers.errors import InputError
from workers.store import Row
from workers.users import Role

ROLES = [role.value for role in Role]
_reason = click.option("--reason", default="", help="Why, for the audit.")


@click.group("users")
def users_command() -> None:
    """Who signs in to the console.

    \b
    duewatch users add li.na --role administrator
    duewatch users role li.na operator
    duewatch users link li.na 248289761001
    duewatch users disable li.na --reason "left the team"
    """


@users_command.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default=Role.VIEWER.value,
    show_default=True,
    help="viewer: looks, without people's names and addresses. operator: sees and repairs all but "
    "users, tokens, providers and settings. administrator: everything.",
)
def add_command(name: str, role: str) -> None:
    """Let NAME sign in. The password is asked for, or read from standard input if that is piped."""
    password = _password(name)

    async def work(core: Core, called: Call) -> None:
        row = await users.add(core, name, role, password, called.by)
        click.echo(f"{row.name} may sign in as {row.role}.")

    with_core(work)


@users_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Everybody who may sign in, or might once."""

    async def work(core: Core, _: Call) -> None:
        rows = await core.store.users.all()
        if as_json:
            dump([row_dict(row, "password_hash", "id") for row in rows])
            return
        table(
            "",
            ["name", "role", "state", "by", "signed in", "sessions", "made by"],
            [
                (
                    row.name,
                    row.role,
                    "disabled" if row.disabled_at else "live",
                    " or ".join(_ways(row)),
                    row.signed_in_at,
                    row.session_count,
                    row.by,
                )
                for row in rows
            ],
        )

    with_core(work)


@users_command.command("password")
@click.argument("name")
def password_command(name: str) -> None:
    """Give NAME another password, and sign them out everywhere."""
    password = _password(name)

    async def work(core: Core, called: Call) -> None:
        row = await users.set_password(core, name, password, called.by)
        click.echo(f"{row.name} has another password, and is signed out.")

    with_core(work)


@users_command.command("role")
@click.argument("name")
@click.argument("role", type=click.Choice(ROLES))
def role_command(name: str, role: str) -> None:
    """Give NAME another ROLE, and sign them out everywhere."""

    async def work(core: Core, called: Call) -> None:
        row = await users.set_role(core, name, role, called.by)
        click.echo(f"{row.name} is {row.role} now, and is signed out.")

    with_core(work)


@users_command.command("link")
@click.argument("name")
@click.argument("subject")
def link_command(name: str, subject: str) -> None:
    """Have NAME sign in at the provider, which calls them SUBJECT; the password ends.

    `duewatch audit` has the command for whoever was refused because of the name.
    """

    async def work(core: Core, called: Call) -> None:
        row = await users.link(core, name, subject, called.by)
        click.echo(f"{row.name} signs in at the provider from now on, and is signed out.")

    with_core(work)


@users_command.command("disable")
@click.argument("name")
@_reason
def disable_command(name: str, reason: str) -> None:
    """Let NAME in no more, and sign them out everywhere."""

    async def work(core: Core, called: Call) -> None:
        row = await users.disable(core, name, called.by, reason)
        click.echo(f"{row.name} can't sign in any more.")

    with_core(work)


@users_command.command("enable")
@click.argument("name")
@_reason
def enable_command(name: str, reason: str) -> None:
    """Let NAME in again."""

    async def work(core: Core, called: Call) -> None:
        row = await users.enable(core, name, called.by, reason)
        click.echo(f"{row.name} may sign in again.")

    with_core(work)


def _ways(row: Row[Any]) -> list[str]:
    """By what somebody signs in."""
    ways = {"password": row.password_hash, "provider": row.subject}
    return [way for way, kept in ways.items() if kept]


def _password(name: str) -> str:
    if sys.stdin.isatty():
        given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise InputError("password: nothing was given: type it, or pipe it to this command")
    users.check_password(given, name)
    return given
