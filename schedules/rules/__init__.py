"""The rules: one file a kind, found by itself.

A new kind is a new file here with one subclass of `schedules.rule.Rule`, and its words in
`templates/messages/<language>/<kind>/`; nothing else is edited.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schedules.rule import Rule


def load_rules(package: str = __name__) -> dict[str, Rule]:
    """One instance of each rule of a package, by kind, in the order of the files' names.

    Raises ValueError that names the file and the remedy for a file without a rule or with several,
    for a kind that two files claim, and for a named role without its field. A name that begins
    with _ isn't a rule's file.
    """
    found: dict[str, Rule] = {}
    claimed: dict[str, str] = {}
    for module in pkgutil.iter_modules(import_module(package).__path__):
        if module.name.startswith("_"):
            continue
        file = f"{package.replace('.', '/')}/{module.name}.py"
        rule = _only_rule(import_module(f"{package}.{module.name}"), file)
        if rule.kind in found:
            raise ValueError(
                f"{file} and {claimed[rule.kind]} both have the kind {rule.kind!r}: rename one"
            )
        found[rule.kind], claimed[rule.kind] = rule, file
    return found


def _only_rule(module: ModuleType, file: str) -> Rule:
    from schedules.rule import Rule  # late, so that the clock and the calendar load without it

    rules = [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, Rule)
        and member.__module__ == module.__name__
        and not inspect.isabstract(member)
    ]
    if len(rules) != 1:
        raise ValueError(
            f"{file} has {len(rules)} rules: write exactly one complete subclass of "
            "schedules.rule.Rule in it, or begin its name with _"
        )
    rule: Rule = rules[0]()
    if unknown := sorted(rule.named_roles.keys() - rule.Data.model_fields.keys()):
        raise ValueError(
            f"{file} names the role {unknown[0]!r} in `named_roles`, but its Data has no field "
            f"{unknown[0]!r}: correct the name"
        )
    return rule
