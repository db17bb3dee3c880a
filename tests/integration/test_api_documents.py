"""What the API says of itself is true: OpenAPI, its page, the list of problems."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.api import asked
from tests.fakes.clock import FakeClock
from tests.house.test_imports import ROOT, modules
from workers.tokens import Scope
from workers.web import build_web
from workers.web.api import find_operations
from workers.web.problem_types import PROBLEM, PROBLEM_TYPES

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")


async def test_the_openapi_document_is_valid_and_says_everything_of_each_operation(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        document = (await ask("GET", "/openapi.json")).json

    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    said = [one for path in document["paths"].values() for one in path.values()]
    assert {one["operationId"] for one in said} == {one.name for one in find_operations()}
    for one in said:
        assert one["summary"]
        assert {"500", "503"} <= one["responses"].keys()
        if "security" not in one:
            assert {"401", "403", "429"} <= one["responses"].keys()


async def test_every_route_of_the_api_is_declared(tmp_path: Path, clock: FakeClock) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        routes = build_web(ask.app).router.routes()
        there = {
            (route.method, route.resource.canonical)
            for route in routes
            if route.resource is not None and route.method != "HEAD"
        }

    declared = {(one.method, one.path) for one in find_operations()}
    of_programs = {one for one in there if one[1].startswith(("/v1", "/callbacks"))}
    assert of_programs == declared


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_the_page_shows_each_operation_and_problem_and_runs_nothing(
    language: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with asked(f"sqlite:///{tmp_path}/a.db", clock) as ask:
        got = await ask("GET", "/docs", Accept_Language=language)

    assert got.status == 200
    assert f'lang="{language}"' in got.text
    assert "<script" not in got.text
    assert "script-src" not in got.headers["Content-Security-Policy"]
    for one in find_operations():
        assert f'id="{one.name}"' in got.text
    for name in PROBLEM_TYPES:
        assert PROBLEM + name in got.text
    ids = re.findall(r'\bid="([^"]+)"', got.text)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]+)"', got.text)) <= set(ids)


def test_every_problem_that_is_raised_is_in_the_list_and_the_list_has_no_other() -> None:
    raised = {"not-found", "method-not-allowed", "too-large", "expectation-failed", "bad-request"}
    for path, tree in modules("workers"):
        if not path.startswith("workers/web/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ProblemError":
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    raised.add(name.value)

    assert raised == set(PROBLEM_TYPES)


def test_the_page_of_the_documentation_names_every_problem_scope_and_operation() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \| \d{3} \|", PAGE, re.M)) == set(PROBLEM_TYPES)
    assert set(re.findall(r"^\| `([a-z]+(?::[a-z]+)?)` \|", PAGE, re.M)) >= {*Scope}
    missing = [
        f"{one.method} {one.path}"
        for one in find_operations()
        if f"`{one.method} {one.path}`" not in PAGE
    ]
    assert missing == []
    for name, one in PROBLEM_TYPES.items():
        assert f"| `{name}` | {one.status} | {one.title}. {one.remedy} |" in PAGE
