"""Commands that set up and check."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from workers import shown
from workers.cli.frame import Call, call, console, dump, json_option, table, with_app, with_core
from workers.core import Core
from workers.endpoints import Endpoint
from workers.errors import InputError
from workers.providers import find_providers
from workers.settings import DEFAULT_FILE, Settings
from workers.sources import find_sources

if TYPE_CHECKING:
    from workers.app import App
    from workers.store.ledger import Proof


@click.command("init")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_FILE)
def init_command(file: Path) -> None:
    """Write FILE (default duewatch.toml): every setting, its default and meaning, commented out.

    An existing file is never overwritten.
    """
    if file.exists():
        raise InputError(f"{file} is there already: name another file, or move it away")
    file.write_text(commented_settings(), "utf-8")
    click.echo(f"Wrote {file}. Uncomment what you change; duewatch doctor checks it.")


def commented_settings() -> str:
    """The settings file that `init` writes; the documentation is made of the same."""
    lines = [
        "# Duewatch settings. Every value here is the default: uncomment what you change.",
        "# The environment wins: DUEWATCH_MAIL__SENDER sets sender in [mail].",
        "",
    ]
    for name, field in Settings.model_fields.items():
        if name not in {"providers", "rules", "sources", "webhooks"} and not _section(field):
            lines.extend(_setting(name, field))
    lines.extend(_sections("", Settings))
    lines.extend(_tables("providers", find_providers()))
    lines.extend(_tables("sources", find_sources()))
    lines += ["", f"# {_first_line(Endpoint)}", "# [webhooks.<name>]"]
    for key, field in Endpoint.model_fields.items():
        lines.extend(_setting(key, field))
    lines += ["", *_RULES.strip().splitlines(), ""]
    return "\n".join(lines)


def _section(field: Any) -> type[BaseModel] | None:
    """What a setting is a section of, if it is one."""
    inner = field.annotation
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _sections(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    """Each section of a model, and after it those within."""
    for name, field in model.model_fields.items():
        if inner := _section(field):
            yield from ("", f"# {_first_line(inner)}", f"[{prefix}{name}]")
            for key, one in inner.model_fields.items():
                if not _section(one):
                    yield from _setting(key, one)
            yield from _sections(f"{prefix}{name}.", inner)


def _tables(section: str, found: Mapping[str, Any]) -> Iterator[str]:
    """A table for each of what is found by its file, and has settings."""
    for name, one in sorted(found.items()):
        if one.Settings.model_fields:
            yield from ("", f"# {_first_line(one)}", f"# [{section}.{name}]")
            for key, field in one.Settings.model_fields.items():
                yield from _setting(key, field)


def configuration_page() -> str:
    """docs/configuration.md: the settings file with every default, and where settings come from."""
    return _PAGE + "```toml\n" + commented_settings() + "```\n"


_PAGE = """# Configuration

Made by `make docs` from the settings' own descriptions; `duewatch init` writes the same as a file.

Settings are read once on start: `duewatch.toml` in the working folder, another file by `--settings`
or `DUEWATCH_FILE`, and the environment, which wins. `DUEWATCH_MAIL__SENDER` sets `sender` in
`[mail]`; `DATABASE_URL` and `BROKER_URL` are read under their usual names too. An unknown or wrong
key is refused on start with its name and what it may be. `duewatch settings` shows what is in
force, secrets masked; `duewatch doctor` checks that it works.

