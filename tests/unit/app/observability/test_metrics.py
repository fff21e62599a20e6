"""What is told of live models at a scrape, where two versions of one are live."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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
    assert [told(metrics, "hooper_model_info", model="tiny", version=entry, **named) for entry in "12"] == [1, 1]


COUNT = """
import sys
from pathlib import Path
from app.core.manifest import NO_REFERENCE
from app.observability.metrics import LiveModel
from app.observability.metrics import SharedMetrics
_, folder, place, kind, is_successor, times, end = sys.argv
metrics = SharedMetrics(Path(folder), place, kind, bool(int(is_successor)))
for _ in range(int(times)):
    metrics.requests.labels("text-classification", "tiny", "200").inc()
    metrics.queue_seconds.labels("tiny").observe(0.003)
if end == "dies":
    import os
    os.kill(os.getpid(), 9)
metrics.track(lambda: [LiveModel("tiny", "1", "CPU", "fp32", "packed", 7, 1024)])
print(metrics.render().decode())
"""
REQUESTS = 'hooper_requests_total{model="tiny",status="200",task="text-classification"}'


def process(folder: Path, place: str, is_successor: int, times: int, end: str = "tells", kind: str = "front_end") -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", COUNT, folder, place, kind, str(is_successor), str(times), end],
        capture_output=True, text=True, check=end == "tells",
    )  # fmt: skip
    return ran.stdout.splitlines()


def test_the_sum_is_told_by_any_and_a_successor_goes_on_where_one_died(tmp_path: Path) -> None:
    process(tmp_path, "engine", 0, 3, "dies", kind="engine")
    process(tmp_path, "front-end-1", 0, 2, "dies")
    process(tmp_path, "front-end-1", 1, 4, "dies")
    told = process(tmp_path, "front-end-2", 0, 1)
    assert f"{REQUESTS} 10.0" in told
    assert 'hooper_queue_seconds_count{model="tiny"} 10.0' in told
    assert 'hooper_queue_seconds_bucket{le="0.005",model="tiny"} 10.0' in told
    assert 'hooper_queue_seconds_bucket{le="0.002",model="tiny"} 0.0' in told
    assert "# HELP hooper_requests_total Requests answered." in told
    assert "# TYPE hooper_queue_seconds histogram" in told
    assert 'hooper_process_restarts_total{process="front_end"} 1.0' in told
    assert 'hooper_process_restarts_total{process="engine"} 0.0' in told
    assert 'hooper_waiting_rows{model="tiny"} 7.0' in told
    assert len(list(tmp_path.iterdir())) == 6  # counters and histograms of three places, however many processes there were
