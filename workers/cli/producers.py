"""Commands for those who write producers: the events' schemas, and an event under seal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from workers.cli.frame import call
from workers.errors import InputError


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each into a file of this folder, with the queues' asyncapi.json.",
)
@click.argument("names", nargs=-1)
def schemas_command(names: tuple[str, ...], out: Path | None) -> None:
    """What producers may send, as JSON Schema: NAMES like payment.v1, or all.

    \b
    duewatch schemas payment.v1
    duewatch schemas --out schemas/
    """
    from schedules.rules import load_rules
    from workers.asyncapi import asyncapi
    from workers.event_types import EventTypes

    types = EventTypes(load_rules())
    known: dict[str, Any] = types.schemas()
    if odd := [name for name in names if name not in known]:
        raise InputError(f"there is no schema {odd[0]}: there are {', '.join(known)}")
    chosen = {name: known[name] for name in names or known}
    if out is None:
        click.echo(_text(chosen[names[0]] if len(names) == 1 else chosen), nl=False)
        return
    if not names:
        chosen["asyncapi"] = asyncapi(types, version("duewatch"))
    out.mkdir(parents=True, exist_ok=True)
    for name, schema in chosen.items():
        (out / f"{name}.json").write_text(_text(schema), "utf-8")
    click.echo(f"Wrote {len(chosen)} files into {out}.")


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--producer", required=True, help="Name of a table of [producers.<name>].")
@click.option("--key", help="Which of its keys (default: the first).")
def seal_command(file: Any, producer: str, key: str | None) -> None:
    """Seal the CloudEvent in FILE (- reads it) as a producer does, ready for the queue.

    Shows what a producer of one's own must write, with the keys of the settings.
    """
    from workers.envelope import read_json, seal

    keys = called.keys if (called := call().settings.producers.get(producer)) else {}
    key = key or next(iter(keys), "")
    if key not in keys:
        raise InputError(
            f"there is no key {key or 'at all'} of a producer {producer}: "
            f"add [producers.{producer}] keys to the settings"
        )
    event = read_json(file.read())
    if not isinstance(event, dict):
        raise InputError(f"{file.name}: an event is a JSON object")
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    click.echo(seal(event, producer, key, keys[key].get_secret_value(), now))


def _text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
