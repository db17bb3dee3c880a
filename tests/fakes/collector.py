"""A collector of traces on a socket: takes OTLP over HTTP as OpenTelemetry's SDK sends it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it arrived. `links` are the traces it is linked with."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: str


class Collector:
    """What arrived so far. `url` is what `traces.endpoint` is set to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Seen] = []
        self.resources: list[dict[str, Any]] = []

    def named(self, name: str) -> list[Seen]:
        """All spans of a name, as they arrived."""
        return [one for one in self.spans if one.name == name]

    def take(self, body: bytes) -> None:
        """Reads a request's body."""
        for told in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_plain(told.resource.attributes))
            for scope in told.scope_spans:
                self.spans.extend(_seen(span) for span in scope.spans)


def _seen(span: Any) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_plain(span.attributes),
        links=tuple(link.trace_id.hex() for link in span.links),
        failed=span.status.message,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value")))
        for one in attributes
        if one.value.WhichOneof("value") != "array_value"
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = 200 if self.path == "/v1/traces" else 404
            if status == 200:
                found.take(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, format: str, *args: Any) -> None:
            """A test's output isn't the place for it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
