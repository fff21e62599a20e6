"""Traces: spans with the times and numbers of a request and none of its words, made only where an endpoint is set."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.configuration import read_settings
from app.core.errors import InvalidSettings, SetupError
from app.main import create_app
from app.observability.tracing import Trace, Traces, address_of, open_traces
from app.settings import Settings
from scripts.bench.service import free_port
from tests.support.live_service import ROOT
from tests.support.requests import Service

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed (the extra `tracing`)")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="its exporter is not installed (the extra `tracing`)")

MARKER = "quokka"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Kept:
    """An exporter that keeps what it is given."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.spans: list[Any] = []
        self.closed = threading.Event()
        self._gate = gate

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._gate is not None:
            self._gate.wait()
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed.set()

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@asynccontextmanager
async def traced(start: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[tuple[Service, Kept]]:
    """The service with traces that are kept; all of them are there when the block has ended."""
    kept = Kept()
    monkeypatch.setattr("app.main.open_traces", lambda endpoint, version: Traces(kept, version))
    async with start(**settings) as service:
        yield service, kept


async def test_a_request_is_a_span_with_one_for_each_part_of_its_time(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(start, monkeypatch) as (service, kept):
        headers = {"X-Request-Id": "mine", "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
        assert (await service.classify([f"good {MARKER}", "bad"], headers)).status_code == 200
    whole = kept.named("POST /v1/classify")
    assert dict(whole.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "hooper.request_id": "mine",
        "hooper.task": "text-classification",
        "hooper.model": "tiny",
        "hooper.model_version": 1,
        "hooper.num_items": 2,
    }
    assert f"{whole.context.trace_id:032x}" == TRACE_ID
    assert f"{whole.parent.span_id:016x}" == PARENT_ID
    assert whole.kind.name == "SERVER"
    assert whole.resource.attributes["service.name"] == "hooper"
    parts = [kept.named(name) for name in ("tokenize", "queue", "inference")]
    assert all(part.parent.span_id == whole.context.span_id for part in parts)
    assert dict(parts[2].attributes) == {"hooper.batch_rows": 2, "hooper.batch_tokens": 7}
    times = [whole.start_time, *(time for part in parts for time in (part.start_time, part.end_time)), whole.end_time]
    assert times == sorted(times)
    assert MARKER not in "".join(span.to_json() for span in kept.spans)


async def test_a_refused_request_has_a_span_and_no_parts(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(start, monkeypatch) as (service, kept):
        assert (await service.send(b"{}")).status_code == 422
        assert (await service.send(b"{}", path=f"/{MARKER}")).status_code == 404
        assert (await service.client.get("/health/ready")).status_code == 200
    assert {(span.name, span.attributes["http.response.status_code"]) for span in kept.spans} == {
        ("POST /v1/classify", 422),
        ("POST", 404),
    }
    assert not any(span.status.status_code.name == "ERROR" for span in kept.spans)
    assert MARKER not in "".join(span.to_json() for span in kept.spans)


async def test_a_caller_whose_trace_is_not_sampled_gets_no_spans(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(start, monkeypatch) as (service, kept):
        assert (await service.classify("good", {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"})).status_code == 200
    assert kept.spans == []


async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with traced(start, monkeypatch) as (service, kept):
        assert (await service.classify("good", {"traceparent": "00-quokka"})).status_code == 200
    assert kept.named("POST /v1/classify").parent is None


async def test_a_servers_error_is_one_of_its_span() -> None:
    kept = Kept()
    traces = Traces(kept, "1")
    traces.ended(Trace("POST", {}), "/v1/classify", 503)
    traces.ended(Trace("POST", {}), "/v1/answer", 429)
    await traces.aclose()
    assert kept.named("POST /v1/classify").status.status_code.name == "ERROR"
    assert kept.named("POST /v1/answer").status.status_code.name == "UNSET"


async def test_more_spans_than_the_queue_holds_are_dropped_and_the_end_does_not_wait_for_a_collector_that_hangs() -> None:
    gate = threading.Event()
    kept = Kept(gate)
    traces = Traces(kept, "1")
    for _ in range(5000):
        traces.ended(Trace("POST", {}), "/v1/classify", 200)
    await traces.aclose(0.05)
    assert kept.spans == []
    gate.set()
    await asyncio.to_thread(kept.closed.wait)
    assert 0 < len(kept.spans) < 5000


@pytest.mark.slow  # tests/integration/test_tracing.py shows it of a process
async def test_a_collector_that_is_not_there_fails_no_request(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    async with start(traces_endpoint=f"http://127.0.0.1:{free_port()}") as service:
        assert {(await service.classify("good")).status_code for _ in range(20)} == {200}


def test_without_an_endpoint_neither_the_sdk_nor_an_exporter_is_imported() -> None:
    code = (
        "import sys; from starlette.testclient import TestClient; from app.main import create_app; from app.settings import"
        " Settings\nwith TestClient(create_app(Settings())) as client: client.get('/health/live')\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    wished = {"FASTAPI_OTEL_AUTO_CONFIGURE": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}  # FastAPI's own
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "HOOPER_MODELS": "nowhere", **wished}, check=False
    )
    assert ran.returncode == 0


def test_an_endpoint_without_the_extra_stops_the_start(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SetupError, match=r"HOOPER_TRACES_ENDPOINT is set, .* pip install 'hooper\[tracing\]'"):
        create_app(Settings(models=models, traces_endpoint="http://127.0.0.1:4318"))


@pytest.mark.parametrize("endpoint", ["localhost:4318", "grpc://a:4317", "http://", "http:///v1", "http://a b"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidSettings, match="HOOPER_TRACES_ENDPOINT"):
        read_settings({"traces_endpoint": endpoint}, {})


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://a:4318", "http://a:4318/v1/traces"),
        ("http://a:4318/", "http://a:4318/v1/traces"),
        ("https://a/v1/traces", "https://a/v1/traces"),
        ("https://a/otlp?key=1", "https://a/otlp?key=1"),
    ],
)
def test_an_address_without_a_path_gets_that_of_traces(endpoint: str, address: str) -> None:
    assert address_of(endpoint) == address


def test_no_endpoint_means_no_traces() -> None:
    assert open_traces("", "1") is None
