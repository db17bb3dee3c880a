"""Traces from event to receipt: spans for OpenTelemetry, off unless `traces.endpoint` is set.

    intake ─ scan ─ plan ┄┄┄ claim · render · attempt ┄┄┄ receipt

The trace travels in the notification's row, so that another process, days later, joins it. Off, no
library is imported and a span is one shared object that does nothing. Attributes are the parameters
of `span` and no others: kinds, channels, counts; no addresses, names, texts or replies. The only
importer of opentelemetry (W3C Trace Context; OTLP 1.x over HTTP).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

from workers.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Span as _OtelSpan
    from opentelemetry.trace import SpanContext

EXPORT_S = 5.0
"""A collector that takes longer loses that batch of spans; messages don't wait for it."""
EVERY_MS = 2_000

Name = Literal["intake", "scan", "plan", "claim", "render", "attempt", "receipt"]
_KINDS: Mapping[str, str] = {
    # what isn't named here happens within the process
    "intake": "SERVER",
    "receipt": "SERVER",
    "plan": "PRODUCER",
    "claim": "CONSUMER",
    "attempt": "CLIENT",
}


class Span(Protocol):
    """What is happening, for whoever looks at traces."""

    def tell(self, *, outcome: str = "", count: int | None = None) -> None:
        """Adds what is known only at the end."""


class _Silent:
    """Stands for every span while traces are off."""

    def tell(self, *, outcome: str = "", count: int | None = None) -> None:
        """Nothing listens."""


_OFF: AbstractContextManager[Span] = nullcontext(_Silent())
_tracing: _Tracing | None = None


def span(
    name: Name,
    *,
    parent: str | None = None,
    apart: bool = False,
    kind: str = "",
    channel: str = "",
    provider: str = "",
    notification: str = "",
    trigger: str = "",
    status: str = "",
    number: int | None = None,
) -> AbstractContextManager[Span]:
    """A span around what is done within it; spans opened there are its children.

    `parent` is a traceparent as `current` gave it, perhaps in another process; without one the span
    belongs to the span around it. `apart` begins a trace of its own, linked with that one: a scan
    of a million messages isn't one trace. `notification` is its uid, a random number.
    """
    if _tracing is None:
        return _OFF
    told = {
        "kind": kind,
        "channel": channel,
        "provider": provider,
        "notification": notification,
        "trigger": trigger,
        "status": status,
        "number": number,
    }
    return _tracing.span(name, parent, apart, told)


def current() -> str | None:
    """The traceparent of the span around the caller, to be kept in a row; None while off."""
    return None if _tracing is None else _tracing.current()


@contextmanager
def exporting(endpoint: str, sample: float, roles: Collection[str] = ()) -> Iterator[None]:
    """Sends spans to the collector at `endpoint`, unless that is empty; at the end those left over.

    `sample` is the share, 0 to 1, of the traces begun here that is kept; one begun elsewhere is
    kept where it was there. A collector that is away costs the spans and nothing else. Raises
    SettingsError when the library isn't installed.
    """
    global _tracing
    if not endpoint:
        yield
        return
    tracing = _Tracing(endpoint, sample, roles)
    before, _tracing = _tracing, tracing
    try:
        yield
    finally:
        _tracing = before
        tracing.close()


class _Tracing:
    """OpenTelemetry's SDK, set up."""

    def __init__(self, endpoint: str, sample: float, roles: Collection[str]) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation import tracecontext
        except ImportError as error:
            raise SettingsError(
                f"traces.endpoint: {error.name} isn't installed: pip install duewatch[traces], "
                "or leave traces.endpoint empty"
            ) from None
        self._trace = trace
        self._text = tracecontext.TraceContextTextMapPropagator()
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_S)
        named = {"service.name": "duewatch", "duewatch.roles": sorted(roles)}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create(named),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("duewatch")

    @contextmanager
    def span(
        self, name: str, parent: str | None, apart: bool, told: Mapping[str, Any]
    ) -> Iterator[Span]:
        around = self._context(parent)
        links = []
        if apart:
            seen = self._trace.get_current_span(around).get_span_context()
            links = [self._trace.Link(seen)] if seen.is_valid else []
            around = self._trace.set_span_in_context(self._trace.INVALID_SPAN, around)
        with self._tracer.start_as_current_span(
            name,
            context=around,
            kind=self._trace.SpanKind[_KINDS.get(name, "INTERNAL")],
            attributes={f"duewatch.{key}": value for key, value in told.items() if value},
            links=links,
            # An error's text may quote an address or a provider's reply.
            record_exception=False,
            set_status_on_exception=False,
        ) as begun:
            try:
                yield _Told(begun)
            except Exception as error:
                begun.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
                raise

    def _context(self, parent: str | None) -> Any:
        """The context that a traceparent names; what isn't one counts as none."""
        if not parent:
            return None
        context = self._text.extract({"traceparent": parent})
        return context if self._seen(context).is_valid else None

    def _seen(self, context: Any) -> SpanContext:
        return self._trace.get_current_span(context).get_span_context()

    def current(self) -> str | None:
        """The current span as a traceparent."""
        carrier: dict[str, str] = {}
        self._text.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        """Sends what is left, for EXPORT_S at most."""
        self._provider.shutdown()


class _Told:
    """A span that is being recorded."""

    def __init__(self, begun: _OtelSpan) -> None:
        self._begun = begun

    def tell(self, *, outcome: str = "", count: int | None = None) -> None:
        """Adds what is known only at the end."""
        if outcome:
            self._begun.set_attribute("duewatch.outcome", outcome)
        if count is not None:
            self._begun.set_attribute("duewatch.count", count)
