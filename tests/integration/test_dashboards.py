"""The dashboard and the alerts that are shipped watch what the product really tells."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import promql_parser
import yaml

from tests.fakes.clock import FakeClock
from tests.integration.test_metrics import Samples, Watcher, two_waiting
from tests.product import NOW, opened, planned, statement
from workers.app import App
from workers.meter import Histogram, SendMeter
from workers.settings import Web
from workers.store.quarantine import Quarantine
from workers.store.webhooks import Subscriber
from workers.web import serve

WATCHED = Path(__file__).parents[2] / "docs" / "deploy"
FROM_PROMETHEUS = {"instance", "job", "le"}
"""Labels that a scrape adds, or that every histogram has."""
SEVERITIES = {"critical", "warning", "info"}


def _alerts() -> list[dict[str, Any]]:
    text = (WATCHED / "prometheus" / "alerts.yaml").read_text("utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    text = (WATCHED / "grafana" / "duewatch.json").read_text("utf-8")
    return [one for one in json.loads(text)["panels"] if one["type"] != "row"]


def _queries() -> list[str]:
    shown = [target["expr"] for panel in _panels() for target in panel["targets"]]
    return shown + [rule["expr"] for rule in _alerts()]


def _named(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that a query reads, with every label it filters or groups by."""
    grouped: set[str] = set()
    found: list[tuple[str, set[str]]] = []

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append((str(node.name), {one.name for one in node.matchers.matchers}))
        elif isinstance(node, promql_parser.MatrixSelector):
            look(node.vector_selector)
        elif isinstance(node, promql_parser.AggregateExpr):
            grouped.update(node.modifier.labels if node.modifier else ())
            look(node.expr)
        elif isinstance(node, promql_parser.Call):
            for one in node.args:
                look(one)
        elif isinstance(node, promql_parser.BinaryExpr):
            look(node.lhs)
            look(node.rhs)
        elif isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr):
            look(node.expr)

    look(promql_parser.parse(query))
    for name, labels in found:
        yield name, labels | grouped


async def _everything(app: App, url: str, client: aiohttp.ClientSession) -> Samples:
    """A scrape in which every series has something to say."""
    await two_waiting(app)
    await app.delivery.drain()
    await planned(app, statement("S2"))
    vars(app.delivery).setdefault("meter", SendMeter()).sent(
        (await app.store.operations.notifications(limit=1))[0], "inbox", "accepted", 0.1, NOW
    )
    vars(app.scan).setdefault("took", Histogram()).observe(0.2, "payment")
    app.delivery.running = True
    await app.store.outbox.start_run("payment", NOW, "clock", NOW, 1)
    await app.store.operations.pause("invitation", "Ann", "a try", NOW)
    await app.store.operations.suppress("mail", "c9@example.com", "*", "asked", "Ann", NOW)
    await Quarantine(app.store.database).keep("events", "it isn't JSON", b"{", NOW)
    await app.store.webhooks.subscribe([Subscriber("erp", "m", ("accepted",), ())])
    run = await app.store.sources.start_run("drop", NOW, "hand", NOW)
    assert run is not None
    await app.store.sources.finish_run(run, "done", NOW, "", {"payment": {"new": 2}})
    headers = {"Content-Type": "application/cloudevents+json"}
    async with client.post(f"{url}/v1/events", data="{}", headers=headers) as got:
        assert got.status == 422
    (key,) = app.callback_keys.values()
    async with client.post(f"{url}/callbacks/inbox/{key}", data=b"x") as got:
        await got.read()
    return await Watcher(url, client).scrape()


async def test_every_metric_and_label_of_the_dashboard_and_the_alerts_exists(
    tmp_path: Path, clock: FakeClock
) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    source = {"type": "files", "folder": str(tmp_path), "every_s": 60}
    async with (
        opened(url, clock, web=Web(port=0), sources={"drop": source}) as app,
        await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as broker,
    ):
        there = f"redis://127.0.0.1:{broker.sockets[0].getsockname()[1]}"
        told = replace(app, settings=app.settings.model_copy(update={"broker_url": there}))
        async with serve(told) as (host, port), aiohttp.ClientSession() as client:
            said = await _everything(told, f"http://{host}:{port}", client)

    queries = _queries()
    assert len(queries) > 40
    wrong = []
    for query in queries:
        for name, labels in _named(query):
            there_are = {label for series in said.get(name, ()) for label, _ in series}
            if name not in said:
                wrong.append(f"{name}: no such metric, in {query}")
            elif strange := labels - there_are - FROM_PROMETHEUS:
                wrong.append(f"{name}: no label {', '.join(strange)}, in {query}")
    assert wrong == []


def test_every_alert_says_how_bad_it_is_in_a_sentence_and_what_to_do() -> None:
    names = [rule["alert"] for rule in _alerts()]

    assert len(set(names)) == len(names)
    for rule in _alerts():
        assert rule["labels"]["severity"] in SEVERITIES, rule["alert"]
        assert len(rule["annotations"]["summary"].split()) >= 5, rule["alert"]
        page, _, section = rule["annotations"]["runbook"].partition("#")
        text = (WATCHED.parents[1] / page).read_text("utf-8")
        there = {_anchor(line) for line in text.splitlines() if line.startswith("#")}
        assert section in there, f"{rule['alert']}: {page} has no section {section}"
        # A sentence may only show labels that its query keeps.
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = {label for _, labels in _named(rule["expr"]) for label in labels}
        assert shown <= kept, rule["alert"]


def _anchor(heading: str) -> str:
    """A heading's address within its page, as it is made from the text."""
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower())
    return words.strip().replace(" ", "-")


def test_the_dashboard_has_no_overlapping_panels_and_one_source() -> None:
    board = json.loads((WATCHED / "grafana" / "duewatch.json").read_text("utf-8"))
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    sources = {panel["datasource"]["uid"] for panel in _panels()}
    variables = {one["name"] for one in board["templating"]["list"]}

    assert sources == {"${datasource}"}
    assert {"datasource", "docs"} == variables
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
