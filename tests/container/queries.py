"""Asks Prometheus every query of the dashboard, which comes on standard input, and ends with 1 if one has no answer.

    queries.py http://prometheus:9090 < deploy/grafana/dashboards/hooper.json

Also tells how many instances Prometheus scrapes and how many alerts it evaluates.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request
from typing import Any

NOT_ALWAYS_THERE = ("ALERTS", "hooper_drift_reference_")
"""Nothing need be wrong, and a model may have been published before references were measured."""
VARIABLES = {"$instance": ".*", "$model": ".*", "[$__rate_interval]": "[1m]"}
PATIENCE_S = 120
POLL_S = 3


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path, timeout=10) as response:
        return json.load(response)["data"]


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Every query that must have an answer, its variables replaced."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [match.replace(name, value) for match in found]
    return [match for match in found if not any(name in match for name in NOT_ALWAYS_THERE)]


def has_answer(address: str, query: str) -> bool:
    result = get(address, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))["result"]
    return any(entry["value"][1] != "NaN" for entry in result)


def main(address: str, dashboard: dict[str, Any]) -> int:
    unanswered = queries(dashboard)
    num_queries = len(unanswered)
    until = time.monotonic() + PATIENCE_S
    while unanswered and time.monotonic() < until:  # rates need two scrapes
        unanswered = [entry for entry in unanswered if not has_answer(address, entry)]
        if unanswered:
            time.sleep(POLL_S)
    up = get(address, "/api/v1/query?query=up")["result"]
    groups = get(address, "/api/v1/rules")["groups"]
    broken = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
    rules = sum(len(group["rules"]) for group in groups)
    print(
        f"{sum(entry['value'][1] == '1' for entry in up)} of {len(up)} instances up, {rules} alerts, broken: {broken or 'none'}"
    )
    print(f"{num_queries - len(unanswered)} of the dashboard's {num_queries} queries have an answer")
    for entry in unanswered:
        print(f"no answer: {entry}")
    return 1 if unanswered or broken or not up or not rules else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.load(sys.stdin)))
