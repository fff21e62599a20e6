"""Models that write their source back, token by token: all of the service but an engine with a graph."""

from __future__ import annotations

import asyncio
from collections import abc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from app.api.application import build_application
from app.api.context import AppState
from app.api.rates import KeyNewTokens
from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.scheduler import Scheduler
from app.core.errors import UnknownModel
from app.core.manifest import Graph, Manifest, Output, Parity
from app.core.sequences import Batch, SamplingParams, StepOutput
from app.core.sequences import Sequence as Written
from app.core.types import RowOutput
from app.observability.metrics import Metrics
from app.runtime.providers import Provider
from app.serving.deployment import Deployment
from app.serving.registry import Registry
from app.serving.rollout.lease import Role
from app.serving.rollout.shadow import Shadows
from app.settings import Settings
from app.tasks.registry import installed_tasks
from tests.support.requests import Service
from tests.support.toy_engine import ToySlots
from tests.support.writing import EOS, LANGUAGES, generator, metaspace_json

MAX_TOKENS = 32
OPTIONS: dict[str, dict[str, Any]] = {
    "translation": {
        "sources": ["en", "de"],
        "targets": ["en", "de", "fr"],
        "source": "en",
        "target": "de",
        "language_tokens": dict(zip(("en", "de", "fr"), LANGUAGES, strict=True)),
        "source_place": "first",
    },
    # what is said last comes back
    "text-generation": {
        "chat_template": {
            "default": "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
            "{% if tools %}{{ tools[0].function.name }}: {% endif %}{{ messages[-1].content }}"
            "{% for call in messages[-1].tool_calls or () if tools %}"
            """{{ '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}"""
            "{{ '}\n</tool_call>' }}{% endfor %}"
        }
    },
}
_TOKENIZER = generator().tokenizer
TOKENS = [number for number in range(_TOKENIZER.vocabulary_size()) if _TOKENIZER.decode([EOS, number]).strip()]
LANGUAGE_IDS = frozenset(generator().tokenizer.token_id(token) for token in LANGUAGES)


class EchoEngine:
    """Satisfies `Engine`. A hand may hold its steps: see `hold`."""

    provider = Provider("cpu", "fp32", "made by hand")
    execution_providers = ("CPUExecutionProvider",)
    num_threads = 1
    decoder_provider = None
    decoder_execution_providers = ()

    def __init__(self) -> None:
        self._steps: asyncio.Semaphore | None = None
        self.num_steps = 0
        self.error: Exception | None = None
        """What the next step ends in."""

    def hold(self) -> None:
        """Take no step from now on that is not let through."""
        self._steps = asyncio.Semaphore(0)

    def let(self, num_steps: int = 1) -> None:
        """Let steps through."""
        assert self._steps is not None
        for _ in range(num_steps):
            self._steps.release()

    async def forward(self, batch: Batch) -> StepOutput:
        if self._steps is not None:
            await self._steps.acquire()
        if self.error is not None:
            raise self.error
        self.num_steps += 1
        pairs = [_step(sequence) for sequence in batch.sequences]
        return StepOutput([output for output, _ in pairs], len(pairs), 0.001, [is_last for _, is_last in pairs])

    def release(self, slots: abc.Sequence[int]) -> None:
        """Nothing is kept."""

    def terminate(self) -> None:
        """Steps take no time."""

    async def aclose(self, patience_s: float | None = None) -> None:
        """Nothing is open."""


def _step(sequence: Written) -> tuple[RowOutput, bool]:
    """The next token of the source, and with beams nothing until all are known; the other beams write it backwards."""
    params = sequence.sampling
    assert params is not None
    source = [token for token in sequence.row.input_ids if token not in (*LANGUAGE_IDS, EOS)]
    target = [*source, EOS][: params.max_new_tokens]
    step = len(sequence.outputs)
    if params.constraint is not None:
        return _held(params, target, [int(output["token_ids"][0]) for output in sequence.outputs if isinstance(output, dict)])
    written = target[: step + 1]
    is_last = len(written) == len(target) or (params.ends is not None and params.ends(written))
    if params.num_beams == 1:
        return {**_output([[target[step]]]), **_logprobs(params, target[step])}, is_last
    others = [[*source[::-1], EOS][: params.max_new_tokens]] * (params.num_return_sequences - 1)
    return _output([target, *others] if is_last else [[]]), is_last


