"""`/health/*` and `/metrics`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.observability.metrics import CONTENT_TYPE
from tests.support.requests import Service, check_problem
from tests.unit.app.conftest import Start


@pytest.fixture
def service(own_service: Service) -> Service:
    """One whose metrics nobody else has a part in."""
    return own_service


CONTRACT = """
hooper_requests_total{task,model,status} hooper_request_seconds hooper_tokenize_seconds hooper_queue_seconds
hooper_inference_seconds hooper_waiting_rows hooper_batch_rows hooper_batch_tokens hooper_padding_ratio
hooper_truncated_total hooper_batch_token_budget hooper_model_info{model,version,provider,precision,layout}
hooper_drift_items_total{model,version} hooper_drift_tokens_total hooper_drift_unknown_tokens_total
hooper_drift_decisions_total hooper_drift_confidence_total hooper_drift_labels_total{model,version,label}
hooper_drift_reference_tokens hooper_drift_reference_unknown_share hooper_drift_reference_confidence
hooper_drift_reference_label_share hooper_version_requests_total{model,version,status}
hooper_traffic_share{model,version,role} hooper_generated_tokens_total hooper_first_token_seconds
hooper_between_tokens_seconds hooper_cache_rows hooper_cache_rows_used hooper_prompt_tokens_total
hooper_prefix_cache_bytes hooper_prefix_cache_evictions_total
"""
OF_FAULTS = {
    "hooper_engine_failures_total",
    "hooper_dropped_rows_total",
    "hooper_engines_lost_total",
    "hooper_feedback_total",
    "hooper_feedback_file_changes_total",
    "hooper_model_failed",
    "hooper_shadow_compared_total",
}
"""Without a value while nothing goes wrong and every model loads, no correction comes and there is no shadow."""


async def test_alive_and_ready(service: Service) -> None:
    assert (await service.client.get("/health/live")).json() == {"status": "live"}
    for path in ("/health/ready", "/health"):
        assert (await service.client.get(path)).json() == {"status": "ready", "models": ["tiny/1"], "failed": []}
        assert (await service.client.head(path)).status_code == 200


async def test_health_needs_no_key_and_no_name_and_says_why_it_is_not_ready(start: Start, models: Path) -> None:
    async with start(models=models, api_key_hashes=("0" * 64,), allowed_hosts=("hooper.example",)) as service:
        assert (await service.client.get("/health", headers={"Host": "10.0.0.1"})).status_code == 200
        service.live.registry.remove("tiny")
        check_problem(await service.client.get("/health"), 503, "unavailable")


async def test_metrics_have_the_names_of_the_contract_and_no_others(service: Service) -> None:
    await service.classify("good " * 50)
    response = await service.client.get("/metrics")
    assert response.headers["content-type"] == CONTENT_TYPE
    told = set(re.findall(r"^# TYPE (\S+)", response.text, re.MULTILINE))
    assert told == {name.partition("{")[0] for name in CONTRACT.split()} | OF_FAULTS
    for name, labels in re.findall(r"(\w+)\{([\w,]+)\}", CONTRACT):
        (line,) = re.findall(rf"^{name}\{{(.*)\}} 1.0$", response.text, re.MULTILINE)
        assert set(re.findall(r"(\w+)=", line)) == set(labels.split(","))


async def test_metrics_tell_the_live_models(service: Service) -> None:
    labels = {"version": "1", "provider": "CPUExecutionProvider", "precision": "fp32", "layout": "packed"}
    assert service.sample("hooper_model_info", model="tiny", **labels) == 1
    assert service.sample("hooper_waiting_rows", model="tiny") == 0
    service.live.registry.remove("tiny")
    assert service.sample("hooper_model_info", model="tiny", **labels) is None


async def test_a_request_leaves_its_mark_on_every_metric(service: Service) -> None:
    before = service.sample("hooper_batch_rows_count", model="tiny") or 0
    await service.classify(["good " * 50, "bad"], truncation="truncate")
    for name in ("tokenize_seconds", "queue_seconds"):
        assert service.sample(f"hooper_{name}_count", model="tiny") == 2  # the golden requests, and this one
    assert service.sample("hooper_truncated_total", model="tiny") == 1
    batches = (service.sample("hooper_batch_rows_count", model="tiny") or 0) - before
    assert batches >= 1
    for name in ("batch_tokens", "padding_ratio", "inference_seconds"):
        assert service.sample(f"hooper_{name}_count", model="tiny") == before + batches


async def test_two_services_in_one_process_count_apart(service: Service, start: object, models: Path) -> None:
    async with start() as other:  # type: ignore[operator]
        await service.classify("good")
        labels = {"task": "text-classification", "model": "tiny", "status": "200"}
        assert service.sample("hooper_requests_total", **labels) == 1
        assert other.sample("hooper_requests_total", **labels) is None
