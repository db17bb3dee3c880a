"""docs/a-new-rule.md, followed to the letter: what it takes to watch one more kind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_docs import ROOT, pattern_of, steps_of

pytestmark = pytest.mark.acceptance
PAGE = ROOT / "docs" / "a-new-rule.md"
KIND = "training"
HOUSE = ("schedules", "workers", "templates", "tests", "pyproject.toml")
LIMIT_S = 90


def blocks() -> dict[str, str]:
    """What the page says a file holds, by the file's name."""
    found = re.findall(
        r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", PAGE.read_text("utf-8"), re.S | re.M
    )
    return dict(found)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the house, with what the page adds to it."""
    folder = tmp_path_factory.mktemp("house")
    for name in HOUSE:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "browser")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    for name, text in blocks().items():
        target = folder / name
        assert not target.exists(), f"{name} is there already: the page edits something"
        target.parent.mkdir(exist_ok=True)  # one folder, in one that is there
        target.write_text(text, "utf-8")
    commands = {
        "duewatch": f'{sys.executable} -c "from workers.cli import main; main()"',
        "python": sys.executable,
    }
    (folder / "bin").mkdir()
    for name, command in commands.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
    return folder


def run(tree: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command of the page, in the copy."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=tree,
        env={
            **os.environ,
            "PATH": f"{tree / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(tree),
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )


def test_a_new_rule_takes_one_file_and_one_folder_in_each_language(tree: Path) -> None:
    added = [name for name in blocks() if not name.endswith(".csv")]
    languages = sorted(
        path.name for path in (tree / "templates" / "messages").iterdir() if path.is_dir()
    )

    assert added[0] == f"schedules/rules/{KIND}.py"
    assert sorted({str(Path(name).parent) for name in added[1:]}) == [
        f"templates/messages/{tag}/{KIND}" for tag in languages
    ]


def test_the_commands_print_what_the_page_shows(tree: Path) -> None:
    for command, lines in steps_of(PAGE):
        done = run(tree, command)
        printed = " ".join(done.stdout.split())

        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert pattern_of(lines).fullmatch(printed), f"{command}\nprinted: {printed}"


def test_the_new_file_is_as_the_house_wants_it(tree: Path) -> None:
    file = f"schedules/rules/{KIND}.py"
    questions = "every_rule_and_provider or empty_word or too_long or floors or policy"
    done = run(
        tree,
        f"python -m ruff check {file} && python -m ruff format --check {file} && "
        f"python -m pytest -q tests/house/test_{{docstrings,names,imports}}.py -k '{questions}'",
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_rules_shows_it_without_being_told(tree: Path) -> None:
    page = run(tree, 'python -c "from workers.cli.rules_page import main; main()"').stdout

    assert "## Training seat · 培训席位" in page
    assert (
        "| `T-0` | on the last working day up to the deadline | delivery | mail and SMS |" in page
    )
    assert "| `begins_on` | 开课日期 | day | required |" in page
