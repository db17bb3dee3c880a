"""The made-up life: steady by its seed, of all kinds, and believable."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from schedules.people import ContactData, PartnerData
from tests.product import RULES
from workers.simulation.life import life

# What others ask for has no life of its own.
SENT = {kind for kind, rule in RULES.items() if not rule.made_here} - {"request"}
"""What producers send: the others are made here."""


def test_the_same_seed_makes_the_same_life_and_another_seed_another() -> None:
    assert life(3, partners=5, days=60) == life(3, partners=5, days=60)
    assert life(3, partners=5, days=60).events != life(4, partners=5, days=60).events


def test_a_partner_lives_the_same_whoever_else_there_is() -> None:
    few, many = (life(3, partners=count, days=60) for count in (10, 30))

    assert [event for event in many.events if event in few.events] == list(few.events)


def test_every_kind_that_producers_send_occurs_and_passes_the_models() -> None:
    made = life(1, partners=20, days=200)
    seen = Counter(event.kind for event in made.events)

    assert set(seen) >= SENT
    models = {kind: rule.Data for kind, rule in RULES.items()}
    for event in made.events:
        if event.kind in models:
            models[event.kind].model_validate(event.data)
        elif event.kind == "contact":
            ContactData.model_validate(event.data)
        elif event.kind == "partner":
            PartnerData.model_validate(event.data)


def test_shares_are_whole_families_and_together_all_of_it() -> None:
    made = life(2, partners=40, days=30)
    shares = [made.share(number, 3) for number in range(3)]

    assert sum(len(one.events) for one in shares) == len(made.events)
    for one in shares:
        refs = {event.data["ref"] for event in one.events if event.kind == "partner"}
        parents = {e.data["parent"] for e in one.events if e.kind == "partner"} - {None}
        assert parents <= refs


def test_statements_come_in_floods_as_months_end() -> None:
    made = life(5, partners=100, start=date(2026, 3, 1), days=92)
    generated = [event.data["generated_at"] for event in made.events if event.kind == "statement"]
    late = [at for at in generated if (at + timedelta(days=5)).month != at.month]

    assert len(late) > 0.9 * len(generated)


def test_how_things_stand_at_an_instant_has_every_kind_with_what_was_known_then() -> None:
    made = life(1, partners=30, days=200)
    at = made.start + timedelta(days=150)
    standing = made.at(at)

    assert set(standing.records) == SENT
    assert len(standing.partners) == 30
    assert standing.contacts
    assert set(standing.lines) >= set(standing.records["payment"])
    known = {event.data["ref"] for event in made.events if event.at <= at and "ref" in event.data}
    assert {ref for refs in standing.records.values() for ref in refs} <= known
