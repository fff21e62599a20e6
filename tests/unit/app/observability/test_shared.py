"""Metrics of several processes: their sum, which no death takes anything from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COUNT = """
import sys
from pathlib import Path
from app.core.manifest import NO_REFERENCE
from app.observability.metrics import LiveModel
from app.observability.shared import SharedMetrics
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
