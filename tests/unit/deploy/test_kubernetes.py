"""What deploy/kubernetes deploys: valid for every Kubernetes it names, and in step with what the service does."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.api.auth import OPEN_PATHS
from app.api.routes import health
from app.configuration import read_settings
from app.observability.metrics import LiveModel, Metrics
from app.settings import PREFIX, Settings, check_exposure
from tests.support.kustomize import MERGED_BY, Resource, build, documents
from tests.support.live_service import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
MODEL_COMPONENTS = ("models-volume", "models-init")
COMPONENTS = (*MODEL_COMPONENTS, "ingress", "service-monitor")
OF_OPERATORS = {"ServiceMonitor"}
"""Kinds that Kubernetes does not know by itself."""
VERSIONS = ("1.30", "1.37")
"""The first Kubernetes in which `preStop` can sleep without a program in the image, and the latest that is known here."""
UVICORN_EXTRA_S = 1
"""app/server.py gives uvicorn this much more than HOOPER_DRAIN_S."""


WAYS = [f"{overlay}+{component}" for overlay in OVERLAYS for component in ("", *COMPONENTS)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Resource]]:
    """What each overlay deploys, by itself and with each component for models; never changed."""
    parts = {way: way.partition("+") for way in WAYS}
    return {way: with_component(tmp_path_factory.mktemp("way"), overlay, part) for way, (overlay, _, part) in parts.items()}


@pytest.fixture(params=WAYS)
def resources(request: pytest.FixtureRequest, built: dict[str, list[Resource]]) -> list[Resource]:
    """One of them, of the test's own."""
    return copy.deepcopy(built[request.param])


def with_component(tmp_path: Path, overlay: str, component: str) -> list[Resource]:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "kubernetes"))
    if component:
        file = folder / "overlays" / overlay / "kustomization.yaml"
        (wishes,) = documents(file)
        file.write_text(yaml.safe_dump({**wishes, "components": [f"../../components/{component}"]}))
    return build(folder / "overlays" / overlay)


def only(resources: list[Resource], kind: str) -> Resource:
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def pod_of(resources: list[Resource]) -> Resource:
    pod: Resource = only(resources, "Deployment")["spec"]["template"]["spec"]
    return pod


def hooper_of(resources: list[Resource]) -> Resource:
    (container,) = [entry for entry in pod_of(resources)["containers"] if entry["name"] == "hooper"]
    return dict(container)


def kserve_pod() -> Resource:
    (service,) = documents(FOLDER / "kserve" / "inference-service.yaml")
    own = {"minReplicas", "maxReplicas"}
    return {key: value for key, value in service["spec"]["predictor"].items() if key not in own}


# --- Kubernetes takes them


