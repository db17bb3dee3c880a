"""docs/rules.md: every rule in words, made from the rules themselves.

What a rule's docstring says stands there as it is written; cadence, fields and links are read from
the rule. The pictures beside it are of the message that `shown_message` names.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schedules import load_rules
from schedules.fields import Column
from schedules.rule import RecordData, Rule, Stage, Tell, When

NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
"""10:00 of an ordinary Tuesday at Beijing: samples are made and pictures taken at it."""
PICTURES = PurePosixPath("pictures/rules")
"""Where the pictures are, seen from the page."""
PICTURE_WIDTH = 420
"""CSS pixels."""


def rules_page(rules: Mapping[str, Rule]) -> str:
    """The whole page, in Markdown. `rules` by kind, in the order of the page."""
    links = _links(rules)
    parts = [_HEAD + _model(RecordData), _overview(rules)]
    parts += [_section(rule, links[kind]) for kind, rule in rules.items()]
    return "\n".join(parts)


def main() -> None:
    """Print the page of this program's rules."""
    sys.stdout.write(rules_page(load_rules()))


def shown_message(rule: Rule) -> Tell:
    """What the pictures of a rule show: the first thing it tells by SMS as well, else the first."""
    tells = [tell for stage in rule.cadence.stages for tell in stage.tell]
    return next((tell for tell in tells if set(tell.by) == {"mail", "sms"}), tells[0])


def picture_name(kind: str, tag: str) -> str:
    """The file of a rule's picture in a language (a BCP 47 tag)."""
    return f"{kind}.{tag}.png"


def in_words(when: When) -> str:
    """When a stage falls due, as the page says it."""
    amount = abs(when.count)
    span = f"{amount} {when.unit}{'s' * (amount != 1)}"
    anchor = "the deadline" if when.unit == "hour" else "the deadline's day"
    if when.anchor == "opened":
        words = f"{span} after it opens" if amount else "as soon as it opens"
    elif amount:
        words = f"{span} {'before' if when.count < 0 else 'after'} {anchor}"
    else:
        words = {
            "hour": "at the deadline",
            "day": "on the deadline's day",
            "working day": "on the last working day up to the deadline",
        }[when.unit]
    if when.every:
        words += f", then every {when.every} {when.every_unit}s"
    return words


_HEAD = """# Rules

Made by `make docs` from the rules themselves: every kind of record that is watched, who has to act
on it, when whom is told, and what a file must hold. `duewatch rules` shows what is in force here,
`duewatch preview <kind>` writes a message, and [a new rule](a-new-rule.md) adds a kind.

Deadlines and working days are Beijing's. Stages of days are told at the time that is given, of the
recipient's own zone; stages of hours at that very instant. Only the latest stage whose time has
come is told to each person, and none but those marked *after* once the deadline has passed.

- *urgent*: goes at once, by SMS too to who wants one mail a day, and never waits for a digest
- *required*: is mailed even to who has unsubscribed from the kind
- *after*: is told once the deadline has passed
- *only*: nobody else is told in place of these; for every other role the administrator's people
  are, where nobody who has it can be reached

Every kind has these fields besides its own; [files](files.md) says how values are written.

"""


def _overview(rules: Mapping[str, Rule]) -> str:
    rows = []
    for kind, rule in rules.items():
        roles = dict.fromkeys(_word(t.role) for s in rule.cadence.stages for t in s.tell)
        rows.append((f"[`{kind}`](#{kind})", *_titles(rule), ", ".join(roles)))
    return _table(("Kind", "", "", "Tells"), rows)


def _section(rule: Rule, links: Sequence[str]) -> str:
    module = sys.modules[type(rule).__module__]
    doc = inspect.getdoc(module) or ""
    summary, _, rest = doc.partition("\n")
    said = list(_headings(rest))
    if rule.derives_from:
        kinds = ", ".join(_kind(one) for one in rule.derives_from)
        said.append(("Derived from", f"{kinds}: no file or event brings it"))
    if links:
        said.append(("Linked with", ", ".join(_kind(one) for one in links)))
    english, chinese = _titles(rule)
    parts = [
        f'<a id="{rule.kind}"></a>',
        "",
        f"## {english} · {chinese}",
        "",
        f"{summary} [Source](../{module.__name__.replace('.', '/')}.py).",
        "",
        *(f"- **{heading}**: {text}" for heading, text in said),
        "",
        _cadence(rule),
        _fields(rule),
        _pictures(rule),
    ]
    return "\n".join(parts)


