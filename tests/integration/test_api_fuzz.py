"""Made-up requests against the running server: none breaks it, each answer is as it declares.

Schemathesis makes them from /openapi.json, good and bad ones, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.api import API_TOKEN, Program, asked
from tests.fakes.clock import FakeClock
from tests.product import contact, partner, payment, planned, statement
from workers.store.quarantine import Quarantine

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
COMMAND = (sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "missing_required_header",
)


async def _with_examples(ask: Program) -> str:
    """The document, with things that are there as examples, so that more than 404 is tried."""
    await planned(ask.app, partner(), contact(), statement(), payment())
    await ask.app.delivery.drain()
    letters = Quarantine(ask.app.store.database)
    for number in range(20):
        await letters.keep("duewatch.events", "isn't JSON", b"{" * (number + 1), NOW)
    (notification, *_) = await ask.app.store.operations.notifications()
    await ask.token("records:read", name="reader")
    (token,) = await ask.app.store.tokens.all()
    there = {
        "kind": "statement",
        "ref": "S1",
        "uid": notification.uid,
        "name": "inbox",
        "id": 1,
        "prefix": token.prefix,
    }
    document = (await ask("GET", "/openapi.json", None, API_TOKEN)).json
    for path, operations in document["paths"].items():
        for one in operations.values():
            for part in one.get("parameters", ()):
                if part["in"] == "path" and part["name"] in there:
                    people = part["name"] == "ref" and "/contacts" in path
                    partners = part["name"] == "ref" and "/partners" in path
                    example = "C1" if people else "P1" if partners else there[part["name"]]
                    part["example"] = example
    return json.dumps(document)


async def _asked(folder: Path, url: str, *words: str) -> tuple[int, str, int, dict[str, int]]:
    """(exit code, what was said, requests made, answers by status as the server counted them)."""
    async with asked(url, FakeClock(NOW), api_token=API_TOKEN) as ask:
        file = folder / "openapi.json"
        text = await _with_examples(ask)
        await asyncio.to_thread(file.write_text, text, "utf-8")
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("run", str(file), "--url", ask.url, "--checks", ",".join(CHECKS)),
            *("--header", f"Authorization: Bearer {API_TOKEN}", "--no-color", "--seed", "20261124"),
            *("--generation-database", "none", "--warnings", "off", *words),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode("utf-8", "replace")
        counted = await _counted(ask)
    found = re.search(r"([\d,]+) generated", said)
    assert found is not None, said[-3000:]
    # Addresses may be thousands of characters long.
    shown = "\n".join(line[:300] for line in said.splitlines())[-8000:]
    return process.returncode or 0, shown, int(found[1].replace(",", "")), counted


async def _counted(ask: Program) -> dict[str, int]:
    metrics = (await ask("GET", "/metrics", None, API_TOKEN)).text
    counted: dict[str, int] = {}
    for status, number in re.findall(
        r'^duewatch_requests_total\{.*status="(\d+)".*\} (\S+)$', metrics, re.M
    ):
        counted[status] = counted.get(status, 0) + int(float(number))
    return counted


async def test_a_quick_round_of_made_up_requests_finds_nothing(tmp_path: Path) -> None:
    code, said, made, counted = await _asked(
        tmp_path,
        f"sqlite:///{tmp_path}/a.db",
        "--phases",
        "examples,fuzzing",
        "--max-examples",
        "4",
    )

    assert code == 0, said
    assert made >= 200
    assert [status for status in counted if status >= "500"] == []
    # What isn't HTTP at all is refused before it is counted.
    assert sum(counted.values()) >= 0.9 * made


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_five_thousand_made_up_requests_find_nothing(
    tmp_path: Path, database_url: str
) -> None:
    code, said, made, counted = await _asked(
        tmp_path, database_url, "--phases", "examples,coverage,fuzzing", "--max-examples", "60"
    )

    assert code == 0, said
    assert made >= 5000
    assert [status for status in counted if status >= "500"] == []
    assert sum(counted.values()) >= 0.9 * made
    assert counted["200"] >= 500