def _logprobs(params: SamplingParams, token_id: int) -> dict[str, Any]:
    """Of a model that is half sure of what it writes, and would end the text else."""
    if params.num_logprobs is None:
        return {}
    size = min(params.num_logprobs, 2)
    tops = {"top_token_ids": np.array([[token_id, EOS][:size]]), "top_logprobs": np.array([[-0.5, -1.5][:size]])}
    return {"logprobs": np.array([-0.5]), **tops}


def _held(params: SamplingParams, target: Sequence[int], written: Sequence[int]) -> tuple[RowOutput, bool]:
    """The next token of the source where a constraint allows it, else the end, else the last that it allows and is no blank."""
    assert params.constraint is not None
    held = params.constraint.start()
    for token in written:
        held.advance(token)
    allowed = held.allowed()
    wished = [*target[len(written) : len(written) + 1], EOS, *(number for number in TOKENS[::-1] if number < len(allowed))]
    token = next(number for number in wished if allowed[number])
    return _output([[token]]), token == EOS or len(written) + 1 == params.max_new_tokens


def _output(sequences: Sequence[Sequence[int]]) -> RowOutput:
    index = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    tokens = np.array([token for sequence in sequences for token in sequence], np.int64)
    return {"token_ids": tokens, "sequence_index": index}


def echo_deployment(task: str, engine: EchoEngine, metrics: Metrics, **decoder: Any) -> Deployment:
    """`TASK/1`, a model of the task over this engine."""
    spec = installed_tasks()[task]
    writer = generator(MAX_TOKENS, **{"has_encoder": spec.output.name == "cross", **decoder})
    options = OPTIONS.get(task, {})
    manifest = Manifest(
        name=task,
        version=1,
        task=task,
        created="2026-01-01T00:00:00Z",
        base_model="none",
        max_tokens=MAX_TOKENS,
        graph=Graph(
            file="model.onnx", layout="padded", inputs=("input_ids",), outputs=(Output(name="cross", axis="token"),),
            storage="fp32",
        ),
        decoder=writer.decoder,
        task_options=options,
        parity={"fp32": Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)},
        files={},
    )  # fmt: skip
    built = spec.build(writer.tokenizer, options, writer.decoder)
    scheduler = Scheduler(engine, Budget(512, 16, "padded"), QueueLimit(100, 10_000), slots=ToySlots(16))
    return Deployment(manifest, spec, built, engine, scheduler, metrics, [metaspace_json()])  # type: ignore[arg-type]


@asynccontextmanager
async def echoing(*tasks: str, settings: Settings | None = None, **decoder: Any) -> AsyncIterator[tuple[Service, EchoEngine]]:
    """The application over a model of each of these tasks, or of all that write, named after it, all over one engine."""
    settings = settings or Settings()
    installed = installed_tasks()
    names = tasks or tuple(name for name, spec in installed.items() if spec.is_generative)
    metrics, registry, engine = Metrics(), Registry(drain_s=0), EchoEngine()
    for name in names:
        registry.replace(echo_deployment(name, engine, metrics, **decoder))
    registry.loading_finished()

    async def load(name: str, version: int | None, role: Role) -> Deployment:
        raise UnknownModel(name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        new_tokens = KeyNewTokens(settings.key_new_tokens_per_minute)
        shadows = Shadows(registry, metrics)
        app.state.hooper = AppState(settings, installed, registry, metrics, load, shadows, key_new_tokens=new_tokens)
        metrics.track(lambda: [deployment.live_model() for deployment in registry.deployments])
        yield
        await registry.aclose()

    app = build_application(settings, installed, metrics, lifespan)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield Service(app, client), engine