def _headings(text: str) -> Iterator[tuple[str, str]]:
    """What follows each `Heading:` of a docstring, as one line."""
    for block in re.split(r"\n(?=[A-Z][a-z ]*:)", text.strip()):
        heading, _, said = block.partition(":")
        yield heading, " ".join(said.split())


def _cadence(rule: Rule) -> str:
    rows: list[Sequence[str]] = []
    for stage in rule.cadence.stages:
        for number, tell in enumerate(stage.tell):
            first = (f"`{stage.name}`", in_words(stage.when)) if not number else ("", "")
            by = " and ".join(_BY[one] for one in tell.by)
            flags = "" if number else _flags(stage)
            rows.append((*first, _who(tell), by, f"`{tell.message}`", flags))
    at = f"{rule.cadence.send_at:%H:%M}"
    return _table(("Stage", f"When (days at {at})", "Who", "By", "Message", ""), rows)


def _who(tell: Tell) -> str:
    if tell.or_else == "administrator":
        return _word(tell.role)
    only = tell.or_else == tell.role
    return _word(tell.role) + (" *only*" if only else f", else {_word(tell.or_else)}")


_BY = {"mail": "mail", "sms": "SMS"}


def _flags(stage: Stage) -> str:
    flags = {"urgent": stage.urgent, "required": stage.required, "after": stage.after_deadline}
    return " ".join(f"*{name}*" for name, on in flags.items() if on)


def _fields(rule: Rule) -> str:
    if rule.made_here:
        return ""  # nobody sends it
    text = _model(rule.Data, _KNOWN)
    if rule.Line is not None:
        text += "\nEach row of its list:\n\n" + _model(rule.Line)
    return text


_KNOWN = MappingProxyType(RecordData.model_fields)


def _model(model: type[BaseModel], known: Mapping[str, FieldInfo] = MappingProxyType({})) -> str:
    """A model's fields without those that stand elsewhere just so."""
    rows = [
        (f"`{name}`", ", ".join(_columns(field)), _holds(field.annotation), _must(field))
        for name, field in model.model_fields.items()
        if name not in known or _columns(known[name]) != _columns(field)
    ]
    return _table(("Field", "Headings in files", "Holds", ""), rows)


def _columns(field: FieldInfo) -> tuple[str, ...]:
    return tuple(name for one in field.metadata if isinstance(one, Column) for name in one.names)


def _must(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=False)
    if isinstance(default, StrEnum):
        default = default.value
    if default is None or default == ():
        return ""
    return f"else `{str(default).lower() if isinstance(default, bool) else default}`"


def _holds(annotation: Any) -> str:
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is tuple:
        return "refs, separated by commas"
    if inner:  # X | None, Annotated[X, …]
        return _holds(inner[0])
    if issubclass(annotation, StrEnum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return _TYPES.get(annotation, "text")


_TYPES: Mapping[type, str] = {
    datetime: "time",
    date: "day",
    Decimal: "number",
    int: "number",
    bool: "yes or no",
}


def _pictures(rule: Rule) -> str:
    message = shown_message(rule)
    what = "mail and SMS" if "sms" in message.by else "mail"
    cells = [
        f'<img src="{PICTURES / picture_name(rule.kind, tag)}" width="{PICTURE_WIDTH}" '
        f'alt="{title}: {what} `{message.message}`, {tag}">'
        for tag, title in rule.title.items()
    ]
    return _table([f"`{message.message}`, {tag}" for tag in rule.title], [cells])


def _links(rules: Mapping[str, Rule]) -> dict[str, list[str]]:
    """The kinds each kind is linked with, in either direction, as the samples show it."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in rules}
    for kind, rule in rules.items():
        for sample in rule.samples(NOW):
            for link in rule.links(rule.Data.model_validate(dict(sample.data))):
                found[kind][link.kind] = None
                found[link.kind][kind] = None
    return {kind: list(kinds) for kind, kinds in found.items()}


def _titles(rule: Rule) -> tuple[str, str]:
    return rule.title["en"], rule.title["zh-CN"]


def _kind(kind: str) -> str:
    return f"[`{kind}`](#{kind})"


def _word(role: str) -> str:
    return role.replace("_", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
