"""What is told of live models at a scrape, where two versions of one are live."""

from __future__ import annotations

from dataclasses import replace

from app.observability.metrics import LiveModel, Metrics

MAIN = LiveModel("tiny", "1", "CPUExecutionProvider", "fp32", "packed", 3, 1024, share=0.75)
CANDIDATE = replace(MAIN, version="2", num_waiting_rows=2, max_batch_tokens=512, role="share", share=0.25)
OTHER = replace(MAIN, model="other", num_waiting_rows=7, share=1.0)


def told(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def scraped(*models: LiveModel) -> Metrics:
    metrics = Metrics()
    metrics.track(lambda: models)
    return metrics


def test_rows_that_wait_for_two_versions_are_told_together_and_the_smaller_budget() -> None:
    for models in ((MAIN, CANDIDATE, OTHER), (CANDIDATE, MAIN, OTHER)):
        metrics = scraped(*models)
        assert told(metrics, "hooper_waiting_rows", model="tiny") == 5
        assert told(metrics, "hooper_waiting_rows", model="other") == 7
        assert told(metrics, "hooper_batch_token_budget", model="tiny") == 512


def test_each_series_is_there_once() -> None:
    lines = scraped(MAIN, CANDIDATE, OTHER).render().decode().splitlines()
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_each_version_is_told_with_its_role_and_share() -> None:
    metrics = scraped(MAIN, CANDIDATE)
    assert told(metrics, "hooper_traffic_share", model="tiny", version="1", role="main") == 0.75
    assert told(metrics, "hooper_traffic_share", model="tiny", version="2", role="share") == 0.25
    named = {"provider": "CPUExecutionProvider", "precision": "fp32", "layout": "packed"}
    assert [told(metrics, "hooper_model_info", model="tiny", version=one, **named) for one in "12"] == [1, 1]
