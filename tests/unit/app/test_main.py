"""create_app: models load in the background, readiness tells when, and what cannot be loaded is said once."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from app import main
from app.core.errors import HooperError, InvalidArtefact, InvalidSettings, SetupError, UnknownModel
from app.main import create_app
from app.serving import loader
from app.settings import Settings
from tests.support.mutated_model import change_golden, sign_again


def settings_for(models: Path, **more: Any) -> Settings:
    return Settings(models=models, device="cpu", engine_threads=1, **more)


async def failures_of(settings: Settings) -> list[HooperError]:
    """What the start reports as its failure, once loading has ended."""
    failures: list[HooperError] = []
    app = create_app(settings, failures.append)
    async with app.router.lifespan_context(app):
        await app.state.loading
        assert app.state.hooper.registry.is_ready is not bool(failures)
    return failures


def publish_as(models: Path, name: str, version: int) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / name / str(version))), name=name, version=version)


async def test_cuda_graphs_that_cannot_be_had_keep_the_service_from_starting(models: Path) -> None:
    (failure,) = await failures_of(settings_for(models, cuda_graphs=True))
    assert "HOOPER_CUDA_GRAPHS=true needs HOOPER_DEVICE=cuda" in failure.detail


# --- which models


async def loaded(settings: Settings) -> list[str]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await app.state.loading
        return [
            f"{deployment.manifest.name}/{deployment.manifest.version}" for deployment in app.state.hooper.registry.deployments
        ]


async def test_without_names_the_latest_version_of_every_model_is_loaded(models: Path) -> None:
    publish_as(models, "tiny", 2)
    publish_as(models, "another", 1)
    assert await loaded(settings_for(models)) == ["another/1", "tiny/2"]


async def test_names_may_say_the_version(models: Path) -> None:
    publish_as(models, "tiny", 2)
    publish_as(models, "another", 1)
    assert await loaded(settings_for(models, serve=("tiny/1", "another"))) == ["another/1", "tiny/1"]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (("tiny/latest",), SetupError, "'tiny/latest' is no model: write `name`, `name/version`, or a folder"),
        (("other",), UnknownModel, "there is no model other in "),
        (("tiny/7",), UnknownModel, "there is no model tiny/7 in "),
        (("tiny/0",), UnknownModel, "there is no model tiny/0 in "),
        (("tiny/1", "tiny/2"), SetupError, "tiny is named twice"),
    ],
)
async def test_a_name_that_stands_for_no_model_is_told(
    models: Path, names: tuple[str, ...], error: type[HooperError], message: str
) -> None:
    publish_as(models, "tiny", 2)
    (failure,) = await failures_of(settings_for(models, serve=names))
    assert isinstance(failure, error)
    assert message in failure.detail


async def test_an_empty_repository_says_how_to_fill_it(tmp_path: Path) -> None:
    (failure,) = await failures_of(settings_for(tmp_path))
    assert isinstance(failure, InvalidArtefact)
    assert "publish one with `hooper train`" in failure.detail


# --- a model that fails


async def test_where_nothing_loads_every_reason_is_told(models: Path) -> None:
    publish_as(models, "another", 1)
    for name in ("tiny", "another"):
        (models / name / "1" / "model.onnx").write_bytes(b"broken")
    (failure,) = await failures_of(settings_for(models))
    assert failure.detail.startswith("none of 2 models could be loaded: another/1: ")
    assert "; tiny/1: " in failure.detail


async def test_a_model_that_fails_does_not_stop_the_others(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish_as(models, "another", 1)
    (models / "another" / "1" / "model.onnx").write_bytes(b"broken")
    app = create_app(settings_for(models))
    async with app.router.lifespan_context(app):
        await app.state.loading
        registry = app.state.hooper.registry
        assert registry.is_ready
        assert [failure.id for failure in registry.failed] == ["another/1"]
    assert caplog.text.count("another/1 could not be loaded: ") == 1
    assert "cannot start" not in caplog.text


async def test_a_model_that_the_settings_name_keeps_the_service_from_getting_ready(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_as(models, "another", 1)
    (models / "another" / "1" / "model.onnx").write_bytes(b"broken")
    failures: list[HooperError] = []
    app = create_app(settings_for(models, serve=("tiny", "another")), failures.append)
    async with app.router.lifespan_context(app):
        await app.state.loading
        registry = app.state.hooper.registry
        assert not registry.is_ready
        assert registry.not_ready_reason.startswith("model 'another' could not be loaded: model.onnx differs")
    assert failures == []  # it stays up: what is loaded answers
    assert "not ready: model 'another'" in caplog.text


@pytest.mark.parametrize("named", [{"text-classification": "tiny"}, {"text-classification": "tiny", "summarization": "other"}])
async def test_a_default_that_the_settings_name_must_load(models: Path, named: dict[str, str]) -> None:
    publish_as(models, "another", 1)
    app = create_app(settings_for(models, default_models=named))
    async with app.router.lifespan_context(app):
        await app.state.loading
        registry = app.state.hooper.registry
        assert registry.default_of("text-classification") == "tiny"
        assert registry.is_ready is ("summarization" not in named)
        assert [failure.detail for failure in registry.failed] == [
            "HOOPER_DEFAULT_MODELS names it, but it is none of the models that are served"
        ] * ("summarization" in named)


async def test_a_default_for_another_task_than_its_own_is_told(models: Path) -> None:
    (failure,) = await failures_of(settings_for(models, default_models={"summarization": "tiny"}))
    assert failure.detail == "HOOPER_DEFAULT_MODELS names tiny for summarization, but it does text-classification"


def test_a_default_for_a_task_that_there_is_none_of_is_told(models: Path) -> None:
    with pytest.raises(InvalidSettings, match="HOOPER_DEFAULT_MODELS: there is no task 'chat'; there are text-classification"):
        create_app(settings_for(models, default_models={"chat": "tiny"}))


# --- the lifespan


async def test_the_service_is_up_at_once_and_ready_when_its_models_are(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, replay = asyncio.Event(), loader._replay_golden

    async def gated(*arguments: Any) -> None:
        await gate.wait()
        await replay(*arguments)

    monkeypatch.setattr(loader, "_replay_golden", gated)
    app = create_app(settings_for(models))
    async with app.router.lifespan_context(app):
        assert not app.state.hooper.registry.is_ready
        gate.set()
        await app.state.loading
        assert app.state.hooper.registry.is_ready


async def test_readiness_is_logged_with_the_models(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await failures_of(settings_for(models)) == []
    assert [record.message for record in caplog.records if record.name == "app.main"] == ["ready: tiny/1"]


def engine_threads() -> set[threading.Thread]:
    """Those of a service that other tests share are among them."""
    return {entry for entry in threading.enumerate() if entry.name.startswith("engine-")}


async def test_closing_gives_every_engine_back(models: Path) -> None:
    before = engine_threads()
    await failures_of(settings_for(models))
    assert engine_threads() == before


async def test_closing_while_models_load_ends_the_loading(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(loader, "_replay_golden", never)
    before = engine_threads()
    app = create_app(settings_for(models))
    async with app.router.lifespan_context(app):
        loading = app.state.loading
    assert loading.cancelled()
    assert engine_threads() == before


async def test_a_model_that_cannot_be_loaded_is_told_once_and_the_service_never_gets_ready(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"broken")
    (failure,) = await failures_of(settings_for(models))
    assert isinstance(failure, InvalidArtefact)
    assert caplog.text.count("cannot start: ") == 1


async def test_a_device_that_is_not_there_is_told(models: Path) -> None:
    (failure,) = await failures_of(Settings(models=models, device="tensorrt"))
    assert "HOOPER_DEVICE=tensorrt" in failure.detail


@pytest.mark.parametrize("error", [PermissionError("no"), TypeError("no")], ids=str)
async def test_loading_never_dies_in_silence(models: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(main, "load", broken)
    (failure,) = await failures_of(settings_for(models))
    assert isinstance(failure, SetupError)
    assert type(error).__name__ in failure.detail


async def test_a_golden_request_of_the_wrong_type_is_told_too(models: Path) -> None:
    change_golden(models / "tiny" / "1", [{"item": {"text": 5}, "answer": {}}])
    assert len(await failures_of(settings_for(models))) == 1


async def test_without_anybody_to_tell_the_service_stays_up_and_not_ready(tmp_path: Path) -> None:
    app = create_app(settings_for(tmp_path))
    async with app.router.lifespan_context(app):
        await app.state.loading
        assert not app.state.hooper.registry.is_ready


async def test_settings_reach_the_scheduler(models: Path) -> None:
    wished = {"max_batch_tokens": 99, "max_batch_rows": 3, "max_waiting_rows": 50, "max_waiting_tokens": 5000}
    app = create_app(settings_for(models, **wished))
    async with app.router.lifespan_context(app):
        await app.state.loading
        (one,) = app.state.hooper.registry.deployments
        budget, limit = one.scheduler.budget, one.scheduler.limit
        assert (budget.max_batch_tokens, budget.max_batch_rows, limit.max_rows, limit.max_tokens) == (99, 3, 50, 5000)
        assert one.num_threads == 1
