"""The cadence in force: a rule's own ladder with the changes of the settings.

A file of `[rules.*]` tables alone can be laid over them, to see what another cadence would send.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from schedules.rule import Cadence, Rule, Stage, Tell, When
from workers.errors import SettingsError
from workers.settings import RuleSettings, Section, Settings, StageSettings, explain_faults


class _CadenceFile(Section):
    rules: dict[str, RuleSettings] = Field(min_length=1)


def with_cadence(settings: Settings, file: Path, rules: Mapping[str, Rule]) -> Settings:
    """The settings with the cadences of another TOML file, which has `[rules.*]` tables only.

    What the file doesn't mention stays as it is, down to the single key of a stage.
    Raises SettingsError naming file, key and remedy.
    """
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: isn't TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{file}: can't be read: {error.strerror}") from None
    for key in values:
        if key != "rules":
            raise SettingsError(f"{file}: {key}: only [rules.<kind>] tables belong in this file")
    if not values.get("rules"):
        raise SettingsError(f"{file}: changes nothing: write [rules.<kind>.stages.<stage>] tables")
    present = {kind: one.model_dump(exclude_unset=True) for kind, one in settings.rules.items()}
    try:
        given = _CadenceFile.model_validate(values).model_dump(exclude_unset=True)
        merged = _CadenceFile.model_validate({"rules": _merged(present, given["rules"])})
        changed = settings.model_copy(update={"rules": merged.rules})
        check_rules(changed, rules)
    except ValidationError as error:
        raise SettingsError(explain_faults(error, file)) from None
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    return changed


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within tables, the upper one's values going first."""
    found = dict(below)
    for key, value in above.items():
        under = found.get(key)
        both = isinstance(value, dict) and isinstance(under, dict)
        found[key] = _merged(under, value) if both and under is not None else value
    return found


def cadence_of(rule: Rule, settings: Settings) -> Cadence:
    """A rule's cadence with the changes of the settings file.

    Raises SettingsError naming the key when a stage is unknown and not complete.
    """
    wanted = settings.rules.get(rule.kind)
    if wanted is None:
        return rule.cadence
    stages = {one.name: one for one in rule.cadence.stages}
    for name, change in wanted.stages.items():
        if change.off:
            if name not in stages and change.when is None:
                raise SettingsError(_no_such_stage(rule, name, "nothing to leave out"))
            stages.pop(name, None)
            continue
        stages[name] = _changed(rule, name, stages.get(name), change)
    return Cadence(
        stages=tuple(stages.values()),
        send_at=wanted.send_at or rule.cadence.send_at,
        scan_every=(
            timedelta(seconds=wanted.scan_every_s)
            if wanted.scan_every_s
            else rule.cadence.scan_every
        ),
    )


def _changed(rule: Rule, name: str, present: Stage | None, change: StageSettings) -> Stage:
    tell = None
    if change.tell is not None:
        tell = tuple(Tell(one.role, one.by, one.message, one.or_else) for one in change.tell)
    if present is None:
        if change.when is None or tell is None:
            raise SettingsError(_no_such_stage(rule, name, "a new one needs when and tell"))
        present = Stage(name, When.parse(change.when), tell)
    return replace(
        present,
        when=When.parse(change.when) if change.when else present.when,
        tell=tell or present.tell,
        urgent=present.urgent if change.urgent is None else change.urgent,
        required=present.required if change.required is None else change.required,
        after_deadline=(
            present.after_deadline if change.after_deadline is None else change.after_deadline
        ),
    )


def _no_such_stage(rule: Rule, name: str, so: str) -> str:
    known = ", ".join(one.name for one in rule.cadence.stages)
    return f"rules.{rule.kind}.stages.{name}: there is no such stage ({known}); {so}"


def check_rules(settings: Settings, rules: Mapping[str, Rule]) -> None:
    """Raises SettingsError when a `[rules.*]` table names no rule or an impossible stage."""
    for kind in settings.rules:
        if kind not in rules:
            close = difflib.get_close_matches(kind, list(rules), n=1)
            hint = f": did you mean {close[0]}?" if close else f"; there are {', '.join(rules)}"
            raise SettingsError(f"rules.{kind}: there is no such rule{hint}")
    for rule in rules.values():
        cadence_of(rule, settings)
