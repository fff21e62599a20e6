"""The real service with a collector: traces arrive by the time it has ended, without a word of what was asked."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from scripts.bench.service import free_port
from tests.support.live_service import serving
from tests.support.tiny_model import KINDS, publish_tiny_task
from tests.support.trace_collector import trace_collector

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="its exporter is not installed (the extra `tracing`)")

MARKER = "quokka"
ASKED = {
    "/v1/classify": f"good {MARKER}",
    "/v1/answer": {"question": MARKER, "context": f"the film was good, {MARKER}"},
    "/v1/summarize": f"The film was good. A bad {MARKER}.",
    "/v1/explain": f"good {MARKER}",
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for task in KINDS:
        publish_tiny_task(tmp_path, task, task)
    return tmp_path


def test_every_task_is_traced_and_the_last_spans_leave_at_the_end(models: Path) -> None:
    with (
        trace_collector() as (collector, address),
        serving(models, traces_endpoint=address) as service,
        service.client() as client,
    ):
        for path, inputs in ASKED.items():
            assert client.post(path, json={"inputs": inputs}).status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.wait() == 0
    names = [span.name for span in collector.spans]
    assert {f"POST {path}" for path in ASKED} <= set(names)
    assert {name: names.count(name) for name in ("tokenize", "queue", "inference")} == dict.fromkeys(
        ("tokenize", "queue", "inference"), len(ASKED)
    )
    assert collector.paths == {"/v1/traces"}
    assert collector.services == {"hooper"}
    assert MARKER.encode() not in collector.raw


def test_a_collector_that_is_gone_fails_nothing_and_holds_up_no_end(models: Path) -> None:
    with serving(models, traces_endpoint=f"http://127.0.0.1:{free_port()}") as service, service.client() as client:
        for _ in range(50):
            assert client.post("/v1/classify", json={"inputs": MARKER}).status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.wait() == 0
    assert MARKER not in "".join(service.lines)
