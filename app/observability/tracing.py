"""Traces for an OpenTelemetry collector: one span for a request, and one for each part of its time. The only door to
opentelemetry, whose SDK is imported when an endpoint is set and not before.

A request is written down while it runs and becomes spans when it has ended: then they are put into a queue of bounded length,
which a thread of OpenTelemetry's empties. A collector that is slow or gone costs spans, never an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from app.core.errors import SetupError

FLUSH_S = 5.0
"""Seconds that the last spans get to leave when the service stops."""
EXPORT_S = 5.0
"""Seconds that a collector gets to take a batch of spans."""
DEFAULT_PATH = "/v1/traces"
SERVER_ERROR = 500

Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class SpanPart:
    """One stretch of a request's time, in seconds of `time.monotonic`."""

    name: str
    began_s: float
    ended_s: float
    attributes: Attributes = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Trace:
    """What is written down of one request: names, numbers and times, and nothing that its caller wrote."""

    method: str
    parent: Mapping[str, str]
    """Headers of W3C Trace Context, where the caller sent them."""
    began_s: float = field(default_factory=time.monotonic)
    attributes: dict[str, str | int] = field(default_factory=dict)
    parts: list[SpanPart] = field(default_factory=list)

    def add_spans(self, began_s: float, seconds: Mapping[str, float], of_last: Attributes) -> None:
        """Add parts that followed each other, the last of them with these attributes."""
        names = list(seconds)
        for name in names:
            ended_s = began_s + seconds[name]
            self.parts.append(SpanPart(name, began_s, ended_s, of_last if name == names[-1] else {}))
            began_s = ended_s


class Traces:
    """Makes spans of traces that have ended, and hands them to an exporter."""

    def __init__(self, exporter: Any, version: str) -> None:
        """
        Args:
            exporter: a `SpanExporter` of OpenTelemetry's.
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word
        resource = Resource({"service.name": "hooper", "service.version": version}).merge(Resource.create())
        if resource.attributes.get("service.name", "").startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "hooper"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("hooper", version)
        self._propagator = TraceContextTextMapPropagator()

    def ended(self, trace: Trace, route: str, status: int) -> None:
        """Make the spans of a request that has been answered.

        Args:
            route: the path's template; empty where no route was found.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        now_s = time.monotonic()
        shift_ns = time.time_ns() - round(now_s * 1e9)
        attributes: dict[str, str | int] = {"http.request.method": trace.method, "http.response.status_code": status}
        if route:
            attributes["http.route"] = route
        span = self._tracer.start_span(
            f"{trace.method} {route}".rstrip(),
            self._propagator.extract(trace.parent),
            SpanKind.SERVER,
            attributes | trace.attributes,
            start_time=round(trace.began_s * 1e9) + shift_ns,
        )
        within = set_span_in_context(span)
        for part in trace.parts:
            child = self._tracer.start_span(
                part.name, within, attributes=part.attributes, start_time=round(part.began_s * 1e9) + shift_ns
            )
            child.end(round(part.ended_s * 1e9) + shift_ns)
        if status >= SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        span.end(round(now_s * 1e9) + shift_ns)

    async def aclose(self, seconds: float = FLUSH_S) -> None:
        """Send what is left, and wait for it so long; then it is lost."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waited so long
                loop.call_soon_threadsafe(over.set)

        threading.Thread(target=close, name="close-traces", daemon=True).start()  # a pool's thread would hold up the exit
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()


def open_traces(endpoint: str, version: str) -> Traces | None:
    """Traces for the collector at this address; None where it is empty.

    Raises:
        SetupError: the extra is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise SetupError(
            f"HOOPER_TRACES_ENDPOINT is set, but {error.name} is not installed: pip install 'hooper[tracing]'"
        ) from error
    return Traces(OTLPSpanExporter(endpoint=address_of(endpoint), timeout=EXPORT_S), version)


async def close_traces(traces: Traces | None) -> None:
    if traces is not None:
        await traces.aclose()


def address_of(endpoint: str) -> str:
    """Where spans are posted: an address without a path is a collector's, whose path for traces is always the same."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(path=DEFAULT_PATH)) if parts.path in ("", "/") else endpoint