"""

_RULES = """
# One table a rule: change its cadence without touching code.
# [rules.statement]
# enabled = true
# send_at = "09:30"                # wall-clock time of day stages, at the recipient's
# scan_every_s = 300               # seconds
# [rules.statement.stages."T-5"]
# when = "due - 6 working days"
# [[rules.statement.stages."T-5".tell]]
# role = "finance"
# by = ["mail", "sms"]
"""


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _setting(name: str, field: Any) -> list[str]:
    return [f"# {field.description or ''}".rstrip(), f"# {name} = {_toml(field)}".rstrip()]


def _toml(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        value = field.default_factory() if field.default_factory else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(f'"{one}"' for one in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f'"{key}" = "{one}"' for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    # Not set: an empty text would be a value, and TOML has no null.
    return "" if value is None else f'"{value}"'


@click.command("settings")
@json_option
def settings_command(as_json: bool) -> None:
    """Show every setting in force; secrets are masked."""
    settings = call().settings
    values = shown.settings(settings)
    defaults = shown.settings(Settings())
    if as_json:
        dump(values)
        return
    table(
        "",
        ["setting", "value", "set"],
        [
            (key, value, "" if defaults.get(key) == value else "changed")
            for key, value in values.items()
        ],
    )


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> int:
    """Check database, providers, templates, working days, clock and links. Sends nothing.

    Exit code 1 when something is wrong; each line says how to mend it.
    """

    from workers.doctor import examine  # with all that it examines: only here

    async def work(app: App, _: Call) -> int:
        findings = [finding async for finding in examine(app)]
        wrong = [finding for finding in findings if not finding.well]
        if as_json:
            dump([{slot: getattr(one, slot) for slot in one.__slots__} for one in findings])
            return int(bool(wrong))
        out = console()
        for one in findings:
            mark = "[green]well [/]" if one.well else "[red]wrong[/]"
            out.print(f"{mark} [bold]{one.what}[/]", end="")
            out.print(f": {one.detail}", markup=False)
            if one.remedy:
                out.print(
                    f"      {one.remedy}", markup=False, style="yellow" if one.well else "red"
                )
        out.print("All is well." if not wrong else f"{len(wrong)} to mend.")
        return int(bool(wrong))

    return with_app(work)


@click.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema to this program's version. Safe to run by several at once."""

    async def work(app: Core, _: Call) -> None:
        click.echo(f"The schema is version {await app.store.database.schema_version()}.")

    with_core(work)


@click.command("verify")
@click.option("--all", "whole", is_flag=True, help="Look at everything, however old.")
@click.option(
    "--limit-s", type=float, default=30.0, show_default=True, help="Most seconds for one equation."
)
@json_option
def verify_command(whole: bool, limit_s: float, as_json: bool) -> int:
    """Prove that the ledger adds up, while workers run: every equation must have 0 exceptions.

    All that is open is looked at, and the newest million messages of what is over. Exit code 1
    when an equation has exceptions, 3 when one couldn't be counted in time.
    """

    async def work(app: Core, _: Call) -> int:
        every = {kind: app.registry.cadences[kind].scan_every for kind in app.registry.enabled()}
        newest = {"newest": None} if whole else {}
        proof = await app.store.operations.prove(app.clock(), every, limit_s=limit_s, **newest)
        if as_json:
            dump(
                {
                    "adds_up": not (proof.broken or proof.unfinished),
                    "checks": [
                        {"what": one.what, "exceptions": one.exceptions} for one in proof.checks
                    ],
                    "states": proof.states,
                    "looked_at_after": proof.after,
                }
            )
        else:
            _show(proof)
        return 1 if proof.broken else 3 if proof.unfinished else 0

    return with_core(work)


def _show(proof: Proof) -> None:
    rows = [
        ("not in time" if one.exceptions is None else one.exceptions, one.what, one.look_at)
        for one in proof.checks
    ]
    table("", ["exceptions #", "equation", "look at"], rows)
    out = console()
    if proof.states is not None:
        total = " + ".join(f"{count} {state}" for state, count in sorted(proof.states.items()))
        out.print(f"planned {sum(proof.states.values())} = {total or '0'}")
    if proof.after:
        out.print(f"Of what is over, messages after number {proof.after} were looked at.")
    if proof.broken:
        out.print("The ledger does NOT add up.")
    elif proof.unfinished:
        out.print("Not proved: give it more time with --limit-s.")
    else:
        out.print("The ledger adds up.")


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of SHELL, to be sourced by its start-up file.

    \b
    duewatch completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    sys.stdout.write(found(root, {}, "duewatch", "_DUEWATCH_COMPLETE").source() + "\n")
