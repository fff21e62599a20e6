"""The alerts and the dashboard ask for what the service tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promql import labels, series

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]]


def dashboard() -> Any:
    return json.loads((GRAFANA / "dashboards" / "hooper.json").read_text(encoding="utf-8"))


def expressions() -> Iterator[Any]:
    for alert in alerts():
        yield pytest.param(alert["expr"], id=alert["alert"])
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")


@pytest.mark.parametrize("expression", list(expressions()))
def test_an_expression_names_only_series_and_labels_that_the_service_has(
    expression: str, labels_of: dict[str, set[str]]
) -> None:
    named = series(expression)
    assert named, "an expression without a series"
    assert named <= labels_of.keys()
    assert labels(expression) <= set().union(*(labels_of[entry] for entry in named))


def test_series_and_labels_are_found_in_an_expression() -> None:
    expression = 'sum by (task, le) (rate(a_total{x=~"b{1}", y!="c"}[5m] offset 7d)) / on (z) max(d) > 2 or vector(0)'
    assert series(expression) == {"a_total", "d"}
    assert labels(expression) == {"task", "le", "x", "y", "z"}


def test_every_metric_of_the_service_is_on_the_dashboard(labels_of: dict[str, set[str]]) -> None:
    shown = set().union(*(series(target["expr"]) for panel in dashboard()["panels"] for target in panel["targets"]))
    for name in labels_of:
        stem = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert any(entry.startswith(stem) for entry in shown), f"{name} is on no panel"


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    tests = [part for name in ("alerts_test.yml", "drift_test.yml") for part in read(PROMETHEUS / name)["tests"]]
    tried = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    names = [alert["alert"] for alert in alerts()]
    assert tried == set(names)
    assert len(names) == len(set(names))
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"].keys() == {"summary", "description"}


def test_share_of_errors_queue_drain_and_drift_have_an_alert() -> None:
    wanted = {"HooperErrors", "HooperQueueIsLong", "HooperQueueDoesNotDrain", "HooperTextsHaveOtherLengths"}
    wanted |= {f"HooperDriftOf{what}" for what in ("Tokens", "UnknownTokens", "Confidence", "Labels")}
    assert wanted <= {alert["alert"] for alert in alerts()}


def test_prometheus_reads_the_alerts_and_finds_the_services_of_the_compose_file() -> None:
    config = read(PROMETHEUS / "prometheus.yml")
    assert config["rule_files"] == ["alerts.yml"]
    (scrape,) = config["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    services = read(ROOT / "docker-compose.yml")["services"]
    assert scrape["job_name"] == "hooper"
    assert found["port"] == 8000
    assert set(found["names"]) == {name for name, service in services.items() if service["image"].startswith("hooper:")}


def test_the_dashboard_reads_the_data_source_that_is_provisioned() -> None:
    (source,) = read(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read(GRAFANA / "provisioning" / "dashboards" / "hooper.yml")["providers"]
    volumes = read(ROOT / "docker-compose.yml")["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes
    shown = dashboard()
    for entry in [*shown["panels"], *shown["templating"]["list"], *(t for panel in shown["panels"] for t in panel["targets"])]:
        assert entry["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another"
        assert all(x < 24 for x, _ in cells), f"{panel['title']} is outside"
        assert panel["description"].endswith(".")
        taken |= cells
