"""Models that write, from their folder to their answer: golden requests, the cache, what is told, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.api.protocols.state import DecoderState
from app.core.errors import EngineFailed, InvalidArtefact, InvalidInput, InvalidSettings, TooLarge, Unavailable
from app.core.manifest import MANIFEST, Graph, describe_file, read_manifest
from app.observability.metrics import Metrics
from app.runtime.decoder_session import BoundSession, open_decoder
from app.runtime.kv_cache import bytes_per_row
from app.runtime.onnx_session import OrtSession, open_session
from app.runtime.providers import Provider
from app.serving import loader
from app.serving.deployment import Deployment, Prediction, offline_predict
from app.serving.doctor import examine
from app.serving.loader import load
from app.serving.repository import Repository
from app.settings import Settings
from app.tasks.base import Result, StreamedText
from app.tasks.generation import GOLDEN_NEW_TOKENS, SourceText
from app.tasks.text2text_generation.task import GenerateOptions
from tests.support.faulty_engine import FaultyDecoderFactory, Hang
from tests.support.mutated_model import change_golden, golden_of, sign_again
from tests.support.tiny_decoder import (
    MAX_LENGTH,
    MAX_SOURCE_TOKENS,
    greedily,
    publish_tiny_decoder,
    source_of,
    text_of,
)
from tests.unit.app.serving.conftest import OPTIONS

GREEDY = GenerateOptions(max_new_tokens=12)
TEXTS = ("w5 w6", "w12", "w9 w9 w20", "w7 w8 w21 w4", "w10")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_tiny_decoder(tmp_path)


async def loaded(folder: Path, metrics: Metrics | None = None, *factories: Any, **options: Any) -> Deployment:
    artefact = Repository(folder.parent.parent).open(folder.parent.name, int(folder.name))
    return await load(artefact, replace(OPTIONS, **options), metrics or Metrics(), *factories)


@pytest.fixture
async def writer(folder: Path) -> AsyncIterator[Deployment]:
    deployment = await loaded(folder)
    yield deployment
    await deployment.aclose(0)


def items(*texts: str) -> list[SourceText]:
    return [SourceText(text) for text in texts]


def texts(prediction: Prediction) -> list[str]:
    assert all(isinstance(result, Result) for result in prediction.results), prediction.results
    return [result.answer.text for result in prediction.results if isinstance(result, Result)]


def expected(*texts: str) -> list[str]:
    return [text_of(greedily(source_of(text))) for text in texts]


# --- answers


async def test_a_loaded_writer_answers_as_numpy_does(writer: Deployment) -> None:
    prediction = await writer.predict(items(*TEXTS), GREEDY)
    assert texts(prediction) == expected(*TEXTS)
    (first, *_) = prediction.results
    assert isinstance(first, Result)
    assert first.answer.num_new_tokens == len(greedily(source_of(TEXTS[0])))
    assert prediction.timings.inference_s > 0


async def test_an_item_that_cannot_be_read_fails_alone(writer: Deployment) -> None:
    results = (await writer.predict(items("w5 w6", " "), GREEDY)).results
    assert isinstance(results[0], Result)
    assert isinstance(results[1], InvalidInput)


async def test_offline_predictions_are_the_same(writer: Deployment) -> None:
    assert texts(await offline_predict(writer, items(*TEXTS), GREEDY)) == expected(*TEXTS)


@pytest.mark.parametrize("ask", ["predict", "offline"])
async def test_what_is_drawn_for_an_item_is_the_same_beside_others(writer: Deployment, ask: str) -> None:
    drawn = replace(GREEDY, temperature=1.5, seed=11, num_return_sequences=2)

    async def answers(*asked: str) -> list[Any]:
        predict = writer.predict(items(*asked), drawn) if ask == "predict" else offline_predict(writer, items(*asked), drawn)
        return [result.answer for result in (await predict).results if isinstance(result, Result)]

    together = await answers(*TEXTS)
    assert together == [answer for text in TEXTS for answer in await answers(text)]
    assert any(answer.alternatives != (answer.text,) for answer in together), "both texts of every item are the same"


# --- streams


async def pieces(deployment: Deployment, text: str, options: GenerateOptions = GREEDY) -> list[StreamedText | Prediction]:
    async with contextlib.aclosing(deployment.stream(SourceText(text), options)) as stream:
        return [piece async for piece in stream]


async def test_a_stream_tells_the_text_piece_by_piece_then_the_answer(writer: Deployment) -> None:
    for text in TEXTS:
        *told, last = await pieces(writer, text)
        assert isinstance(last, Prediction)
        assert texts(last) == expected(text)
        written = [piece for piece in told if isinstance(piece, StreamedText)]
        assert "".join(piece.text for piece in written) == expected(text)[0]
        counts = [piece.num_new_tokens for piece in written]
        assert counts == sorted(counts)
        assert len(counts) >= min(4, len(expected(text)[0].split())), "it came in one piece"
        assert counts[-1] <= len(greedily(source_of(text)))


async def test_with_beams_a_stream_tells_all_at_its_end(writer: Deployment) -> None:
    beams = replace(GREEDY, num_beams=3)
    *told, last = await pieces(writer, TEXTS[0], beams)
    assert len(told) <= 1
    assert isinstance(last, Prediction)
    assert texts(last) == texts(await writer.predict(items(TEXTS[0]), beams))


async def test_a_stream_of_what_cannot_be_read_is_its_error(writer: Deployment) -> None:
    (last,) = await pieces(writer, " ")
    assert isinstance(last, Prediction)
    assert isinstance(last.results[0], InvalidInput)


async def test_who_leaves_a_stream_frees_its_rows(folder: Path) -> None:
    writer = await loaded(folder)
    async with contextlib.aclosing(writer.stream(SourceText("w12"), GREEDY)) as stream:
        async for _ in stream:
            break
    assert texts(await writer.predict(items(*TEXTS), GREEDY)) == expected(*TEXTS)
    await writer.aclose(30)
    slots = writer.scheduler._slots  # type: ignore[attr-defined]
    assert slots.num_free == slots.num_rows


# --- what goes wrong


async def test_a_step_that_fails_is_the_answer_of_its_items_and_the_model_goes_on(folder: Path) -> None:
    factory = FaultyDecoderFactory()
    deployment = await loaded(folder, None, open_session, factory)

    def fail() -> None:
        raise RuntimeError("boom")

    factory.twist = fail
    assert isinstance((await deployment.predict(items("w5"), GREEDY)).results[0], EngineFailed)
    (last,) = await pieces(deployment, "w5")
    assert isinstance(last, Prediction)
    assert isinstance(last.results[0], EngineFailed)
    factory.twist = None
    assert texts(await deployment.predict(items("w5"), GREEDY)) == expected("w5")
    await deployment.aclose(0)


async def test_closing_waits_for_what_is_being_written(folder: Path) -> None:
    factory, hang = FaultyDecoderFactory(), Hang()
    deployment = await loaded(folder, None, open_session, factory)
    factory.twist = lambda: hang([], {}, None)
    asked = asyncio.create_task(deployment.predict(items(*TEXTS), GREEDY))
    await asyncio.to_thread(hang.begun.wait)
    closing = asyncio.create_task(deployment.aclose(30))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await deployment.predict(items("w5"), GREEDY)
    hang.release()
    assert texts(await asked) == expected(*TEXTS)
    await closing


async def test_what_is_not_finished_when_the_time_is_up_is_refused(folder: Path) -> None:
    factory, hang = FaultyDecoderFactory(), Hang()
    deployment = await loaded(folder, None, open_session, factory)
    factory.twist = lambda: hang([], {}, None)
    asked = asyncio.create_task(deployment.predict(items(*TEXTS), GREEDY))
    await asyncio.to_thread(hang.begun.wait)
    closing = asyncio.create_task(deployment.aclose(0.0))
    with pytest.raises(Unavailable):
        await asked
    hang.release()
    await closing


# --- loading


async def test_a_text_that_is_not_the_published_one_is_refused(folder: Path) -> None:
    golden = golden_of(folder)
    golden[0]["answer"]["text"] = "w4 w4 w4 w4"
    change_golden(folder, golden)
    with pytest.raises(InvalidArtefact, match="golden request 0 is answered differently than when it was published"):
        await loaded(folder)


async def test_golden_requests_are_answered_greedily_whatever_the_checkpoint_prefers(tmp_path: Path) -> None:
    folder = publish_tiny_decoder(tmp_path, generation={"do_sample": True, "temperature": 3.0, "num_beams": 2})
    await (await loaded(folder)).aclose(0)


async def test_the_cache_has_the_rows_that_the_settings_allow(folder: Path) -> None:
    decoder = Repository(folder.parent.parent).open("writer", 1).manifest.decoder
    assert decoder is not None
    row_bytes = bytes_per_row(decoder, MAX_SOURCE_TOKENS)
    deployment = await loaded(folder, cache_bytes=3 * row_bytes)
    assert texts(await deployment.predict(items(*TEXTS), GREEDY)) == expected(*TEXTS)
    with pytest.raises(TooLarge, match="4 beams need as many rows of the cache, which has 3"):
        await deployment.predict(items("w5"), replace(GREEDY, num_beams=4))
    await deployment.aclose(0)
    with pytest.raises(InvalidSettings, match=f"takes {row_bytes:,} bytes of cache, and HOOPER_CACHE_BYTES allows 100"):
        await loaded(folder, cache_bytes=100)


async def test_a_deployment_says_what_its_decoder_runs_on(writer: Deployment) -> None:
    assert writer.decoder_execution_providers == ["CPUExecutionProvider"]
    assert writer.decoder_provider is not None
    assert writer.decoder_provider.precision == "fp32"


async def test_what_was_written_and_how_long_callers_waited_is_counted(folder: Path) -> None:
    metrics = Metrics()
    deployment = await loaded(folder, metrics)

    def sample(name: str) -> float:
        return metrics.registry.get_sample_value(f"hooper_{name}", {"model": "writer"}) or 0.0

    before = [sample(name) for name in ("generated_tokens_total", "first_token_seconds_count", "between_tokens_seconds_count")]
    written = [greedily(source_of(text)) for text in TEXTS]
    await deployment.predict(items(*TEXTS), GREEDY)
    num_tokens = sum(map(len, written))
    assert sample("generated_tokens_total") - before[0] == num_tokens
    assert sample("first_token_seconds_count") - before[1] == len(TEXTS)
    assert sample("between_tokens_seconds_count") - before[2] == num_tokens - len(TEXTS)
    assert sample("first_token_seconds_sum") > 0
    (beams,) = (await deployment.predict(items(TEXTS[0]), replace(GREEDY, num_beams=2))).results
    assert isinstance(beams, Result)
    assert sample("generated_tokens_total") - before[0] == num_tokens + beams.answer.num_new_tokens
    await deployment.aclose(0)


async def test_the_rows_of_the_cache_and_those_in_use_are_told(folder: Path) -> None:
    metrics = Metrics()
    deployment = await loaded(folder, metrics, max_batch_rows=4)
    metrics.track(lambda: [deployment.live_model(), deployment.live_model()])

    def told() -> list[float | None]:
        return [metrics.registry.get_sample_value(f"hooper_cache_rows{end}", {"model": "writer"}) for end in ("", "_used")]

    assert told() == [8, 0]
    stream = deployment.stream(items("w5")[0], replace(GREEDY, num_beams=3))
    waiting = asyncio.ensure_future(anext(stream))
    while told() != [8, 6]:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    await waiting
    await stream.aclose()
    await deployment.aclose(0)


def test_the_doctor_and_the_list_of_models_say_what_a_decoder_runs_on(folder: Path) -> None:
    settings = Settings(models=folder.parent.parent, device="cpu")
    (finding,) = [entry for entry in examine(settings) if entry.what == "writer/1"]
    assert finding.ok
    assert "on CPUExecutionProvider in fp32" in finding.detail
    assert finding.detail.endswith("its decoder on CPUExecutionProvider in fp32")


async def test_the_state_of_a_model_says_what_its_decoder_runs_on(writer: Deployment) -> None:
    state = DecoderState.of(writer)
    assert state is not None
    assert (state.execution_providers, state.precision, state.max_length) == (["CPUExecutionProvider"], "fp32", MAX_LENGTH)


# --- what graphs run on


def publish_variants(models: Path) -> Path:
    """With a form of both graphs for int8, which are the same in truth, and an agreement in it."""
    folder = publish_tiny_decoder(models, variants={"int8": "decoder.int8.onnx"})
    for name in ("model", "decoder"):
        shutil.copyfile(folder / f"{name}.onnx", folder / f"{name}.int8.onnx")
    manifest = read_manifest(folder)
    graph = manifest.graph.model_copy(update={"variants": {"int8": "model.int8.onnx"}})
    parity = {**manifest.parity, "int8": manifest.parity["fp32"]}
    files = {path.name: describe_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    changed = manifest.model_copy(update={"graph": graph, "parity": parity, "files": files})
    (folder / MANIFEST).write_text(changed.as_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("choice", "precision"), [("auto", "int8"), ("fp32", "fp32")])
async def test_a_decoder_runs_in_int8_on_every_processor_where_that_was_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, precision: str
) -> None:
    monkeypatch.setattr(loader, "integer_precisions", lambda: ())
    opened: list[str] = []

    def decoder_factory(file: Path, *arguments: Any) -> BoundSession:
        opened.append(file.name)
        return open_decoder(file, *arguments)

    deployment = await loaded(publish_variants(tmp_path), None, open_session, decoder_factory, precision=choice)
    assert opened == [f"decoder{'.int8' if precision == 'int8' else ''}.onnx"]
    assert deployment.decoder_provider is not None
    assert (deployment.provider.precision, deployment.decoder_provider.precision) == ("fp32", precision)
    await deployment.aclose(0)


async def test_a_decoder_whose_int8_failed_runs_in_fp32_and_says_why(tmp_path: Path) -> None:
    folder = publish_variants(tmp_path)
    parity = read_manifest(folder).parity["fp32"].model_dump()
    sign_again(folder, parity={"fp32": parity, "int8": parity | {"agreement": 0.5, "passed": False}})
    deployment = await loaded(folder)
    assert deployment.decoder_provider is not None
    assert deployment.decoder_provider.precision == "fp32"
    assert "in fp32, since this model's int8 agreement was 0.5000" in deployment.decoder_provider.reason
    await deployment.aclose(0)


@pytest.mark.parametrize(("precision", "is_loaded"), [("auto", True), ("fp32", False)])
async def test_a_token_that_was_nearly_tied_may_be_another_in_int8_alone(
    tmp_path: Path, precision: str, is_loaded: bool
) -> None:
    folder = publish_variants(tmp_path)
    golden = golden_of(folder)
    token_ids = greedily(source_of(golden[0]["item"]["text"]), GOLDEN_NEW_TOKENS)
    golden[0]["answer"]["rows"] = [{"token_ids": [*token_ids[:-1], 9], "gaps": [1.0] * (len(token_ids) - 1) + [0.1]}]
    change_golden(folder, golden)
    if is_loaded:
        await (await loaded(folder, precision=precision)).aclose(0)
    else:
        with pytest.raises(InvalidArtefact, match="golden request 0 is answered differently"):
            await loaded(folder, precision=precision)


async def test_a_decoder_runs_on_the_processor_whatever_the_encoder_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "integer_precisions", lambda: ("int8",))
    monkeypatch.setattr(loader, "choose_provider", lambda choice: Provider("cuda", "fp32", "for a test"))

    def session_factory(file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        return open_session(file, graph, replace(provider, device="cpu"), num_threads)

    deployment = await loaded(publish_variants(tmp_path), None, session_factory, device="cuda")
    assert deployment.provider.device == "cuda"
    assert deployment.decoder_provider == Provider(
        "cpu", "int8", "decoders run on the processor; steps of a decoder are faster in int8"
    )
    assert texts(await deployment.predict(items(*TEXTS), GREEDY)) == expected(*TEXTS)
    await deployment.aclose(0)
