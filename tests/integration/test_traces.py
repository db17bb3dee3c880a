"""Traces, as a real collector receives them over OTLP/HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.collector import collecting
from workers import traces
from workers.errors import SettingsError
from workers.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_without_an_endpoint_no_tracing_library_is_loaded() -> None:
    loaded = _run(
        "import sys\n"
        "from workers import daemon, traces\n"
        "with traces.exporting('', 1.0), traces.span('scan', kind='payment') as span:\n"
        "    span.tell(outcome='x', count=3)\n"
        "    assert traces.current() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    assert loaded == "[]"


def test_a_missing_library_is_named_with_the_remedy() -> None:
    said = _run(
        "import sys\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        "from workers import errors, traces\n"
        "try:\n"
        "    with traces.exporting('http://127.0.0.1:1', 1.0): pass\n"
        "except errors.SettingsError as error: print(error)"
    )

    assert said.startswith("traces.endpoint: opentelemetry")
    assert "pip install duewatch[traces]" in said


def test_what_happens_in_another_process_joins_the_trace_of_its_row() -> None:
    with collecting() as collector:
        with (
            traces.exporting(collector.url, 1.0, ["web"]),
            traces.span("intake"),
            traces.span("scan", kind="payment", trigger="event"),
            traces.span("plan", kind="payment", channel="mail"),
        ):
            row = traces.current()
        with traces.exporting(collector.url, 1.0, ["worker"]):
            with traces.span("attempt", parent=row, provider="smtp", number=1) as span:
                span.tell(outcome="accepted")
            with traces.span("receipt", parent=row, status="delivered"):
                pass

    assert len({one.trace for one in collector.spans}) == 1
    (plan,), (attempt,) = collector.named("plan"), collector.named("attempt")
    assert attempt.parent == plan.id
    assert row is not None
    assert plan.id in row
    assert attempt.attributes == {
        "duewatch.provider": "smtp",
        "duewatch.number": 1,
        "duewatch.outcome": "accepted",
    }
    assert {resource["service.name"] for resource in collector.resources} == {"duewatch"}


def test_a_scan_of_many_is_not_one_trace_but_linked_with_its_messages() -> None:
    with (
        collecting() as collector,
        traces.exporting(collector.url, 1.0),
        traces.span("scan", kind="payment", trigger="clock"),
    ):
        for _ in range(3):
            with traces.span("plan", apart=True, kind="payment"):
                pass

    (scan,) = collector.named("scan")
    plans = collector.named("plan")

    assert len({one.trace for one in plans} | {scan.trace}) == 4
    assert {one.links for one in plans} == {(scan.trace,)}


def test_what_was_not_sampled_at_first_is_not_sampled_later() -> None:
    with collecting() as collector:
        with traces.exporting(collector.url, 0.0), traces.span("plan"):
            row = traces.current()
        with traces.exporting(collector.url, 1.0), traces.span("attempt", parent=row):
            pass

    assert row is not None
    assert int(row[-2:], 16) & 1 == 0  # the flag "sampled"
    assert collector.spans == []


def test_a_parent_that_is_no_traceparent_begins_a_trace_instead_of_failing() -> None:
    with collecting() as collector, traces.exporting(collector.url, 1.0):
        for parent in ("", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\r\nx: y"):
            with traces.span("intake", parent=parent):
                pass

    assert len({one.trace for one in collector.spans}) == 4
    assert {one.parent for one in collector.spans} == {""}


def test_an_error_leaves_its_kind_in_the_span_and_not_its_text() -> None:
    with (
        collecting() as collector,
        traces.exporting(collector.url, 1.0),
        pytest.raises(ValueError),
        traces.span("render", kind="payment"),
    ):
        raise ValueError("the address wang@example.com is wrong")

    (render,) = collector.spans
    assert render.failed == "ValueError"
    assert "example.com" not in repr(collector.spans)


async def test_spans_of_tasks_side_by_side_do_not_mix() -> None:
    async def send(number: int) -> None:
        with traces.span("attempt", apart=True, number=number):
            await asyncio.sleep(0.01 * (number % 3))
            with traces.span("render", number=number):
                await asyncio.sleep(0)

    with collecting() as collector, traces.exporting(collector.url, 1.0):
        await asyncio.gather(*(send(number) for number in range(1, 21)))

    attempts = {one.id: one.attributes["duewatch.number"] for one in collector.named("attempt")}
    assert len(attempts) == 20
    assert all(
        attempts[one.parent] == one.attributes["duewatch.number"]
        for one in collector.named("render")
    )


def test_a_collector_that_is_away_costs_the_spans_and_a_bounded_time_at_the_end() -> None:
    with socket.socket() as silent:  # it takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with traces.exporting(f"http://127.0.0.1:{silent.getsockname()[1]}", 1.0):
            with traces.span("scan"):
                pass
            within = time.monotonic() - began
        ended = time.monotonic() - began

    assert within < traces.EXPORT_S
    assert ended < 3 * traces.EXPORT_S


def test_an_endpoint_that_is_no_address_is_refused_on_start() -> None:
    assert Settings.model_validate({"traces": {"endpoint": "http://c:4318/"}}).traces.endpoint == (
        "http://c:4318"
    )
    with pytest.raises(SettingsError, match=r"traces\.endpoint: must begin with http"):
        load_settings(environ={"DUEWATCH_TRACES__ENDPOINT": "collector:4318"})
