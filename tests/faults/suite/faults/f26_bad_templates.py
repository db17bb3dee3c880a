"""A template that fails for some: an undefined variable, a division, a wrong type."""

from __future__ import annotations

import re
import shutil
import time
from functools import partial
from pathlib import Path

from tests.faults.suite.fault import Fault, Trial

WORKERS = 4
WORDS = "messages/en/statement/reminder.words.txt"
LEAD = "{% macro lead() %}"
WAYS = ("{{ nowhere.to_be_found }}", "{{ 1 // 0 }}", "{{ one.ref | by_day }}")


async def run(trial: Trial, share: float) -> None:
    templates = trial.folder / "templates"
    shutil.copytree(trial.tree / "templates", templates)
    async with trial.world(settings={"templates": str(templates)}) as world:
        expected = await world.load(trial.n)
        open_ones = [one.key for one in expected if one.must_send]
        bad = trial.rng.sample(open_ones, max(1, int(trial.n * share)))
        line = _break(templates / WORDS, bad)
        begun = time.monotonic()
        await world.start("worker", 2 if trial.short else WORKERS)
        settled = await world.settled(timeout_s=300)
        took = time.monotonic() - begun
        parked = await world.query(
            "SELECT address, reason, attempt_count FROM notifications WHERE state = 'parked'"
        )
        await world.stop()
        found = await trial.judge(world, stopped_at_most=len(bad))
        keys = {one["address"].partition("@")[0] for one in parked}
        nowhere = [one["reason"] for one in parked if not re.search(rf"\b{line}\b", one["reason"])]
        trial.note("parked", len(parked))
        trial.note("rate", f"{trial.n / took:.0f}/s")
        trial.require("all was settled", settled, found["LEFT"])
        trial.require("parked = those it fails for", keys == set(bad), (len(keys), len(bad)))
        trial.require("stopped = parked", found["STOPPED"] == len(bad), found["STOPPED"])
        trial.require("each says the line", not nowhere, nowhere[:2])
        tries = sum(one["attempt_count"] for one in parked)
        trial.require("none was begun", tries == 0, tries)


def _break(words: Path, bad: list[str]) -> int:
    """Makes the words fail for these, each in another way; returns the line on which they do."""
    text = words.read_text("utf-8")
    ill = ", ".join(f'"S-{key}": {number % len(WAYS)}' for number, key in enumerate(bad))
    ways = "".join(
        f"{{% if ill.get(one.ref) == {number} %}}{way}{{% endif %}}"
        for number, way in enumerate(WAYS)
    )
    place = text.index(LEAD) + len(LEAD)
    words.write_text(f"{text[:place]}{{% set ill = {{{ill}}} %}}{ways}{text[place:]}", "utf-8")
    return text[:place].count("\n") + 1


FAULTS = [
    Fault(
        id=f"F26-{name}",
        injected=f"a template that fails for {many}: an undefined variable, a division by zero, "
        "a filter given the wrong type",
        expected="it waits for a person, with the line; the others go on",
        passes="parked = those it fails for, exactly, none of them begun; all others sent",
        full=full,
        short=short,
        run=partial(run, share=share),
    )
    for name, many, share, full, short in (
        ("one", "1 message", 0.0, 5_000, 0),
        ("hundred", "1 of 100 messages", 0.01, 10_000, 200),
    )
]
