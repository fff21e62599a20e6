"""What the service really tells Prometheus."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.live_service import serving
from tests.support.tiny_continuer import publish_tiny_continuer
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import publish_tiny

LONG = "good film " * 40
OF_SCRAPE = {"job", "instance"}
"""Labels that Prometheus adds to whatever it scrapes."""

OF_FAULTS = {
    "hooper_engine_failures_total": {"model", "type"},
    "hooper_engines_lost_total": {"model"},
    "hooper_dropped_rows_total": {"model", "reason"},
    "hooper_model_failed": {"model"},
    "hooper_shadow_compared_total": {"model", "version", "candidate", "outcome"},
}
"""Series that a healthy service does not have yet, or not without a shadow."""


@pytest.fixture(scope="session")
def labels_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The labels of each series of a service that has answered, refused and cut; and those of `up` and `ALERTS`."""
    models = tmp_path_factory.mktemp("models")
    publish_tiny(models)
    publish_tiny_decoder(models)  # whose golden requests are written
    publish_tiny_continuer(models, "continuer")
    with serving(models) as running, running.client() as client:
        assert client.post("/v1/classify", json={"inputs": LONG, "truncation": "truncate"}).json()["results"][0]["truncated"]
        client.post("/v1/classify", json={"inputs": ""})
        page = client.get("/metrics").text
    found: dict[str, set[str]] = {"up": set(OF_SCRAPE), "ALERTS": {"alertname"}}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set(OF_SCRAPE)).update(sample.labels)
    return {name: set(OF_SCRAPE) | labels for name, labels in OF_FAULTS.items()} | found
