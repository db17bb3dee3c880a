"""The judge by itself: it is independent, knows the calendar, and sees every fault."""

from __future__ import annotations

import ast
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.product import RULES
from workers.simulation import days
from workers.simulation.events import Event
from workers.simulation.ladders import LADDERS
from workers.simulation.life import Life, life
from workers.simulation.oracle import Oracle, Rhythm, Verdict
from workers.simulation.report import Lived, compare
from workers.simulation.run import rhythm_of
from workers.simulation.states import Message

JUDGES = ("events", "days", "ladders", "states", "world", "oracle")
PACKAGE = Path(days.__file__).parent
QUARTER = timedelta(minutes=15)
START = datetime(2026, 2, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    """An instant written as Beijing's clocks show it."""
    return datetime.fromisoformat(text).replace(tzinfo=days.BEIJING).astimezone(UTC)


def judged(*events: Event) -> dict[tuple[str, str, str], datetime]:
    """When each (stage, channel, contact) must be delivered."""
    rhythm = Rhythm(START, START + timedelta(days=60), QUARTER)
    verdict = Oracle(events, rhythm).live()
    return {(m.stage, m.channel, m.contact): d.at for m, d in verdict.told.items()}


def finance(**more: Any) -> Event:
    """Somebody in finance who wants mail only."""
    data = {
        "ref": "C1",
        "partner": "P1",
        "role": "finance",
        "mail": "c1@example.com",
        "channels": "mail",
        "time_zone": "Asia/Shanghai",
        **more,
    }
    return Event(START, "contact", data)


def statement(came: str, confirm_by: date, **more: Any) -> Event:
    """A statement of P1 that comes at a time of Beijing."""
    data = {
        "ref": "S1",
        "partner": "P1",
        "statement_kind": "INCENTIVE",
        "generated_at": at(came),
        "confirm_by": confirm_by,
        "amount_incl_tax": "10.00",
        "status": "PENDING",
        **more,
    }
    return Event(at(came), "statement", data)


def test_the_judge_imports_nothing_of_the_product() -> None:
    imported = {
        (name, node.module or "")
        for name in JUDGES
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
    } | {
        (name, alias.name)
        for name in JUDGES
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text("utf-8")))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    ours = {module for _, module in imported if module.startswith(("schedules", "workers"))}

    assert ours <= {f"workers.simulation.{name}" for name in JUDGES}


def test_the_judge_knows_every_kind_that_there_is_a_rule_for() -> None:
    watched = {kind for kind, one in RULES.items() if one.derives_from or not one.made_here}

    assert set(LADDERS) == watched - {"request"}


def test_working_days_are_counted_over_spring_festival_and_make_up_days() -> None:
    found = judged(finance(), statement("2026-02-02 10:00", date(2026, 2, 27)))

    # 14 February is worked, 15 to 23 are off, 28 is worked.
    assert found[("T-5", "mail", "C1")] == at("2026-02-13 09:02")
    assert found[("T-2", "mail", "C1")] == at("2026-02-25 09:02")
    assert found[("T-0", "mail", "C1")] == at("2026-02-27 09:02")
    assert found[("ended", "mail", "C1")] == at("2026-02-28 09:02")


def test_a_daily_digest_waits_for_half_past_nine_unless_that_is_too_late() -> None:
    found = judged(finance(digest="daily"), statement("2026-02-02 10:00", date(2026, 3, 6)))

    assert found[("T-5", "mail", "C1")] == at("2026-02-28 09:32")
    assert found[("T-0", "mail", "C1")] == at("2026-03-06 09:02"), "what is urgent doesn't wait"


def test_what_closes_between_a_scan_and_its_delivery_is_moot() -> None:
    confirmed = statement("2026-02-27 09:01", date(2026, 2, 27), status="CONFIRMED")
    found = judged(finance(), statement("2026-02-02 10:00", date(2026, 2, 27)), confirmed)

    assert ("T-2", "mail", "C1") in found
    assert ("T-0", "mail", "C1") not in found


def test_an_event_that_comes_after_a_newer_one_is_ignored() -> None:
    done = statement("2026-02-03 10:00", date(2026, 2, 27), status="CONFIRMED", version=2)
    late = statement("2026-02-04 10:00", date(2026, 2, 27), version=1)

    assert judged(finance(), done, late) == {}


def test_the_machine_is_down_now_and_then_and_catches_up_once() -> None:
    rhythm = rhythm_of(life(1, partners=1))

    assert rhythm.down
    first, last = rhythm.down[0]
    assert rhythm.tick(first + QUARTER) == rhythm.tick(last)


# --- the comparison: every fault is seen --------------------------------------------------

MADE = life(11, partners=10, days=40, busy=2)


@pytest.fixture(scope="module", name="verdict")
def _verdict() -> Verdict:
    return Oracle(MADE.events, rhythm_of(MADE)).live()


def as_it_should_be(verdict: Verdict) -> Lived:
    """What a faultless product would have to show."""
    told = [(*what, one.at, one.address, one.in_digest) for what, one in verdict.told.items()]
    return Lived(
        told=told,
        records={},
        counts={("statement", "mail", "accepted"): 1},
        kept={"mail": 1},
        dropped=0,
        broken=[],
        instants=0,
        scans=0,
    )


def faults(verdict: Verdict, lived: Lived, made: Life = MADE) -> dict[str, int]:
    """How many differences of each sort are found."""
    report = compare(made, verdict, lived)
    assert report.well is (not report.differences)
    return dict(report.by_difference)


def test_a_life_as_it_should_be_has_no_differences(verdict: Verdict) -> None:
    assert len(verdict.told) > 50
    assert faults(verdict, as_it_should_be(verdict)) == {}


def test_every_sort_of_fault_is_found_and_named(verdict: Verdict) -> None:
    def with_first(change: Any) -> Lived:
        lived = as_it_should_be(verdict)
        first = lived.told.pop(0)
        lived.told[:0] = change(first)
        return lived

    hour = timedelta(hours=1)
    other = Message("statement", "S-other", "1", "T-5", "mail", "C1")
    moot = (*other, START, "a@example.com", False)

    assert faults(verdict, with_first(lambda one: [])) == {"missing": 1}
    assert faults(verdict, with_first(lambda one: [one, moot])) == {"moot": 1}
    assert faults(verdict, with_first(lambda one: [one, one]))["double"] >= 1
    assert faults(verdict, with_first(lambda one: [(*one[:6], one[6] + hour, *one[7:])])) == {
        "outside": 1
    }
    assert faults(verdict, with_first(lambda one: [(*one[:7], "x@example.com", one[8])])) == {
        "elsewhere": 1
    }
    assert faults(verdict, with_first(lambda one: [(*one[:8], not one[8])])) == {"digest": 1}


def test_a_ledger_that_does_not_add_up_is_a_fault(verdict: Verdict) -> None:
    lived = as_it_should_be(verdict)
    lived.kept = {"mail": 2}

    assert compare(MADE, verdict, lived).broken
    assert not compare(MADE, verdict, lived).well
