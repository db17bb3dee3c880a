"""What is public is explained where it is written; rules and providers answer fixed questions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.test_imports import ROOT, modules

# Methods of any other class take over a contract and are explained there; a Protocol is explained
# as a whole.
OWN_CONTRACT = {"ABC", "BaseModel", "DuewatchError"}
# What nobody can see from the code, and everybody asks at three in the morning.
PROVIDER_HEADINGS = ("API:", "Lost reply:", "Receipts:", "Limits:")
RULE_HEADINGS = ("Opens:", "Closes:", "Deadline:", "Tells:")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(path: str, tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """The module itself, its public classes and functions, and the methods of new contracts."""
    yield path, tree
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        yield f"{path}:{node.lineno} {node.name}", node
        if not isinstance(node, ast.ClassDef):
            continue
        if {ast.unparse(base).split("[")[0] for base in node.bases} <= OWN_CONTRACT:
            for part in node.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name[0] != "_":
                    yield f"{path}:{part.lineno} {node.name}.{part.name}", part


def test_everything_public_has_a_docstring() -> None:
    found = [
        place
        for path, tree in modules("schedules", "workers")
        if "/migrations/" not in path  # a revision's name says what it does
        for place, node in public(path, tree)
        if not ast.get_docstring(node) and not (isinstance(node, ast.Module) and not node.body)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("folder", "headings"),
    [("workers/providers", PROVIDER_HEADINGS), ("schedules/rules", RULE_HEADINGS)],
)
def test_every_rule_and_provider_answers_the_same_questions(
    folder: str, headings: tuple[str, ...]
) -> None:
    found = {
        path.name: missing
        for path in sorted((ROOT / folder).glob("*.py"))
        if not path.name.startswith("_")
        and (
            missing := [
                heading
                for heading in headings
                if f"\n{heading}" not in (ast.get_docstring(ast.parse(path.read_text())) or "")
            ]
        )
    }

    assert found == {}
