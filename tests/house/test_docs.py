"""The documentation is true: commands are run, links lead somewhere, pages are current."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from schedules import load_rules
from workers.asyncapi import asyncapi
from workers.cli.rules_page import PICTURES, picture_name, rules_page
from workers.cli.setup import configuration_page
from workers.event_types import EventTypes

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Its commands need the rule that it adds: tests/acceptance/test_a_new_rule.py runs them with it.
ELSEWHERE = {"a-new-rule.md"}
RUN = [
    page for page in PAGES if "```console" in page.read_text("utf-8") and page.name not in ELSEWHERE
]
LIMIT_S = 90


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def steps_of(page: Path) -> list[tuple[str, list[str]]]:
    """Each command of a page's console blocks with the lines it is to print."""
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
    return steps


def pattern_of(lines: list[str]) -> re.Pattern[str]:
    """What a block shows: `…` is anything, and runs of spaces are as good as one."""
    text = " ".join(" ".join(lines).split())
    parts = [re.escape(part.strip()) for part in text.split("…")]
    return re.compile(r"\s*" + ".*".join(parts) + r"\s*", re.S)


@pytest.mark.acceptance
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    port = _free_port()
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "duewatch").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from workers.cli import main; main()" "$@"\n'
    )
    (commands / "duewatch").chmod(0o755)
    steps = steps_of(page)
    script = ["trap 'kill %1 2>/dev/null; wait' EXIT"]
    for number, (command, _) in enumerate(steps):
        here = command.replace("127.0.0.1:8025", f"127.0.0.1:{port}")
        if " & " in here:
            here = here.replace(" & ", " 2>run.log & ")
            script.append(f"{here} >{number}.out || exit {100 + number}")
        else:
            script.append(f"{{ {here} ; }} >{number}.out || exit {100 + number}")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=os.environ
        | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DUEWATCH_WEB__PORT": str(port),
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    failed = done.returncode - 100
    shown = steps[failed][0] if 0 <= failed < len(steps) else f"exit {done.returncode}"
    assert done.returncode == 0, f"{page.name}: {shown}: {done.stderr.decode()}"
    for number, (command, lines) in enumerate(steps):
        printed = " ".join((tmp_path / f"{number}.out").read_text("utf-8").split())
        assert pattern_of(lines).fullmatch(printed), f"{page.name}: {command}\nprinted: {printed}"


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []


def test_the_configuration_page_is_what_the_settings_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")

    assert page == configuration_page(), "run make docs"


def test_the_schemas_are_what_the_rules_say() -> None:
    types = EventTypes(load_rules())
    made = {**types.schemas(), "asyncapi": asyncapi(types, version("duewatch"))}
    folder = ROOT / "docs/schemas"
    written = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}

    assert written == made, "run make docs"


def test_the_page_of_rules_is_what_the_rules_say() -> None:
    page = (ROOT / "docs" / "rules.md").read_text("utf-8")

    assert page == rules_page(load_rules()), "run make docs"


def test_every_rule_has_a_picture_in_each_language_and_no_other_is_kept() -> None:
    wanted = {picture_name(kind, tag) for kind, rule in load_rules().items() for tag in rule.title}

    assert {path.name for path in (ROOT / "docs" / PICTURES).iterdir()} == wanted, (
        "run make pictures, and remove those of rules that are gone"
    )


def test_every_command_named_in_the_documentation_exists() -> None:
    from workers.cli import COMMANDS

    named = {
        word
        for page in PAGES
        for word in re.findall(r"duewatch ([a-z][a-z-]+)", page.read_text("utf-8"))
        if not page.name.startswith("0")
    }

    assert named - {"and"} <= set(COMMANDS)
