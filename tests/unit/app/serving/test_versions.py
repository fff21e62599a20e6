"""A name moves only to a version that is sound, and what fails at the start is listed and stops no other."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.artefact import Artefact
from app.core.errors import InvalidArtefact, InvalidSettings, UnknownModel
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment
from app.serving.loader import load
from app.serving.registry import Registry
from app.serving.repository import Repository
from app.serving.rollout.lease import SHADOW, canary_role
from app.serving.versions import Versions
from app.tasks.registry import Tasks, installed_tasks
from tests.unit.app.serving.conftest import OPTIONS


class Watched:
    """Takes the place of the recovery of engines: keeps which are watched."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def watch(self, deployment: Deployment, artefact: Artefact) -> None:
        self.ids.append(f"{deployment.manifest.name}/{deployment.manifest.version}")


class House:
    """Versions over a repository, with what they move."""

    def __init__(self, models: Path) -> None:
        self.models, self.registry, self.watched = models, Registry(0), Watched()
        metrics = Metrics()

        async def load_it(artefact: Artefact) -> Deployment:
            return await load(artefact, OPTIONS, metrics)

        self.versions = Versions(self.registry, Repository(models), load_it, self.watched)  # type: ignore[arg-type]

    def copy(self, name: str, version: int) -> Path:
        """Another version of `tiny`, under this name."""
        folder = self.models / name / str(version)
        shutil.copytree(self.models / "tiny" / "1", folder)
        manifest = folder / "manifest.json"
        text = manifest.read_text().replace('"name": "tiny"', f'"name": "{name}"', 1)
        manifest.write_text(text.replace('"version": 1', f'"version": {version}', 1))
        return folder

    @property
    def live(self) -> dict[str, str]:
        return {
            f"{entry.deployment.manifest.name}/{entry.deployment.manifest.version}": entry.role.name
            for entry in self.registry.live
        }


@pytest.fixture
async def house(models: Path) -> AsyncIterator[House]:
    made = House(models)
    yield made
    await made.registry.aclose()


@pytest.fixture
def specs() -> Tasks:
    return installed_tasks()


async def test_the_latest_version_is_loaded_watched_and_served_after_a_restart(house: House) -> None:
    house.copy("tiny", 2)
    deployment = await house.versions.load("tiny", None)
    assert (deployment.manifest.version, house.live, house.watched.ids) == (2, {"tiny/2": "main"}, ["tiny/2"])
    assert Repository(house.models).served_version("tiny") == 2


async def test_a_version_that_is_broken_leaves_the_one_that_answers(house: House) -> None:
    await house.versions.load("tiny", 1)
    (house.copy("tiny", 2) / "model.onnx").write_bytes(b"broken")
    with pytest.raises(InvalidArtefact) as caught:
        await house.versions.load("tiny", 2)
    assert house.live == {"tiny/1": "main"}
    assert str(house.models) not in caught.value.detail, "a caller is told no path"
    assert "tiny" in caught.value.detail
    assert not house.registry.failed, "it goes on answering"


async def test_a_version_that_is_broken_is_listed_where_none_answers(house: House) -> None:
    (house.models / "tiny" / "1" / "model.onnx").write_bytes(b"broken")
    with pytest.raises(InvalidArtefact):
        await house.versions.load("tiny", None)
    assert [failed.id for failed in house.registry.failed] == ["tiny/1"]


@pytest.mark.parametrize("name", ["none", "no\0ne"])
async def test_a_model_that_is_not_there_is_not_listed_as_failed(house: House, name: str) -> None:
    with pytest.raises(UnknownModel):
        await house.versions.load(name, None)
    assert not house.registry.failed


async def test_a_candidate_runs_beside_the_main_version_and_changes_only_its_role(house: House) -> None:
    house.copy("tiny", 2)
    await house.versions.load("tiny", 1)
    first = await house.versions.load("tiny", 2, canary_role(0.5))
    assert house.live == {"tiny/1": "main", "tiny/2": "share"}
    assert await house.versions.load("tiny", 2, SHADOW) is first
    assert house.live == {"tiny/1": "main", "tiny/2": "shadow"}


async def test_a_candidate_needs_a_main_version(house: House) -> None:
    with pytest.raises(UnknownModel):
        await house.versions.load("tiny", 1, SHADOW)
    assert house.live == {}


async def test_at_the_start_every_model_is_tried_whatever_becomes_of_the_others(house: House, specs: Tasks) -> None:
    (house.copy("broken", 1) / "model.onnx").write_bytes(b"broken")
    failures = await house.versions.load_all((), {}, specs)
    assert [failed for failed, _ in failures] == ["broken/1"]
    assert house.live == {"tiny/1": "main"}


async def test_what_the_settings_name_twice_or_for_another_task_is_refused(house: House, specs: Tasks) -> None:
    with pytest.raises(InvalidSettings, match="named twice"):
        await house.versions.load_all(("tiny", "tiny/1"), {}, specs)
    with pytest.raises(InvalidSettings, match="names tiny for"):
        await house.versions.load_all((), {"question-answering": "tiny"}, specs)


async def test_a_default_that_is_not_served_is_listed(house: House, specs: Tasks) -> None:
    failures = await house.versions.load_all((), {"text-classification": "other"}, specs)
    assert [failed for failed, _ in failures] == ["other"]
    assert house.live == {"tiny/1": "main"}


async def test_an_empty_repository_says_how_to_fill_it(tmp_path: Path, specs: Tasks) -> None:
    house = House(tmp_path)
    with pytest.raises(InvalidArtefact, match="hooper train"):
        await house.versions.load_all((), {}, specs)
    await house.registry.aclose()
