"""Plans and rules as plain values: what the command line prints as JSON and the API answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, SecretStr

from schedules.planner import Step, Told, Verdict
from schedules.rule import Cadence, Stage
from workers.core import Core
from workers.store import Row
from workers.store.engine import shown_url

if TYPE_CHECKING:
    from workers.outlook import Explained
    from workers.scan import Tally


def row_dict(row: Row[Any], *leave_out: str) -> dict[str, Any]:
    """A database row by its columns' names."""
    return {key: value for key, value in row._mapping.items() if key not in leave_out}


def drafts(tally: Tally) -> list[dict[str, Any]]:
    """The notifications that a dry run would write."""
    return [
        {
            "kind": draft.kind,
            "message": draft.step.message,
            "channel": draft.step.channel,
            "contact": draft.step.contact.ref if draft.step.contact else None,
            "name": draft.step.contact.name if draft.step.contact else None,
            "address": draft.step.contact.address(draft.step.channel)
            if draft.step.contact
            else None,
            "stages": sorted({step.stage for _, step in draft.items}),
            "records": [one.record.ref for one, _ in draft.items],
        }
        for draft in tally.drafts
    ]


def tally_of(tally: Tally) -> dict[str, Any]:
    """What a run did, or a dry run would do."""
    return {
        "kind": tally.kind,
        "at": tally.fire_at,
        "run": tally.run_id,
        "looked_at": tally.looked_at,
        "planned": tally.planned,
        "held": tally.held,
        "notifications": drafts(tally),
    }


def explained(told: Explained) -> dict[str, Any]:
    """A record's story."""
    record = told.watched.record
    return {
        "kind": record.kind,
        "ref": record.ref,
        "partner": {"ref": record.partner.ref, "name": record.partner.name},
        "state": record.assessment.state.value,
        "why": record.assessment.why,
        "opened_at": record.opened_at,
        "deadline": record.deadline.at,
        "effect": str(record.deadline.effect),
        "ladder": record.ladder,
        "next_due_at": told.next_due_at,
        "steps": [step_of(told, step) for step in told.steps],
        "history": [row_dict(row) for row in told.history],
    }


def step_of(told: Explained, step: Step) -> dict[str, Any]:
    """One stage for one person by one channel, with what came of it."""
    contact = step.contact
    row = told.told.get(Told(step.stage, step.channel, contact.ref)) if contact else None
    return {
        "stage": step.stage,
        "role": step.role,
        "channel": step.channel,
        "contact": contact.ref if contact else None,
        "name": contact.name if contact else None,
        "at": _at(step, row),
        "verdict": step.verdict.value,
        "why": step.why,
        "notification": row.uid if row is not None else None,
        "state": row.state if row is not None else None,
        "reply": row.reply if row is not None else None,
    }


def _at(step: Step, row: Any) -> Any:
    """When it was told, is to be told, or would have been."""
    if row is not None:
        return row.accepted_at or row.created_at
    return step.order[0] if step.verdict in {Verdict.OVERTAKEN, Verdict.VOID} else step.at


async def rules(core: Core) -> list[dict[str, Any]]:
    """Every rule: on, off or paused, its cadence in words, its last run and how many records."""
    paused, runs = await core.store.operations.paused(), await core.store.operations.last_runs()
    counts = await core.store.records.count()
    enabled = core.registry.enabled()
    found: list[dict[str, Any]] = []
    for kind, rule in core.rules.items():
        state = "paused" if kind in paused else "on"
        last = runs.get(kind)
        found.append(
            {
                "kind": kind,
                "title": dict(rule.title),
                "state": state if kind in enabled else "off",
                "reason": paused[kind].reason if kind in paused else "",
                "cadence": cadence_in_words(core.registry.cadences[kind]),
                "last_run": last.fire_at if last else None,
                "open": counts.get((kind, "open"), 0),
                "held": counts.get((kind, "held"), 0),
            }
        )
    return found


def cadence_in_words(cadence: Cadence) -> dict[str, str]:
    """Each stage in a line."""
    return {one.name: _stage(one) for one in cadence.stages}


def _stage(one: Stage) -> str:
    when = one.when
    words: str = when.anchor
    if when.count:
        unit = when.unit + ("s" if abs(when.count) != 1 else "")
        words += f" {'-' if when.count < 0 else '+'} {abs(when.count)} {unit}"
    elif when.unit != "hour":
        words += f" - 0 {when.unit}s"
    if when.every:
        words += f", then every {when.every} {when.every_unit}s"
    tells = "; ".join(
        f"{tell.role} by {' and '.join(tell.by)} ({tell.message})" for tell in one.tell
    )
    return f"{words}: {tells}{' · urgent' if one.urgent else ''}"


# --- settings -------------------------------------------------------------------------------

_SECRETS: Final = ("password", "secret", "token", "key", "auth")


def settings(of: BaseModel) -> dict[str, Any]:
    """Every setting by its dotted name; secrets are masked."""
    return dict(_flat("", of))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _flat(f"{prefix}{name}.", getattr(value, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}{name}.", inner)
    else:
        key = prefix.rstrip(".")
        yield key, _masked(key, value)


def _masked(key: str, value: Any) -> Any:
    """A value as it may be shown: secrets as their first and last character, or not at all."""
    secret = isinstance(value, SecretStr) or any(word in key.split(".")[-1] for word in _SECRETS)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    elif isinstance(value, str) and "://" in value and "@" in value:
        return shown_url(value)
    if secret and value and not isinstance(value, bool):
        text = str(value)
        return f"{text[0]}…{text[-1]}" if len(text) >= 12 else "…"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return ", ".join(str(one) for one in value) if isinstance(value, tuple | list) else str(value)
