"""Texts that the engine process writes for a front end: the same as beside the engine, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.core.errors import DeadlineExceeded, InvalidInput, TooLarge, Unavailable
from app.core.sequences import Batch, StepOutput
from app.ipc import server
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, Prediction, StreamedText
from app.tasks.constraints import OutputFormat
from app.tasks.generation import SourceText
from app.tasks.registry import installed_tasks
from tests.support.echo_writer import EchoEngine, echo_deployment
from tests.support.ipc_pair import IpcPair, until

TASK = "text2text-generation"
OPTIONS = installed_tasks()[TASK].options
TEXT = SourceText("the film was good")


async def opened(pair: IpcPair, engine: EchoEngine, task: str = TASK) -> tuple[Deployment, Deployment]:
    """The deployment beside the engine, and a front end's."""
    own = echo_deployment(task, engine, Metrics())
    one, _ = await pair.ready(own)
    (remote,) = one.registry.deployments
    return own, remote


def num_in_use(own: Deployment) -> int:
    rows = own.scheduler.cache_rows
    assert rows is not None
    return rows.num_used


async def written(deployment: Deployment, options: Any, deadline: float | None = None) -> list[Any]:
    return [piece async for piece in deployment.stream(TEXT, options, deadline)]


def texts(prediction: Prediction) -> list[Any]:
    return [getattr(result, "answer", result) for result in prediction.results]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"max_new_tokens": 2},
        {"num_beams": 3, "num_return_sequences": 2},
        {"temperature": 1.0, "seed": 7, "num_return_sequences": 2},
        {"num_logprobs": 2},
        {"stop": ("was",)},
        {"output_format": OutputFormat.of_choices(["the film", "no"])},
    ],
)
async def test_what_is_written_is_what_the_engine_process_itself_would_answer(pair: IpcPair, values: dict[str, Any]) -> None:
    own, remote = await opened(pair, EchoEngine())
    items = [TEXT, SourceText("not bad")]
    assert texts(await remote.predict(items, OPTIONS(**values))) == texts(await own.predict(items, OPTIONS(**values)))


class ReusingEngine(EchoEngine):
    """Says of each sequence of one owner that two tokens of it were not read."""

    async def forward(self, batch: Batch) -> StepOutput:
        owners = [None if sequence.sampling is None else sequence.sampling.prefix_owner for sequence in batch.sequences]
        is_first = [not sequence.outputs for sequence in batch.sequences]
        num_reused = [2 * (owner == "a" and first) for owner, first in zip(owners, is_first, strict=True)]
        return replace(await super().forward(batch), num_reused=num_reused)


async def test_whose_a_text_is_reaches_the_engine_and_what_was_not_read_of_it_the_front_end(pair: IpcPair) -> None:
    _, remote = await opened(pair, ReusingEngine())
    for owner, expected in (("a", 2), ("b", 0), (None, 0)):
        (result,) = (await remote.predict([TEXT], OPTIONS(), prefix_owner=owner)).results
        *_, whole = [piece async for piece in remote.stream(TEXT, OPTIONS(), prefix_owner=owner)]
        assert isinstance(whole, Prediction)
        assert [getattr(found, "num_reused", None) for found in (result, *whole.results)] == [expected] * 2


async def test_each_step_comes_when_it_is_taken(pair: IpcPair) -> None:
    engine = EchoEngine()
    engine.hold()
    own, remote = await opened(pair, engine)
    pieces: list[str] = []
    async with aclosing(remote.stream(TEXT, OPTIONS())) as stream:
        async for piece in stream:
            if isinstance(piece, StreamedText):
                pieces.append(piece.text)
            else:
                (result,) = piece.results
                assert "".join(pieces) == result.answer.text == TEXT.text  # type: ignore[union-attr]
                assert piece.timings.inference_s > 0
                break
            engine.let()
            if len(pieces) == 1:
                assert num_in_use(own) == 1
        else:
            pytest.fail("there was no end")


@pytest.fixture(autouse=True)
def let_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A held engine takes its first step at once."""
    hold = EchoEngine.hold

    def hold_after_one(engine: EchoEngine) -> None:
        hold(engine)
        engine.let()

    monkeypatch.setattr(EchoEngine, "hold", hold_after_one)


async def test_whoever_leaves_in_the_middle_of_a_text_gives_its_row_back_and_has_had_what_was_written(pair: IpcPair) -> None:
    engine, counted = EchoEngine(), list[int]()
    engine.hold()
    own, remote = await opened(pair, engine)
    async with aclosing(remote.stream(TEXT, OPTIONS(), on_written=counted.append)) as stream:
        async for _ in stream:
            assert num_in_use(own) == 1
            break
    assert counted == [1]
    await until(lambda: num_in_use(own) == 0 or engine.let() is not None)


async def test_whoever_leaves_a_text_that_is_not_streamed_has_had_what_was_written_too(
    pair: IpcPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WRITTEN_S", 0.0)
    engine, counted = EchoEngine(), list[int]()
    engine.hold()
    own, remote = await opened(pair, engine)
    asking = asyncio.create_task(remote.predict([TEXT], OPTIONS(), on_written=counted.append))
    await until(lambda: num_in_use(own) == 1 and engine.num_steps == 1)
    for _ in range(20):  # word of it comes over a socket
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert counted == [1]
    await until(lambda: num_in_use(own) == 0 or engine.let() is not None)


async def test_a_deadline_ends_a_text(pair: IpcPair) -> None:
    engine = EchoEngine()
    engine.hold()
    own, remote = await opened(pair, engine)
    with pytest.raises(DeadlineExceeded, match="the deadline passed before the engine answered"):
        await written(remote, OPTIONS(), time.monotonic() + 0.05)
    await until(lambda: num_in_use(own) == 0 or engine.let() is not None)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_can_never_be_written_is_refused_as_beside_the_engine(pair: IpcPair, is_streamed: bool) -> None:
    own, remote = await opened(pair, EchoEngine())
    form = OutputFormat("regex", "(")
    for options, kind in (
        (OPTIONS(top_p=0.5), InvalidInput),
        (OPTIONS(output_format=form), InvalidInput),
        (OPTIONS(num_beams=17), TooLarge),
    ):
        details = []
        for deployment in (own, remote):
            with pytest.raises(kind) as refused:
                await (written(deployment, options) if is_streamed else deployment.predict([TEXT], options))
            details.append((refused.value.detail, getattr(refused.value, "field", None)))
        assert details[0] == details[1]


async def test_a_text_ends_with_an_error_where_the_engine_process_dies(pair: IpcPair) -> None:
    engine = EchoEngine()
    engine.hold()
    _, remote = await opened(pair, engine)
    writing = asyncio.create_task(written(remote, OPTIONS()))
    await until(lambda: engine.num_steps == 1)
    await pair.restart_engine()
    with pytest.raises(Unavailable, match="the engine is down"):
        await writing


@pytest.mark.parametrize("task", [name for name, spec in installed_tasks().items() if spec.is_generative])
def test_the_options_of_every_task_that_writes_come_through(task: str) -> None:
    kind = installed_tasks()[task].options
    options = kind(
        num_beams=2,
        early_stopping="never",
        temperature=0.5,
        stop=("a", "b"),
        output_format=OutputFormat.of_schema({"type": "null"}),
    )
    assert TypeAdapter(kind).validate_python(json.loads(json.dumps(asdict(options)))) == options
