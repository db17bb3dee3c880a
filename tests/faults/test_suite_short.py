"""A few faults of the suite in their short form, so that a change that breaks a promise is noticed
before the whole suite is run; and the suite notices a product with a defect.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.suite.fault import BROKE_OFF, NEVER, Trial, attempt, find_faults
from tests.faults.suite.mutants import copied, find_mutants, grown
from tests.faults.suite.page import write_page
from tests.faults.suite.servers import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
SEED = 1

with_servers = pytest.mark.usefixtures("postgres_url", "redis_url")
"""A trial starts its own; a machine that has none says so by these."""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Loaded databases, for all trials of this module."""
    return tmp_path_factory.mktemp("stock")


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """The product as it was when these tests began."""
    with copied() as found:
        yield found


def trial_of(name: str, folder: Path, stock: Path, n: int = 0, tree: Path = ROOT) -> Trial:
    (fault,) = (one for one in find_faults() if one.id == name)
    return Trial(fault, n or fault.short, SEED, folder, stock, short=True, tree=tree)


@with_servers
@pytest.mark.parametrize("name", ["F1a", "F4", "F6-redis"])
async def test_nothing_is_lost_or_repeated_by_a_fault(
    name: str, tmp_path: Path, stock: Path, tree: Path
) -> None:
    await _passes(trial_of(name, tmp_path, stock, tree=tree))


@with_servers
@pytest.mark.parametrize("name", ["F21h-http"])
async def test_a_burst_and_hostile_messages_cost_no_producer_an_event(
    name: str, tmp_path: Path, stock: Path, tree: Path
) -> None:
    await _passes(trial_of(name, tmp_path, stock, tree=tree))


@with_servers
@pytest.mark.usefixtures("rabbitmq_url")
@pytest.mark.parametrize("name", ["F21h-rabbitmq"])
async def test_over_rabbitmq_too_a_burst_and_hostile_messages_cost_no_producer_an_event(
    name: str, tmp_path: Path, stock: Path, tree: Path
) -> None:
    await _passes(trial_of(name, tmp_path, stock, tree=tree))


async def _passes(trial: Trial) -> None:
    result = await attempt(trial)
    print(result.line())

    assert result.broken == []
    assert [what for what in NEVER if result.counts[what]] == []


@with_servers
async def test_a_product_with_a_defect_fails_its_fault(tmp_path: Path, stock: Path) -> None:
    (mutant,) = (one for one in find_mutants() if one.name == "hopeful-sweep")
    with grown(mutant) as tree:
        result = await attempt(trial_of(mutant.caught_by, tmp_path, stock, 100, tree))

    assert [one for one in result.broken if not one.startswith(BROKE_OFF)]


def test_the_page_keeps_the_rows_that_werent_run_anew(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    faults = find_faults()
    trials = [trial_of(name, tmp_path, tmp_path, n) for name, n in (("F1a", 7), ("F4", 8))]
    write_page(page, faults, [trial.result for trial in trials])
    again = trial_of("F4", tmp_path, tmp_path, 9).result
    again.broken.append("LOSS 0 (seen: 1)")
    write_page(page, faults, [again], {"late": ("it is late", "F4", True)})
    write_page(page, faults, [])
    text = page.read_text("utf-8")

    assert "| F1a | 7 | 1 | 0 |" in text
    assert "| F4 | 9 | 1 | 0 |" in text
    assert text.count("**fail**") == 1
    assert text.count("## Peers in the same faults") == 1
    assert "| F1 | **Duewatch** | redis | defaults | 7 |" in text
    assert "| `late` | it is late | F4 | yes |" in text


def test_every_mutants_fault_and_text_are_there() -> None:
    known = {fault.id for fault in find_faults()}

    for mutant in find_mutants():
        assert mutant.caught_by in known, mutant.name
        for change in mutant.changes:
            assert (ROOT / change.file).read_text("utf-8").count(change.old) == 1, mutant.name
