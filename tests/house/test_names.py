"""Names say what a thing is, and files stay small enough to be read in one go."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.test_imports import ROOT, modules

# Each says that its author didn't know yet what the thing is.
EMPTY_WORDS = frozenset(
    {"utils", "util", "helpers", "helper", "common", "manager", "handler", "service"}
)
# Words of the domain that happen to have one of them in it.
DOMAIN = ("partner_manager", "partnermanager", "account_manager", "accountmanager")
MAX_LINES = 500


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    plain = name.lower()
    for word in DOMAIN:
        if word in plain:
            return set()
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def names(path: str, tree: ast.Module) -> Iterator[str]:
    """Every folder's, module's, class's and function's name."""
    yield from path.removesuffix(".py").split("/")
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def test_no_name_is_an_empty_word() -> None:
    found = [
        f"{path}: {name}"
        for path, tree in modules("schedules", "workers", "tests")
        for name in names(path, tree)
        if words(name) & EMPTY_WORDS
    ]

    assert found == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for package in ("schedules", "workers", "tests")
        for path in (ROOT / package).rglob("*.py")
    }

    assert {path: count for path, count in lengths.items() if count > MAX_LINES} == {}


def test_tests_are_sentences() -> None:
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in modules("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and node.name.count("_") < 3
    ]

    assert found == [], "name a test by what is promised, not by what is called"


def test_empty_words_are_found_in_both_spellings() -> None:
    assert words("SmsHandler") & EMPTY_WORDS
    assert words("mail_utils") & EMPTY_WORDS
    assert not words("partner_manager") & EMPTY_WORDS
    assert not words("uncommonly_serviceable") & EMPTY_WORDS