@pytest.mark.parametrize("version", VERSIONS)
def test_every_supported_kubernetes_takes_every_resource(built: dict[str, list[Resource]], version: str) -> None:
    deployed = [resource for resources in built.values() for resource in resources if resource["kind"] not in OF_OPERATORS]
    different = {json.dumps(resource, sort_keys=True): resource for resource in deployed}  # most are the same in all ways
    for resource in different.values():
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_told(resources: list[Resource]) -> None:
    deployment = only(resources, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbes"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_what_kserve_is_given_is_a_pod() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hooper"}, "spec": kserve_pod()}
    for version in VERSIONS:
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here to compare with")
@pytest.mark.parametrize(
    ("overlay", "component"),
    [
        pytest.param(*way.split("+"), marks=() if way in ("cpu+", "gpu+models-init") else pytest.mark.slow, id=way)
        for way in WAYS
    ],
)
def test_these_tests_build_what_kustomize_builds(tmp_path: Path, overlay: str, component: str) -> None:
    ours = with_component(tmp_path, overlay, component)
    command = ["kubectl", "kustomize", str(tmp_path / "kubernetes" / "overlays" / overlay)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(map(canonical, ours)) == sorted(canonical(entry) for entry in yaml.safe_load_all(printed))


def canonical(resource: Resource) -> str:
    """As text, without the order of lists in which it means nothing."""
    return json.dumps(_sorted_lists(resource), sort_keys=True)


def _sorted_lists(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _sorted_lists(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        found = [_sorted_lists(entry) for entry in value]
        return sorted(found, key=lambda match: str(match[MERGED_BY[key]])) if key in MERGED_BY else found
    return value


# --- the service starts with them


def environment_of(container: Resource) -> Iterator[tuple[str, str]]:
    """Variables as the container would see them; what comes from elsewhere is made up."""
    for entry in container["env"]:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            yield entry["name"], "0" * 64
        elif "resourceFieldRef" in source:
            assert source["resourceFieldRef"]["resource"] == "requests.cpu"
            yield entry["name"], container["resources"]["requests"]["cpu"]
        else:
            yield entry["name"], entry["value"]


def settings_of(container: Resource, monkeypatch: pytest.MonkeyPatch) -> Settings:
    environment = dict(environment_of(container))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings(environment=environment)


def test_every_variable_is_a_setting_with_a_value_that_it_takes(
    resources: list[Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(hooper_of(resources), monkeypatch)
    assert (settings.host, settings.engine_threads) == ("0.0.0.0", 2)
    assert len(settings.api_key_hashes) == len(settings.admin_key_hashes) == 1
    check_exposure(settings)


def test_kserve_gives_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = kserve_pod()["containers"]
    assert settings_of(container, monkeypatch).api_key_hashes


def test_kubernetes_adds_no_variables_of_its_own(resources: list[Resource]) -> None:
    service = only(resources, "Service")["metadata"]["name"]
    assert f"{service}_PORT".upper().startswith(PREFIX), "the link would be HOOPER_PORT=tcp://…"
    for pod in (pod_of(resources), kserve_pod()):
        assert pod["enableServiceLinks"] is False


def test_without_its_secret_of_keys_nothing_starts(resources: list[Resource]) -> None:
    secrets = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"].get("optional", False)
        for entry in hooper_of(resources)["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert secrets == {"HOOPER_API_KEY_HASHES": False, "HOOPER_ADMIN_KEY_HASHES": True}


def test_a_gpu_is_asked_for_and_must_be_had(tmp_path: Path) -> None:
    container = hooper_of(with_component(tmp_path, "gpu", ""))
    assert dict(environment_of(container))["HOOPER_DEVICE"] == "cuda"
    assert container["resources"]["requests"]["nvidia.com/gpu"] == container["resources"]["limits"]["nvidia.com/gpu"] == "1"


# --- healths, and how it ends


def test_each_probe_asks_the_health_that_it_is_for(resources: list[Resource]) -> None:
    container = hooper_of(resources)
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/health/ready", "readiness": "/health/ready", "liveness": "/health/live"}
    assert set(asked.values()) <= {route.path for route in health.router.routes}  # type: ignore[attr-defined]


def test_a_start_may_take_several_times_as_long_as_was_measured(resources: list[Resource]) -> None:
    for container in (hooper_of(resources), kserve_pod()["containers"][0]):
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 4 * max(footprint["start_s"] for footprint in footprints())


def test_a_pod_may_take_as_long_to_end_as_the_service_does(resources: list[Resource], monkeypatch: pytest.MonkeyPatch) -> None:
    for pod, container in ((pod_of(resources), hooper_of(resources)), (kserve_pod(), kserve_pod()["containers"][0])):
        drain_s = settings_of(container, monkeypatch).drain_s
        # uvicorn waits for open requests, then the registry closes the deployments: app/server.py, app/serving/registry.py
        longest = container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain_s + UVICORN_EXTRA_S + drain_s
        assert pod["terminationGracePeriodSeconds"] > longest


def test_an_update_never_takes_the_last_ready_pod(resources: list[Resource]) -> None:
    update = only(resources, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    least = only(resources, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    assert least - update["maxUnavailable"] >= 1
    assert least - only(resources, "PodDisruptionBudget")["spec"]["maxUnavailable"] >= 1
    assert "replicas" not in only(resources, "Deployment")["spec"], "they are the autoscaler's"


# --- resources: measured


def footprints() -> list[dict[str, Any]]:
    """Of the shipped models, and of eight like them."""
    files = (ROOT / "docs" / "measurements" / f"footprint{suffix}.json" for suffix in ("", "_eight"))
    found: list[dict[str, Any]] = [run for file in files for run in json.loads(file.read_text())]
    assert max(len(footprint["models"]) for footprint in found) == 8
    return found


def mebibytes(quantity: str) -> float:
    for unit, factor in (("Gi", 1024), ("Mi", 1)):
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * factor
    raise ValueError(quantity)


def test_memory_is_what_was_measured_and_a_third_more(resources: list[Resource]) -> None:
    for container in (hooper_of(resources), kserve_pod()["containers"][0]):
        asked = container["resources"]
        assert asked["requests"]["memory"] == asked["limits"]["memory"], "memory above what was asked for can be taken away"
        for measured in footprints():
            assert mebibytes(asked["limits"]["memory"]) >= 1.33 * max(measured["load_peak_mib"], measured["loading_peak_mib"])


def test_the_temporary_folder_holds_what_weights_are_unpacked_through(resources: list[Resource]) -> None:
    for pod, container in ((pod_of(resources), hooper_of(resources)), (kserve_pod(), kserve_pod()["containers"][0])):
        (volume,) = [entry for entry in pod["volumes"] if entry["name"] == "tmp"]
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert mebibytes(volume["emptyDir"]["sizeLimit"]) >= 2 * max(footprint["temporary_mib"] for footprint in footprints())


# --- what an intruder finds


def test_no_container_can_become_more_than_it_is(resources: list[Resource]) -> None:
    for pod in (pod_of(resources), kserve_pod()):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    assert only(resources, "ServiceAccount")["automountServiceAccountToken"] is False


def test_the_network_is_closed_but_for_the_services_port(resources: list[Resource]) -> None:
    policy = only(resources, "NetworkPolicy")["spec"]
    assert policy["egress"] == []
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (rule,) = policy["ingress"]
    assert rule["from"]
    (port,) = rule["ports"]
    assert port["port"] in {entry["name"] for entry in hooper_of(resources)["ports"]}


def test_everything_that_selects_pods_selects_these(resources: list[Resource]) -> None:
    labels = only(resources, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        only(resources, "Deployment")["spec"]["selector"]["matchLabels"],
        only(resources, "Service")["spec"]["selector"],
        only(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(entry["labelSelector"]["matchLabels"] for entry in pod_of(resources)["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels


# --- models and images


def test_what_comes_from_outside_reaches_the_service_over_https(tmp_path: Path) -> None:
    found = with_component(tmp_path, "cpu", "ingress")
    ingress, service = only(found, "Ingress"), only(found, "Service")
    (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    ports = {port["name"] for port in service["spec"]["ports"]}
    for path in rule["http"]["paths"]:
        target = path["backend"]["service"]
        assert (target["name"], target["port"]["name"] in ports) == (service["metadata"]["name"], True)
        assert not OPEN_PATHS.fullmatch(f"{path['path'].strip('/')}/models"), "every path below it needs a key"
    limit = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(limit.removesuffix("m")) * 2**20 >= Settings.model_fields["max_body_bytes"].default


def test_the_operator_of_prometheus_finds_the_service_and_its_metrics(tmp_path: Path) -> None:
    found = with_component(tmp_path, "cpu", "service-monitor")
    monitor, service = only(found, "ServiceMonitor"), only(found, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in {route.path for route in health.router.routes}  # type: ignore[attr-defined]
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]


@pytest.mark.parametrize("component", MODEL_COMPONENTS)
def test_models_from_elsewhere_are_mounted_where_the_service_looks_and_cannot_be_written(
    tmp_path: Path, component: str
) -> None:
    found = with_component(tmp_path, "cpu", component)
    container = hooper_of(found)
    (mount,) = [entry for entry in container["volumeMounts"] if entry["name"] == "models"]
    assert (mount["mountPath"], mount["readOnly"]) == (dict(environment_of(container))["HOOPER_MODELS"], True)
    assert "models" in {entry["name"] for entry in pod_of(found)["volumes"]}


def test_images_have_this_versions_tag(resources: list[Resource]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert hooper_of(resources)["image"] in (f"hooper:{version}", f"hooper:{version}-gpu")
    assert kserve_pod()["containers"][0]["image"] == f"hooper:{version}"


# --- autoscaling


def adapter_rules() -> dict[str, Resource]:
    (values,) = documents(FOLDER / "metrics" / "adapter-values.yaml")
    return {value["name"]["as"]: value for value in values["rules"]["custom"]}


def test_every_metric_that_scales_pods_has_its_rule(resources: list[Resource]) -> None:
    metrics = only(resources, "HorizontalPodAutoscaler")["spec"]["metrics"]
    asked = {metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"}
    assert "hooper_waiting_rows" in asked
    assert asked <= set(adapter_rules())


def test_the_rule_reads_a_metric_that_the_service_has() -> None:
    metrics = Metrics()
    metrics.track(lambda: [LiveModel("sentiment", "1", "CPUExecutionProvider", "fp32", "packed", 3, 1024)])
    series = adapter_rules()["hooper_waiting_rows"]["seriesQuery"].partition("{")[0]
    assert f'{series}{{model="sentiment"}} 3.0' in metrics.render().decode()


def test_a_pod_is_added_when_a_full_batch_waits(resources: list[Resource], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(hooper_of(resources), monkeypatch)
    for entry in only(resources, "HorizontalPodAutoscaler")["spec"]["metrics"]:
        if entry["type"] == "Pods" and entry["pods"]["metric"]["name"] == "hooper_waiting_rows":
            assert int(entry["pods"]["target"]["averageValue"]) == settings.max_batch_rows
            assert settings.max_waiting_rows > settings.max_batch_rows
            return
    pytest.fail("nothing scales on the queue")


def test_prometheus_is_told_where_the_metrics_are(resources: list[Resource]) -> None:
    annotations = only(resources, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] in {route.path for route in health.router.routes}  # type: ignore[attr-defined]
    assert annotations["prometheus.io/port"] == str(hooper_of(resources)["ports"][0]["containerPort"])
